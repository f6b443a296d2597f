"""Parts of the space of exponents in which one side of every comparison that matters is known.

Behind a norm a size is the smaller of two, or less the largest of several: no maximum of forms, so that what bounds it
from below on one side of a plane does not on the other. Such a constraint has guards (calculus/affine.py). On either
side of a guard's plane it is linear again: a branch is a choice of sides, with the constraints that are linear there.

Source: branch and bound, A. H. Land, A. G. Doig 1960.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import gcd, lcm

from tensorprog.programme.simplex import Infeasible, Optimum, Row, Tableau, UnboundedError

ZERO = Fraction(0)


@dataclass(frozen=True, slots=True)
class Plane:
    """Where the sum of c * x_j over the pairs (j, c) is the level. Coefficients without a common divisor, the first one
    positive, so that a plane has one name."""

    coefficients: tuple[tuple[int, int], ...]
    level: Fraction

    def over(self, point: Sequence[Fraction]) -> Fraction:
        """How far above it a point is."""
        return sum((c * point[j] for j, c in self.coefficients), -self.level)

    def below(self, side: int) -> Row:
        """The constraint to be above (`side` 1) or below (-1)."""
        return Row({j: -side * c for j, c in self.coefficients}, -side * self.level)


def plane_of(row: Row) -> tuple[Plane, Fraction]:
    """The plane where a row's sum is its bound, and by how much the row is larger than the plane's."""
    values = [Fraction(c) for c in row.coefficients.values()]
    scale = Fraction(gcd(*(c.numerator for c in values)), lcm(*(c.denominator for c in values)))
    first = min(row.coefficients)
    scale = scale if row.coefficients[first] > 0 else -scale
    terms = tuple((j, int(c / scale)) for j, c in sorted(row.coefficients.items()))
    return Plane(terms, row.bound / scale), scale


@dataclass(frozen=True, slots=True)
class Constraint:
    """`row` <= its bound. `kind`: "fix" (of the user), "stability" (of a tensor), "side" (of a plane, in a branch),
    "gauge" or "box". `guards`: for a plane and a weight, what is bounded is less by |weight| times the distance from
    the plane where the point is not on that side of it which the weight's sign says."""

    row: Row
    kind: str
    text: str
    node: int = -1
    guards: tuple[tuple[Plane, Fraction], ...] = ()

    @property
    def sound(self) -> bool:
        """Whether it holds for all exponents, not only while the same terms rule a norm or a normalised gradient."""
        return not self.guards

    def on(self, sides: Mapping[Plane, int]) -> Row | None:
        """The constraint on these sides; None where one of its guards is open."""
        if not all(plane in sides for plane, _ in self.guards):
            return None
        coefficients: dict[int, Fraction | int] = dict(self.row.coefficients)
        bound = self.row.bound
        for plane, weight in self.guards:
            if sides[plane] * weight < 0:
                bound += weight * plane.level
                for j, c in plane.coefficients:
                    coefficients[j] = coefficients.get(j, 0) + weight * c
        return Row({j: c for j, c in coefficients.items() if c}, bound)

    def excess(self, point: Sequence[Fraction], over: dict[Plane, Fraction]) -> Fraction:
        """By how much, at least, a point violates it. `over`: how far above planes the point is, as far as known."""
        excess = -self.row.slack(point)
        for plane, weight in self.guards:
            if excess <= 0:
                break
            if plane not in over:
                over[plane] = plane.over(point)
            excess += min(ZERO, over[plane] * weight)
        return excess


Planes = frozenset[Plane]
NONE: Planes = frozenset()


class Branch:
    """A choice of `sides`, and the linear programme there. `numbered`: row of the tableau -> constraint; `needs`: the
    planes whose sides were chosen for it to hold. `chosen`: whether any side was chosen, not implied."""

    def __init__(self, tableau: Tableau) -> None:
        self.tableau = tableau
        self.numbered: dict[int, Constraint] = {}
        self.needs: dict[int, Planes] = {}
        self.sides: dict[Plane, int] = {}
        self.chosen = False
        self._because: dict[Plane, Planes] = {}  # of a side: the planes whose sides were chosen for it
        self._entered = 0  # constraints that were looked at
        self._open: list[Constraint] = []  # those of them that have an open guard

    def copy(self) -> Branch:
        other = Branch(self.tableau.copy())
        other.numbered, other.needs, other.chosen = dict(self.numbered), dict(self.needs), self.chosen
        other.sides, other._because = dict(self.sides), dict(self._because)
        other._entered, other._open = self._entered, list(self._open)
        return other

    def child(self, plane: Plane, side: int) -> Branch:
        """The part on one side of a plane."""
        other = self.copy()
        other.sides[plane], other._because[plane], other.chosen = side, frozenset({plane}), True
        other._add(Constraint(plane.below(side), "side", ""), frozenset({plane}))
        return other

    def enter(self, constraints: Sequence[Constraint]) -> bool:
        """Take in all constraints that are linear here; whether any was new."""
        waiting = [*self._open, *constraints[self._entered :]]
        self._entered, self._open = len(constraints), []
        new = False
        for constraint in waiting:
            row = constraint.on(self.sides)
            if constraint.kind == "fix":
                continue  # the tableau has it as an equation
            if row is None:
                self._open.append(constraint)
            else:
                new = True
                needs = NONE.union(*(self._because[plane] for plane, _ in constraint.guards))
                self._add(replace(constraint, row=row, guards=constraint.guards if self.chosen else ()), needs)
        return new

    def _add(self, constraint: Constraint, needs: Planes) -> None:
        number = self.tableau.add(constraint.row)
        self.numbered[number], self.needs[number] = constraint, needs

    def needed(self, rows: Iterable[int]) -> Planes:
        """The planes whose sides were chosen for some rows to hold."""
        return NONE.union(*(self.needs[k] for k in rows if k in self.needs))

    def contradiction(self) -> Planes | None:
        """The planes whose sides were chosen for there to be nothing in the branch; None: there is something."""
        found = self.tableau.maximise({})
        return self.needed(found.conflict) if isinstance(found, Infeasible) else None

    def question(self, point: Sequence[Fraction]) -> Sequence[Plane]:
        """The planes on whose sides it depends whether the point violates something: of the open constraint with the
        fewest of them that is violated most. None of the open ones is violated: no planes."""
        found, over = [], dict[Plane, Fraction]()
        for constraint in self._open:
            excess = constraint.excess(point, over)
            if excess > 0:
                planes = list(dict.fromkeys(plane for plane, _ in constraint.guards if plane not in self.sides))
                found.append((len(planes), -excess, planes))
        return min(found, key=lambda one: one[:2])[2] if found else ()

    def implied(self, plane: Plane) -> bool:
        """Whether everything here lies on one side; that side is then noted."""
        for side in (1, -1):
            needs = self.holds(plane.below(side))
            if needs is not None:
                self.sides[plane], self._because[plane] = side, needs
                return True
        return False

    def holds(self, row: Row, other: Row | None = None) -> Planes | None:
        """If a constraint holds everywhere here, or is nowhere violated by more than another: the planes whose sides
        were chosen for it to."""
        terms: dict[int, Fraction | int] = dict(row.coefficients)
        for j, c in other.coefficients.items() if other is not None else ():
            terms[j] = terms.get(j, 0) - c
        try:
            found = self.tableau.maximise({j: c for j, c in terms.items() if c})
        except UnboundedError:
            return None
        assert isinstance(found, Optimum)
        if found.value > row.bound - (other.bound if other is not None else 0):
            return None
        return self.needed(found.duals)
