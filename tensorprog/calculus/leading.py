"""What the largest part of a tensor is: a sum of products of others, with its coefficients."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import replace
from fractions import Fraction

from tensorprog.dims import Dim
from tensorprog.graph import InvRms, Merge, Softmax, Split, TopK, Window
from tensorprog.parameters import Parameter

Powers = frozenset[tuple[Hashable, Fraction]]
Part = tuple[Powers, int, tuple[int, ...]]  # powers of sizes and multipliers, a tensor, which axes of the node it has
Value = Mapping[Part, Fraction]  # a sum of such parts, with their coefficients
ONE = 0  # the tensor that is 1
NUMBER: Value = {(frozenset(), ONE, ()): Fraction(1)}


def along(op: InvRms | Softmax | TopK, x: Value, called: Callable[[Hashable], int]) -> Value:
    """What takes some axes together is the same function of the largest part."""
    gone = op.axes if isinstance(op, InvRms) else ()
    mask = op.mask if isinstance(op, Softmax) and op.mask else ()
    told = op.axes if isinstance(op, InvRms) else (op.axis, *mask[::2])
    axes = sorted({a for _, _, own in x for a in own}.union(told))
    made = frozenset((powers, t, tuple([axes.index(a) for a in own]), c) for (powers, t, own), c in x.items())
    tensor = called((_without_axes(op), tuple([axes.index(a) for a in told]), made))
    kept = tuple([a - sum(axis < a for axis in gone) for a in axes if a not in gone])
    return {(frozenset(), tensor, kept): Fraction(1)}


def reshaped(op: Split | Merge, dims: tuple[Dim, ...], x: Value, called: Callable[[Hashable], int]) -> Value:
    """Part by part. `dims`: of what is reshaped and of what it becomes."""
    cut, whole = (1, op.count) if isinstance(op, Split) else (op.count, 1)
    found: dict[Part, Fraction] = {}
    for (powers, t, own), c in x.items():
        place = [own.index(a) if a in own else -1 for a in range(op.axis, op.axis + cut)]
        axes = [a if a < op.axis else a + whole - cut for a in own if not op.axis <= a < op.axis + cut]
        if max(place) >= 0:
            t = called((type(op), op.axis, dims, t, own))
            axes = sorted([*axes, *range(op.axis, op.axis + whole)])
        part = (powers, t, tuple(axes))
        found[part] = found.get(part, Fraction(0)) + c
    return found


def windowed(op: Window, size: Dim, x: Value, called: Callable[[Hashable], int]) -> Value:
    """Part by part; what is alike along the axis is not so behind it, where zeros are read from outside."""
    found: dict[Part, Fraction] = {}
    for (powers, t, own), c in x.items():
        place = own.index(op.axis) if op.axis in own else -1
        tensor = called((replace(op, axis=place), size, t, own))
        axes = sorted({a if a <= op.axis else a + op.taps for a in own}.union(range(op.axis, op.axis + 1 + op.taps)))
        found[powers, tensor, tuple(axes)] = found.get((powers, tensor, tuple(axes)), Fraction(0)) + c
    return found


def alike(x: Value, axis: int) -> bool:
    return all(axis not in own for _, _, own in x)


def _without_axes(op: InvRms | Softmax | TopK) -> Hashable:
    match op:
        case InvRms(_, eps):
            return "invrms", eps
        case Softmax(_, mask):
            return "softmax", mask and mask[1]
        case TopK(_, k):
            return "topk", k


def rational(value: float) -> Fraction:
    """The number that a float is written for: 1/3 is no multiple of a power of 2."""
    return Fraction(value).limit_denominator(10**9)


def times(one: Powers, other: Powers) -> Powers:
    powers = dict(one)
    for base, power in other:
        powers[base] = powers.get(base, Fraction(0)) + power
    return frozenset((base, power) for base, power in powers.items() if power)


def scaled(value: Value, factor: Fraction, powers: Iterable[tuple[Hashable, Fraction]]) -> Value:
    """A multiple; whole powers of sizes that are known are numbers."""
    rest = []
    for base, power in powers:
        number = base.constant if isinstance(base, Dim) else None
        if number is not None and power.denominator == 1:
            factor *= number ** int(power)
        else:
            rest.append((base, power))
    more = frozenset(rest)
    return {(times(own, more), tensor, axes): c * factor for (own, tensor, axes), c in value.items()} if factor else {}


def start_of(parameter: Parameter) -> Fraction | None:
    """What all entries of a parameter start at; None if they start at random."""
    match parameter.init.kind:
        case "zeros":
            return Fraction(0)
        case "ones":
            return Fraction(1)
        case "constant":
            return rational(parameter.init.value or 0)
        case _:
            return None
