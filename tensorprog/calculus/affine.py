"""Sizes that remember where they come from: integers which carry an affine form of the unknowns.

The calculus computes with packed exponents by adding, negating and comparing integers. A `Form` is such an integer
(its value at the current point; all comparisons go by it) that carries its coefficients along. Run on forms instead
of integers, the same calculus with the same decisions says of every term how its size depends on the unknowns.

A size that is nowhere taken away, nor compared with a smaller bound, is a maximum of such forms, and each of them
bounds it from below wherever the point is. `least` and `greatest` are for the other places: the smaller of two sizes
(what is normalised is at most Theta(1)), and the largest of several that is to be divided by (a norm). They note in the
form against what it ruled, so that it is known where else it holds; `given` notes by what else it was decided.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_DIGIT = 1 << 24  # base of the packed coefficients
Guard = tuple[int, int]  # value (at the current point, not negative) and key of an affine form
Guards = Mapping[Guard, int]  # how often each counts
NONE: Guards = {}


class Form(int):
    """A packed exponent together with the packed coefficients `key` of the unknowns.

    `below`, `above`: guards g with their multiplicities. Wherever the point is, the size is at least
    form + sum of m * min(0, g) over `below`, and at most form - sum of m * min(0, g) over `above`. At the current point
    all guards are at least 0, and the size is the form."""

    key: int
    below: Guards
    above: Guards

    def __new__(cls, value: int, key: int = 0, below: Guards = NONE, above: Guards = NONE) -> Form:
        form = int.__new__(cls, value)
        form.key, form.below, form.above = key, below, above
        return form

    def __add__(self, other: int) -> Form:
        value = int.__add__(self, other)
        if not isinstance(other, Form):
            return Form(value, self.key, self.below, self.above)
        return Form(value, self.key + other.key, _both(self.below, other.below), _both(self.above, other.above))

    __radd__ = __add__

    def __sub__(self, other: int) -> Form:
        value = int.__sub__(self, other)
        if not isinstance(other, Form):
            return Form(value, self.key, self.below, self.above)
        return Form(value, self.key - other.key, _both(self.below, other.above), _both(self.above, other.below))

    def __rsub__(self, other: int) -> Form:
        return -self + other

    def __neg__(self) -> Form:
        return Form(int.__neg__(self), -self.key, self.above, self.below)

    def __mul__(self, other: int) -> Form:
        other = int(other)
        below, above = (_times(guards, abs(other)) for guards in (self.below, self.above))
        if other < 0:
            below, above = above, below
        return Form(int.__mul__(self, other), self.key * other, below, above)

    __rmul__ = __mul__

    def __bool__(self) -> bool:
        return int.__bool__(self) or bool(self.key)  # a form that happens to be 0 here is not nothing

    def __floordiv__(self, other: int) -> Any:
        raise TypeError("a form is not divided")

    def coefficients(self, count: int) -> list[int]:
        """The coefficients of the first `count` unknowns."""
        return unpack(self.key, count)


def least(first: int, second: int) -> int:
    """The smaller of two sizes."""
    small, large = (first, second) if first <= second else (second, first)
    if not isinstance(small, Form) and not isinstance(large, Form):
        return small
    one, other = _form(small), _form(large)
    return Form(int(one), one.key, _both(_both(one.below, other.below), _guard(other, one)), one.above)


def greatest(sizes: Iterable[int]) -> int:
    """The largest of some sizes, should it be taken away from something. Raises ValueError if there is none."""
    known = list(sizes)
    best = max(known)
    if Form not in map(type, known):
        return best
    one, others = _form(best), [_form(size) for size in known if size is not best]
    above = one.above
    for other in others:
        above = _both(_both(above, other.above), _guard(one, other))
    return Form(int(one), one.key, one.below, above)


def given(size: int, large: int, small: int, times: int) -> int:
    """A size that is known while `large` is larger than `small`; else it is less by at most so many times the
    difference."""
    one = _form(size)
    guard = _times(_guard(_form(large), _form(small)), times)
    return Form(int(one), one.key, _both(one.below, guard), one.above) if guard else size


def _form(size: int) -> Form:
    return size if isinstance(size, Form) else Form(size)


def _guard(large: Form, small: Form) -> Guards:
    """That one is at least the other; nothing if it is so everywhere."""
    key = large.key - small.key
    return {(int(large) - int(small), key): 1} if key else NONE


def _both(one: Guards, other: Guards) -> Guards:
    if not one or not other:
        return one or other
    if len(one) < len(other):
        one, other = other, one
    found = dict(one)
    for guard, count in other.items():
        found[guard] = found.get(guard, 0) + count
    return found


def _times(guards: Guards, factor: int) -> Guards:
    if factor == 1 or not guards:
        return guards
    return {guard: factor * count for guard, count in guards.items()} if factor else NONE


def pack(coefficients: Sequence[int]) -> int:
    """The key with these coefficients."""
    return sum(c * _DIGIT**k for k, c in enumerate(coefficients))


def unpack(key: int, count: int) -> list[int]:
    """The inverse of `pack`."""
    found = []
    for _ in range(count):
        digit = (key + _DIGIT // 2) % _DIGIT - _DIGIT // 2
        found.append(digit)
        key = (key - digit) // _DIGIT
    return found
