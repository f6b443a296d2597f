"""The best stable completion of what the user fixes: an exact linear programme over the forms of the calculus.

The size of every tensor is a maximum of affine forms of the unknown exponents. The programme knows some of these
forms; its solution is tried by prediction; what then exceeds Theta(1) says which forms were missing, until nothing
does. So the answer is always verified by substitution. First the own updates are made as large as possible, the
smallest first (leximin: no update vanishes faster than it must), then the initial sizes, then the multipliers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import gcd, lcm

from tensorprog.calculus.analysis import MAX_SWEEPS, Exponents, Snapshot
from tensorprog.calculus.shared import describe
from tensorprog.calculus.stable import blown_up
from tensorprog.errors import CalculusError
from tensorprog.exponents import Power, Units
from tensorprog.parametrizations.gauge import gauge_degree
from tensorprog.programme.fixes import Fix
from tensorprog.programme.forms import Form
from tensorprog.programme.refusals import ConflictError, conflict, no_end
from tensorprog.programme.seen import Seen
from tensorprog.programme.simplex import Infeasible, Row, Tableau, UnboundedError, maximise
from tensorprog.programme.stages import ZERO, Constraint, Lost, NewsError, Stages, row_of
from tensorprog.programme.trajectory import ManyTermsError, Trainer, Trajectory
from tensorprog.programme.unknowns import Affine, Unknowns

BOX = 16  # no exponent of interest is larger
MAX_ROUNDS = 300  # of the linear programme and a prediction


@dataclass(frozen=True, slots=True)
class Completed:
    """`point`: the values of `unknowns`. `contributions`: parameter -> exponent of its own update. `lost`: what
    vanishes, slowest last. `certified`: whether all binding constraints are sound. `cuts`: all constraints known.
    Exponents as `units.number` says them."""

    unknowns: Unknowns
    point: tuple[Fraction, ...]
    exponents: Exponents
    trajectory: Trajectory
    contributions: Mapping[str, Fraction]
    lost: tuple[Lost, ...]
    certified: bool
    cuts: tuple[Constraint, ...]

    @property
    def units(self) -> Units:
        return self.unknowns.trainer.units


class Programme:
    """The constraints on the unknowns, as far as they are known."""

    def __init__(self, trainer: Trainer, fixes: Sequence[Fix], start: Exponents) -> None:
        self.trainer, self.nodes = trainer, trainer.program.forward.nodes
        self.fixes = fixes
        self.unknowns = Unknowns(trainer, _gauged(trainer, fixes))
        self.names = self.unknowns.names
        self._coarse = trainer.units.denominator
        self.constraints: list[Constraint] = []
        self._given_up: list[tuple[int, str, Constraint]] = []  # aims: at so many constraints, for what
        self._known: set[tuple[tuple[tuple[int, Fraction], ...], Fraction]] = set()
        self.updates: dict[str, Constraint] = {}
        self.starts: dict[str, Constraint] = {}
        self.scales: dict[str, Constraint] = {}
        self.rounds = 0
        self.numbered: dict[int, Constraint] = {}  # row of the tableau -> constraint
        self._entered = 0  # constraints that are in the tableau
        for fix in fixes:
            self._require(fix)
        for affine in self.unknowns.use.values():
            self._add(row_of(affine, ZERO), "gauge", "a multiplier at one of several uses")
        self.tableau = Tableau(len(self.unknowns.names))
        self.point: Sequence[Fraction] = self.unknowns.point(start)
        self.incumbent: tuple[Fraction, ...] | None = None  # the best stable point so far
        if self.look(self.point)[0].stable and self._keeps(self.point):
            self.incumbent = tuple(self.point)

    # --- constraints --------------------------------------------------------------------------------

    def _require(self, fix: Fix) -> None:
        shared = self.unknowns.new(fix.text) if None in fix.values.values() else None
        for name, value in fix.values.items():
            if fix.quantity == "scale":
                affine = self.unknowns.scale[name]
            else:
                affine = self.unknowns.raw(name, fix.quantity)
                if fix.quantity == "multiplier":
                    for use in self.trainer.uses_of.get(name, ()):
                        if use in self.unknowns.use:
                            self.equal(self.unknowns.use[use], ZERO, fix.text)
            self.equal(affine - shared if shared is not None else affine, value or ZERO, fix.text)

    def equal(self, affine: Affine, value: Fraction, text: str, kind: str = "fix") -> None:
        """Not only at most, but equal."""
        self._add(row_of(affine, value), kind, text)

    def feasible(self) -> Tableau:
        """A tableau with all constraints known so far, at a feasible point. Raises ConflictError if there is none."""
        for c in self.constraints[self._entered :]:
            if c.kind != "fix":
                self.numbered[self.tableau.add(c.row)] = c
            elif not self.tableau.equal(c.row.coefficients, c.row.bound):
                raise self.conflict()
        self._entered = len(self.constraints)
        if isinstance(self.tableau.maximise({}), Infeasible):
            raise self.conflict()
        return self.tableau

    def conflict(self) -> ConflictError:
        """The error for constraints that cannot be had together, from a certificate over all of them."""
        rows = [(c, sign) for c in self.constraints for sign in ((1, -1) if c.kind == "fix" else (1,))]
        found = maximise({}, [Row({j: sign * v for j, v in c.row.coefficients.items()}, sign * c.row.bound)
                              for c, sign in rows], len(self.unknowns.names))  # fmt: skip
        assert isinstance(found, Infeasible)
        error = conflict(self, [rows[k][0] for k in sorted(found.conflict)])
        missing = sum((y * (rows[k][1] * rows[k][0].row.bound) for k, y in found.conflict.items()), ZERO)
        error.tied = not self.trainer.units.sign(missing)
        return error

    def fixed_by(self, residual: Iterable[int]) -> list[Constraint]:
        """What the user fixed of these variables."""
        variables = set(residual)
        return [c for c in self.constraints if c.kind == "fix" and variables & set(c.row.coefficients)]

    def _add(self, row: Row, kind: str, text: str, node: int = -1, *, sound: bool = True) -> bool:
        key = (tuple(sorted((j, Fraction(c)) for j, c in row.coefficients.items())), row.bound)
        if key in self._known or (not key[0] and row.bound >= 0):
            return False
        self._known.add(key)
        self.constraints.append(Constraint(row, kind, text, node, sound))
        return True

    def cut(self, size: int, what: str, node: int) -> Constraint:
        """The constraint that a size, as a form at the current point, be at most 0."""
        form = size if isinstance(size, Form) else Form(size)
        terms = {j: c for j, c in enumerate(form.coefficients(len(self.unknowns.names))) if c}
        common = gcd(*terms.values()) or 1
        terms = {j: c // common for j, c in terms.items()}
        value = Fraction(int(size), self.trainer.units.denominator * common)
        bound = sum((c * self.point[j] for j, c in terms.items()), ZERO) - value
        return Constraint(Row(terms, bound), "stability", what, node, form.sound)

    def look(self, point: Sequence[Fraction], steps: int = MAX_SWEEPS) -> tuple[Trajectory, bool]:
        """Predict at a point and learn from it: the forms of all that is watched, of updates and of starts. Also
        whether any of them was news."""
        self.point = point
        self._refine(point)
        trainer, seen = self.trainer, Seen(self.trainer)
        result = trainer.run(self.unknowns.exponents(point), steps, seen.early)
        seen.tensors(self._hidden(result), changes=not (result.excess and not result.excess[0].step))
        news = False
        for (k, part), size in seen.watched.items():
            news |= self._learn(self.cut(size, f"the {part} of `{describe(self.nodes[k], self.nodes)}`", k))
        for k, growth in seen.growing():
            what = f"the growth of `{describe(self.nodes[k], self.nodes)}` from step to step"
            news |= self._learn(self.cut(growth, what, k))
        if result.excess:
            return result, news
        seen.aims()
        for name, size in seen.updates.items():
            use = trainer.uses_by_param(name)[0].node
            news |= self._objective(self.updates, name, self.cut(size, f"the update of {name}", use))
        for use_name, (size, name, node) in seen.starts.items():
            news |= self._objective(self.starts, use_name, self.cut(size, f"the start of {name}", node))
        for name, (size, node) in seen.scales.items():
            news |= self._objective(self.scales, name, self.cut(size, f"`?{name}`", node))
        return result, news

    def _hidden(self, result: Trajectory) -> set[int]:
        """Nodes below something saturated, where sizes are only bounds. What is too large at the start says nothing of
        changes: gradients pass what saturates."""
        if not result.excess:
            return set()
        trainer, snapshot = self.trainer, result.snapshot
        if not result.excess[0].step:
            snapshot = Snapshot(snapshot.initial, ((),) * len(snapshot.change))
        return blown_up(trainer.program, snapshot, trainer.functions)

    def _refine(self, point: Sequence[Fraction]) -> None:
        """Units just fine enough for a point."""
        units = self.trainer.units
        exponents = [e for value in point for _, e in units.power(value).exponents]
        denominator = lcm(self._coarse, *(e.denominator for e in exponents))
        if denominator != units.denominator:
            self.trainer = replace(self.trainer, units=units.finer(denominator))
            self.unknowns.trainer = self.trainer

    def news(self, point: Sequence[Fraction]) -> bool:
        """Whether a prediction at the point teaches anything."""
        return self.look(point)[1]

    def _learn(self, cut: Constraint) -> bool:
        if not cut.row.coefficients:
            return False
        return self._add(cut.row, "stability", cut.text, cut.node, sound=cut.sound)

    def _objective(self, known: dict[str, Constraint], key: str, cut: Constraint) -> bool:
        """Aim at a form if it is larger here than the one aimed at before, and was not given up with the constraints
        that are known now: of two forms, each may be larger where the other one leads."""
        news, old, given_up = self._learn(cut), known.get(key), (len(self.constraints), key)
        if old is not None:
            if old.row.slack(self.point) <= cut.row.slack(self.point) or (*given_up, cut) in self._given_up:
                return news
            self._given_up.append((*given_up, old))
        known[key] = cut
        return True

    # --- solving ------------------------------------------------------------------------------------

    def solve(self) -> Completed:
        """Raises ConflictError if what is fixed leaves nothing stable, CalculusError if no end is found."""
        try:
            certified = self._rounds()
        except ManyTermsError as error:
            raise no_end(self, f"far from balance {error.message}") from None
        if self.incumbent is None or certified is None:
            raise CalculusError("no stable completion was found", self.nodes[0].span,
                                why="the linear programme and the predictions do not settle on an answer")  # fmt: skip
        return self._completed(self.incumbent, certified)

    def _rounds(self) -> Stages | None:
        """The objectives at the incumbent, once nothing better is possible."""
        certified: Stages | None = None
        for self.rounds in range(1, MAX_ROUNDS + 1):
            try:
                stages = self._stages()
            except NewsError:
                continue
            point = stages.point
            if self.incumbent is not None and self._score(self.incumbent) >= self._score(point):
                return stages  # no point that satisfies what is known, and more, can be better
            result, news = self.look(point)
            if result.stable and (self.incumbent is None or self._score(point) >= self._score(self.incumbent)):
                self.incumbent, certified = point, stages
            if not news:
                return certified
        raise no_end(self, "every answer of the linear programme was unstable for yet another reason")

    def _completed(self, point: tuple[Fraction, ...], stages: Stages) -> Completed:
        exponents = _plain(self.unknowns.exponents(point))
        result = self.trainer.run(exponents)
        contributions = {name: -cut.row.slack(point) for name, cut in self.updates.items()}
        lost = tuple(lost for lost in stages.lost if self.trainer.units.sign(lost.exponent) < 0)
        exact = all(contributions[name] == one.exponent for one in lost for name in one.params)
        if any(c.kind == "box" for one in lost for c in one.binding):
            raise CalculusError("some exponent is bounded by nothing", self.nodes[0].span)
        return Completed(
            self.unknowns, point, exponents, result, contributions, lost,
            exact and all(c.sound for one in lost for c in one.binding), tuple(self.constraints),
        )  # fmt: skip

    def _score(self, point: Sequence[Fraction]) -> list[list[Fraction]]:
        """What a point reaches, in the order of the objectives; each worst first."""
        return [sorted(-cut.row.slack(point) for cut in known.values())
                for known in (self.updates, self.starts, self.scales)]  # fmt: skip

    def _keeps(self, point: Sequence[Fraction]) -> bool:
        """Whether a point satisfies every constraint that is known."""
        slacks = ((c.kind, c.row.slack(point)) for c in self.constraints)
        return all(slack == 0 if kind == "fix" else slack >= 0 for kind, slack in slacks)

    def _stages(self) -> Stages:
        try:
            return self._all_stages()
        except UnboundedError:
            box = self.trainer.units.number(Power.of({self.trainer.units.symbols[0]: BOX}))
            for j, name in enumerate(self.unknowns.names):
                for sign in (1, -1):
                    self._add(Row({j: sign}, box), "box", name)
            return self._all_stages()

    def _all_stages(self) -> Stages:
        stages = Stages(self)
        stages.leximin(self.updates)
        stages.leximin(self.starts)
        stages.leximin(self.scales)
        stages.largest(self.unknowns.use.values(), -1)  # of several uses, the least demanding needs no multiplier
        stages.zero(Affine({j: 1}) for j, name in enumerate(self.unknowns.names) if "=" in name)
        stages.zero(self.unknowns.multiplier.values())
        return stages


def _plain(exponents: Exponents) -> Exponents:
    return Exponents({n: int(v) for n, v in exponents.A.items()}, {n: int(v) for n, v in exponents.C.items()},
                     {n: int(v) for n, v in exponents.M.items()})  # fmt: skip


def _gauged(trainer: Trainer, fixes: Sequence[Fix]) -> list[str]:
    """Parameters whose own multiplier matters to what is fixed."""
    found: set[str] = set()
    for fix in fixes:
        for name in fix.values:
            if fix.quantity in ("multiplier", "init_std") or (fix.quantity == "lr" and gauge_degree(trainer, name)):
                found.add(name)
    return [name for name in trainer.program.forward.parameters if name in found]
