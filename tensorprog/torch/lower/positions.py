"""Whole numbers that depend on activations: as one-hot rows where they stand for positions, as numbers elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from tensorprog.graph import Scalar
from tensorprog.torch.lower.registry import rule
from tensorprog.torch.lower.values import Sizes, Value
from tensorprog.torch.trace import Ref

if TYPE_CHECKING:
    from tensorprog.torch.lower import Lowering
    from tensorprog.torch.zipped import Call

MINUS = Scalar(Fraction(-1))
KEEPING = frozenset(
    "clone alias contiguous lift_fresh _to_copy to lift detach copy view _unsafe_view reshape _reshape_alias unsqueeze "
    "squeeze flatten unflatten view_copy permute transpose swapaxes t numpy_T expand broadcast_to expand_as slice "
    "slice_copy narrow select select_copy split unsafe_split split_with_sizes unsafe_split_with_sizes unbind "
    "eq ne _assemble".split()
)  # operations whose rules know of the axis more that positions carry; all others get numbers


class Positions(Value):
    """Integers that depend on activations, as one-hot rows: the last axis is not one of the tensor's."""


def numbers(low: Lowering, rows: Positions, function: Callable[[Any], Any] = lambda k: k) -> Value:
    """A function of the integers, entry by entry: each row picks one of its values."""
    last = len(rows.dims) - 1
    table = low.data.real(tuple(function(np.arange(s)) for s in rows.sizes(last, low.points)), "whole")
    return low.contract(Value(rows.node, rows.dims), range(last + 1), table, [last], range(last))


def rows_of(low: Lowering, value: Value, size: Sizes) -> Positions:
    """Whole numbers below `size`, or from -size on counted from the end, as one-hot rows: max(0, 1 - |x - k|)."""
    if low.dim(size).grows:
        low.refuse("positions that depend on activations, along an axis that grows")
    wide = value.with_dims((*value.dims, ()))
    table = low.data.real(tuple(-np.arange(s, dtype=float) for s in size), "whole")
    parts = []
    for start in (Scalar(Fraction(0)), Scalar(Fraction(size[0]))):
        away = low.map(low.shift(low.add([wide, table]), start), "abs")
        parts.append(low.map(low.shift(low.scale(away, MINUS), Scalar()), "relu"))
    rows = low.stop_gradient(low.add(parts))
    return Positions(rows.node, rows.dims)


def positions(low: Lowering, arg: Any, size: Sizes) -> tuple[Any, ...] | Positions:
    """Positions along an axis of this size: data at every point, or one-hot rows that depend on activations."""
    if isinstance(arg, tuple):
        return arg
    assert isinstance(arg, Ref)
    if low.zipped.leaf(arg.value) is not None:
        return low.data.at(arg.value)
    known = low.values.get(arg.value)
    if isinstance(known, Positions) and known.sizes(len(known.dims) - 1, low.points) == size:
        return known
    return rows_of(low, low.value(arg), size)


def row_values(low: Lowering, arg: Any, size: Sizes) -> Value:
    """The same as one-hot rows, of data too."""
    at = positions(low, arg, size)
    return Value(at.node, at.dims) if isinstance(at, Positions) else low.data.tokens(at, size, "index")


@rule("one_hot")
def one_hot(low: Lowering, call: Call) -> Value:
    return row_values(low, call["self"], low.out_shape(call)[-1])


@rule("eq", "ne")
def equal(low: Lowering, call: Call) -> Value | None:
    """1 where positions that depend on activations are fixed numbers (or are not), else 0; no other has a value."""
    pair = [call["self"], call["other"]]
    known = [low.values.get(a.value) if isinstance(a, Ref) else None for a in pair]
    k = next((k for k, v in enumerate(known) if isinstance(v, Positions)), None)
    if k is None or isinstance(known[1 - k], Value):
        return None
    rows, other = known[k], pair[1 - k]
    assert isinstance(rows, Positions)
    size = rows.sizes(len(rows.dims) - 1, low.points)
    if isinstance(other, Ref):
        arrays = low.data.at(other.value)
        if any(a.dtype.kind not in "iu" or (a < 0).any() or (a >= s).any() for a, s in zip(arrays, size, strict=True)):
            return None
        fixed = low.data.tokens(arrays, size, "index")
        hit = low.sum(low.mul(Value(rows.node, rows.dims), fixed), (max(len(rows.dims), len(fixed.dims)) - 1,), False)
    elif isinstance(other, int):
        hit = numbers(low, rows, lambda k: (k == other).astype(float))
    else:
        return None
    return hit if call.op == "eq" else low.shift(low.scale(hit, MINUS), Scalar())


@rule("floor_divide", "remainder", "fmod")
def divided(low: Lowering, call: Call) -> Value:
    """Of positions by a fixed number: what is rounded in other divisions has no derivative."""
    rows, by = low.values.get(call["self"].value) if isinstance(call["self"], Ref) else None, call["other"]
    if not isinstance(rows, Positions) or not isinstance(by, int):
        return low.refuse("a division that rounds")
    return numbers(low, rows, (lambda k: k % by) if call.op in ("remainder", "fmod") else (lambda k: k // by))
