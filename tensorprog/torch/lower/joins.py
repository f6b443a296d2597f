"""Rules that put parts side by side: concatenation, padding, rolling, picking entries of an axis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tensorprog.torch.lower.registry import rule
from tensorprog.torch.lower.values import Sizes, Value
from tensorprog.torch.trace import Ref

if TYPE_CHECKING:
    from tensorprog.torch.lower import Lowering
    from tensorprog.torch.zipped import Call


@rule("cat", "concat")
def cat(low: Lowering, call: Call) -> Value:
    tensors = [t for t in call["tensors"] if not _empty(low, t)]
    rank = len(low.out_shape(call))
    dim = low.axis_of(call["dim"], rank)
    values = [low.value(t) for t in tensors]
    return joined(low, values, dim, low.out_shape(call)[dim])


def _empty(low: Lowering, arg: Any) -> bool:
    return isinstance(arg, Ref) and any(all(x == 0 for x in s) for s in low.shape(arg))


@rule("stack")
def stack(low: Lowering, call: Call) -> Value:
    out = low.out_shape(call)
    dim = low.axis_of(call["dim"], len(out))
    values = [low.plain(low.value(t)) for t in call["tensors"]]
    return joined(low, [v.with_dims((*v.dims[:dim], (), *v.dims[dim:])) for v in values], dim, out[dim])


def joined(low: Lowering, values: list[Value], dim: int, total: Sizes) -> Value:
    """Side by side along an axis of size `total`: each inside zeros, all added."""
    if len(values) == 1:
        return values[0]
    parts = []
    start: Sizes = (0,) * low.points
    for value in values:
        size = value.sizes(dim, low.points)
        parts.append(low.fold(value, dim, start, total))
        start = tuple(a + b for a, b in zip(start, size, strict=True))
    return low.add(parts)


@rule("constant_pad_nd", "pad")
def pad(low: Lowering, call: Call) -> Value:
    value = low.plain(low.value(call["self"]))
    fill = low.number(call["value"] if call["value"] is not None else 0)
    amounts = [low.integer(p) for p in call["pad"]]
    for k in range(len(amounts) // 2):
        dim = len(low.out_shape(call)) - 1 - k
        before, out = amounts[2 * k], low.out_shape(call)[dim]
        if out == value.sizes(dim, low.points) and not any(before):
            continue
        if all(b >= 0 for b in before) and all(o >= s + b for o, s, b in zip(out, value.sizes(dim, low.points), before,
                                                                             strict=True)):  # fmt: skip
            value = low.fold(value, dim, before, out)
        else:  # crop first, then pad
            size, after = value.sizes(dim, low.points), amounts[2 * k + 1]
            start = tuple(max(-b, 0) for b in before)
            stop = tuple(s + min(a, 0) for s, a in zip(size, after, strict=True))
            value = low.window(value, dim, start, tuple(b - a for a, b in zip(start, stop, strict=True)))
            value = low.fold(value, dim, tuple(max(b, 0) for b in before), out)
    if fill.coefficient:
        value = low.add([value, low.scale(_outside(low, call, amounts), fill)])
    return value


def _outside(low: Lowering, call: Call, amounts: list[Sizes]) -> Value:
    """1 at what was padded, 0 at what was there."""
    shape, kept = low.shape(call["self"]), len(low.out_shape(call)) - len(amounts) // 2
    arrays = []
    for point in range(low.points):
        widths = [(0, 0)] * kept + [(amounts[k][point], amounts[k + 1][point]) for k in range(len(amounts) - 2, -1, -2)]
        whole = [s[point] + sum(w) if any(w) else 1 for s, w in zip(shape, widths, strict=True)]
        array = np.ones(whole)
        array[tuple(slice(max(b, 0), size - max(a, 0)) for (b, a), size in zip(widths, whole, strict=True))] = 0
        arrays.append(array)
    return low.data.real(tuple(arrays), "outside")


@rule("reflection_pad1d", "reflection_pad2d", "reflection_pad3d",
      "replication_pad1d", "replication_pad2d", "replication_pad3d")  # fmt: skip
def mirrored(low: Lowering, call: Call) -> Value:
    """Padding with entries of the tensor itself: these are picked."""
    value = low.plain(low.value(call["self"]))
    mode = "reflect" if call.op.startswith("reflection") else "edge"
    for k in range(len(call["padding"]) // 2):
        dim, (before, after) = len(value.dims) - 1 - k, (low.integer(p) for p in call["padding"][2 * k : 2 * k + 2])
        sizes = value.sizes(dim, low.points)
        rows = [np.pad(np.arange(s), (b, a), mode=mode) for s, b, a in zip(sizes, before, after, strict=True)]  # type: ignore[call-overload]
        value = low_index(low, value, dim, tuple(rows))
    return value


@rule("roll")
def roll(low: Lowering, call: Call) -> Value:
    value = low.plain(low.value(call["self"]))
    for shift, dim in zip(call["shifts"], call["dims"], strict=True):
        axis = low.axis_of(dim, len(value.dims))
        size = value.sizes(axis, low.points)
        amount = tuple(a % s for a, s in zip(low.integer(shift), size, strict=True))
        if not any(amount):
            continue
        cut = tuple(s - a for s, a in zip(size, amount, strict=True))
        first = low.window(value, axis, cut, amount)
        second = low.window(value, axis, (0,) * low.points, cut)
        value = joined(low, [first, second], axis, size)
    return value


@rule("flip")
def flip(low: Lowering, call: Call) -> Value:
    value = low.plain(low.value(call["self"]))
    for dim in call["dims"]:
        axis = low.axis_of(dim, len(value.dims))
        value = low_index(low, value, axis, tuple(np.arange(s)[::-1].copy() for s in value.sizes(axis, low.points)))
    return value


def low_index(low: Lowering, value: Value, dim: int, positions: tuple[Any, ...]) -> Value:
    """Entries of one axis at data positions (arrays of one shape at every point), which take its place."""
    whole = value.sizes(dim, low.points)
    flat = positions[0].ndim == 1
    runs = flat and all(len(p) > 0 and (np.diff(p) == 1).all() for p in positions)
    if runs:
        start = tuple(int(p[0]) for p in positions)
        return low.window(value, dim, start, tuple(len(p) for p in positions))
    rows = low.data.tokens(positions, whole, "index")
    rank, extra = len(value.dims), len(rows.dims) - 1
    new = [("new", k) for k in range(extra)]
    left = [*new, ("old", dim)]
    right = [("old", k) for k in range(rank)]
    out = [*right[:dim], *new, *right[dim + 1 :]]
    return low.contract(rows, left, value, right, out)
