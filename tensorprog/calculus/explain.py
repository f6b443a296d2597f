"""Why a number is what it is: the binding use of a parameter, and the laws of the sums in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

from tensorprog.calculus.analysis import largest
from tensorprog.calculus.carriers import Carriers
from tensorprog.calculus.grades import EVEN, FLIPS, NOTHING, depends_on, grade_product
from tensorprog.calculus.multiply import Summed, multiply
from tensorprog.calculus.shared import contract_plan
from tensorprog.calculus.solve import Solution
from tensorprog.calculus.terms import Term, Terms
from tensorprog.calculus.uses import Occurrence
from tensorprog.graph import Contract, Node

INITIAL, CHANGE = "initial value", "change"


@dataclass(frozen=True, slots=True)
class Sum:
    """One growing axis that a contraction sums: its index name, its size, the law that rules the sum, and why."""

    index: str
    size: str
    aligned: bool
    because: str

    def __str__(self) -> str:
        law = "aligned, law of large numbers" if self.aligned else "zero mean, central limit theorem"
        return f"the sum over {self.index} ({self.size} terms) is {law}: {self.because}"


Sums = tuple[Sum, ...]


@dataclass(frozen=True, slots=True)
class Before:
    """A product of a parameter with others at `node`, which is still a weight: with `part` of the operand `other`."""

    node: Node
    other: Node
    part: str
    sums: Sums


@dataclass(frozen=True, slots=True)
class Binding:
    """The use of a parameter that fixes a number: at `node`, with the term `term` of operand `other` (None if the
    parameter is not contracted). `part`: of which part of the operand; `gain`: size of the result for W at size 0.
    `behind`: how much of the gain is due to multipliers behind the use; `layers`: to what all layers of a loop do
    together. `before`: the products on the way to the use that sum over growing axes, with other parameters alone."""

    occurrence: Occurrence
    node: Node
    other: Node | None
    part: str
    term: Term | None
    sums: Sums
    gain: int
    behind: int
    layers: int = 0
    before: tuple[Before, ...] = ()

    @property
    def law(self) -> tuple[Sums, str]:
        """All sums, and of which part of the other factors."""
        sums = tuple(s for product in self.before for s in product.sums) + self.sums
        return sums, self.before[-1].part if self.before and not self.sums else self.part


class Explainer:
    """Explanations for one solution."""

    def __init__(self, solution: Solution) -> None:
        self.solution = solution
        self.solver = solution.solver
        self.program = self.solver.program
        self.units = self.solver.units
        self.names = {bit: name for name, bit in self.solver.bits.items()}
        together: dict[int, list[str]] = {}
        for name, bits in self.solver.joint.items():
            for bit in (1 << k for k in range(bits.bit_length()) if bits >> k & 1):
                together.setdefault(bit, []).append(name)
        self.names |= {bit: " with ".join(names) for bit, names in together.items()}
        for name, bit in self.solver.bits.items():
            for axis in reversed(self.program.forward.parameters[name].layers):
                span = self.solver.sizes.loops[axis.loop].span
                for k, where in enumerate(("earlier layers", "later layers", "all layers"), 1):
                    self.names[bit << k * span] = f"{name} ({where})"
                bit <<= 3 * span

    # --- bindings -----------------------------------------------------------------------------------

    def _binding(self, uses: Iterable[Occurrence], weight: Terms, *, update: bool) -> Binding | None:
        """The most demanding of some uses of a parameter when its terms are `weight`: an update's or its start's."""
        best: Binding | None = None
        for occurrence in uses:
            layers = self.solver.share(occurrence) if update else self._summed(occurrence, weight)
            taken = 0 if update or occurrence.multiplier is None else self.solver.exponents.M[occurrence.multiplier]
            for candidate in self._candidates(occurrence, weight):
                gain = candidate.gain + layers - taken
                if best is None or gain > best.gain:
                    best = replace(candidate, gain=gain, behind=candidate.behind - taken, layers=layers)
        return replace(best, before=tuple(self._before(best.occurrence, weight))) if best is not None else None

    def _before(self, occurrence: Occurrence, weight: Terms) -> Iterator[Before]:
        """The products on the way to a use that sum over something that grows."""
        snapshot = self.solution.snapshot
        for k, (operand, at) in enumerate(pairwise(occurrence.chain), 1):
            node = self.program.nodes[at]
            if not isinstance(node.op, Contract) or node.op.right is None:
                continue
            first = node.args[0] == operand
            other = self.program.nodes[node.args[first]]
            carried = self.solver.through(replace(occurrence, chain=occurrence.chain[:k]), weight)
            products = [
                (found[0][0], part, found[1])
                for part, terms in ((INITIAL, snapshot.initial), (CHANGE, snapshot.change))
                for term in terms[other.id]
                for w in carried
                if (found := self.contraction(node, *((w, term) if first else (term, w)))) is not None
            ]
            if products and (largest_of := max(products, key=lambda product: product[0]))[2]:
                yield Before(node, other, *largest_of[1:])

    def _summed(self, occurrence: Occurrence, weight: Terms) -> int:
        """How much more the sum over all layers demands of a parameter's start than its use in one."""
        own, all_layers = self.solver.used(occurrence, weight), self.solver.demanded(occurrence, weight)
        return 0 if own is None or all_layers is None else all_layers - own

    def initial_binding(self, param: str) -> Binding | None:
        """What fixes the initial size."""
        uses = filter(self.solver.constrains, self.solver.uses_by_param(param))
        return self._binding(uses, self.solver.unit_terms(self.program.forward.parameters[param]), update=False)

    def update_binding(self, param: str) -> Binding | None:
        """What fixes the learning rate."""
        step = self.solver.step.get(param, ())
        return self._binding(self.solver.moves_at(param), step, update=True) if step else None

    def _candidates(self, occurrence: Occurrence, weight: Terms) -> Iterator[Binding]:
        node = self.program.nodes[occurrence.node]
        behind = self.solver.tail_size(occurrence) + self.solver.exponents.M.get(occurrence.use, 0)
        operand = self.solver.through(occurrence, weight)
        if not isinstance(node.op, Contract):
            size = largest(operand)
            if size is not None:
                yield Binding(occurrence, node, None, INITIAL, None, (), size + behind, behind)
            return
        other = self.program.nodes[node.args[1 - occurrence.position]]
        snapshot = self.solution.snapshot
        for part, terms in ((INITIAL, snapshot.initial), (CHANGE, snapshot.change)):
            for term in terms[other.id]:
                for w in operand:
                    pair = (w, term) if occurrence.position == 0 else (term, w)
                    if (found := self.contraction(node, *pair)) is None:
                        continue
                    value, sums = found
                    yield Binding(occurrence, node, other, part, term, sums, value[0] + behind, behind)

    def contraction(self, node: Node, x: Term, y: Term, *, start: bool = False) -> tuple[Term, Sums] | None:
        """The product of two terms at a Contract node, and which law each of its growing sums follows; None if it is
        exactly zero. `start`: whether both are terms of initial values."""
        op = node.op
        assert isinstance(op, Contract)
        args = [self.program.nodes[a] for a in node.args]
        plan = contract_plan(op, args, self.solver.sizes, self.program.nodes)
        if start:
            plan = Carriers(self.program, self.solver.sizes).at_start(plan, node)
        value = next(iter(multiply(x, y, plan)), None)
        if value is None:
            return None
        aligned = value[0] - x[0] - y[0] == sum(s.full for s in plan.summed)
        labels: dict[int, tuple[str, str]] = {}
        kept = {axis.label for axis in node.axes}  # `W[j,k] s[k]` may meet an s that was made with the label j
        for indices, arg in zip((op.left, op.right or ()), args, strict=False):
            for i, axis in zip(indices, arg.axes, strict=True):
                if self.solver.sizes(axis.dim) and i not in op.out and (i not in labels or labels[i][0] in kept):
                    labels[i] = (axis.label or "its axis", str(axis.dim))
        return value, tuple(
            Sum(*label, aligned, self._because(x, y, summed, aligned=aligned))
            for label, summed in zip(labels.values(), plan.summed, strict=True)
        )

    def _because(self, x: Term, y: Term, summed: Summed, *, aligned: bool) -> str:
        """The hypothesis of the law: what makes the summand odd, or what keeps anything from doing so."""
        left, right = (
            ((raw, 0, 0), NOTHING, FLIPS) if raw else grades[k] if k >= 0 else EVEN
            for (_, raw, grades), k in ((x, summed.left), (y, summed.right))
        )
        product = grade_product(left, right)
        both = depends_on(left) & depends_on(right) & sum(self.names)
        if aligned:
            return f"both factors depend on {self._names(both)}" if both else "no random parameter makes it odd"
        whole, own, _ = product
        if whole[0]:
            return f"odd in {self._names(whole[0])}"
        if x[1] or y[1]:
            return f"{self._names(x[1] | y[1])} is a random matrix, whose norm allows no more"
        if own[0]:
            return f"odd in each coordinate's own slice of {self._names(self._owners(own[0]))}"
        if whole[2] or own[2]:
            return "every piece is odd in some parameter"
        if summed.cancels(x[2], y[2]):
            return "one factor sums to zero, and the other knows nothing of its entries"
        return "entries flip when a coordinate is reflected"

    # --- words --------------------------------------------------------------------------------------

    def power(self, size: int | None) -> str:
        return "0" if size is None else str(self.units.unpack(size))

    def grade(self, term: Term) -> str:
        """What a term is random in, in words."""
        if term[1]:
            return f"a Gaussian matrix ({self._names(term[1])})"
        odd = 0
        free = 0
        for (flips, unknown, _), _, _ in term[2]:
            odd |= flips
            free |= unknown if not flips else 0
        if odd:
            return f"odd in {self._names(odd)}"
        return "no sign symmetry left" if free else "even in every random parameter"

    def grade_at(self, node: int, part: str, term: Term) -> str:
        """The same of one term of a node; it may be one of several that are as large."""
        terms = (self.solution.snapshot.initial if part == INITIAL else self.solution.snapshot.change)[node]
        alike = sum(size == term[0] for size, _, _ in terms) > 1
        return ("in part " if alike else "") + self.grade(term)

    def _owners(self, slices: int) -> int:
        """The parameters that slices belong to: a slice's bit is its parameter's or one of the next two."""
        found = 0
        for bit in self.names:
            found |= bit if slices & bit else 0
            slices &= ~bit
        for bit in self.names:
            found |= bit if slices & (bit << 1 | bit << 2) else 0
        return found

    def _names(self, mask: int) -> str:
        found = [name for bit, name in self.names.items() if bit & mask]
        return ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
