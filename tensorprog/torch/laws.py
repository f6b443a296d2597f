"""Exact laws of sizes and of numbers, from their values at several points of the builder's symbols.

A size is a constant, a product c * prod symbol^k, or a sum of few such (a fused projection: `2 n + 12`). A number is
c * prod symbol^rho with rational rho. What fits at every point is the law; what fits nowhere has none.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import combinations, combinations_with_replacement, pairwise
from typing import cast

import numpy as np

from tensorprog.dims import BATCH_SYMBOL, Dim, Monomial
from tensorprog.exponents import Power

Point = Mapping[str, int]
RHO = 12  # exponents of numbers are multiples of 1/12
LOOSE = 1e-5  # relative deviation of a number kept in float32
TERMS = 3  # of a sum of sizes
TREND = 0.25  # how far a trend, and the slope between neighbours, may be from its power


class Laws:
    """The laws over one set of points. Every pair of points that decides an exponent differs in one symbol only."""

    def __init__(self, points: Sequence[Point]) -> None:
        self.points = tuple(dict(p) for p in points)
        self.symbols = tuple(self.points[0])
        self._pairs: dict[str, tuple[int, int]] = {}
        for s in self.symbols:
            for j, p in enumerate(self.points):
                if p[s] != self.points[0][s] and all(p[o] == self.points[0][o] for o in self.symbols if o != s):
                    self._pairs[s] = (0, j)  # the last such point: the widest apart
        self._dims: dict[tuple[int, ...], Dim | None] = {}
        self._numbers: dict[tuple[float, ...], tuple[float, Power] | None] = {}
        monomials: list[Monomial] = [((s, 1),) for s in self.symbols]
        for a, b in combinations_with_replacement(self.symbols, 2):
            monomials.append(((a, 2),) if a == b else cast(Monomial, tuple(sorted([(a, 1), (b, 1)]))))
        self._basis: list[Monomial] = [(), *monomials]

    def _at(self, monomial: Monomial) -> list[Fraction]:
        return [math.prod((Fraction(p[s]) ** e for s, e in monomial), start=Fraction(1)) for p in self.points]

    # --- sizes ----------------------------------------------------------------------------------------

    def dim(self, values: tuple[int, ...]) -> Dim | None:
        """The law of a whole number, given its value at every point; None if there is none."""
        if values not in self._dims:
            self._dims[values] = self._fit(values)
        return self._dims[values]

    def _fit(self, values: tuple[int, ...]) -> Dim | None:
        if len(set(values)) == 1:
            return Dim.of(values[0])
        if all(v > 0 for v in values):
            powers: dict[str, int] = {}
            for s, (i, j) in self._pairs.items():
                power = math.log(values[j] / values[i]) / math.log(self.points[j][s] / self.points[i][s])
                powers[s] = round(power)
            monomial = tuple(sorted((s, p) for s, p in powers.items() if p))
            base = self._at(monomial)
            coefficient = Fraction(values[0]) / base[0]
            if all(coefficient * b == v for b, v in zip(base, values, strict=True)):
                return Dim(((monomial, coefficient),))
        for count in range(2, TERMS + 1):
            for subset in combinations(self._basis, count):
                solution = self._solve(subset, values)
                if solution is not None:
                    return Dim(tuple(sorted((m, c) for m, c in zip(subset, solution, strict=True) if c)))
        return None

    def _solve(self, monomials: tuple[Monomial, ...], values: tuple[int, ...]) -> list[Fraction] | None:
        """Exact coefficients of these monomials, if they fit every point; needs more points than coefficients."""
        columns = [self._at(m) for m in monomials]
        if len(self.points) <= len(monomials):
            return None
        rows = [[c[k] for c in columns] + [Fraction(v)] for k, v in enumerate(values)]
        pivot = 0
        for k in range(len(monomials)):
            found = next((r for r in range(pivot, len(rows)) if rows[r][k]), None)
            if found is None:
                return None
            rows[pivot], rows[found] = rows[found], rows[pivot]
            rows[pivot] = [x / rows[pivot][k] for x in rows[pivot]]
            for r in range(len(rows)):
                if r != pivot and rows[r][k]:
                    rows[r] = [x - rows[r][k] * y for x, y in zip(rows[r], rows[pivot], strict=True)]
            pivot += 1
        if any(row[-1] for row in rows[pivot:]):
            return None
        return [row[-1] for row in rows[:pivot]]

    # --- numbers --------------------------------------------------------------------------------------

    def number(self, values: Sequence[float], tolerance: float = LOOSE) -> tuple[float, Power] | None:
        """(coefficient, power) with value = coefficient * power at every point, up to `tolerance`; None if none."""
        key = (*values, tolerance)
        if key not in self._numbers:
            self._numbers[key] = self._scale(tuple(values), tolerance)
        return self._numbers[key]

    def _scale(self, values: tuple[float, ...], tolerance: float) -> tuple[float, Power] | None:
        if not all(math.isfinite(v) for v in values):
            return (values[0], Power()) if len(set(values)) == 1 else None
        if all(v == values[0] for v in values):
            return values[0], Power()
        if any(v == 0 or (v > 0) != (values[0] > 0) for v in values):
            return None
        powers: dict[str, Fraction] = {}
        for s, (i, j) in self._pairs.items():
            slope = math.log(values[j] / values[i]) / math.log(self.points[j][s] / self.points[i][s])
            powers[s] = Fraction(round(slope * RHO), RHO)
        power = Power.of({s: e for s, e in powers.items() if e})
        coefficient = values[0] / self.power_at(power, 0)
        fits = all(
            math.isclose(coefficient * self.power_at(power, k), v, rel_tol=tolerance) for k, v in enumerate(values)
        )
        return (coefficient, power) if fits else None

    def power_at(self, power: Power, point: int) -> float:
        """The value of a power at one point."""
        value = 1.0
        for s, e in power.exponents:
            value *= float(self.points[point][s]) ** float(e)
        return value

    def trend(self, values: Sequence[float]) -> Power | None:
        """The nearest power with exponents in steps of 1/2, for numbers that are no exact law (the RMS of a table of
        numbers); None where they do not even follow one within a quarter all along. Logarithms are of order 1."""
        powers: dict[str, Fraction] = {}
        if any(v <= 0 or not math.isfinite(v) for v in values):
            return None
        for s, (i, j) in self._pairs.items():
            if s == BATCH_SYMBOL:
                continue
            slope = math.log(values[j] / values[i]) / math.log(self.points[j][s] / self.points[i][s])
            if self._logarithmic(s, values):
                continue
            nearest = Fraction(round(slope * 2), 2)
            if any(abs(one - nearest) > TREND for one in (slope, *self._local(s, values))):
                return None
            powers[s] = nearest
        return Power.of({s: e for s, e in powers.items() if e})

    def logarithmic(self, values: Sequence[float]) -> bool:
        """Whether positive numbers grow like log n in some symbol n."""
        return min(values) > 0 and any(self._logarithmic(s, values) for s in self._pairs if s != BATCH_SYMBOL)

    def _logarithmic(self, symbol: str, values: Sequence[float]) -> bool:
        """Whether numbers follow a + b log n, with b > 0, at least twice as closely as a power of n."""
        own = self._own(symbol)
        if len(own) < 3:
            return False
        n, v = np.log([self.points[k][symbol] for k in own]), np.array([values[k] for k in own])
        line, power = (np.polyfit(n, y, 1) for y in (v, np.log(v)))
        misses = [np.abs(fit / v - 1).max() for fit in (np.polyval(line, n), np.exp(np.polyval(power, n)))]
        return bool(line[0] > 0 and misses[1] > LOOSE and misses[0] < misses[1] / 2)

    def erratic(self, values: Sequence[float]) -> bool:
        """Whether positive numbers go up and down, so that no trend can be read off them."""
        slopes = [slope for s in self.symbols if s != BATCH_SYMBOL for slope in self._local(s, values)]
        return min(slopes, default=0.0) < 0 < max(slopes, default=0.0)

    def _local(self, symbol: str, values: Sequence[float]) -> Iterator[float]:
        """The slopes between neighbours among the points at which only this symbol varies."""
        for i, j in pairwise(self._own(symbol)):
            if self.points[j][symbol] > self.points[i][symbol]:
                yield math.log(values[j] / values[i]) / math.log(self.points[j][symbol] / self.points[i][symbol])

    def _own(self, symbol: str) -> list[int]:
        """The points at which only this symbol varies, in its order."""
        base = self.points[0]
        own = [k for k, p in enumerate(self.points) if all(p[o] == base[o] for o in self.symbols if o != symbol)]
        return sorted(own, key=lambda k: self.points[k][symbol])
