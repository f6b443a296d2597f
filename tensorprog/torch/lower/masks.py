"""Rules of masks that are data: entries that they select, or that something is written to."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from tensorprog.torch.lower.gather import chosen, entries_at, put_at
from tensorprog.torch.lower.registry import rule
from tensorprog.torch.lower.values import Sizes, Value

if TYPE_CHECKING:
    from tensorprog.torch.lower import Lowering
    from tensorprog.torch.zipped import Call


@rule("masked_select")
def masked_select(low: Lowering, call: Call) -> Value:
    """All chosen entries in a row."""
    value = low.value(call["self"])
    given, shape = _chosen(low, call, value)
    return low.view(entries_at(low, value, given, shape), low.out_shape(call))


@rule("masked_scatter")
def masked_scatter(low: Lowering, call: Call) -> Value:
    """The entries of another tensor, in their order, where the mask is."""
    value, source = low.value(call["self"]), low.use(low.plain(low.value(call["source"])), "scatter")
    given, shape = _chosen(low, call, value)
    taken = tuple(prod(s[k] for s in shape) for k in range(low.points))
    flat = low.view(source, (tuple(prod(s) for s in zip(*_shape(low, source), strict=True)),))
    if flat.sizes(0, low.points) != taken:
        flat = low.window(flat, 0, (0,) * low.points, taken)
    return put_at(low, value, given, low.view(flat, shape), low.out_shape(call))


def _chosen(low: Lowering, call: Call, value: Value) -> tuple[list[tuple[int, Any]], tuple[Sizes, ...]]:
    """The positions that a mask has along the first axes, and the shape of what it selects: how many there are, and
    the axes along which it is the same everywhere."""
    if low.zipped.leaf(call["mask"].value) is None:
        low.refuse("the size of its result depends on the data", "every expert on all tokens, times its weight, which "
                   "is 0 where it is not chosen")  # fmt: skip
    shape = _shape(low, value)
    masks = [np.broadcast_to(m, [s[k] for s in shape]) for k, m in enumerate(low.data.at(call["mask"].value))]
    rank = len(shape)
    while rank > 1 and all((m == m[..., :1]).all() for m in masks):
        masks, rank = [m[..., 0] for m in masks], rank - 1
    at = chosen(low, masks)
    given = [(k, tuple(p[k] for p in at)) for k in range(rank)]
    return given, (tuple(len(p[0]) for p in at), *shape[rank:])


def _shape(low: Lowering, value: Value) -> tuple[Sizes, ...]:
    return tuple(value.sizes(k, low.points) for k in range(len(value.dims)))
