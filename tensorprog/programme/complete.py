"""The best stable completion of what the user fixes: an exact linear programme over the forms of the calculus.

The size of every tensor is made of affine forms of the unknown exponents. The programme knows some of these forms; its
solution is tried by prediction; what then exceeds Theta(1) says which forms were missing, until nothing does. So the
answer is always verified by substitution. What holds on one side of a plane only (branches.py) is used there, and the
other side is looked at by itself. First the own updates are made as large as possible, the smallest first (leximin: no
update vanishes faster than it must), then the initial sizes, then the multipliers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from tensorprog.calculus.analysis import Exponents
from tensorprog.errors import CalculusError
from tensorprog.exponents import Power, Units
from tensorprog.parametrizations.gauge import gauge_degree
from tensorprog.programme.branches import ZERO, Branch, Constraint, Plane
from tensorprog.programme.fixes import Fix
from tensorprog.programme.knowledge import Knowledge, Look
from tensorprog.programme.refusals import ConflictError, conflict, no_end
from tensorprog.programme.simplex import Infeasible, Optimum, Row, Tableau, UnboundedError, maximise
from tensorprog.programme.stages import Lost, NewsError, Stages
from tensorprog.programme.trajectory import ManyTermsError, Trainer, Trajectory
from tensorprog.programme.unknowns import Affine, Unknowns

BOX = 16  # no exponent of interest is larger
MAX_ROUNDS = 300  # of the linear programme and a prediction
MAX_EFFORT = 300_000  # of predictions and pivots; some seconds
PIVOTING = 30  # coefficients of a tableau cost what one term of a prediction does
PATIENCE = 60  # so many, once something stable is known, without anything better
REACH = 2  # powers of the width, around the answer
CORNERS = 24  # of what is possible at which to look for other forms of what is aimed at
# powers of the width by which learning rates are made smaller to begin somewhere stable
SLOWER = tuple(Fraction(k, 2) for k in (0, 1, 2, 4, 8, 16))
TRIES = 4  # to find a corner that is stable
HALVINGS = 3  # of the way from a stable point to one where there is no prediction


@dataclass(frozen=True, slots=True)
class Completed:
    """`point`: the values of `unknowns`. `contributions`: parameter -> exponent of its own update. `lost`: what
    vanishes, slowest last. `certified`: whether every branch was followed to its end. `rounds`: predictions made.
    Exponents as `units.number` says them."""

    unknowns: Unknowns
    point: tuple[Fraction, ...]
    exponents: Exponents
    trajectory: Trajectory
    contributions: Mapping[str, Fraction]
    lost: tuple[Lost, ...]
    certified: bool
    rounds: int

    @property
    def units(self) -> Units:
        return self.unknowns.trainer.units


class Programme(Knowledge):
    """The search for the best stable point: `best` so far."""

    def __init__(self, trainer: Trainer, fixes: Sequence[Fix], start: Exponents) -> None:
        super().__init__(trainer, fixes, start)
        self.best: Look | None = None
        self.found: Stages | None = None  # what shows that nothing is better than the best, in its branch
        self.rounds = 0
        self.whole = True  # whether every branch was followed to its end, so far
        self._improved = 0  # the round in which the best was found
        self.dead: list[Branch] = []  # branches without a point
        self._start = start

    # --- where to begin -------------------------------------------------------------------------------

    def _begin(self, root: Branch) -> None:
        """Look at the start, and at points near it that keep what is fixed, until one is stable."""
        for point in (self.point, *self._near(root)):
            try:
                if self.keeps(point):
                    self._visited(point)
                else:
                    self.look(point)
            except ManyTermsError:
                continue
            if self.best is not None:
                return

    def _near(self, root: Branch) -> Iterator[Sequence[Fraction]]:
        """What is fixed, and as far as it leaves open the start, with smaller and smaller learning rates."""
        start, unknowns = self.unknowns.point(self._start), self.unknowns
        units = self.trainer.units
        for slower in SLOWER:
            tableau = root.tableau.copy()
            less = units.number(Power.of({units.symbols[0]: slower})) if units.symbols else ZERO
            for name, lr in unknowns.lr.items():
                whole = lr + unknowns.raw(name, "multiplier") * gauge_degree(self.trainer, name)
                tableau.equal(whole.terms, lr.at(start) - less)
            for affine in (*unknowns.init.values(), *unknowns.scale.values(), *unknowns.use.values()):
                tableau.equal(affine.terms, affine.at(start))
            for affine in unknowns.multiplier.values():
                tableau.equal(affine.terms, ZERO)
            found = tableau.maximise({})
            if not isinstance(found, Infeasible):
                yield found.x

    def _root(self) -> Branch:
        """Everything that keeps what is fixed. Raises ConflictError if there is nothing."""
        tableau = Tableau(len(self.names))
        self._spent = tableau.spent
        branch = Branch(tableau)
        for c in self.constraints:
            if c.kind == "fix" and not tableau.equal(c.row.coefficients, c.row.bound):
                raise self._conflict([branch])
        branch.enter(self.constraints)
        return branch

    # --- branches -------------------------------------------------------------------------------------

    def solve(self, *, best: bool = True) -> Completed:
        """The best that is found, or anything stable (not `best`). Raises ConflictError if what is fixed leaves nothing
        stable, CalculusError if nothing is found."""
        root = self._root()
        self._begin(root)
        waiting = [root]
        while waiting and (best or self.best is None):
            waiting += self._follow(waiting.pop())
        if self.best is None:
            raise self._conflict(self.dead) if self.whole else no_end(self)
        return self._completed(root, self.best)

    def _follow(self, branch: Branch) -> Sequence[Branch]:
        """Look for better points in a branch, until there is none or it divides; then its parts, the last one first."""
        while self._patient():
            self.rounds += 1
            branch.enter(self.constraints)
            if not branch.feasible:
                self.dead.append(branch)
                return ()
            news = True
            try:
                stages = self._stages(branch)
                if self._settled(stages):
                    return ()
                news = self._try(stages)
            except NewsError:
                pass
            except ManyTermsError:
                break
            if branch.enter(self.constraints):
                continue
            planes = branch.question(self.point)
            if planes:
                parts = self._divided(branch, planes)
                if parts:
                    return parts
            elif not news:
                if self.best is not None and self.best.reached[0] >= self.aimed(stages.point)[0]:
                    return ()
                break
        self.whole = False
        return ()

    def _patient(self) -> bool:
        """Whether to go on. The measure is not time: what comes out must not depend on the machine."""
        most = MAX_ROUNDS if self.best is None else max(2 * PATIENCE, self._improved + PATIENCE)
        return self.rounds < most and self.trainer.effort + self._spent[0] // PIVOTING < MAX_EFFORT

    def _settled(self, stages: Stages) -> bool:
        """Whether no point of a branch can be better than the best that is known: none that satisfies what is known,
        and more, is better than the solution."""
        aimed, chosen = self.aimed(stages.point), stages.branch.chosen
        if self.best is None or (self.best.reached[0] < aimed[0] if chosen else self.best.reached < aimed):
            return False
        if self.found is None and self.best.reached[0] == aimed[0]:
            self.found = stages
            if self.best.reached == aimed and (look := self.look(stages.point)).stable and look.reached == aimed:
                self.best = look  # the same, and chosen by all stages
        return True

    def _divided(self, branch: Branch, planes: Sequence[Plane]) -> Sequence[Branch]:
        """The parts of a branch by the sides of these planes; none, if the whole branch is on one side of each. Last
        (so it is followed first) that of the best point."""
        parts = []
        for plane in planes:
            implied = branch.implied(plane)
            if implied:
                branch.sides[plane] = implied
                continue
            here = plane.over(self.best.point) if self.best is not None else ZERO
            side = 1 if (here or plane.over(self.point)) >= 0 else -1
            parts.append(branch.child(plane, -side))
            branch = branch.child(plane, side)
        return (*parts, branch) if parts else ()

    def _try(self, stages: Stages) -> bool:
        """Look at a solution; where no prediction can be made, on the way to it from the best point. Whether that
        taught anything. Raises ManyTermsError."""
        point: Sequence[Fraction] = stages.point
        for _ in range(HALVINGS):
            try:
                look = self._visited(point)
            except ManyTermsError:
                if self.best is None:
                    raise
                point = tuple((a + b) / 2 for a, b in zip(point, self.best.point, strict=True))
                continue
            return look.news
        raise ManyTermsError("no prediction can be made", self.nodes[0].span)

    def news(self, point: Sequence[Fraction]) -> bool:
        """Whether a prediction at the point teaches anything."""
        return self._visited(point).news

    def _visited(self, point: Sequence[Fraction]) -> Look:
        """What a prediction says of a point that keeps what is fixed. Raises ManyTermsError."""
        look = self.look(point)
        if look.stable and (self.best is None or look.reached > self.best.reached):
            self.best, self.found, self._improved = look, None, self.rounds
        return look

    def attained(self, kind: int, names: Iterable[str], level: Fraction) -> bool:
        """Whether these of a kind of aims are at least so large at the best point."""
        best = self.best
        return best is not None and all(best.sizes[kind].get(name, level) >= level for name in names)

    def fixed_by(self, residual: Iterable[int]) -> list[Constraint]:
        """What the user fixed of these variables."""
        variables = set(residual)
        return [c for c in self.constraints if c.kind == "fix" and variables & set(c.row.coefficients)]

    def _stages(self, branch: Branch) -> Stages:
        try:
            return self._all_stages(branch)
        except UnboundedError:
            box = self.trainer.units.number(Power.of({self.trainer.units.symbols[0]: BOX}))
            for j, name in enumerate(self.unknowns.names):
                for sign in (1, -1):
                    self._add(Row({j: sign}, box), "box", name)
            branch.enter(self.constraints)
            if not branch.feasible:
                raise NewsError from None
            return self._all_stages(branch)

    def _all_stages(self, branch: Branch) -> Stages:
        stages = Stages(self, branch)
        for kind in range(len(self.aims)):
            stages.leximin(kind)
        stages.largest(self.unknowns.use.values(), -1)  # of several uses, the least demanding needs no multiplier
        stages.zero(Affine({j: 1}) for j, name in enumerate(self.unknowns.names) if "=" in name)
        stages.zero(self.unknowns.multiplier.values())
        return stages

    # --- the end --------------------------------------------------------------------------------------

    def _completed(self, root: Branch, best: Look) -> Completed:
        units, updates = self.trainer.units, best.sizes[0]
        lost = [one for one in self.found.lost if units.sign(one.exponent) < 0] if self.found is not None else []
        if self.found is None or any(updates[name] != one.exponent for one in lost for name in one.params):
            sizes = sorted({size for size in updates.values() if units.sign(size) < 0})
            lost = [Lost(tuple(name for name, own in updates.items() if own == size), size, ()) for size in sizes]
        if any(c.kind == "box" for one in lost for c in one.binding):
            raise CalculusError("some exponent is bounded by nothing", self.nodes[0].span)
        certified = not lost or (self.whole and all(one.binding for one in lost) and self._alone(root, lost))
        if self.best is not best and self.best is not None:  # one of the corners was better
            return self._completed(root, self.best)
        self.refine(best.point)
        exponents = _plain(self.unknowns.exponents(best.point))
        result = self.trainer.run(exponents)
        return Completed(
            self.unknowns, tuple(best.point), exponents, result, updates, tuple(lost), certified, self.rounds
        )

    def _corners(self, root: Branch, point: Sequence[Fraction]) -> Iterator[Sequence[Fraction]]:
        """Some corners of what is possible around a point: as far as one can go with one start or multiplier, and up
        with one learning rate. One that is not stable is looked for again, on its side of what matters there."""
        reach = self.trainer.units.number(Power.of({self.trainer.units.symbols[0]: REACH}))
        root.enter(self.constraints)
        around, seen = Branch(root.tableau.copy()), set[tuple[Fraction, ...]]()
        for j, value in enumerate(point):
            for sign in (1, -1):
                around.tableau.add(Row({j: sign}, sign * value + reach))
        parameters = self.trainer.program.forward.parameters
        starts = {f"init[{name}]" for name, p in parameters.items() if not self.trainer.starts_at_zero(p)}
        starts.update(name for name in self.names if name.startswith("?"))
        for j, name in enumerate(self.names):
            for sign in (1, -1) if name in starts else (1,) if name.startswith("lr[") else ():
                here = around
                for _ in range(TRIES):
                    here.enter(self.constraints)
                    found = here.tableau.maximise({j: sign})
                    if not isinstance(found, Optimum) or found.x[j] == point[j] or len(seen) == CORNERS:
                        break
                    seen.add(tuple(found.x))
                    yield found.x
                    if self.look(found.x).stable:
                        break
                    here.enter(self.constraints)
                    for plane in here.question(found.x):
                        here = here.child(plane, 1 if plane.over(found.x) >= 0 else -1)

    def _alone(self, root: Branch, lost: Sequence[Lost]) -> bool:
        """Whether what was aimed at is the largest form of each update that is lost, wherever one looks: an update is a
        maximum of forms, and one that is smaller here may be larger where starts are smaller."""
        best = self.best
        assert best is not None
        linear = any(self.trainer.optimizers[name].linear for one in lost for name in one.params)
        for corner in self._corners(root, best.point):
            if linear:
                return False  # gradients depend on starts in many ways
            try:
                self._visited(corner)
            except ManyTermsError:
                return False
        if self.best is not best:
            return False
        root.enter(self.constraints)
        return all(
            root.holds(row, self.aims[0][name]) for one in lost for name in one.params for row in self.forms[name]
        )

    def _conflict(self, branches: Sequence[Branch]) -> ConflictError:
        """The error for constraints that cannot be had together in any branch, from a certificate for each."""
        fixed = [(c, sign) for c in self.constraints if c.kind == "fix" for sign in (1, -1)]
        together: list[Constraint] = []
        tied = False
        for branch in branches:
            rows = [*fixed, *((c, 1) for c in branch.numbered.values())]
            found = maximise({}, [Row({j: sign * v for j, v in c.row.coefficients.items()}, sign * c.row.bound)
                                  for c, sign in rows], len(self.unknowns.names))  # fmt: skip
            assert isinstance(found, Infeasible)
            together += [rows[k][0] for k in sorted(found.conflict)]
            missing = sum((y * (rows[k][1] * rows[k][0].row.bound) for k, y in found.conflict.items()), ZERO)
            tied = tied or not self.trainer.units.sign(missing)
        error = conflict(self, together)
        error.tied = tied
        return error


def _plain(exponents: Exponents) -> Exponents:
    return Exponents({n: int(v) for n, v in exponents.A.items()}, {n: int(v) for n, v in exponents.C.items()},
                     {n: int(v) for n, v in exponents.M.items()})  # fmt: skip
