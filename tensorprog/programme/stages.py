"""Objectives one after the other, on the constraints that are known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from tensorprog.programme.branches import NONE, ZERO, Branch, Constraint, Planes
from tensorprog.programme.simplex import Optimum, Row
from tensorprog.programme.unknowns import Affine


@dataclass(frozen=True, slots=True)
class Lost:
    """Parameters whose own updates vanish like n^exponent, and the constraints that allow no more; `needs`: the planes
    whose sides were chosen for that (branches.py)."""

    params: tuple[str, ...]
    exponent: Fraction
    binding: tuple[Constraint, ...]
    needs: Planes = NONE


def row_of(affine: Affine, bound: Fraction) -> Row:
    return Row(dict(affine.terms), bound)


class Knowledge(Protocol):
    """What the stages need of the programme they serve."""

    names: list[str]
    aims: tuple[dict[str, Row], ...]

    def attained(self, kind: int, names: Iterable[str], level: Fraction) -> bool:
        """Whether a stable point is known at which these of a kind of aims are at least so large."""

    def news(self, point: Sequence[Fraction]) -> bool:
        """Whether a prediction at the point teaches anything."""

    def fixed_by(self, residual: Iterable[int]) -> list[Constraint]:
        """What the user fixed of these variables."""


class NewsError(Exception):
    """A prediction on the way taught something: constraints that the point violates, or larger forms to aim at."""


class Stages:
    """Objectives one after the other, in a branch; each keeps what the ones before have reached."""

    def __init__(self, programme: Knowledge, branch: Branch) -> None:
        self.programme, self.branch = programme, branch
        self.tableau = branch.tableau.copy()
        self.count = len(programme.names)
        self.lost: list[Lost] = []
        self.levels = 0
        self.rows: dict[int, Row] = {}  # those of this object, by their number in the tableau

    def _add(self, row: Row) -> int:
        number = self.tableau.add(row)
        self.rows[number] = row
        return number

    @property
    def point(self) -> tuple[Fraction, ...]:
        """A point that all stages so far agree on."""
        return self._maximise({}).x[: self.count]

    def _maximise(self, objective: Mapping[int, Fraction | int]) -> Optimum:
        found = self.tableau.maximise(objective)
        assert isinstance(found, Optimum)  # feasible to begin with, and what is kept was reached
        return found

    def leximin(self, kind: int) -> None:
        """Make the smallest of one kind of the forms aimed at as large as possible, then the next, ..."""
        forms = self.programme.aims[kind]
        level = self.tableau.variable()
        rows = {self._add(Row({level: 1}, ZERO)): ""}
        for name, row in forms.items():
            above = {level: 1, **{j: -c for j, c in row.coefficients.items()}}
            rows[self._add(Row(above, -row.bound))] = name
        while len(rows) > 1:
            found = self._maximise({level: 1})
            if not self.programme.attained(kind, filter(None, rows.values()), found.value):
                self._look_early(found)
            tight = {k: name for k, name in rows.items() if name and (not found.value or found.duals.get(k))}
            if not kind:
                constraints = self.branch.numbered
                binding = [constraints[k] for k in sorted(found.duals) if k in constraints]
                residual: dict[int, Fraction] = {}  # of the objective, which only what is fixed can make up for
                for k, y in found.duals.items():
                    for j, c in (constraints[k].row if k in constraints else self.rows[k]).coefficients.items():
                        residual[j] = residual.get(j, ZERO) + y * c
                fixed = self.programme.fixed_by(j for j, c in residual.items() if c and j != level)
                needs = self.branch.needed(found.duals)
                self.lost.append(Lost(tuple(tight.values()), found.value, (*fixed, *binding), needs))
            for k, name in tight.items():
                row = forms[name]
                self.tableau.remove(k)
                del rows[k]
                self._add(Row({j: -c for j, c in row.coefficients.items()}, -row.bound - found.value))
        for k in rows:
            self.tableau.remove(k)

    def deciding(self, best: Sequence[Fraction]) -> Iterator[Lost]:
        """What shows that nothing in the branch has larger updates than these, worst first."""
        known = 0
        for one in self.lost:
            if one.exponent >= 0:
                break  # as large as anything stable has
            yield one
            known += len(one.params)
            if one.exponent < best[known - 1]:
                break

    def _look_early(self, found: Optimum) -> None:
        """Now and then, see whether it is worth going on: there may be constraints that are not known yet."""
        self.levels += 1
        if self.levels & (self.levels - 1) == 0 and self.programme.news(found.x[: self.count]):
            raise NewsError

    def largest(self, affines: Iterable[Affine], sign: int) -> None:
        """The largest sum of the variables times sign."""
        total = Affine()
        for affine in affines:
            total = total + affine
        if total.terms:
            found = self._maximise((total * sign).terms)
            self.tableau.add(row_of(total * -sign, -found.value))

    def zero(self, affines: Iterable[Affine]) -> None:
        """Each of them 0, as long as that costs nothing."""
        for affine in affines:
            before = self.tableau.copy()
            if not self.tableau.equal(affine.terms, ZERO) or not isinstance(self.tableau.maximise({}), Optimum):
                self.tableau = before
