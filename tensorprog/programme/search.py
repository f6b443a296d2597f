"""The search for the best stable point: by linear programmes, each solution tried by prediction.

The programme knows some of the forms of what is watched and of what is aimed at. What exceeds Theta(1) at its solution
says which forms were missing, until nothing does. Where something holds on one side of a plane only (branches.py), it
stays on the side of the best point; as long as nothing stable is known, every side is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from tensorprog.calculus.exponents import Exponents
from tensorprog.exponents import Power
from tensorprog.parametrizations.gauge import gauge_degree
from tensorprog.programme.branches import NONE, ZERO, Branch, Constraint, Plane, Planes
from tensorprog.programme.fixes import Fix
from tensorprog.programme.knowledge import Knowledge, Look
from tensorprog.programme.simplex import Infeasible, Row, UnboundedError
from tensorprog.programme.stages import NewsError, Stages
from tensorprog.programme.trajectory import ManyTermsError, Trainer
from tensorprog.programme.unknowns import Affine

BOX = 16  # no exponent of interest is larger
MAX_ROUNDS = 500  # of a linear programme and a prediction
MAX_EFFORT = 1_500_000  # of predictions and pivots, in units of some 10 microseconds
PIVOTING = 10  # so many coefficients of a tableau are one of these units
# powers of the width by which learning rates and starts are made smaller to begin somewhere stable, in sixths: the
# rates as little as possible. Where all rates are one, starts that shrink with them let all of them be larger.
SIXTHS = ((0, 0), (2, 2), (3, 0), (3, 3), (4, 4), (6, 0), (12, 0), (24, 0), (48, 0),
          (0, 3), (0, 6), (0, 12), (0, 24), (0, 48))  # fmt: skip
SMALLER = tuple((Fraction(slower, 6), Fraction(smaller, 6)) for slower, smaller in SIXTHS)
DIVING = 40  # rounds of looking for a better point to begin at
HALVINGS = 3  # of the way from a stable point to one where there is no prediction
Progress = Callable[[float, float], None]  # work done, and the most there can be


@dataclass(frozen=True, slots=True)
class End:
    """Nothing in a branch is better than the best point. `needs`: the planes whose sides were chosen for that; on the
    other side of another plane it is the same. `dead`: those of its parts in which there is nothing."""

    needs: Planes
    dead: tuple[Branch, ...] = ()


class Search(Knowledge):
    """`best`: the best stable point so far; `found`: what shows that nothing is better on its side of what matters
    there; `rounds`: linear programmes tried; `anything`: end with the first stable point."""

    def __init__(
        self,
        trainer: Trainer,
        fixes: Sequence[Fix],
        start: Exponents,
        *,
        anything: bool = False,
        progress: Progress | None = None,
    ) -> None:
        super().__init__(trainer, fixes, start)
        self.best: Look | None = None
        self.found: Stages | None = None
        self.rounds = 0
        self.anything = anything
        self._start, self._progress, self._dived = start, progress, False

    def root(self) -> Branch:
        """Everything that keeps what is fixed; nothing, where that contradicts itself."""
        branch = Branch(self.fixed.copy())
        if self.contradicting:
            branch.tableau.add(Row({}, Fraction(-1)))
        branch.enter(self.constraints)
        return branch

    def proceed(self) -> bool:
        """Begin another round, if there is any left. The measure is not time: what comes out must not depend on the
        machine."""
        effort = self.trainer.effort + self.fixed.spent[0] // PIVOTING
        done = max(effort / MAX_EFFORT, self.rounds / MAX_ROUNDS)
        if done >= 1:
            return False
        self.rounds += 1
        if self._progress is not None:
            self._progress(done, 1.0)
        return True

    # --- where to begin -------------------------------------------------------------------------------

    def begin(self, root: Branch) -> None:
        """Look at the start, and at points near it that keep what is fixed, until one is stable."""
        for point in (self.point, *self._near(root)):
            try:
                if self.keeps(point):
                    self.visit(point)
                else:
                    self.look(point)
            except ManyTermsError:
                continue
            if self.best is not None:
                return

    def _near(self, root: Branch) -> Iterator[Sequence[Fraction]]:
        """What is fixed, and as far as it leaves open the start, with smaller and smaller learning rates, with starts
        that shrink alike; and with smaller and smaller starts."""
        start, unknowns = self.unknowns.point(self._start), self.unknowns
        units = self.trainer.units
        for slower, smaller in SMALLER:
            tableau = root.tableau.copy()
            slow, small = (units.number(Power.of(dict.fromkeys(units.symbols[:1], less))) for less in (slower, smaller))
            for name, lr in unknowns.lr.items():
                whole = lr + unknowns.raw(name, "multiplier") * gauge_degree(self.trainer, name)
                tableau.equal(whole.terms, lr.at(start) - slow)
            for affine in (*unknowns.scale.values(), *unknowns.use.values()):
                tableau.equal(affine.terms, affine.at(start))
            for affine in unknowns.init.values():
                tableau.equal(affine.terms, affine.at(start) - small)
            for affine in unknowns.multiplier.values():
                tableau.equal(affine.terms, ZERO)
            found = tableau.maximise({})
            if not isinstance(found, Infeasible):
                yield found.x

    # --- branches -------------------------------------------------------------------------------------

    def explore(self, branch: Branch, planes: Sequence[Plane] = ()) -> End | None:
        """Look for better points in a branch, divided by planes, until there is none; None: it is given up."""
        for k, plane in enumerate(planes):
            if plane not in branch.sides and not branch.implied(plane):
                return self._divided(branch, plane, planes[k + 1 :])
        while self.proceed():
            branch.enter(self.constraints)
            needs = branch.contradiction()
            if needs is not None:
                return End(needs, (branch,))
            news, before = True, self.best
            try:
                stages = self._stages(branch)
                if self._settled(stages, all_aims=not branch.chosen):
                    return End(self._needed(stages))
                news = self.towards(stages.point).news or self.best is not before
                if not news and self._settled(stages, all_aims=False):  # starts are as large as was found
                    return End(self._needed(stages))
            except NewsError:
                pass
            except ManyTermsError:
                break
            if self.anything and self.best is not None:
                break
            if branch.enter(self.constraints):
                continue
            planes = branch.question(self.point)
            if planes:
                if not self._dived and all(one.linear for one in self.trainer.optimizers.values()):
                    self._dive()
                return self.explore(branch, planes)
            if not news:
                break
        return None

    def _dive(self) -> None:
        """Before anything is divided: better points, where each constraint is taken for what it says on the side of the
        point that it was learned at. This shows nothing, but the division goes on from the side of the best point:
        where steps are as large as gradients there are many planes, and from a bad one it does not end."""
        self._dived = True
        if self.best is None:
            return
        scout = Search(self.trainer, self.fixes, self._start)
        scout.visit(self.best.point)
        branch = Branch(scout.fixed.copy())
        while scout.rounds < DIVING and branch.enter([replace(c, guards=()) for c in scout.constraints]):
            if branch.contradiction() is not None or not scout.proceed():
                break
            try:
                scout.visit(scout._stages(branch).point)
            except NewsError:
                continue
            except ManyTermsError:
                break
        assert scout.best is not None
        self.visit(scout.best.point)

    def _divided(self, branch: Branch, plane: Plane, planes: Sequence[Plane]) -> End | None:
        """Both sides of a plane, first that of the best point; the other one only where it mattered to choose."""
        here = plane.over(self.best.point) if self.best is not None else ZERO
        side = 1 if (here or plane.over(self.point)) >= 0 else -1
        one = self.explore(branch.child(plane, side), planes)
        if (one is not None and plane not in one.needs) or (self.anything and self.best is not None):
            return one
        other = self.explore(branch.child(plane, -side))
        if other is None or plane not in other.needs:
            return other
        return End((one.needs | other.needs) - {plane}, one.dead + other.dead) if one is not None else None

    def _settled(self, stages: Stages, *, all_aims: bool) -> bool:
        """Whether no point of a branch can be better than the best in its updates (`all_aims`: nor with updates as
        large): none that satisfies what is known, and more, is better than the solution."""
        best, aimed = self.best, self.aimed(stages.point)
        if best is None or (best.reached < aimed if all_aims else best.reached[0] < aimed[0]):
            return False
        if self.found is None and best.reached[0] == aimed[0]:
            self.found = stages
            if best.reached == aimed and (look := self.look(stages.point)).stable and look.reached == aimed:
                self.best = look  # the same, and chosen by all stages
        return True

    def _needed(self, stages: Stages) -> Planes:
        """The planes whose sides were chosen for nothing in a branch to be better than the best. Where another form of
        an update may be larger than what was aimed at, one may only show on other sides: all. So it is wherever steps
        are as large as gradients, which depend on starts in many ways."""
        assert self.best is not None
        branch, needs = stages.branch, NONE
        for one in stages.deciding(self.best.reached[0]):
            needs |= one.needs
            for name in one.params:
                forms = self.forms[name] if not self.trainer.optimizers[name].linear else ()
                smaller = [branch.holds(form, self.aims[0][name]) for form in forms]
                if not smaller or None in smaller:
                    return frozenset(branch.sides)
                needs = needs.union(*filter(None, smaller))
        return needs

    def towards(self, point: Sequence[Fraction]) -> Look:
        """What a prediction says of a point; where none can be made, of one on the way to it from the best. Raises
        ManyTermsError."""
        for _ in range(HALVINGS):
            try:
                return self.visit(point)
            except ManyTermsError:
                if self.best is None:
                    raise
                point = tuple((a + b) / 2 for a, b in zip(point, self.best.point, strict=True))
        raise ManyTermsError("no prediction can be made", self.nodes[0].span)

    def visit(self, point: Sequence[Fraction]) -> Look:
        """What a prediction says of a point that keeps what is fixed. Raises ManyTermsError."""
        look = self.look(point)
        if look.stable and (self.best is None or look.reached > self.best.reached):
            self.best, self.found = look, None
        return look

    # --- objectives -----------------------------------------------------------------------------------

    def news(self, point: Sequence[Fraction]) -> bool:
        """Whether a prediction at the point teaches anything."""
        return self.visit(point).news

    def attained(self, kind: int, names: Iterable[str], level: Fraction) -> bool:
        """Whether these of a kind of aims are at least so large at the best point."""
        best = self.best
        return best is not None and all(best.sizes[kind].get(name, level) >= level for name in names)

    def fixed_by(self, residual: Iterable[int]) -> list[Constraint]:
        """What the user fixed of these variables."""
        variables = set(residual)
        return [c for c in self.constraints if c.kind == "fix" and variables & set(c.row.coefficients)]

    def _stages(self, branch: Branch) -> Stages:
        """All objectives in a branch. Raises NewsError, ManyTermsError."""
        try:
            return self._all_stages(branch)
        except UnboundedError:
            box = self.trainer.units.number(Power.of({self.trainer.units.symbols[0]: BOX}))
            for j, name in enumerate(self.names):
                for sign in (1, -1):
                    self._add(Row({j: sign}, box), "box", name)
            branch.enter(self.constraints)
            if branch.contradiction() is not None:
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
