"""Sizes of all tensors of a program, at initialisation and after every training step, for given exponents.

Training is a fixpoint: sweep forward, backward and update; add each update's terms to its parameter's change;
repeat until no new term appears. What it ends in holds for every finite number of steps.

Everything here works in the gauge without multipliers: W is the effective weight, of initial size n^-A, and its
learning rate is n^-C in that gauge (forms.py converts).
"""

from __future__ import annotations

from collections.abc import Container, Hashable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tensorprog.calculus.bits import allotted, start
from tensorprog.calculus.exponents import Exponents, Snapshot
from tensorprog.calculus.gates import gating
from tensorprog.calculus.grades import FLIPS, STAYS
from tensorprog.calculus.pieces import Piece, pieces, with_parts
from tensorprog.calculus.regions import regions
from tensorprog.calculus.rules import parts_rules, rules_for
from tensorprog.calculus.shared import Rule, Sizes, power_size
from tensorprog.calculus.stable import blow_up, require_unit_streams, runaway
from tensorprog.calculus.stepping import lifted, lifted_alone, step_of
from tensorprog.calculus.terms import Replaced, Terms, forget_results, joined, leading
from tensorprog.calculus.terms import largest as largest  # one place for those who read an analysis
from tensorprog.calculus.together import added_together
from tensorprog.exponents import Units
from tensorprog.functions import Function
from tensorprog.graph import Param, Program, Scale, readers
from tensorprog.optimizers import Choice
from tensorprog.optimizers.choice import choose
from tensorprog.parameters import Parameter

if TYPE_CHECKING:
    from tensorprog.calculus.whole import Whole

MAX_SWEEPS = 40
CHANGE, BOTH = 1, 3  # what of a node is stale: its change; that and its initial value


