"""Sizes of axes: polynomials in the width symbols with rational coefficients (`n`, `4 n`, `n / 64`, `n + 1`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

Monomial = tuple[tuple[str, int], ...]  # sorted (symbol, power) pairs; () is the constant

BATCH_SYMBOL = "batch"  # the implicit batch axis: a finite size chosen when the program runs


@dataclass(frozen=True, slots=True)
class Dim:
    """A sum of coefficient * monomial, kept sorted, so that equal sizes compare equal."""

    terms: tuple[tuple[Monomial, Fraction], ...]

    @staticmethod
    def of(value: int | Fraction | str) -> Dim:
        """A constant, or one symbol to the first power."""
        if isinstance(value, str):
            return Dim(((((value, 1),), Fraction(1)),))
        return Dim((((), Fraction(value)),)) if value else Dim(())

    def __add__(self, other: Dim) -> Dim:
        total = dict(self.terms)
        for monomial, coefficient in other.terms:
            total[monomial] = total.get(monomial, Fraction(0)) + coefficient
        return Dim(tuple(sorted((m, c) for m, c in total.items() if c)))

    def __neg__(self) -> Dim:
        return Dim(tuple((m, -c) for m, c in self.terms))

    def __sub__(self, other: Dim) -> Dim:
        return self + -other

    def __mul__(self, other: Dim) -> Dim:
        total: dict[Monomial, Fraction] = {}
        for m1, c1 in self.terms:
            for m2, c2 in other.terms:
                monomial = _times(m1, m2)
                total[monomial] = total.get(monomial, Fraction(0)) + c1 * c2
        return Dim(tuple(sorted((m, c) for m, c in total.items() if c)))

    def __truediv__(self, other: Dim) -> Dim:
        """Division by a single monomial (raises ZeroDivisionError or ValueError otherwise)."""
        if not other.terms:
            raise ZeroDivisionError("division by a size of zero")
        if len(other.terms) > 1:
            raise ValueError("a size can only be divided by a single product, not by a sum")
        monomial, coefficient = other.terms[0]
        inverse = Dim(((tuple((s, -p) for s, p in monomial), 1 / coefficient),))
        return self * inverse

    @property
    def symbols(self) -> frozenset[str]:
        return frozenset(s for m, _ in self.terms for s, _ in m)

    @property
    def constant(self) -> Fraction | None:
        """The value if no symbol occurs, else None."""
        if not self.terms:
            return Fraction(0)
        return self.terms[0][1] if len(self.terms) == 1 and not self.terms[0][0] else None

    @property
    def growth(self) -> Monomial:
        """The monomial that dominates as all widths go to infinity together; () if the size stays finite.

        Of several monomials of the same total degree the first in alphabetical order is named.
        """
        best: Monomial = ()
        degree = 0
        for monomial, _ in self.terms:
            powers = tuple((s, p) for s, p in monomial if s != BATCH_SYMBOL)
            total = sum(p for _, p in powers)
            if total > degree:
                best, degree = powers, total
        return best

    @property
    def grows(self) -> bool:
        return bool(self.growth)

    def evaluate(self, values: Mapping[str, int]) -> Fraction:
        """The exact value at given symbol values. Raises KeyError for an unknown symbol."""
        total = Fraction(0)
        for monomial, coefficient in self.terms:
            for symbol, power in monomial:
                coefficient *= Fraction(values[symbol]) ** power
            total += coefficient
        return total

    def __str__(self) -> str:
        if not self.terms:
            return "0"
        parts = []
        for monomial, coefficient in sorted(self.terms, key=lambda t: (-sum(p for _, p in t[0]), t[0])):
            up = [s if p == 1 else f"{s}^{p}" for s, p in monomial if p > 0]
            down = [s if p == -1 else f"{s}^{-p}" for s, p in monomial if p < 0]
            if abs(coefficient.numerator) != 1 or not up:
                up.insert(0, str(abs(coefficient.numerator)))
            if coefficient.denominator != 1:
                down.insert(0, str(coefficient.denominator))
            text = " ".join(up) + "".join(f" / {d}" for d in down)
            parts.append(("- " if coefficient < 0 else "+ ") + text)
        joined = " ".join(parts)
        return joined[2:] if joined.startswith("+ ") else "-" + joined[2:]


def _times(a: Monomial, b: Monomial) -> Monomial:
    powers = dict(a)
    for symbol, power in b:
        powers[symbol] = powers.get(symbol, 0) + power
    return tuple(sorted((s, p) for s, p in powers.items() if p))


ONE = Dim.of(1)
BATCH = Dim.of(BATCH_SYMBOL)
