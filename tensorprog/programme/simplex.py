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


class Tableau:
    """A dictionary: every basic variable, and the objective, as an affine function of the nonbasic ones. Rows and
    variables can be added, rows taken away, and objectives exchanged; solving goes on from the last basis."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.made = 0
        self.basic: dict[int, dict[int, Fraction]] = {}
        self.objective: dict[int, Fraction] = {_ONE: Fraction(0)}

    def copy(self) -> Tableau:
        other = Tableau(self.count)
        other.made = self.made
        other.basic = {key: dict(function) for key, function in self.basic.items()}
        other.objective = dict(self.objective)
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
        free = max((key for key in function if key < _ONE), default=None)
        if free is not None:
            self._pivot(number, free)
        return number

    def equal(self, coefficients: Vector, value: Fraction) -> bool:
        """A variable is eliminated: the sum of coefficients[j] * x_j is this value from now on. False, and nothing
        changes, if that contradicts what was eliminated before."""
        function = self._expressed(coefficients, -value)
        free = max((key for key in function if key < _ONE), default=max(function))
        if free == _ONE:
            return not function[_ONE]
        a = function.pop(free)
        self._substitute(free, {j: -c / a for j, c in function.items()})
        return True

    def remove(self, number: int) -> None:
        """Take a row away."""
        if number not in self.basic:
            holders = [key for key, function in self.basic.items() if number in function]
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
        if any(j < _ONE for j in self.objective):
            raise UnboundedError("a variable that no row bounds")
        stalled = 0
        while rising := [j for j, c in self.objective.items() if j >= 0 and c > 0]:
            # the steepest, but the first after a while without progress (Bland 1977: no cycling)
            enters = min(rising) if stalled > STALL else max(rising, key=lambda j: (self.objective[j], -j))
            ratios = [(function[_ONE] / -c, k) for k, function in self.basic.items()
                      if k >= 0 and (c := function.get(enters, 0)) < 0]  # fmt: skip
            if not ratios:
                raise UnboundedError("the objective has no maximum")
            step, leaves = min(ratios)
            stalled = 0 if step else stalled + 1
            self._pivot(leaves, enters)
        x = tuple(self.basic[-2 - j][_ONE] if -2 - j in self.basic else Fraction(0) for j in range(self.count))
        duals = {j: -c for j, c in self.objective.items() if j >= 0}
        return Optimum(x, self.objective[_ONE], duals)

    def _restore(self) -> Infeasible | None:
        """Pivot to a feasible basis: the dual simplex method without an objective, by least indices."""
        self.objective = {_ONE: Fraction(0)}
        while (leaves := min((k for k, f in self.basic.items() if k >= 0 and f[_ONE] < 0), default=None)) is not None:
            function = self.basic[leaves]
            enters = min((j for j, c in function.items() if j >= 0 and c > 0), default=None)
            if enters is None:
                return Infeasible({leaves: Fraction(1), **{j: -c for j, c in function.items() if j >= 0}})
            self._pivot(leaves, enters)
        return None

    def _expressed(self, coefficients: Vector, constant: Fraction) -> dict[int, Fraction]:
        """An affine function of x as one of the nonbasic variables."""
        result: dict[int, Fraction] = {_ONE: Fraction(constant)}
        for j, c in coefficients.items():
            if c:
                _add(result, Fraction(c), self.basic.get(-2 - j) or {-2 - j: Fraction(1)})
        return result

    def _pivot(self, leaves: int, enters: int) -> None:
        """Exchange a basic with a nonbasic variable."""
        row = self.basic.pop(leaves)
        a = row.pop(enters)
        solved = {j: -c / a for j, c in row.items()}
        solved[leaves] = 1 / a
        self._substitute(enters, solved)

    def _substitute(self, key: int, solved: dict[int, Fraction]) -> None:
        """Make a nonbasic variable basic."""
        for function in (*self.basic.values(), self.objective):
            c = function.pop(key, None)
            if c is not None:
                _add(function, c, solved)
        self.basic[key] = solved


def _add(function: dict[int, Fraction], factor: Fraction, other: Mapping[int, Fraction]) -> None:
    """function += factor * other, zeros left out (but for the constant)."""
    for j, c in other.items():
        old = function.get(j)
        value = factor * c if old is None else old + factor * c
        if value or j == _ONE:
            function[j] = value
        else:
            del function[j]
