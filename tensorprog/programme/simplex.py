"""Exact linear programmes: maximise c x over free x with a_i x <= b_i, in rational arithmetic.

A tableau that goes on from its last basis: the dual simplex method restores feasibility after rows were added, the
primal one follows the objective. Free variables enter the basis with the first row that has them, and stay there.

Sources: G. B. Dantzig 1963, Linear Programming and Extensions; R. G. Bland 1977 (least indices: no cycling). A basic
certificate of infeasibility is an irreducible one: J. Gleeson, J. Ryan 1990.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import gcd, lcm

Vector = Mapping[int, Fraction | int]


@dataclass(frozen=True, slots=True)
class Row:
    """The constraint sum of coefficients[j] * x_j <= bound."""

    coefficients: Vector
    bound: Fraction

    def slack(self, x: Sequence[Fraction]) -> Fraction:
        """How much room it leaves at a point; negative if violated."""
        return self.bound - sum((c * x[j] for j, c in self.coefficients.items()), Fraction(0))


@dataclass(frozen=True, slots=True)
class Optimum:
    """`x`: a maximiser; `value`: its objective; `duals`: row -> its multiplier, where that is not 0. All multipliers
    are positive, and objective = sum of multiplier * row."""

    x: tuple[Fraction, ...]
    value: Fraction
    duals: dict[int, Fraction]


@dataclass(frozen=True, slots=True)
class Infeasible:
    """`conflict`: row -> positive multiplier, such that the sum of multiplier * row reads 0 <= something negative.
    Without any one of these rows the others can be satisfied."""

    conflict: dict[int, Fraction]


class UnboundedError(ValueError):
    """The objective has no maximum."""


def maximise(objective: Vector, rows: Sequence[Row], count: int) -> Optimum | Infeasible:
    """The maximum of `objective` over `count` variables. Raises UnboundedError if there is none."""
    tableau = Tableau(count)
    for row in rows:
        tableau.add(row)
    return tableau.maximise(objective)


STALL = 50  # pivots without progress
_ONE = -1  # the key of the constant; the variable x_j has the key -2 - j, the slack of row k the key k


@dataclass(slots=True)
class _Function:
    """(sum of terms[key] * what the key stands for) / over: whole numbers, over > 0, so that only signs and ratios of
    terms are asked for in a pivot."""

    terms: dict[int, int]
    over: int = 1

    def copy(self) -> _Function:
        return _Function(dict(self.terms), self.over)

    def at(self, key: int) -> Fraction:
        return Fraction(self.terms.get(key, 0), self.over)

    def widen(self, factor: int) -> None:
        """The same with `factor` times the denominator."""
        if factor != 1:
            self.over *= factor
            for j in self.terms:
                self.terms[j] *= factor

    def add(self, c: int, other: _Function) -> None:
        """self += c / self.over * other, zeros left out (but for the constant)."""
        terms = self.terms
        common = gcd(c, other.over)
        factor = other.over // common
        c //= common
        self.widen(factor)
        for j, value in other.terms.items():
            new = terms.get(j, 0) + c * value
            if new or j == _ONE:
                terms[j] = new
            else:
                del terms[j]
        if self.over != 1 and (common := gcd(self.over, *terms.values())) != 1:
            self.over //= common
            for j in terms:
                terms[j] //= common

    def solved(self, key: int, name: int | None) -> _Function:
        """What `key` is if this function is `name` (None: 0)."""
        a = self.terms.pop(key)
        sign = 1 if a < 0 else -1
        terms = {j: sign * c for j, c in self.terms.items()}
        if name is not None:
            terms[name] = -sign * self.over
        return _Function(terms, abs(a))


class Tableau:
    """A dictionary: every basic variable, and the objective, as an affine function of the nonbasic ones. Rows and
    variables can be added, rows taken away, and objectives exchanged; solving goes on from the last basis."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.made = 0
        self.spent = [0]  # coefficients that were worked out, in this tableau and all its copies
        self.basic: dict[int, _Function] = {}
        self.objective = _Function({_ONE: 0})

    def copy(self) -> Tableau:
        other = Tableau(self.count)
        other.made, other.spent = self.made, self.spent
        other.basic = {key: function.copy() for key, function in self.basic.items()}
        other.objective = self.objective.copy()
        return other

    def variable(self) -> int:
        """One more free variable; its number."""
        self.count += 1
        return self.count - 1

    def add(self, row: Row) -> int:
        """One more row; its number. A free variable that nothing determined yet is determined by it."""
        number = self.made
        self.made += 1
        self.basic[number] = function = self._expressed({j: -c for j, c in row.coefficients.items()}, row.bound)
        free = max((key for key in function.terms if key < _ONE), default=None)
        if free is not None:
            self._pivot(number, free)
        return number

    def equal(self, coefficients: Vector, value: Fraction) -> bool:
        """A variable is eliminated: the sum of coefficients[j] * x_j is this value from now on. False, and nothing
        changes, if that contradicts what was eliminated before."""
        function = self._expressed(coefficients, -value)
        free = max((key for key in function.terms if key < _ONE), default=max(function.terms))
        if free == _ONE:
            return not function.terms[_ONE]
        self._substitute(free, function.solved(free, None))
        return True

    def reduced(self, row: Row) -> Row:
        """A row that says the same of the variables that are not eliminated. (Before rows are added.)"""
        function = self._expressed(row.coefficients, -row.bound)
        return Row({-2 - j: function.at(j) for j in sorted(function.terms) if j < _ONE}, -function.at(_ONE))

    def remove(self, number: int) -> None:
        """Take a row away."""
        if number not in self.basic:
            holders = [key for key, function in self.basic.items() if number in function.terms]
            if not holders:
                return
            self._pivot(max(holders), number)
        del self.basic[number]

    def maximise(self, objective: Vector) -> Optimum | Infeasible:
        """The maximum under the present rows. Raises UnboundedError if there is none."""
        infeasible = self._restore()
        if infeasible is not None:
            return infeasible
        self.objective = self._expressed(objective, Fraction(0))
        if any(j < _ONE for j in self.objective.terms):
            raise UnboundedError("a variable that no row bounds")
        stalled = 0
        while rising := [(c, -j) for j, c in self.objective.terms.items() if j >= 0 and c > 0]:
            # the steepest, but the first after a while without progress (Bland 1977: no cycling)
            enters = -max(j for _, j in rising) if stalled > STALL else -max(rising)[1]
            ratios = [(Fraction(function.terms[_ONE], -c), k) for k, function in self.basic.items()
                      if k >= 0 and (c := function.terms.get(enters, 0)) < 0]  # fmt: skip
            if not ratios:
                raise UnboundedError("the objective has no maximum")
            step, leaves = min(ratios)
            stalled = 0 if step else stalled + 1
            self._pivot(leaves, enters)
        x = tuple(self.basic[-2 - j].at(_ONE) if -2 - j in self.basic else Fraction(0) for j in range(self.count))
        duals = {j: -self.objective.at(j) for j in self.objective.terms if j >= 0}
        return Optimum(x, self.objective.at(_ONE), duals)

    def _restore(self) -> Infeasible | None:
        """Pivot to a feasible basis: the dual simplex method without an objective, by least indices (no cycling). If
        that takes long, for a while what is violated most leaves for the largest coefficient, which is far quicker."""
        self.objective = _Function({_ONE: 0})
        pivots = 0
        while negative := [k for k, f in self.basic.items() if k >= 0 and f.terms[_ONE] < 0]:
            steep = STALL <= pivots < STALL + len(self.basic)
            leaves = min(negative, key=lambda k: (self.basic[k].at(_ONE), k)) if steep else min(negative)
            function = self.basic[leaves]
            rising = [(-c, j) for j, c in function.terms.items() if j >= 0 and c > 0]
            if not rising:
                return Infeasible({leaves: Fraction(1), **{j: -function.at(j) for j in function.terms if j >= 0}})
            self._pivot(leaves, min(rising)[1] if steep else min(j for _, j in rising))
            pivots += 1
        return None

    def _expressed(self, coefficients: Vector, constant: Fraction) -> _Function:
        """An affine function of x as one of the nonbasic variables."""
        result = _Function({_ONE: constant.numerator}, constant.denominator)
        for j, c in coefficients.items():
            if c:
                result.widen(lcm(result.over, c.denominator) // result.over)
                result.add(int(c * result.over), self.basic.get(-2 - j) or _Function({_ONE: 0, -2 - j: 1}))
        return result

    def _pivot(self, leaves: int, enters: int) -> None:
        """Exchange a basic with a nonbasic variable."""
        self._substitute(enters, self.basic.pop(leaves).solved(enters, leaves))

    def _substitute(self, key: int, solved: _Function) -> None:
        """Make a nonbasic variable basic."""
        for function in (*self.basic.values(), self.objective):
            c = function.terms.pop(key, None)
            if c is not None:
                self.spent[0] += len(solved.terms)
                function.add(c, solved)
        self.basic[key] = solved
