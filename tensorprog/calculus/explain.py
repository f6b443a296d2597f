"""Why a number is what it is: the binding use of a parameter, and the chain of rules that sizes its operand.

Nothing is recorded while solving. Each rule is replayed here on single terms, until one reproduces the term in
question; what it was replayed on is its explanation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from tensorprog.calculus.analysis import largest
from tensorprog.calculus.rules import UNIT, contract_plan, describe
from tensorprog.calculus.solve import Occurrence, Solution
from tensorprog.calculus.terms import Grade, Term, Terms, multiply
from tensorprog.graph import (
    Add,
    Const,
    Contract,
    Input,
    InvRms,
    LossGrad,
    Map,
    Node,
    Param,
    Scale,
    Softmax,
    SoftmaxGrad,
    TopK,
)

INITIAL, CHANGE = "initial value", "change"


@dataclass(frozen=True, slots=True)
class Sum:
    """One growing axis that a contraction sums: its index name, its size, and the law that rules the sum."""

    index: str
    size: str
    aligned: bool

    def __str__(self) -> str:
        law = "aligned, law of large numbers" if self.aligned else "zero mean, central limit theorem"
        return f"the sum over {self.index} ({self.size} terms) is {law}"


@dataclass(frozen=True, slots=True)
class Binding:
    """The use of a parameter that fixes a number: at `node`, with the term `term` of operand `other` (None if the
    parameter is not contracted). `part`: of which part of the operand; `gain`: size of the result for W at size 0."""

    occurrence: Occurrence
    node: Node
    other: Node | None
    part: str
    term: Term | None
    sums: tuple[Sum, ...]
    gain: int


class Explainer:
    """Explanations for one solution."""

    def __init__(self, solution: Solution) -> None:
        self.solution = solution
        self.solver = solution.solver
        self.program = self.solver.program
        self.units = self.solver.units
        self.names = {bit: name for name, bit in self.solver.bits.items()}

    # --- bindings -----------------------------------------------------------------------------------

    def binding(self, param: str, weight: Terms) -> Binding | None:
        """The most demanding use of `param` when its terms are `weight`."""
        best: Binding | None = None
        for occurrence in self.solver.uses_by_param(param):
            for candidate in self._candidates(occurrence, weight):
                if best is None or candidate.gain > best.gain:
                    best = candidate
        return best

    def initial_binding(self, param: str) -> Binding | None:
        """What fixes the initial size."""
        return self.binding(param, self.solver.unit_terms(self.program.forward.parameters[param]))

    def update_binding(self, param: str) -> Binding | None:
        """What fixes the learning rate."""
        step = self.solver.step.get(param, ())
        return self.binding(param, step) if step else None

    def _candidates(self, occurrence: Occurrence, weight: Terms) -> Iterator[Binding]:
        node = self.program.nodes[occurrence.node]
        shift = self.solver.exponents.M.get(occurrence.use, 0)
        tail = sum(self.solver._tail_size(k) for k in occurrence.tail)
        operand = self.solver._through(occurrence, weight)
        if not isinstance(node.op, Contract):
            size = largest(operand)
            if size is not None:
                yield Binding(occurrence, node, None, INITIAL, None, (), size + tail + shift)
            return
        other = self.program.nodes[node.args[1 - occurrence.position]]
        snapshot = self.solution.snapshot
        for part, terms in ((INITIAL, snapshot.initial), (CHANGE, snapshot.change)):
            for term in terms[other.id]:
                for w in operand:
                    pair = (w, term) if occurrence.position == 0 else (term, w)
                    value, sums = self.contraction(node, *pair)
                    yield Binding(occurrence, node, other, part, term, sums, value[0] + tail + shift)

    def contraction(self, node: Node, x: Term, y: Term) -> tuple[Term, tuple[Sum, ...]]:
        """The product of two terms at a Contract node, and which law each of its growing sums follows."""
        op = node.op
        assert isinstance(op, Contract)
        args = [self.program.nodes[a] for a in node.args]
        plan = contract_plan(op, args, self.solver.sizes)
        value = multiply(x, y, plan)
        total = value[0] - x[0] - y[0]
        full = sum(s.full for s in plan.summed)
        labels: dict[int, tuple[str, str]] = {}
        for indices, arg in zip((op.left, op.right or ()), args, strict=False):
            for i, axis in zip(indices, arg.axes, strict=True):
                if self.solver.sizes(axis.dim) and i not in op.out:
                    labels[i] = (axis.label or "its axis", str(axis.dim))
        sums = tuple(Sum(label, size, total == full) for label, size in labels.values())
        return value, sums

    # --- chains -------------------------------------------------------------------------------------

    def power(self, size: int | None) -> str:
        return "0" if size is None else str(self.units.unpack(size))

    def grade(self, term: Term) -> str:
        """What a term is random in, in words."""
        if term[1]:
            return f"a Gaussian matrix ({self._names(term[1])})"
        odd = 0
        free = 0
        for g in term[2]:
            odd |= g[0]
            free |= g[1] if not g[0] else 0
        if odd:
            return f"odd in {self._names(odd)}"
        return "no sign symmetry left" if free else "even in every random parameter"

    def _names(self, mask: int) -> str:
        found = [name for bit, name in self.names.items() if bit & mask]
        return ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")

    def chain(self, node: int, part: str, target: Term, depth: int = 24) -> list[str]:
        """Lines that lead from `target`, a term of a part of node, back to inputs and parameters."""
        lines: list[str] = []
        here: tuple[int, str, Term] | None = (node, part, target)
        shown: set[tuple[int, str, Term]] = set()
        while here is not None and depth > 0 and here not in shown:
            shown.add(here)
            line, here = self._step(*here)
            if line:
                lines.append(line)
                depth -= 1
        if here is not None and depth <= 0:
            lines.append("...")
        return lines

    def _step(self, k: int, part: str, target: Term) -> tuple[str, tuple[int, str, Term] | None]:
        node = self.program.nodes[k]
        head = f"{part} of `{describe(node, self.program.nodes)}` ~ {self.power(target[0])}, {self.grade(target)}"
        match node.op:
            case Input() | Const():
                return f"{head}: data or a constant", None
            case Param(name):
                if part == INITIAL:
                    return f"{head}: its initialisation", None
                grad = self.program.grads[name]
                parent = self._matching(grad, (target[2],))
                optimizer = self.solver.optimizers[name].name
                return f"{head}: the steps of {optimizer} on `{name}`, graded like its gradient", parent
            case _:
                pass
        found = self._replay(node, part, target)
        if found is None:
            return head, None
        parents, sums = found
        rule = self._rule(node, sums)
        following = max(parents, key=lambda p: (p[1] == CHANGE, not isinstance(self.program.nodes[p[0]].op, Param)))
        if isinstance(node.op, Scale | Add) and not node.name and following[2] == target:
            return "", following
        return f"{head}: {rule}", following

    def _matching(self, k: int, grades: tuple[tuple[Grade, ...], ...]) -> tuple[int, str, Term] | None:
        snapshot = self.solution.snapshot
        for part, terms in ((INITIAL, snapshot.initial[k]), (CHANGE, snapshot.change[k])):
            for term in terms:
                if term[2] in grades:
                    return (k, part, term)
        return None

    def _replay(self, node: Node, part: str, target: Term) -> tuple[list[tuple[int, str, Term]], tuple[Sum, ...]] | None:
        """Single terms of the operands that the node's rule turns into a term like `target`."""
        rule = self.solver.rules[node.id]
        assert rule is not None
        snapshot = self.solution.snapshot
        options: list[list[tuple[int, str, Term]]] = []
        for a in node.args:
            parts = [(INITIAL, snapshot.initial[a])] + ([(CHANGE, snapshot.change[a])] if part == CHANGE else [])
            options.append([(a, p, term) for p, terms in parts for term in terms])
        best: tuple[list[tuple[int, str, Term]], tuple[Sum, ...]] | None = None
        if isinstance(node.op, Contract):
            for choice in product(*options):
                if part == CHANGE and all(p == INITIAL for _, p, _ in choice):
                    continue
                pair = [c[2] for c in choice] + ([UNIT] if len(choice) == 1 else [])
                value, sums = self.contraction(node, pair[0], pair[1])
                if value[0] == target[0] and (best is None or value[2] == target[2]):
                    best = (list(choice), sums)
                    if value[2] == target[2]:
                        return best
            return best
        nonlinear = isinstance(node.op, Map | Softmax | SoftmaxGrad | InvRms | TopK | LossGrad)
        for position, choices in enumerate(options):
            for choice in choices:
                single: list[Terms] = [()] * len(options)
                single[position] = (choice[2],)
                if nonlinear:
                    inputs = [snapshot.initial[a] for a in node.args]
                    if part == CHANGE and choice[1] == CHANGE:
                        result = rule.change(inputs, single)
                    elif part == INITIAL:
                        result = rule.initial([single[i] or inputs[i] for i in range(len(inputs))])
                    else:
                        continue
                elif choice[1] == part:
                    result = rule.initial(single)
                else:
                    continue
                if any(value[0] == target[0] for value in result) and (best is None or target in result):
                    best = ([choice], ())
                    if target in result:
                        return best
        return best

    def _rule(self, node: Node, sums: tuple[Sum, ...]) -> str:
        match node.op:
            case Contract(_, right, _):
                names = " with ".join(f"`{describe(self.program.nodes[a], self.program.nodes)}`" for a in node.args)
                if sums:
                    return f"contraction of {names}; {'; '.join(map(str, sums))}"
                return f"{'product' if right is not None else 'sum or transposition'} of {names}, nothing that grows is summed"
            case Map(fn, order):
                return f"{fn}{chr(39) * order} of `{describe(self.program.nodes[node.args[0]], self.program.nodes)}`, entry by entry"
            case Add():
                return "the largest term of a sum"
            case Scale():
                return f"times a scalar of size {self.power(self.solver.scalar_size(node.op))}"
            case Softmax():
                return "softmax along a finite axis"
            case InvRms():
                return "one over the root mean square"
            case LossGrad():
                return "the derivative of the loss is Theta(1)"
            case _:
                return type(node.op).__name__.lower()


def law(binding: Binding, nodes: tuple[Node, ...]) -> str:
    """One clause: what the binding use sums, and how that grows."""
    if binding.other is None:
        return f"`{describe(binding.node, nodes)}` takes it as it is"
    if not binding.sums:
        return f"`{describe(binding.node, nodes)}` sums nothing that grows"
    whose = f"the {binding.part} of `{describe(binding.other, nodes)}`"
    return f"`{describe(binding.node, nodes)}`: with {whose}, " + "; ".join(map(str, binding.sums))


__all__ = ["Binding", "Explainer", "law"]
