"""Rules of sums, means and extremes."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from tensorprog.graph import Scalar
from tensorprog.torch.lower.elementwise import MINUS
from tensorprog.torch.lower.joins import joined
from tensorprog.torch.lower.positions import Positions
from tensorprog.torch.lower.registry import rule
from tensorprog.torch.lower.roots import root
from tensorprog.torch.lower.values import Complex, Sizes, Value

if TYPE_CHECKING:
    from tensorprog.torch.lower import Lowering
    from tensorprog.torch.zipped import Call


LONGEST = 64  # of an axis that is gone along entry by entry


def _dims(low: Lowering, call: Call, rank: int, name: str = "dim") -> list[int]:
    arg = call[name]
    if arg is None or arg == []:
        return list(range(rank))
    return [low.axis_of(k, rank) for k in (arg if isinstance(arg, list) else [arg])]


@rule("sum", "mean", "nansum")
def sum_(low: Lowering, call: Call) -> Value:
    value = low.value(call["self"])
    rank = len(value.dims) - isinstance(value, Complex)
    return low.sum(value, _dims(low, call, rank), bool(call["keepdim"]), mean=call.op == "mean")


@rule("var", "std", "var_mean", "std_mean")
def var(low: Lowering, call: Call) -> Any:
    value = low.plain(low.value(call["self"]))
    dims = _dims(low, call, len(value.dims))
    keep = bool(call["keepdim"])
    mean = low.sum(value, dims, True, mean=True)
    centred = low.add([value, low.scale(mean, MINUS)])
    correction = low.number(call["correction"] if call["correction"] is not None else 1).coefficient
    if call.overload in ("", "dim") and call["unbiased"] is False:
        correction = Fraction(0)
    result = low.sum(low.map(centred, "square"), dims, keep, mean=True)
    if correction:
        size: Sizes = (1,) * low.points
        for d in dims:
            size = tuple(a * b for a, b in zip(size, value.sizes(d, low.points), strict=True))
        constant = low.dim(size).constant
        if constant is not None:
            result = low.scale(result, Scalar(constant / (constant - correction)))
        else:
            low.notes.append("the variance's n - 1 is taken as n where n grows")
    if "std" in call.op:
        result = root(low, result, inverse=False)
    return (result, low.sum(value, dims, keep, mean=True)) if call.op.endswith("_mean") else result


@rule("linalg_vector_norm", "norm")
def vector_norm(low: Lowering, call: Call) -> Value:
    value = low.plain(low.value(call["self"]))
    order = call["ord"] if call.op == "linalg_vector_norm" else call["p"]
    if order is not None and low.number(order).coefficient != 2:
        low.refuse(f"the norm of order {order}", "the Euclidean norm")
    dims = _dims(low, call, len(value.dims))
    return root(low, low.sum(low.map(value, "square"), dims, bool(call["keepdim"])), inverse=False)


@rule("amax", "max", "amin", "min")
def amax(low: Lowering, call: Call) -> Any:
    value = low.value(call["self"])
    if call["other"] is not None:
        from tensorprog.torch.lower.elementwise import maximum

        return maximum(low, call)
    dims = _dims(low, call, len(value.dims))
    low_end = call.op in ("amin", "min")
    value, keep = low.scale(value, MINUS) if low_end else low.plain(value), bool(call["keepdim"])
    result = largest(low, value, dims, keep)
    result = low.scale(result, MINUS) if low_end else result
    return (result, _position(low, value, dims[0], keep)) if len(call.outputs) == 2 else result


def largest(low: Lowering, value: Value, dims: list[int], keep: bool) -> Value:
    """The largest entry over some axes: the sum of what the selection of one keeps."""
    last, rest = dims[-1], [k for k in range(len(value.dims)) if k not in dims]
    if len(dims) > 1:
        group = tuple(a for d in dims for a in value.dims[d])
        flat = value.with_dims((*(value.dims[k] for k in rest), group))
        flat = low.merge(flat, len(rest))
        axis = len(rest)
    else:
        flat, axis = value, last
    result = low.mul(flat, low.top_k(flat, axis, 1)) if flat.dims[axis] else flat
    if len(dims) > 1:
        result = low.sum(result, (axis,), False)
        if keep:
            groups = iter(result.dims)
            return result.with_dims(tuple(() if k in dims else next(groups) for k in range(len(value.dims))))
        return result
    return low.sum(result, (axis,), keep)


@rule("cumsum")
def cumsum(low: Lowering, call: Call) -> Value:
    value = low.plain(low.value(call["self"]))
    dim = low.axis_of(call["dim"], len(value.dims))
    size = value.sizes(dim, low.points)
    if low.dim(size).grows:
        low.refuse("a running sum along an axis that grows")
    lower = low.data.real(tuple(np.tril(np.ones((s, s))) for s in size), "lower_triangle")
    labels = [f"x{k}" for k in range(len(value.dims))]
    return low.contract(value, labels, lower, ["new", labels[dim]], [*labels[:dim], "new", *labels[dim + 1 :]])


@rule("prod", "cumprod")
def product_along(low: Lowering, call: Call) -> Value:
    """One factor after the other, along a short finite axis."""
    value = low.plain(low.value(call["self"]))
    if call["dim"] is None:
        low.refuse("a product of all entries", "along one axis")
    dim = low.axis_of(call["dim"], len(value.dims))
    size = low.dim(value.sizes(dim, low.points)).constant
    if size is None or size > LONGEST:
        low.refuse("a product along an axis that grows, or a long one", "the sum of logarithms")
    ones = (1,) * low.points
    parts = [low.window(value, dim, (k,) * low.points, ones) for k in range(int(size))]
    for k in range(1, len(parts)):
        parts[k] = low.mul(parts[k - 1], parts[k])
    if call.op == "cumprod":
        return joined(low, parts, dim, value.sizes(dim, low.points))
    return parts[-1] if call["keepdim"] else parts[-1].with_dims((*parts[-1].dims[:dim], *parts[-1].dims[dim + 1 :]))


@rule("topk")
def topk(low: Lowering, call: Call) -> tuple[Value, Value]:
    """The k largest, in order: one-hot rows are differences of selections. The positions are kept as such rows."""
    value = low.plain(low.value(call["self"]))
    rank = len(value.dims)
    dim = low.axis_of(call["dim"] if call["dim"] is not None else -1, rank)
    if not call["largest"]:
        value = low.scale(value, MINUS)
    rows = one_hot_oflargest(low, value, dim, low.constant_int(call["k"]))
    labels = [f"x{k}" for k in range(rank)]
    picked = low.contract(value, labels, rows, ["k", *labels], [*labels[:dim], "k", *labels[dim + 1 :]])
    picked = picked if call["largest"] else low.scale(picked, MINUS)
    return picked, one_hot_positions(rows, dim, rank)


@rule("sort", "argsort")
def sort(low: Lowering, call: Call) -> Any:
    """In full order along a finite axis."""
    value = low.plain(low.value(call["self"]))
    rank = len(value.dims)
    dim = low.axis_of(call["dim"] if call["dim"] is not None else -1, rank)
    size = low.dim(value.sizes(dim, low.points)).constant
    if size is None or size > LONGEST:
        whole = low.zipped.first.dtypes[call["self"].value].startswith("int")
        low.refuse(f"it sorts along the batch or an axis that grows, or more than {LONGEST} entries",
                   "every expert on all tokens, times its weight, which is 0 where it is not chosen" if whole
                   else "a selection along a short finite axis")  # fmt: skip
    assert size is not None
    ordered = value if call["descending"] else low.scale(value, MINUS)
    rows = one_hot_oflargest(low, ordered, dim, int(size))
    positions = one_hot_positions(rows, dim, rank)
    if call.op == "argsort":
        return positions
    labels = [f"x{k}" for k in range(rank)]
    return low.contract(value, labels, rows, ["k", *labels], [*labels[:dim], "k", *labels[dim + 1 :]]), positions


def one_hot_oflargest(low: Lowering, value: Value, dim: int, count: int) -> Value:
    """[k, *axes]: 1 where the entry is the k-th largest along `dim`."""
    rows = []
    before: Value | None = None
    for k in range(1, count + 1):
        upto = low.top_k(value, dim, k)
        row = upto if before is None else low.add([upto, low.scale(before, MINUS)])
        rows.append(row.with_dims(((), *row.dims)))
        before = upto
    return joined(low, rows, 0, (count,) * low.points)


def one_hot_positions(rows: Value, dim: int, rank: int) -> Value:
    """Positions as one-hot rows: [axes with k in place of dim.., what is picked from], marked as positions."""
    groups = list(rows.dims[1:])
    picked = groups[dim]
    groups[dim] = rows.dims[0]
    return Positions(rows.node, (*groups, picked))


@rule("argmax", "argmin")
def argmax(low: Lowering, call: Call) -> Value:
    value = low.plain(low.value(call["self"]))
    if call["dim"] is None:
        low.refuse(f"an {call.op} over all axes", "along one axis")
    value = low.scale(value, MINUS) if call.op == "argmin" else value
    found = _position(low, value, low.axis_of(call["dim"], len(value.dims)), bool(call["keepdim"]))
    return found if found is not None else low.refuse(f"an {call.op} along an axis that grows")


def _position(low: Lowering, value: Value, dim: int, keep: bool) -> Positions | None:
    """Of the largest entry along a finite axis."""
    if low.dim(value.sizes(dim, low.points)).grows:
        return None
    rows = low.top_k(value, dim, 1)
    groups = [g for k, g in enumerate(rows.dims) if k != dim]
    if keep:
        groups.insert(dim, ())
    return Positions(rows.node, (*groups, rows.dims[dim]))
