"""Sizes that remember where they come from: integers which carry an affine form of the unknowns.

The calculus computes with packed exponents by adding, negating and comparing integers. A `Form` is such an integer
(its value at the current point; all comparisons go by it) that carries its coefficients along. Run on forms instead
of integers, the same calculus with the same decisions says of every term how its size depends on the unknowns.

A size that is nowhere taken away, nor compared with a smaller bound, is a maximum of such forms, and each of them
bounds it from below wherever the point is. `least` and `greatest` are for the other places: the smaller of two sizes
(what is normalised is at most Theta(1)), and the largest of several that is to be divided by (a norm). There the size
is the form and a slack, which is 0 here and negative where something else rules. The same slack comes back wherever the
same norm does, so that of a gradient over the largest gradient nothing is left; `given` notes by what else it was
decided.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_DIGIT = 1 << 24  # base of the packed coefficients
Guard = tuple[int, int]  # value (at the current point, not negative) and key of an affine form
Guards = Mapping[Guard, int]  # how often each counts


class Slack:
    """How much less than a form a size is: min(0, ..) over `apart`, by how much the form is larger than others, each
    with its slacks. At least the sum of count * min(0, g) over `guards`. Where it is only known to be at least `times`
    that, it is the slack `of` one size."""

    __slots__ = ("_hash", "_means", "guards")

    def __init__(self, apart: Sequence[Apart], times: int = 1, of: Guard | None = None) -> None:
        self._means = frozenset((guard, frozenset(slacks.items())) for guard, slacks in apart), times, of
        self._hash = hash(self._means)
        inner: dict[Slack, int] = {}
        for _, slacks in apart:
            for slack, count in slacks.items():
                inner[slack] = max(inner.get(slack, 0), count * times)
        self.guards: Guards = _all(inner, {guard: times for guard, _ in apart if guard[1]})

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Slack) and self._hash == other._hash and self._means == other._means)


Slacks = Mapping[Slack, int]  # how often each counts; where it is taken away, less than 0
Apart = tuple[Guard, Slacks]
NONE: Slacks = {}


class Form(int):
    """A packed exponent together with the packed coefficients `key` of the unknowns, and `slacks`: at the current point
    all are 0, and the size is the form. `rates`: whether learning rates are in it."""

    key: int
    slacks: Slacks
    rates: bool

    def __new__(cls, value: int, key: int = 0, slacks: Slacks = NONE, *, rates: bool = False) -> Form:
        form = int.__new__(cls, value)
        form.key, form.slacks, form.rates = key, slacks, rates
        return form

    @property
    def below(self) -> Guards:
        """Wherever the point is, the size is at least form + sum of count * min(0, g) over these."""
        return _all(self.slacks, {})

    def __add__(self, other: int) -> Form:
        value = int.__add__(self, other)
        if not isinstance(other, Form):
            return Form(value, self.key, self.slacks, rates=self.rates)
        slacks = _both(self.slacks, other.slacks)
        return Form(value, self.key + other.key, slacks, rates=self.rates or other.rates)

    __radd__ = __add__

    def __sub__(self, other: int) -> Form:
        return self + -other

    def __rsub__(self, other: int) -> Form:
        return -self + other

    def __neg__(self) -> Form:
        return Form(int.__neg__(self), -self.key, _times(self.slacks, -1), rates=self.rates)

    def __mul__(self, other: int) -> Form:
        other = int(other)
        return Form(int.__mul__(self, other), self.key * other, _times(self.slacks, other), rates=self.rates)

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
    one = _form(small)
    return one + _missing(_slack([_apart(_form(large), one)]))


def greatest(sizes: Iterable[int]) -> int:
    """The largest of some sizes, should it be taken away from something. Raises ValueError if there is none."""
    known = list(sizes)
    best = max(known)
    if Form not in map(type, known):
        return best
    one = _form(best)
    slack = _slack([_apart(one, _form(size)) for size in known if size is not best])
    return one - _missing(slack)


def given(size: int, large: int, small: int, times: int) -> int:
    """A size that is known while `large` is larger than `small`; else it is less by at most so many times the
    difference."""
    one = _form(size)
    slack = _slack([_apart(_form(large), _form(small))], times, (int(one), one.key))
    return one + _missing(slack) if slack else size


def trained(size: int) -> bool:
    """Whether learning rates are in it."""
    return isinstance(size, Form) and size.rates


def differ(one: int, other: int) -> bool:
    """Whether they may differ where the point is another one."""
    return _form(one).key != _form(other).key


def _form(size: int) -> Form:
    return size if isinstance(size, Form) else Form(size)


def _missing(slacks: Slacks) -> Form:
    return Form(0, 0, slacks)


def _apart(large: Form, small: Form) -> Apart:
    """By how much one is the larger one."""
    return (int(large) - int(small), large.key - small.key), _both(large.slacks, _times(small.slacks, -1))


def _slack(apart: Iterable[Apart], times: int = 1, of: Guard | None = None) -> Slacks:
    """What is missing where something else is larger; nothing if it is nowhere."""
    somewhere = [(guard, slacks) for guard, slacks in apart if guard[1] or any(count > 0 for count in slacks.values())]
    return {Slack(somewhere, times, of): 1} if somewhere else NONE


def _both(one: Slacks, other: Slacks) -> Slacks:
    if not one or not other:
        return one or other
    if len(one) < len(other):
        one, other = other, one
    found = dict(one)
    for slack, count in other.items():
        total = found.get(slack, 0) + count
        if total:
            found[slack] = total
        else:
            del found[slack]
    return found


def _times(slacks: Slacks, factor: int) -> Slacks:
    if factor == 1 or not slacks:
        return slacks
    return {slack: factor * count for slack, count in slacks.items()} if factor else NONE


def _all(slacks: Slacks, guards: Guards) -> Guards:
    """The guards of slacks (of those that are not taken away), and others."""
    found = dict(guards)
    for slack, count in slacks.items():
        for guard, times in slack.guards.items() if count > 0 else ():
            found[guard] = found.get(guard, 0) + count * times
    return found


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
