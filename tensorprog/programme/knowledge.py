"""What is known of the stable exponents: constraints and aims, each learned from a prediction at some point."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import gcd, lcm

from tensorprog.calculus.affine import Form, Guards, unpack
from tensorprog.calculus.analysis import MAX_SWEEPS
from tensorprog.calculus.exponents import Exponents, Snapshot
from tensorprog.calculus.shared import describe
from tensorprog.calculus.stable import blown_up
from tensorprog.parametrizations.gauge import gauge_degree
from tensorprog.programme.branches import ZERO, Constraint, Plane, plane_of
from tensorprog.programme.fixes import Fix
from tensorprog.programme.seen import Seen
from tensorprog.programme.simplex import Row, Tableau
from tensorprog.programme.stages import row_of
from tensorprog.programme.trajectory import Trainer, Trajectory
from tensorprog.programme.unknowns import Affine, Unknowns


@dataclass(frozen=True, slots=True)
class Look:
    """What a prediction at a point says: whether it is stable, and the `sizes` of what is aimed at, if it is; whether
    that was `news`."""

    point: Sequence[Fraction]
    stable: bool
    news: bool
    sizes: tuple[Mapping[str, Fraction], ...] = ()

    @property
    def reached(self) -> list[list[Fraction]]:
        """The sizes of each kind, worst first."""
        return [sorted(known.values()) for known in self.sizes]


FEW = 2  # guards


class Knowledge:
    """`constraints` on the unknowns, as far as they are known, and the forms to aim at: `aims` of own updates (by
    parameter), of initial values (by use) and of what multipliers make (by name). `point`: where it was looked last."""

    def __init__(self, trainer: Trainer, fixes: Sequence[Fix], start: Exponents) -> None:
        self.trainer, self.nodes = trainer, trainer.program.forward.nodes
        self.fixes = fixes
        self.unknowns = Unknowns(trainer, _gauged(trainer, fixes))
        self.names = self.unknowns.names
        self._coarse = trainer.units.denominator
        self.constraints: list[Constraint] = []
        self._known: set[object] = set()
        self._unpacked: dict[int, tuple[dict[int, int], int]] = {}
        self._looked: dict[tuple[Sequence[Fraction], int], Look] = {}
        self.aims: tuple[dict[str, Row], ...] = ({}, {}, {})
        self._given_up: list[tuple[int, str, Row]] = []  # aims: at so many constraints, for what
        self.forms: dict[str, list[Row]] = {}  # all that were seen of what is aimed at
        for fix in fixes:
            self._require(fix)
        self.fixed = Tableau(len(self.names))
        self.contradicting = not all(list(map(self._keep, self.constraints)))
        for affine in self.unknowns.use.values():
            self._add(row_of(affine, ZERO), "gauge", "a multiplier at one of several uses")
        self.point: Sequence[Fraction] = self.unknowns.point(start)

    # --- what is fixed --------------------------------------------------------------------------------

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
                            self._equal(self.unknowns.use[use], ZERO, fix.text)
            self._equal(affine - shared if shared is not None else affine, value or ZERO, fix.text)

    def _keep(self, fixed: Constraint) -> bool:
        return self.fixed.equal(fixed.row.coefficients, fixed.row.bound)

    def _equal(self, affine: Affine, value: Fraction, text: str) -> None:
        """Not only at most, but equal."""
        self._add(row_of(affine, value), "fix", text)

    def _add(
        self, row: Row, kind: str, text: str, node: int = -1, guards: Sequence[tuple[Plane, Fraction]] = ()
    ) -> bool:
        says = self.fixed.reduced(row) if kind != "fix" else row
        key = (tuple(sorted((j, Fraction(c)) for j, c in says.coefficients.items())), says.bound, tuple(guards))
        if key in self._known or (not key[0] and says.bound >= 0):
            return False
        self._known.add(key)
        self.constraints.append(Constraint(row, kind, text, node, tuple(guards)))
        return True

    # --- what a prediction says -------------------------------------------------------------------------

    def _row(self, size: int) -> tuple[Row, int]:
        """The constraint that a size, as a form at the current point, be at most 0; and by what its coefficients were
        divided."""
        terms, common, level = self._affine(int(size), size.key if isinstance(size, Form) else 0)
        return Row(terms, level), common

    def _affine(self, value: int, key: int) -> tuple[dict[int, int], int, Fraction]:
        """Coefficients without a common divisor, that divisor, and the level at which the form with this value at the
        current point is 0."""
        known = self._unpacked.get(key)
        if known is None:
            terms = {j: c for j, c in enumerate(unpack(key, len(self.names))) if c}
            common = gcd(*terms.values()) or 1
            known = self._unpacked[key] = {j: c // common for j, c in terms.items()}, common
        terms, common = known
        value_there = Fraction(value, self.trainer.units.denominator * common)
        return terms, common, sum((c * self.point[j] for j, c in terms.items()), ZERO) - value_there

    def _planes(self, guards: Guards, common: int) -> tuple[list[tuple[Plane, Fraction]], Fraction]:
        """The planes of guards, with weights; and by how much those loosen a constraint that have no plane where what
        is fixed is kept."""
        weights, looser = dict[tuple[Plane, bool], Fraction](), ZERO
        for guard, count in guards.items():
            terms, divisor, level = self._affine(*guard)
            weight = Fraction(count * divisor, common)
            says = self.fixed.reduced(Row(terms, level))
            if not says.coefficients:
                looser += max(ZERO, weight * says.bound)
                continue
            plane, scale = plane_of(says)
            key = plane, scale > 0
            weights[key] = weights.get(key, ZERO) + weight * scale
        return [(plane, weight) for (plane, _), weight in weights.items()], looser

    def look(self, point: Sequence[Fraction], steps: int = MAX_SWEEPS) -> Look:
        """Predict at a point and learn from it: the forms of all that is watched, of updates and of starts. Raises
        ManyTermsError."""
        self.point = tuple(point)
        known = self._looked.get((self.point, steps))
        if known is None:
            known = self._looked[self.point, steps] = self._predicted(steps)
            return known
        return replace(known, news=False)

    def _predicted(self, steps: int) -> Look:
        self.refine(self.point)
        trainer, seen = self.trainer, Seen(self.trainer)
        result = trainer.run(self.unknowns.exponents(self.point), steps, seen.early)
        seen.tensors(self._hidden(result), changes=not (result.excess and not result.excess[0].step))
        found = [(size, f"the {part} of `{describe(self.nodes[k], self.nodes)}`", k)
                 for (k, part), size in seen.watched.items()]  # fmt: skip
        found += [(growth, f"the growth of `{describe(self.nodes[k], self.nodes)}` from step to step", k)
                  for k, growth in seen.growing()]  # fmt: skip
        news = self._learn(found)
        if result.excess:
            return Look(self.point, stable=False, news=news)
        seen.aims()
        starts = {use: size for use, (size, _, _) in seen.starts.items()}
        scales = {name: size for name, (size, _) in seen.scales.items()}
        found = [(size, f"the update of {name}", trainer.uses_by_param(name)[0].node)
                for name, size in seen.updates.items()]  # fmt: skip
        found += [(size, f"the start of {name}", node) for size, name, node in seen.starts.values()]
        found += [(size, f"`?{name}`", node) for name, (size, node) in seen.scales.items()]
        news |= self._learn(found)
        reached = []
        for known, sizes in zip(self.aims, (seen.updates, starts, scales), strict=True):
            news |= self._aim(known, sizes)
            reached.append({name: Fraction(int(size), trainer.units.denominator) for name, size in sizes.items()})
        return Look(self.point, result.stable, news, tuple(reached))

    def _hidden(self, result: Trajectory) -> set[int]:
        """Nodes below something saturated, where sizes are only bounds. What is too large at the start says nothing of
        changes: gradients pass what saturates."""
        if not result.excess:
            return set()
        trainer, snapshot = self.trainer, result.snapshot
        if not result.excess[0].step:
            snapshot = Snapshot(snapshot.initial, ((),) * len(snapshot.change))
        return blown_up(trainer.program, snapshot, trainer.functions)

    def refine(self, point: Sequence[Fraction]) -> None:
        """Units just fine enough for a point."""
        units = self.trainer.units
        exponents = [e for value in point for _, e in units.power(value).exponents]
        denominator = lcm(self._coarse, *(e.denominator for e in exponents))
        if denominator != units.denominator:
            effort = self.trainer.effort
            self.trainer = replace(self.trainer, units=units.finer(denominator))
            self.trainer.effort = effort
            self.unknowns.trainer = self.trainer

    def _learn(self, sizes: Iterable[tuple[int, str, int]]) -> bool:
        """That sizes be at most 0; whether that is worth another look. What holds only behind many guards is worth
        knowing where it is violated, and nothing else is."""
        found = []
        for size, what, node in sizes:
            row, common = self._row(size)
            guards, looser = self._planes(size.below if isinstance(size, Form) else {}, common)
            found.append((size > 0, guards, Row(row.coefficients, row.bound + looser), what, node))
        enough = any(violated and len(guards) <= FEW for violated, guards, *_ in found)
        news = False
        for violated, guards, row, what, node in found:
            if len(guards) <= FEW or (violated and not enough):
                new = self._add(row, "stability", what, node, guards)
                news |= new and (violated or not guards)
        return news

    def _aim(self, known: dict[str, Row], sizes: Mapping[str, int]) -> bool:
        """Aim at forms that are larger here than those aimed at before, and were not given up with the constraints that
        are known now (of two forms, each may be larger where the other one leads); whether there are any."""
        news = False
        for name, size in sizes.items():
            row, _ = self._row(size)
            forms = self.forms.setdefault(name, [])
            if row not in forms:
                forms.append(row)
            old, given_up = known.get(name), (len(self.constraints), name)
            if old is not None:
                if old.slack(self.point) <= row.slack(self.point) or (*given_up, row) in self._given_up:
                    continue
                self._given_up.append((*given_up, old))
            known[name], news = row, True
        return news

    def aimed(self, point: Sequence[Fraction]) -> list[list[Fraction]]:
        """What a point reaches by the forms aimed at, in the order of the objectives; each worst first."""
        return [sorted(-row.slack(point) for row in known.values()) for known in self.aims]

    def keeps(self, point: Sequence[Fraction]) -> bool:
        """Whether a point satisfies what is fixed."""
        slacks = ((c.kind, c.row.slack(point)) for c in self.constraints if c.kind in ("fix", "gauge"))
        return all(slack == 0 if kind == "fix" else slack >= 0 for kind, slack in slacks)


def _gauged(trainer: Trainer, fixes: Sequence[Fix]) -> list[str]:
    """Parameters whose own multiplier matters to what is fixed."""
    found: set[str] = set()
    for fix in fixes:
        for name in fix.values:
            if fix.quantity in ("multiplier", "init_std") or (fix.quantity == "lr" and gauge_degree(trainer, name)):
                found.add(name)
    return [name for name in trainer.program.forward.parameters if name in found]
