"""Sizes that remember where they come from: integers which carry an affine form of the unknowns.

The calculus computes with packed exponents by adding, negating and comparing integers. A `Form` is such an integer
(its value at the current point; all comparisons go by it) that carries its coefficients along. Run on forms instead
of integers, the same calculus with the same decisions says of every term how its size depends on the unknowns, as
long as the same terms rule: exactly, not by differences.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_DIGIT = 1 << 24  # base of the packed coefficients


class Form(int):
    """A packed exponent together with the packed coefficients `key` of the unknowns.

    `unknown`: an affine expression of unknowns alone, not yet the size of a term. `sound`: no size of a term was
    subtracted on the way. Sizes add and are compared (a tensor has its largest term's), so the size of every tensor is
    a maximum of sound forms, each of which bounds it from below wherever the point is; with a subtraction (division
    by a norm) that holds only as long as the same terms rule.
    """

    key: int
    unknown: bool
    sound: bool

    def __new__(cls, value: int, key: int = 0, *, unknown: bool = False, sound: bool = True) -> Form:
        form = int.__new__(cls, value)
        form.key, form.unknown, form.sound = key, unknown, sound
        return form

    def _plus(self, other: Any, sign: int, value: int) -> Form:
        if not isinstance(other, Form):
            return Form(value, self.key, unknown=self.unknown, sound=self.sound)
        both = self.unknown and other.unknown
        sound = self.sound and other.sound and (sign > 0 or other.unknown)
        return Form(value, self.key + sign * other.key, unknown=both, sound=sound)

    def __add__(self, other: int) -> Form:
        return self._plus(other, 1, int.__add__(self, other))

    __radd__ = __add__

    def __sub__(self, other: int) -> Form:
        return self._plus(other, -1, int.__sub__(self, other))

    def __rsub__(self, other: int) -> Form:
        return -self + other

    def __neg__(self) -> Form:
        return Form(int.__neg__(self), -self.key, unknown=self.unknown, sound=self.unknown)

    def __mul__(self, other: int) -> Form:
        sound = self.sound and (other >= 0 or self.unknown)
        return Form(int.__mul__(self, other), self.key * int(other), unknown=self.unknown, sound=sound)

    __rmul__ = __mul__

    def __bool__(self) -> bool:
        return int.__bool__(self) or bool(self.key)  # a form that happens to be 0 here is not nothing

    def __floordiv__(self, other: int) -> int:
        raise TypeError("a form is not divided")

    def coefficients(self, count: int) -> list[int]:
        """The coefficients of the first `count` unknowns."""
        return unpack(self.key, count)


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
