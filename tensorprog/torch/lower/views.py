"""Rules that only rearrange one tensor: reshapes, transpositions, slices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from tensorprog.graph import Scalar
from tensorprog.torch.lower.registry import rule
from tensorprog.torch.lower.values import Atom, Group, Sizes, Value, is_one

if TYPE_CHECKING:
    from tensorprog.torch.lower import Lowering
    from tensorprog.torch.zipped import Call


@rule("clone", "alias", "contiguous", "lift_fresh", "_to_copy", "to", "lift", "resolve_conj")
def same(low: Lowering, call: Call) -> Value | None:
    """The tensor itself; floating numbers that are no whole ones are rounded where whole ones are wanted."""
    return None if call["rounds"] else low.value(call["self"])


@rule("detach")
def detach(low: Lowering, call: Call) -> Value:
    return low.stop_gradient(low.value(call["self"]))


@rule("copy")
def copy(low: Lowering, call: Call) -> Value:
    value = low.value(call["src"])
    extra = range(len(low.shape(call["src"])), len(value.dims))
    return expand_to(low, value, (*low.out_shape(call), *(value.sizes(k, low.points) for k in extra)))


@rule("fill", "zero")
def fill(low: Lowering, call: Call) -> Value | Scalar | None:
    """One number everywhere, whatever was there."""
    return low.operand(call["value"]) if call.op == "fill" else Scalar(Fraction(0))


@rule("pixel_shuffle", "pixel_unshuffle")
def pixel_shuffle(low: Lowering, call: Call) -> Value:
    """(c r r, h, w) as (c, h r, w r), and back."""
    value, shape, out = low.plain(low.value(call["self"])), low.shape(call["self"]), low.out_shape(call)
    lead, (c, h, w) = list(shape[:-3]), (out if call.op == "pixel_shuffle" else shape)[-3:]
    k, wide = len(lead), call.op == "pixel_shuffle"
    r = low.integer(call["upscale_factor"] if wide else call["downscale_factor"])
    rows, columns = (tuple(a // b for a, b in zip(s, r, strict=True)) for s in (h, w))
    value = low.view(value, [*lead, c, r, r, rows, columns] if wide else [*lead, c, rows, r, columns, r])
    order = [0, 3, 1, 4, 2] if wide else [0, 2, 4, 1, 3]
    value = value.with_dims((*value.dims[:k], *(value.dims[k + j] for j in order)))
    return low.view(value, list(out))


def rank_of(low: Lowering, call: Call) -> int:
    """The number of axes of the tensor `self` (positions carry one more)."""
    return len(low.shape(call["self"]))


def full_shape(low: Lowering, call: Call, value: Value) -> tuple[Sizes, ...]:
    """The sizes of the result, and of the axis more that positions carry."""
    extra = range(rank_of(low, call), len(value.dims))
    return (*low.out_shape(call), *(value.sizes(k, low.points) for k in extra))


@rule("view", "_unsafe_view", "reshape", "_reshape_alias", "unsqueeze", "squeeze", "flatten", "unflatten", "view_copy")
def view(low: Lowering, call: Call) -> Value:
    return _masked(low, low.value(call["self"]), lambda v: low.view(v, full_shape(low, call, v)))


def _masked(low: Lowering, value: Value, change: Callable[[Value], Value]) -> Value:
    """A relabelling of a value and of the mask it carries."""
    if value.mask is None:
        return change(value)
    mask, causal = value.mask
    rank = len(value.dims)
    full = mask.with_dims(((),) * (rank - len(mask.dims)) + mask.dims)
    groups = tuple(
        g if g else tuple(replace(a, axis=None) for a in v) for g, v in zip(full.dims, value.dims, strict=True)
    )
    moved = change(replace(value, mask=None))
    moved_mask = change(full.with_dims(groups))
    return replace(moved, mask=(moved_mask, causal and moved.dims[-2:] == value.dims[-2:]))


@rule("permute")
def permute(low: Lowering, call: Call) -> Value:
    value = low.plain(low.value(call["self"]))
    rank = rank_of(low, call)
    order = [low.axis_of(k, rank) for k in call["dims"]] + list(range(rank, len(value.dims)))
    return value.with_dims(tuple(value.dims[k] for k in order))


@rule("transpose", "swapaxes")
def transpose(low: Lowering, call: Call) -> Value:
    value = low.plain(low.value(call["self"]))
    i, j = (low.axis_of(call[k], rank_of(low, call)) for k in ("dim0", "dim1"))
    dims = list(value.dims)
    dims[i], dims[j] = dims[j], dims[i]
    return value.with_dims(tuple(dims))


@rule("t", "numpy_T")
def t(low: Lowering, call: Call) -> Value:
    value = low.plain(low.value(call["self"]))
    rank = rank_of(low, call)
    return value.with_dims(value.dims[:rank][::-1] + value.dims[rank:])


@rule("movedim")
def movedim(low: Lowering, call: Call) -> Value:
    value = low.plain(low.value(call["self"]))
    rank = len(value.dims)
    sources = [low.axis_of(k, rank) for k in call["source"]]
    targets = [low.axis_of(k, rank) for k in call["destination"]]
    rest = iter([k for k in range(rank) if k not in sources])
    order = [sources[targets.index(k)] if k in targets else next(rest) for k in range(rank)]
    return value.with_dims(tuple(value.dims[k] for k in order))


@rule("expand", "broadcast_to", "expand_as")
def expand(low: Lowering, call: Call) -> Value:
    value = low.value(call["self"])
    if value.mask is not None:
        rank = len(value.dims)
        if [value.sizes(k, low.points) for k in range(rank)] == list(low.out_shape(call))[-rank:]:
            return value
    value = low.plain(value)
    return expand_to(low, value, full_shape(low, call, value))


def expand_to(low: Lowering, value: Value, sizes: tuple[Sizes, ...]) -> Value:
    """Repeated along new axes in front, and along axes of size 1."""
    dims = ((),) * (len(sizes) - len(value.dims)) + value.dims
    if any(g and low_sizes != s for g, low_sizes, s in zip(dims, _sizes(low, value, len(sizes)), sizes, strict=True)):
        low.refuse("an axis is expanded that is not of size 1 at all widths")
    return value.with_dims(tuple(g if g or is_one(s) else (Atom(s, None),) for g, s in zip(dims, sizes, strict=True)))


def _sizes(low: Lowering, value: Value, rank: int) -> list[Sizes]:
    missing = rank - len(value.dims)
    return [(1,) * low.points] * missing + [value.sizes(k, low.points) for k in range(len(value.dims))]


@rule("repeat", "tile")
def repeat(low: Lowering, call: Call) -> Value:
    value = low.plain(low.value(call["self"]))
    counts = call["repeats"] if call["repeats"] is not None else call["dims"]
    dims: list[Group] = [()] * (len(counts) - len(value.dims)) + list(value.dims)
    new: list[Group] = []
    for count, group in zip(counts, dims, strict=True):
        sizes = low.integer(count)
        new.append(group if is_one(sizes) else (Atom(sizes, None), *group))
    return value.with_dims(tuple(new))


@rule("repeat_interleave")
def repeat_interleave(low: Lowering, call: Call) -> Value:
    value = low.plain(low.value(call["self"]))
    if call.overload != "self_int" or call["dim"] is None:
        low.refuse("it repeats by a tensor of counts, or flattens", "one count along one axis")
    dim = low.axis_of(call["dim"], len(value.dims))
    group = (*value.dims[dim], Atom(low.integer(call["repeats"]), None))
    return value.with_dims((*value.dims[:dim], group, *value.dims[dim + 1 :]))


# --- parts of an axis ---------------------------------------------------------------------------------


def _clipped(value: Sizes, size: Sizes) -> Sizes:
    return tuple(min(max(v + s if v < 0 else v, 0), s) for v, s in zip(value, size, strict=True))


@rule("slice", "slice_copy")
def slice_(low: Lowering, call: Call) -> Value:
    value = low.value(call["self"])
    dim = low.axis_of(call["dim"], rank_of(low, call))
    out = low.out_shape(call)[dim]
    size = low.shape(call["self"])[dim]
    if out == size:
        return value
    start = _clipped(low.integer(call["start"] or 0), size)
    return low.window(value, dim, start, out, low.constant_int(call["step"] or 1))


@rule("narrow")
def narrow(low: Lowering, call: Call) -> Value:
    value = low.value(call["self"])
    dim = low.axis_of(call["dim"], rank_of(low, call))
    start = _clipped(low.integer(call["start"]), low.shape(call["self"])[dim])
    return low.window(value, dim, start, low.out_shape(call)[dim])


@rule("select", "select_copy")
def select(low: Lowering, call: Call) -> Value:
    value = low.plain(low.value(call["self"]))
    dim = low.axis_of(call["dim"], rank_of(low, call))
    size = low.shape(call["self"])[dim]
    start = tuple(i + s if i < 0 else i for i, s in zip(low.integer(call["index"]), size, strict=True))
    value = low.window(value, dim, start, (1,) * low.points)
    return value.with_dims((*value.dims[:dim], *value.dims[dim + 1 :]))


@rule("split", "unsafe_split", "split_with_sizes", "unsafe_split_with_sizes", "chunk", "unsafe_chunk",
      "split_copy", "split_with_sizes_copy")  # fmt: skip
def split(low: Lowering, call: Call) -> tuple[Value, ...]:
    value = low.value(call["self"])
    dim = low.axis_of(call["dim"], rank_of(low, call))
    start: Sizes = (0,) * low.points
    parts = []
    for k in range(len(call.outputs)):
        size = low.out_shape(call, k)[dim]
        parts.append(low.window(value, dim, start, size))
        start = tuple(a + b for a, b in zip(start, size, strict=True))
    return tuple(parts)


@rule("unbind")
def unbind(low: Lowering, call: Call) -> tuple[Value, ...]:
    value = low.plain(low.value(call["self"]))
    dim = low.axis_of(call["dim"], rank_of(low, call))
    parts = []
    for k in range(len(call.outputs)):
        part = low.window(value, dim, (k,) * low.points, (1,) * low.points)
        parts.append(part.with_dims((*part.dims[:dim], *part.dims[dim + 1 :])))
    return tuple(parts)


@rule("unfold")
def unfold(low: Lowering, call: Call) -> Value:
    value = low.plain(low.value(call["self"]))
    dim = low.axis_of(call["dimension"], len(value.dims))
    return low.taps(value, dim, low.constant_int(call["size"]), low.out_shape(call)[dim],
                    low.constant_int(call["step"]), 1, 0)  # fmt: skip


@rule("_assemble")
def assemble(low: Lowering, call: Call) -> Value:
    """A tensor into whose parts others were written, one after another."""
    out = low.out_shape(call)
    base = low.operand(call["self"])
    total: Value | None = None
    if isinstance(base, Value):
        total = base
    elif base is not None and base.coefficient:
        total = expand_to(low, low.constant_of(base), out)
    filled, boxes = total is not None, list[list[tuple[int, int]]]()
    for number, part in enumerate(call["parts"]):
        starts, lengths, dims = (_row(low, call[k], number) for k in ("starts", "lengths", "dims"))
        value = low.plain(low.value(part))
        groups: list[Group] = [()] * len(out)
        for k, d in enumerate(dims):
            if d[0] >= 0:
                groups[d[0]] = value.dims[k]
        value = value.with_dims((*groups, *value.dims[len(dims) :]))
        for k, (start, length) in enumerate(zip(starts, lengths, strict=True)):
            if length != out[k]:
                value = low.fold(value, k, start, out[k])
        box = [(a[0], a[0] + n[0]) for a, n in zip(starts, lengths, strict=True)]
        if total is not None and (filled or any(_overlap(box, old) for old in boxes)):
            total = low.mul(total, _outside(low, out, starts, lengths))
        boxes.append(box)
        total = value if total is None else low.add([total, value])
    assert total is not None
    return total


def _overlap(a: list[tuple[int, int]], b: list[tuple[int, int]]) -> bool:
    return all(x[0] < y[1] and y[0] < x[1] for x, y in zip(a, b, strict=True))


def _row(low: Lowering, rows: Any, number: int) -> list[Sizes]:
    return [low.integer(x) for x in rows[number]]


def _outside(low: Lowering, out: tuple[Sizes, ...], starts: list[Sizes], lengths: list[Sizes]) -> Value:
    """1 outside a box, 0 inside."""
    masks = []
    for p in range(low.points):
        mask = np.ones([s[p] for s in out])
        mask[tuple(slice(a[p], a[p] + n[p]) for a, n in zip(starts, lengths, strict=True))] = 0.0
        masks.append(mask)
    if not any(mask.any() for mask in masks):
        return low.constant_of(Scalar(Fraction(0)))
    return low.data.real(tuple(masks), "outside")
