"""The rules of what moves entries: parts of an axis, axes split and merged, windows that slide."""

from __future__ import annotations

from tensorprog.calculus.grades import ANYTHING, UNKNOWN, Grade, common, entries_of
from tensorprog.calculus.shared import Rule, Sizes, linear, refuse
from tensorprog.calculus.terms import Terms, interned, reduce_terms, remembered, uncentred
from tensorprog.graph import (
    Node,
    Program,
    Window,
)


def split_sources(arg: Node, axis: int, count: int, growing: list[int], sizes: Sizes) -> list[int]:
    """For every growing axis of the result of a Split, which grade of the operand it inherits."""
    own = {a: k for k, a in enumerate(sizes.growing(arg.axes))}
    return [own[a if a <= axis else max(axis, a - count + 1)] for a in growing]


def split(source: list[int], growing: list[int], axis: int) -> Rule:
    """Along a part of an axis, grades are those along the axis, but nothing is centred."""
    apart = growing.index(axis) if axis in growing else -1
    if apart < 0:
        return linear(lambda t: t[0])
    inherited = tuple(source)
    return linear(lambda t: tuple([(size, raw, _divided(g, inherited, apart)) for size, raw, g in t[0]]))


@remembered
def _divided(grades: tuple[Grade, ...], source: tuple[int, ...], apart: int) -> tuple[Grade, ...]:
    part = uncentred(grades)[apart]
    return interned(tuple([part if k == apart else grades[k] for k in source]))


def _sliding(place: int) -> Rule:
    """Neighbouring coordinates meet: of an entry's own coordinate nothing is known any more, and flips of whole
    parameters still flip all."""

    def transform(t: list[Terms]) -> Terms:
        terms = []
        for size, raw, g in t[0]:
            if raw:
                g = tuple([entries_of(grade, raw) for grade in g])
            terms.append((size, 0, (*g[:place], (g[place][0], ANYTHING, UNKNOWN), *g[place + 1 :])))
        return reduce_terms(terms)

    return linear(transform)


def merge(node: Node, arg: Node, axis: int, count: int, sizes: Sizes) -> Rule:
    own = sizes.growing(arg.axes)
    groups: list[list[int]] = []
    for target in sizes.growing(node.axes):
        low, high = (target, target) if target < axis else (axis, axis + count - 1)
        if target > axis:
            low = high = target + count - 1
        groups.append([k for k, a in enumerate(own) if low <= a <= high])
    if all(len(g) == 1 for g in groups):
        return linear(lambda t: t[0])

    def transform(t: list[Terms]) -> Terms:
        return reduce_terms([(size, raw, tuple([_joint([g[k] for k in group]) for group in groups]))
                             for size, raw, g in t[0]])  # fmt: skip

    return linear(transform)


def _joint(grades: list[Grade]) -> Grade:
    """The grade along two axes seen as one: zero mean only where it is so along each of them."""
    if all(g == grades[0] for g in grades):
        return grades[0]
    return (common([g[0] for g in grades]), common([g[1] for g in grades]), UNKNOWN)


def window(node: Node, arg: Node, axis: int, taps: bool, sizes: Sizes, program: Program) -> Rule:
    """A part of an axis, or a short window that slides along it, and the adjoints of these."""
    before, after = sizes(arg.axes[axis].dim), sizes(node.axes[axis].dim)
    if not before and not after:
        return linear(lambda t: t[0])
    tapped = node if isinstance(node.op, Window) else arg
    if before != after or (taps and sizes(tapped.axes[axis + 1].dim)):
        raise refuse(node, program.nodes, "it pads to another order of size, or slides in windows that grow, along an "
                     "axis that grows", "slice growing axes only into parts that grow alike")  # fmt: skip
    own = sizes.growing(arg.axes)
    return _sliding(own.index(axis)) if taps else split(list(range(len(own))), own, axis)
