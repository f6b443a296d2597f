"""The exponents that make every update Theta(1), read off locally, in graph order, until nothing moves.

For every use of a parameter W (a contraction with some x, followed by its fixed scalars):
    A_W = the largest gain the use sees over all terms, initial and change, of x       (its value stays Theta(1))
    C_W = the size of (the optimizer's step at C = 0) contracted with x                 (its update is Theta(1))
and for every unknown multiplier: minus the largest term of what it multiplies. Uses of one W that differ in
their demands get implicit multipliers; a use whose value only an unknown multiplier consumes demands nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from fractions import Fraction
from math import inf
from operator import gt

from tensorprog.calculus.analysis import BOTH, MAX_SWEEPS
from tensorprog.calculus.demands import Demands
from tensorprog.calculus.exponents import Exponents
from tensorprog.calculus.pieces import Piece
from tensorprog.calculus.settling import Circle, Largest, unsettled
from tensorprog.calculus.stable import runaway
from tensorprog.calculus.terms import Terms, largest, reduce_terms
from tensorprog.calculus.uses import Occurrence
from tensorprog.graph import Scale

LAYER_SWEEPS = 12  # until the terms of a layer have gone through all others
FEW_SWEEPS = 2  # and through the next
LIMIT = 1000  # no exponent is that large: they run away, and what packs them holds not much more
PATIENCE = 3  # so often may they grow on the way, while the exponents are not yet right


class Solver(Demands):
    """Demands whose sweeps settle the exponents on their way."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.by_node: dict[int, list[Occurrence]] = {}
        for occurrence in self.all_uses:
            self.by_node.setdefault(occurrence.node, []).append(occurrence)
        self.demand = Largest(Counter(occurrence.use for occurrence in self.uses if self.constrains(occurrence)))
        self.speed = Largest(Counter(occurrence.param for occurrence in self.all_uses if self.constrains(occurrence)))
        self.excess = Largest(Counter(self.multiplier_at.values()))
        self.stops = self.by_node.keys() | self.multiplier_at.keys()
        self.step: dict[str, Terms] = {}  # the optimizer's steps so far, at C = 0
        self._stepped: dict[str, object] = {}  # and what they were made of
        self.nominal: dict[str, Terms] = {}  # steps of gradients that have the powers of the depth they should have
        self.met: Mapping[str, tuple[Terms, ...]] = {}  # gradients on the way, besides the first and the late ones
        self.runaways = 0  # how often sizes grew from layer to layer
        self.unsettled = False
        self.solved = False

    # --- one sweep ----------------------------------------------------------------------------------

    def visit(self, node: int) -> None:
        if self.solved:
            return
        for occurrence in self.by_node.get(node, ()):
            self._settle(occurrence)
        name = self.multiplier_at.get(node)
        if name is not None:
            operand = self.program.nodes[node].args[0]
            size = self.depth.judged(self.initial[operand], self.change[operand])
            scale = self.program.nodes[node].op
            assert isinstance(scale, Scale)
            if size is not None and node in self.depth.behind:
                size = max(size, self._moved_by_layers(operand, size))
            if size is not None and node in self.depth.takes:
                size = max(size, self._over_layers(node, operand, size))
            if size is not None:
                others = self.scalar_size(scale) - self.exponents.M[name]
                places = self.excess.places[name]
                if self.excess.report(name, size + others):
                    self.exponents.M[name] = -self.excess.value[name]
                    self.unsettled |= places > 1
                    self.stale[node] = BOTH

    def _moved_by_layers(self, operand: int, size: int) -> int:
        """The size of what is behind all layers, as these move it: their rates are such that their stream moves by
        Theta(1), however small it starts, and do not know what multiplies it later."""
        power, here = 0, self.program.nodes[operand]
        while isinstance(here.op, Scale):
            power, here = power + self.depth.part(self.scalar_size(here.op)), self.program.nodes[here.args[0]]
        return size - self.depth.part(size) + power

    def _over_layers(self, node: int, operand: int, size: int) -> int:
        """The size of what the multiplier at `node` multiplies, summed over all layers (see depth.py): aligned where
        two matrices meet, or nothing but updates is there."""
        if self.depth.takes[node] or not self.initial[operand]:
            return size - self.depth.part(size) + self.depth.layers(node, self.depth.over[node])
        return self.depth.over_layers(operand, size, self.initial[operand], self.depth.over[node])

    def _settle(self, occurrence: Occurrence) -> None:
        exponents, param, use = self.exponents, occurrence.param, occurrence.use
        changed = False
        heard = self.constrains(occurrence)  # else the multiplier behind it takes what the others leave it
        gain = self.demanded(occurrence, self.begun(param)) if heard else None
        if gain is not None:
            if occurrence.multiplier is not None:
                gain -= exponents.M[occurrence.multiplier]
            if self.demand.report(use, gain):
                self._share_demands(param)
                changed = True
        step = (self.nominal or self.step).get(param)
        if step and heard and (occurrence.behind or param in self.speed.value or param not in self.waiting):
            size = self.used(occurrence, step)
            more = exponents.M[use] + self.share(occurrence) - self.given(occurrence)
            if size is not None and self.speed.report(param, size + more):
                exponents.C[param] = self.speed.value[param]
                self._move(param)
                changed = True
        if changed:
            self.unsettled |= self.speed.places[param] > 1
            for k in self._before(occurrence):
                self.stale[k] = BOTH
                self.evaluate(k)

    def _before(self, occurrence: Occurrence) -> list[int]:
        """What its parameter goes through to a use, and as far as the sweep has come to others, which may read what
        stands there."""
        return sorted({k for o in self.moves_at(occurrence.param) for k in o.chain if k < occurrence.node})

    def given(self, occurrence: Occurrence) -> int:
        """The size of a use's value where the parameter has no say in it: what follows must take it away again."""
        free = occurrence.param in self.scale_free and occurrence.multiplier is None
        return self.demand.value.get(occurrence.use, 0) if free else 0

    def _share_demands(self, param: str) -> None:
        """A = the least demanding use that constrains it; the others get implicit multipliers."""
        exponents, demands = self.exponents, self.demand.value
        if param in self.scale_free or param in self.started:
            return
        constraining = {o.use for o in self.uses_by_param(param) if self.constrains(o)}
        known = [demands[u] for u in self.uses_of[param] if u in demands and u in constraining]
        if not known:
            return
        exponents.A[param] = min(known)
        for use in self.uses_of[param]:
            if use in demands and use in constraining:
                exponents.M[use] = exponents.A[param] - demands[use]

    def _move(self, param: str) -> None:
        lr = self.exponents.C[param]
        self.moved[param] = tuple((size - lr, raw, grades) for size, raw, grades in self.step[param])

    # --- to the end ---------------------------------------------------------------------------------

    def solve(self) -> Exponents:
        """Sweep until nothing moves. Raises CalculusError if that does not end.

        Sweeps may run in circles: one parameter's demand rests on the speed of another, which follows a sweep later.
        Then the largest demands of the circle hold until everything rests, and are let go to see that it stays.
        """
        circle, before = Circle(), self._state()
        for count in range(2 * MAX_SWEEPS):
            if count:
                self._relax()
            self.unsettled = False
            before = self._state()
            moved = self.sweep()
            for tracker in (self.demand, self.speed, self.excess):
                moved |= tracker.close()
            for param in self.uses_of:
                self._share_demands(param)
            for name, value in self.excess.value.items():
                self.exponents.M[name] = -value
            for name, value in self.speed.value.items():
                if self.exponents.C[name] != value:
                    self.exponents.C[name] = value
                    self._move(name)
            if max(self._distances(before).values(), default=0) > LIMIT:
                break
            steady = not moved or (bool(self.program.forward.loops) and self._state() == before)
            if not self._take_steps() and steady and not self.unsettled:
                if not circle.held or circle.known:
                    self._require_power_law(settled=True)
                    self.solved = True
                    return self.exponents
                circle.known, self.demand.floor, self.excess.floor = True, {}, {}
            elif circle.quiet(self._state() == before):  # terms that alternate without consequence
                self._require_power_law(settled=True)
                self.solved = True
                return self.exponents
            elif circle.closes(self.exponents, {**self.demand.value, **self.excess.value}):
                self.demand.floor = self.excess.floor = circle.held
        self._require_power_law(settled=False)
        far = self._distances(before)
        raise unsettled(self.program, circle.moving or max(far, key=far.__getitem__, default=""))

    def _distances(self, before: tuple[dict[str, int], ...]) -> dict[str, Fraction]:
        """How far the last sweep moved the exponents of each parameter."""
        degree, found = self.units.degree, dict.fromkeys(self.exponents.A, Fraction(0))
        for now, then in zip(self._state()[:2], before, strict=False):
            for name, value in now.items():
                found[name] = max(found[name], abs(degree(value - then.get(name, 0))))
        return found

    def gradients_at(self, count: int) -> Mapping[str, tuple[Terms, ...]]:
        """The gradients of every parameter after 1 to `count` steps."""
        self.restart()
        self.settle()
        found: dict[str, tuple[Terms, ...]] = dict.fromkeys(self.program.updates, ())
        for taken in range(count):
            self.train(taken)
            self.settle()
            found = {name: tuple(dict.fromkeys((*found[name], met))) for name, met in self.gradients().items()}
        return found

    def moving(self, occurrence: Occurrence, moved: Terms) -> int | None:
        """The size of a use's value for the change of its parameter alone."""
        return self.used(occurrence, moved)

    def contribution(self, name: str) -> int | None:
        """The packed exponent of what a parameter's own change makes of the value of its use (the largest of several),
        compared with what it is to move; None: it does not move. To be asked after training."""
        moved = self.moved.get(name, ())
        uses = [(o, self.moving(o, moved)) for o in self.moves_at(name)] if moved else []
        return max((size + self.exponents.M[o.use] + self.share(o) - self.given(o)
                    for o, size in uses if size is not None), default=None)  # fmt: skip

    def falls_short(self) -> dict[str, int]:
        """Parameters whose own change moves no use of theirs by Theta(1) -> their contribution."""
        return {name: size for name in self.program.updates if (size := self.contribution(name))}

    def _require_power_law(self, *, settled: bool) -> None:
        """Raises NoPowerLawError if there are layers and sizes grow from one to the next, or nothing settles."""
        if self.program.forward.loops and (self.runaways > PATIENCE or not settled):
            raise runaway(self.program, self.initial, self.sizes)

    def _relax(self) -> None:
        """With the exponents as they are, the sizes that layers have from each other: those that follow from
        nothing. What stands from sweeps under other exponents could keep itself alive around the loop."""
        if not self.program.forward.loops:
            return
        if self._runs_away():
            self.runaways += 1
            again = self.runaways % 2 == 0 or not self.moved
            if not again:  # the learning rates are not yet right: begin training anew with these initial sizes
                self.moved = {}
            if again or self._runs_away():  # these are not right: few layers tell what they must be
                self._runs_away(FEW_SWEEPS)
        self.gains = self.depth.gains(self.initial, self.scalar_size)

    def _runs_away(self, sweeps: int = LAYER_SWEEPS) -> bool:
        """From nothing until the layers agree, or have been gone through so often; True if they do not, and sizes still
        grow. (Terms may be merged now in one way, now in another; what has lost its source fades around the loop.)"""
        self.clear()
        self._mark()
        grown = False
        for piece in self.pieces:
            for _ in range(sweeps if piece.circular else 1):
                before = self._sizes(piece)
                if not self.update(piece):
                    break
            else:
                grown |= piece.circular and any(map(gt, self._sizes(piece), before))
                if grown and sweeps == LAYER_SWEEPS:  # the sizes are let go: what follows would be, too
                    return True
        if not any(self.stale):
            self.keep_initial()
        return grown

    def _sizes(self, piece: Piece) -> list[float]:
        """The sizes of what the nodes of a piece are, then those of their changes."""
        terms = [of[k] for of in (self.initial, self.change) for k in piece.nodes]
        return [-inf if size is None else size for size in map(largest, terms)]

    def _state(self) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
        return dict(self.exponents.A), dict(self.exponents.C), dict(self.exponents.M)

    def _nominal(self, name: str, gradient: Terms) -> Terms:
        """The terms of a parameter's gradient, with the power of the depth that they have where every update in a
        layer is as large as it may be: the gain from its use to the stream."""
        parameter = self.program.forward.parameters[name]
        powers = []
        for occurrence in self._by_param.get(name, ()):
            layers = self.depth.layers(occurrence.node) - sum(self.sizes(axis.dim) for axis in parameter.layers)
            powers.append(self.gains.get(occurrence.node, 0) + layers + self.late_size(occurrence))
        power = max(powers, default=0)
        return tuple([(size - self.depth.part(size) + power, raw, grades) for size, raw, grades in gradient])

    def _take_steps(self) -> bool:
        """The optimizer's steps from this sweep's gradients: the first step's and the later ones'."""
        moved = False
        for name in self.program.updates:
            known = self.made_of(name), self.exponents.A[name]
            step = self.step.get(name, ())
            if self._stepped.get(name) != known:
                self._stepped[name] = known
                first = self.update_terms(name, self.gradient(name, first=True))
                later = self.update_terms(name, self.gradient(name)) if self.change[self.program.grads[name]] else ()
                way = [self.update_terms(name, gradient) for gradient in self.met.get(name, ())]
                step = reduce_terms([term for terms in (first, later, *way) for term in terms])
            if self.program.forward.loops:
                before, late = self.nominal.get(name), self.gradient(name)
                flat = [self._nominal(name, gradient) for gradient in (late, *self.met.get(name, ()))]
                self.nominal[name] = reduce_terms([term for one in flat for term in self.update_terms(name, one)])
                if name in self.speed.value and before and self.nominal[name]:  # layers meet it before its uses speak
                    grown = max(self.nominal[name])[0] - max(before)[0]
                    self.exponents.C[name] += max(grown, 0)
            if step != self.step.get(name, ()):
                self.step[name] = step
                moved = True
                if name in self.speed.value:
                    self._move(name)
        return moved
