"""Rules that look entries up: products with one-hot rows."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from tensorprog.graph import Scalar
from tensorprog.torch.lower.elementwise import MINUS, is_minus_infinity, product, with_mask
from tensorprog.torch.lower.joins import low_index
from tensorprog.torch.lower.reductions import Positions
from tensorprog.torch.lower.registry import rule
from tensorprog.torch.lower.values import Value
from tensorprog.torch.lower.views import expand_to
from tensorprog.torch.trace import Ref

if TYPE_CHECKING:
    from tensorprog.torch.lower import Lowering
    from tensorprog.torch.zipped import Call


def _positions(low: Lowering, arg: Any) -> tuple[Any, ...] | Positions:
    """Positions: data at every point, or one-hot rows that depend on activations."""
    assert isinstance(arg, Ref)
    if low.zipped.leaf(arg.value) is not None:
        return low.data.at(arg.value)
    value = low.values.get(arg.value)
    if not isinstance(value, Positions):
        low.refuse("positions that depend on activations other than through topk or argmax")
    return value


def looked_up(low: Lowering, table: Value, dim: int, arg: Any) -> Value:
    """Entries of one axis of the table, by positions that take its place."""
    positions = _positions(low, arg)
    if isinstance(positions, Positions):
        rows: Value = positions
    else:
        size = table.sizes(dim, low.points)
        positions = tuple(np.where(a < 0, a + n, a) for a, n in zip(positions, size, strict=True))
        squeezed = tuple(a.reshape([s for s in a.shape if s != 1] or [1]) for a in positions)
        runs = squeezed[0].ndim == 1 and all(len(p) and (p[1:] - p[:-1] == 1).all() for p in squeezed)
        if runs:  # a run of rows, such as positions 0, 1, ..
            part = low_index(low, table, dim, squeezed)
            groups = [part.dims[dim] if s != 1 else () for s in positions[0].shape]
            return part.with_dims((*part.dims[:dim], *groups, *part.dims[dim + 1 :]))
        leaf = low.zipped.leaf(arg.value)
        assert leaf is not None
        rows = low.data.tokens(positions, size, leaf[0].name or "index")
    rank, extra = len(table.dims), len(rows.dims) - 1
    new = [("new", k) for k in range(extra)]
    right = [("old", k) for k in range(rank)]
    return low.contract(rows, [*new, ("old", dim)], table, right, [*right[:dim], *new, *right[dim + 1 :]])


@rule("embedding")
def embedding(low: Lowering, call: Call) -> Value:
    return looked_up(low, low.value(call["weight"]), 0, call["indices"])


@rule("_embedding_bag", "_embedding_bag_forward_only")
def embedding_bag(low: Lowering, call: Call) -> tuple[Value, None, None, None]:
    """Sums or means of rows: a product with how often each bag has each row."""
    table, weights = low.value(call["weight"]), call["per_sample_weights"]
    if low.constant_int(call["mode"]) > 1 or weights is not None:
        low.refuse("the largest of a bag, or a weighted sum", 'mode="sum" or "mean", without weights')
    indices, offsets = (low.data.at(call[k].value) for k in ("indices", "offsets"))
    counts = []
    for k, (rows, starts) in enumerate(zip(indices, offsets, strict=True)):
        table_size = table.sizes(0, low.points)[k]
        ends = [*starts[1:], len(rows)][: low.out_shape(call)[0][k]]
        count = np.stack([np.bincount(rows[a:b], minlength=table_size) for a, b in zip(starts, ends, strict=False)])
        mean = low.constant_int(call["mode"]) == 1
        counts.append(count / np.maximum(count.sum(1, keepdims=True), 1) if mean else count)
    return low.contract(low.data.real(tuple(counts), "bags"), "br", table, "ri", "bi"), None, None, None


@rule("index_select")
def index_select(low: Lowering, call: Call) -> Value:
    value = low.value(call["self"])
    return looked_up(low, value, low.axis_of(call["dim"], len(value.dims)), call["index"])


@rule("index", "_unsafe_index")
def index(low: Lowering, call: Call) -> Value:
    value = low.value(call["self"])
    given = [(k, i) for k, i in enumerate(call["indices"]) if i is not None]
    if len(given) == 1:
        k, i = given[0]
        if low.zipped.first.dtypes[i.value] == "bool":
            low.refuse("it selects by a mask, so that sizes depend on the data", "a product with the mask")
        return looked_up(low, value, k, i)
    return _joint(low, value, given, call)


def _joint(low: Lowering, value: Value, given: list[tuple[int, Any]], call: Call) -> Value:
    """Positions along several axes together: their rows share the new axes."""
    rows = []
    rank = 0
    for k, i in given:
        positions = _positions(low, i)
        if isinstance(positions, Positions):
            row: Value = positions
        else:
            row = low.data.tokens(positions, value.sizes(k, low.points), "index")
        rows.append(row)
        rank = max(rank, len(row.dims) - 1)
    adjacent = [k for k, _ in given] == list(range(given[0][0], given[0][0] + len(given)))
    labels: list[Any] = [("old", k) for k in range(len(value.dims))]
    new = [("new", k) for k in range(rank)]
    result, current = value, labels
    for n, ((k, _), row) in enumerate(zip(given, rows, strict=True)):
        own = new[rank - (len(row.dims) - 1) :]
        rest = [x for x in current if x != ("old", k)]
        fresh = [x for x in own if x not in rest]
        at = current.index(("old", k)) if n == 0 else None
        out = [*rest[:at], *fresh, *rest[at:]] if at is not None else [*fresh, *rest]
        result = low.contract(row, [*own, ("old", k)], result, current, out)
        current = out
    rest = [x for x in current if x[0] == "old"]
    position = given[0][0] if adjacent else 0
    order = [*rest[:position], *new, *rest[position:]]
    missing = [x for x in new if x not in current]
    dims = [result.dims[current.index(x)] if x not in missing else () for x in order]
    return expand_to(low, result.with_dims(tuple(dims)), low.out_shape(call))


@rule("gather")
def gather(low: Lowering, call: Call) -> Value:
    """out[.., i, ..] = self[.., index[.., i, ..], ..]: the rows share all other axes."""
    value = low.value(call["self"])
    rank = len(value.dims)
    dim = low.axis_of(call["dim"], rank)
    positions = _positions(low, call["index"])
    if isinstance(positions, Positions):
        rows: Value = positions
    else:
        rows = low.data.tokens(positions, value.sizes(dim, low.points), "index")
    own = [("new", k) if k == dim else ("old", k) for k in range(rank)]
    right = [("old", k) for k in range(rank)]
    return low.contract(rows, [*own, ("old", dim)], value, right, own)


@rule("one_hot")
def one_hot(low: Lowering, call: Call) -> Value:
    positions = _positions(low, call["self"])
    if isinstance(positions, Positions):
        return Value(positions.node, positions.dims)
    return low.refuse("a one-hot encoding of data as a result of parameters")


@rule("scatter", "scatter_add", "index_add", "index_put", "_index_put_impl")
def scatter(low: Lowering, call: Call) -> Value:
    """Adds (or, into zeros, puts) entries at positions along one axis: a product with one-hot rows."""
    base = low.operand(call["self"])
    dim_arg = call["dim"] if call["dim"] is not None else 0
    out = low.out_shape(call)
    rank = len(out)
    dim = low.axis_of(dim_arg, rank)
    source = (
        call["source"] if call["source"] is not None else call["src"] if call["src"] is not None else call["values"]
    )
    adds = call.op in ("scatter_add", "index_add") or bool(call["accumulate"])
    if call.op.endswith(("index_put", "_index_put_impl")):
        given = [(k, i) for k, i in enumerate(call["indices"]) if i is not None]
        if len(given) != 1:
            low.refuse("it writes at positions along several axes")
        dim, arg = given[0]
    else:
        arg = call["index"]
    positions = _positions(low, arg)
    rows: Value = positions if isinstance(positions, Positions) else low.data.tokens(positions, out[dim], "index")
    old = [("old", k) for k in range(rank)]
    along = call.op in ("scatter", "scatter_add")
    taken = low.sum(rows, (dim if along else 0,), True)  # how often something is written there
    taken = taken.with_dims((*taken.dims[:dim], taken.dims[-1], *taken.dims[dim + 1 : -1]) if along else
                            (taken.dims[-1], *((),) * (rank - 1 - dim)))  # fmt: skip
    if source is None:  # one number at every position
        part = low.scale(taken, low.number(call["value"]))
    elif along:
        own = [("new", k) if k == dim else ("old", k) for k in range(rank)]
        part = low.contract(rows, [*own, ("old", dim)], low.value(source), own, old)
    else:
        new = ("new", 0)
        part = low.contract(rows, [new, ("old", dim)], low.value(source), [*old[:dim], new, *old[dim + 1 :]], old)
    if not isinstance(base, Value) and not (base or Scalar(Fraction(0))).coefficient:
        return part
    if not adds and is_minus_infinity(base):  # a mask
        return with_mask(low, part, product(low, low.shift(low.scale(taken, MINUS), Scalar()), base), False)
    if not adds:  # what was there goes
        base = product(low, low.shift(low.scale(taken, MINUS), Scalar()), base)
    return low.add([base, part]) if isinstance(base, Value) else low.shift(part, base or Scalar(Fraction(0)))