@dataclass
class Analysis:
    """The machinery shared by prediction and solving: rules, parameter terms, sweeps."""

    program: Program
    units: Units
    optimizer: str | Choice
    functions: Mapping[str, Function]
    exponents: Exponents
    whole: Whole | None = None
    rules: list[Rule | None] = field(init=False)
    initial: list[Terms] = field(init=False)
    change: list[Terms] = field(init=False)

    def __post_init__(self) -> None:
        forget_results()
        sizes = Sizes(self.units)
        groups = {loop.axis.loop: [list(dict(parts)) for parts in added_together(self.program, sizes, loop.axis.loop)]
                  for loop in self.program.forward.loops}  # fmt: skip
        self.bits, self.joint, loops, used = allotted(self.program, groups)
        self.sizes = Sizes(self.units, loops)
        self._together = {
            part: 1 << used + k for k, parts in enumerate(added_together(self.program, self.sizes)) for part in parts
        }
        self._gating = gating(self.program, self.functions)
        self._fixed: dict[int, int] = {}
        self._units: dict[str, Terms] = {}
        self._scaled: dict[str, list[int]] = {name: [] for name in self.exponents.M}  # multiplier -> its nodes
        for node in self.program.nodes:
            for name in node.op.scalar.unknowns if isinstance(node.op, Scale) else ():
                self._scaled[name].append(node.id)
        self.choice = choose(self.optimizer)
        parameters = self.program.forward.parameters
        self.optimizers = {n: self.choice.of(parameter) for n, parameter in parameters.items()}
        entrywise = [n for n, o in self.optimizers.items() if o.normalisation == "entry"]
        others = [n for n, o in self.optimizers.items() if not o.linear and o.normalisation != "entry"]
        self.regions = regions(self.program, entrywise, others)
        self.nodes = self.regions.nodes  # of the program, and parts of them behind
        self._alike = {part: of for part, of in self.regions.of.items() if part not in self.regions.narrowed}
        self.rules = rules_for(self.program, self.scalar_size, self.functions, self.sizes)
        self.rules += parts_rules(self.rules, self.regions, self.sizes)
        self.margins = [sum(self.sizes(a.dim) for a in node.axes) // 2 for node in self.nodes]
        self._params = [node.id for node in self.program.nodes if isinstance(node.op, Param)]
        self._readers = readers(self.nodes)
        self.pieces = pieces(self.program)
        if self.regions.of:
            self.pieces = with_parts(self.pieces, self.regions.of, range(len(self.program.nodes), len(self.nodes)))
        self._begun: dict[Hashable, list[Terms]] = {}
        self.stops: Container[int] = ()
        self.restart()
        above = lifted([parameters[n] for n, o in self.optimizers.items() if o.turns], self.sizes)
        self.margins = [margin + above for margin in self.margins]

    def restart(self) -> None:
        """Back to initialisation: no terms, no steps taken."""
        self.clear()
        self.untrain()

    def untrain(self) -> None:
        """No steps taken: nothing has changed since initialisation."""
        self.change = [()] * len(self.nodes)
        self.moved: dict[str, Terms] = {}  # parameter -> terms of its change so far
        self.joining = False  # whether a sweep keeps the terms of the one before (see `settle`)
        self.keeping = False  # whether it does so where an inverse norm has fallen

    def clear(self) -> None:
        """No node has any terms, but for initial values that are known; all are stale."""
        count = len(self.nodes)
        known = self._begun.get(self._starts())
        self.initial, self.change = [()] * count if known is None else known.copy(), [()] * count
        self.stale = bytearray([BOTH if known is None else CHANGE]) * count
        self._marked = {} if known is None else dict(self.exponents.M)  # the multipliers as they were last

    def keep_initial(self) -> None:
        """The initial values are all settled: while the exponents are those of now, they need not be found again."""
        self._begun = {self._starts(): self.initial.copy()}

    def _starts(self) -> Hashable:
        return tuple(self.exponents.A.items()), tuple(self.exponents.M.items())

    # --- sizes of scalars and parameters -------------------------------------------------------------

    def scalar_size(self, scale: Scale) -> int:
        """The packed exponent of a Scale's factor at the current multipliers."""
        fixed = self._fixed.get(id(scale))
        if fixed is None:
            fixed = self._fixed[id(scale)] = power_size(self.units, scale)
        for name in scale.scalar.unknowns:
            fixed += self.exponents.M[name]
        return fixed

    def unit_terms(self, parameter: Parameter) -> Terms:
        """The initial terms of W at size 0. For a vector that starts at zero: those of its later, aligned values."""
        known = self._units.get(parameter.name)
        if known is None:
            axes = self.sizes.growing(parameter.axes)
            joint = [self._together.get((parameter.name, k), 0) for k in range(len(axes))]
            mirrors = [STAYS if (parameter.name, axis) in self._gating else FLIPS for axis in axes]
            bit, layer = self.bits.get(parameter.name, 0), self.joint.get(parameter.name, 0)
            known = self._units[parameter.name] = (start(parameter, bit, joint, mirrors, layer),)
        return known

    def starts_at_zero(self, parameter: Parameter) -> bool:
        return parameter.init.kind == "zeros" or (parameter.init.kind == "constant" and parameter.init.value == 0)

    def parameter_terms(self, name: str) -> Terms:
        """The initial terms of W."""
        parameter = self.program.forward.parameters[name]
        if self.starts_at_zero(parameter):
            return ()
        size = -self.exponents.A[name]
        return tuple([(size, raw, grades) for _, raw, grades in self.unit_terms(parameter)])

    def update_terms(self, name: str, gradient: Terms) -> Terms:
        """The terms of the optimizer's step for a gradient, at C = 0."""
        parameter = self.program.forward.parameters[name]
        start = 0 if self.starts_at_zero(parameter) else -self.exponents.A[name]
        return step_of(self.optimizers[name], parameter, start, gradient, self.sizes)

    # --- sweeps -------------------------------------------------------------------------------------

    def sweep(self, count: int | None = None) -> bool:
        """Bring every stale node (of the first `count`) up to date once, in order; True if any node's terms moved."""
        self._mark()
        moved = False
        for k in range(len(self.stale) if count is None else count):
            if k in self.stops:
                self.visit(k)
            if self.stale[k]:
                moved |= self.evaluate(k)
        return moved

    def _mark(self) -> None:
        """What does not follow from other nodes is stale."""
        before, self._marked = self._marked, dict(self.exponents.M)
        moved = [name for name, value in self._marked.items() if before.get(name) != value]
        for k in (*self._params, *(k for name in moved for k in self._scaled[name])):
            self.stale[k] = BOTH

    def update(self, piece: Piece) -> bool:
        """Bring the stale nodes of a piece up to date once; True if any node's terms moved."""
        moved = False
        for k in piece.nodes:
            if self.stale[k]:
                moved |= self.evaluate(k)
        return moved

    def evaluate(self, k: int) -> bool:
        """Bring one node up to date, as far as it is stale; what reads it becomes so if its terms moved (then True)."""
        stale, self.stale[k] = self.stale[k], 0
        node, rule, initials, changes = self.nodes[k], self.rules[k], self.initial, self.change
        old_initial, old_change = initials[k], changes[k]
        if rule is None:
            if not isinstance(node.op, Param):
                return False
            initial, change = self.parameter_terms(node.op.name), self.moved.get(node.op.name, ())
        elif k in self._alike and self._reads_the_same(k):
            initial, change = initials[self._alike[k]], changes[self._alike[k]]
        else:
            inputs = [initials[a] for a in node.args]
            initial = old_initial
            if stale == BOTH:
                initial = leading(rule.initial(inputs), self.margins[k])
                if self.joining:
                    initial = leading(joined((), old_initial, initial), self.margins[k])
            moves = [changes[a] for a in node.args]
            change = leading(rule.change(inputs, moves), self.margins[k]) if any(moves) else ()
            if self.joining or (self.keeping and any(isinstance(d, Replaced) for d in moves)):
                change = leading(joined(initial, old_change, change), self.margins[k])
        moved = BOTH if initial != old_initial else CHANGE if change != old_change else 0
        if moved:
            initials[k], changes[k] = initial, change
            for reader in self._readers[k]:
                self.stale[reader] |= moved
        return bool(moved)

    def _reads_the_same(self, part: int) -> bool:
        """Whether a part is what its whole node is, as what it is made of is."""
        whole = self._alike[part]
        if self.joining or self.stale[whole]:
            return False
        if self.keeping and any(isinstance(self.change[a], Replaced) for a in self.nodes[part].args):
            return False
        read = zip(self.nodes[part].args, self.nodes[whole].args, strict=True)
        return all(self.initial[a] == self.initial[b] and self.change[a] == self.change[b] for a, b in read)

    def visit(self, node: int) -> None:
        """A hook for solving: called in each sweep before the nodes among `stops`."""

    def gradient(self, name: str, *, first: bool = False) -> Terms:
        """The terms of a parameter's gradient, after the last sweep; `first`: before any step."""

        def terms(node: int) -> Terms:
            return self.initial[node] if first else self.initial[node] + self.change[node]

        alone = [terms(part) for part in self.regions.found.get(name, ())]
        return lifted_alone(terms(self.program.grads[name]), alone)

    def made_of(self, name: str) -> list[tuple[Terms, Terms]]:
        """All that `gradient` reads."""
        parts = (self.program.grads[name], *self.regions.found.get(name, ()))
        return [(self.initial[k], self.change[k]) for k in parts]

    def gradients(self) -> Mapping[str, Terms]:
        """The terms of every parameter's gradient, after the last sweep."""
        return {name: self.gradient(name) for name in self.program.updates}

    def train(self, taken: int | None = None) -> bool:
        """Add this sweep's updates to the parameters' changes; True if any new term appeared. `taken`: how many steps
        were taken before (None: enough for every optimizer to have begun)."""
        moved = False
        gradients = self.whole.gradients(self) if self.whole is not None else self.gradients()
        for name in self.program.updates:
            if taken is not None and taken < self.optimizers[name].delay:
                continue
            step = self.update_terms(name, gradients[name])
            lr = self.exponents.C[name] - (self.whole.shift(self, name, gradients) if self.whole is not None else 0)
            old = self.moved.get(name, ())
            new = joined((), old, tuple([(size - lr, raw, grades) for size, raw, grades in step]))
            if new != old:
                self.moved[name] = new
                moved = True
        return moved

    def snapshot(self) -> Snapshot:
        count = len(self.program.nodes)
        return Snapshot(tuple(self.initial[:count]), tuple(self.change[:count]))

    def steps(self, count: int) -> list[Snapshot]:
        """Snapshots at steps 0 (initialisation) to `count`, from the beginning."""
        self.restart()
        self.settle()
        result = [self.snapshot()]
        for taken in range(count):
            self.train(taken)
            self.settle()
            result.append(self.snapshot())
        return result

    def settle(self) -> bool:
        """Bring all nodes up to date, those that layers make of each other until nothing moves; True if anything did.
        Raises NoPowerLawError if sizes grow from layer to layer, or those of a post-norm stream grow at all. Small
        terms may alternate for ever, where many of them are merged now in one way, now in another: after half of the
        sweeps, none is let go."""
        self._mark()
        moved = False
        for piece in self.pieces:
            for count in range(MAX_SWEEPS):
                self.joining = count > MAX_SWEEPS // 2
                if not self.update(piece):
                    break
                moved = True
                if not piece.circular:
                    break
            else:
                raise runaway(self.program, self.initial, self.sizes)
        self.joining = False
        require_unit_streams(self.program, self.initial, self.change)
        return moved

    def fixpoint(self) -> Snapshot:
        """What holds for every finite number of steps. Raises CalculusError if sizes keep growing."""
        if self.program.forward.loops:
            self.restart()
        else:  # no initial value is made of itself: what is not stale stands
            self.untrain()
        self.keeping = True
        self.settle()
        for _ in range(MAX_SWEEPS):
            if not self.train() or not self.settle():
                return self.snapshot()
        raise blow_up(self.program, self.initial, self.change)
