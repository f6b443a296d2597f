"""The rule of `as_strided`: memory read in an order of its own, where that is entries picked along each axis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tensorprog.torch.lower.joins import low_index
from tensorprog.torch.lower.registry import rule
from tensorprog.torch.lower.values import Atom, Group, Value, is_one

if TYPE_CHECKING:
    from tensorprog.torch.lower import Lowering
    from tensorprog.torch.zipped import Call

# Axes seen as one -> where the walk along them begins, and how far it goes with a step of each new axis.
Walks = dict[tuple[int, ...], tuple[int, ...]]


@rule("as_strided")
def as_strided(low: Lowering, call: Call) -> Value:
    """Each new axis walks along one axis of the tensor, or along several that are one in memory; where several walk
    along the same (overlapping chunks), the entry is the one at the sum of their steps."""
    value = low.plain(low.value(call["self"]))
    found = [_walks(low, call, point) for point in range(low.points)]
    walks = found[0]
    if walks is None or any(other != walks for other in found):
        low.refuse("it reads memory in an order of its own", "an operation on axes, such as unfold or transpose")
    out = low.out_shape(call)
    value = value.with_dims(tuple(tuple(a for axis in axes for a in value.dims[axis]) for axes in walks))
    order: list[int] = []
    for axis, (begin, *steps) in reversed(list(enumerate(walks.values()))):  # the numbers of those before stay
        along = [j for j, step in enumerate(steps) if step]
        order = [*along, *order]
        if [(out[j], steps[j]) for j in along] != [(value.sizes(axis, low.points), 1)]:
            grids = [np.indices([out[j][k] for j in along]) for k in range(low.points)]
            places = [sum((steps[j] * g for j, g in zip(along, grid, strict=True)), np.array(begin)) for grid in grids]
            value = low_index(low, value, axis, tuple(places))
    again: list[Group] = [() if is_one(s) else (Atom(s, None),) for s in out]  # the same entries, if nothing walks
    return value.with_dims(tuple(value.dims[order.index(j)] if j in order else g for j, g in enumerate(again)))


def _walks(low: Lowering, call: Call, point: int) -> Walks | None:
    """How the new strides go along the tensor's axes at one point; None if they do not, or leave it."""

    def at(numbers: Any) -> list[int]:
        return [low.integer(number)[point] for number in numbers]

    out = [size[point] for size in low.out_shape(call)]
    begin, own_begin = at([call["storage_offset"] or 0, call["own_offset"]])
    goals = [
        begin - own_begin,
        *(stride if size > 1 else 0 for stride, size in zip(at(call["stride"]), out, strict=True)),
    ]
    sizes, strides = [size[point] for size in low.shape(call["self"])], at(call["own_stride"])
    if 0 in strides:
        return None
    axes: dict[tuple[int, ...], tuple[int, int]] = {
        (k,): (size, stride) for k, (size, stride) in enumerate(zip(sizes, strides, strict=True)) if size > 1
    }
    while True:
        walks, left = {group: [0] * len(goals) for group in axes}, list(goals)
        for group in sorted(axes, key=lambda group: -axes[group][1]):
            for j, goal in enumerate(left):
                walks[group][j], left[j] = divmod(goal, axes[group][1])
        ends = {g: first + sum(step * (n - 1) for step, n in zip(steps, out, strict=True))
                for g, (first, *steps) in walks.items()}  # fmt: skip
        too_far = [group for group, end in ends.items() if end >= axes[group][0]]
        if not too_far:
            break
        size, stride = axes[too_far[0]]
        outer = next((group for group in axes if axes[group][1] == size * stride), None)
        if outer is None:
            return None
        axes[(*outer, *too_far[0])] = (axes.pop(outer)[0] * size, stride)
        del axes[too_far[0]]
    crossing = any(sum(1 for walk in walks.values() if walk[j]) > 1 for j in range(1, len(goals)))
    if crossing or any(left) or any(first < 0 for first, *_ in walks.values()):
        return None
    return {group: tuple(walks[group]) for group in sorted(walks)}
