"""Rules that look entries up: products with one-hot rows."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from tensorprog.graph import Scalar
from tensorprog.torch.lower.elementwise import MINUS, is_minus_infinity, product, with_mask
from tensorprog.torch.lower.joins import low_index
from tensorprog.torch.lower.positions import Positions, row_values
from tensorprog.torch.lower.positions import positions as positions_along
from tensorprog.torch.lower.registry import rule
from tensorprog.torch.lower.values import Sizes, Value
from tensorprog.torch.lower.views import expand_to
from tensorprog.torch.trace import Ref

if TYPE_CHECKING:
    from tensorprog.torch.lower import Lowering
    from tensorprog.torch.zipped import Call

Label = tuple[str, int]


def looked_up(low: Lowering, table: Value, dim: int, arg: Any) -> Value:
    """Entries of one axis of the table, by positions that take its place."""
    size = table.sizes(dim, low.points)
    positions = positions_along(low, arg, size)
    if isinstance(positions, Positions):
        rows: Value = positions
    else:
        positions = tuple(np.where(a < 0, a + n, a) for a, n in zip(positions, size, strict=True))
        squeezed = tuple(a.reshape([s for s in a.shape if s != 1] or [1]) for a in positions)
        runs = squeezed[0].ndim == 1 and all(len(p) and (p[1:] - p[:-1] == 1).all() for p in squeezed)
        if low.dim(size).grows and not runs:
            low.refuse("positions of its own along an axis that grows", "a slice, `x[..., ::2]`, or a view")
        if runs:  # a run of rows, such as positions 0, 1, ..
            part = low_index(low, table, dim, squeezed)
            groups = [part.dims[dim] if s != 1 else () for s in positions[0].shape]
            return part.with_dims((*part.dims[:dim], *groups, *part.dims[dim + 1 :]))
        leaf = low.zipped.leaf(arg.value) if isinstance(arg, Ref) else None
        rows = low.data.tokens(positions, size, (leaf and leaf[0].name) or "index")
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
    return entries_at(low, value, _given(low, call), low.out_shape(call))


def _given(low: Lowering, call: Call) -> list[tuple[int, Any]]:
    """The axes that are indexed, and by what; a mask that is data is the positions that it has, along all its axes."""
    found: list[tuple[int, Any]] = []
    axis = 0
    for i in call["indices"]:
        if i is None or low.zipped.first.dtypes[i.value] not in ("bool", "uint8"):
            found += [] if i is None else [(axis, i)]
            axis += 1
            continue
        if low.zipped.leaf(i.value) is None:
            low.refuse("it selects by a mask, so that sizes depend on the data", "a product with the mask")
        at = chosen(low, low.data.at(i.value))
        found += [(axis + k, tuple(p[k] for p in at)) for k in range(len(at[0]))]
        axis += len(at[0])
    return found


def chosen(low: Lowering, masks: Sequence[Any]) -> list[tuple[Any, ...]]:
    """The positions of masks at all points."""
    if not all(m.any() for m in masks):
        low.refuse("its mask selects nothing in these inputs", "`inputs` of which every mask selects something")
    return [m.nonzero() for m in masks]


def entries_at(low: Lowering, value: Value, given: list[tuple[int, Any]], shape: tuple[Sizes, ...]) -> Value:
    """Entries at positions along axes; those along several axes together share the new axes."""
    if len(given) == 1:
        return looked_up(low, value, *given[0])
    rows = []
    rank = 0
    for k, i in given:
        row = row_values(low, i, value.sizes(k, low.points))
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
    return expand_to(low, result.with_dims(tuple(dims)), shape)


@rule("gather")
def gather(low: Lowering, call: Call) -> Value:
    """out[.., i, ..] = self[.., index[.., i, ..], ..]: the rows share all other axes."""
    value = low.value(call["self"])
    rank = len(value.dims)
    dim = low.axis_of(call["dim"], rank)
    rows = row_values(low, call["index"], value.sizes(dim, low.points))
    own = [("new", k) if k == dim else ("old", k) for k in range(rank)]
    right = [("old", k) for k in range(rank)]
    return low.contract(rows, [*own, ("old", dim)], value, right, own)


def put_at(low: Lowering, base: Value, given: list[tuple[int, Any]], value: Value, out: tuple[Sizes, ...]) -> Value:
    """A tensor in which the entries at these positions are others."""
    rows, labels, own = _places(low, given, out)
    taken, old = _taken(low, rows, labels, len(out))
    kept = product(low, low.shift(low.scale(taken, MINUS), Scalar()), base)
    return low.add([kept, low.contract(rows, labels, value, own, old)])


def _taken(low: Lowering, rows: Value, labels: list[Label], rank: int) -> tuple[Value, list[Label]]:
    """How often something is written at each place, and the labels of places."""
    old: list[Label] = [("old", k) for k in range(rank)]
    taken = low.sum(rows, [k for k, label in enumerate(labels) if label[0] == "new"], True)
    return taken.with_dims(tuple(taken.dims[labels.index(x)] if x in labels else () for x in old)), old


@rule("scatter", "scatter_add", "index_add", "index_put", "_index_put_impl", "index_copy")
def scatter(low: Lowering, call: Call) -> Value:
    """Adds (or, into zeros, puts) entries at positions along one axis: a product with one-hot rows."""
    base = low.operand(call["self"])
    out = low.out_shape(call)
    rank = len(out)
    source = (
        call["source"] if call["source"] is not None else call["src"] if call["src"] is not None else call["values"]
    )
    if call["reduce"] is not None:
        low.refuse(f"it combines what it writes by `{call['reduce']}`", "scatter_add")
    adds = call.op in ("scatter_add", "index_add") or bool(call["accumulate"])
    put = call.op.endswith(("index_put", "_index_put_impl"))
    dim = low.axis_of(call["dim"] if call["dim"] is not None else 0, rank)
    given = _given(low, call) if put else [(dim, call["index"])]
    along = call.op in ("scatter", "scatter_add")
    if along:  # the positions have all axes
        rows = row_values(low, call["index"], out[dim])
        own: list[Label] = [("new", k) if k == dim else ("old", k) for k in range(rank)]
        labels: list[Label] = [*own, ("old", dim)]
    else:
        rows, labels, own = _places(low, given, out)
    taken, old = _taken(low, rows, labels, rank)
    if source is None:  # one number at every position
        part = low.scale(taken, low.number(call["value"]))
    else:
        value = low.value(source)
        value = value.with_dims(((),) * (len(own) - len(value.dims)) + value.dims)
        part = low.contract(rows, labels, value, own, old)
    if call["alpha"] is not None:
        part = low.scale(part, low.number(call["alpha"]))
    if not isinstance(base, Value) and not (base or Scalar(Fraction(0))).coefficient:
        return part
    if not adds and is_minus_infinity(base):  # a mask
        return with_mask(low, part, product(low, low.shift(low.scale(taken, MINUS), Scalar()), base), False)
    if not adds:  # what was there goes
        base = product(low, low.shift(low.scale(taken, MINUS), Scalar()), base)
    return low.add([base, part]) if isinstance(base, Value) else low.shift(part, base or Scalar(Fraction(0)))


def _places(
    low: Lowering, given: list[tuple[int, Any]], out: tuple[Sizes, ...]
) -> tuple[Value, list[Label], list[Label]]:
    """Positions along several axes together as a product of one-hot rows, its labels, and those of what is put."""
    rows = [row_values(low, i, out[k]) for k, i in given]
    rank = max(len(row.dims) for row in rows) - 1
    new: list[Label] = [("new", k) for k in range(rank)]
    whole, labels = rows[0], [*new[rank + 1 - len(rows[0].dims) :], ("old", given[0][0])]
    for (k, _), row in zip(given[1:], rows[1:], strict=True):
        own = new[rank + 1 - len(row.dims) :]
        both = [x for x in new if x in own or x in labels] + [x for x in labels if x[0] == "old"] + [("old", k)]
        whole = low.contract(whole, labels, row, [*own, ("old", k)], both)
        labels = both
    taken = [k for k, _ in given]
    rest: list[Label] = [("old", k) for k in range(len(out)) if k not in taken]
    at = taken[0] if taken == list(range(taken[0], taken[0] + len(taken))) else 0
    return whole, labels, [*rest[:at], *new, *rest[at:]]
