"""The chain of rules that leads from a term back to inputs and parameters.

Nothing is recorded while solving. Each rule is replayed here on single terms, until one reproduces the term in
question; what it was replayed on is its explanation.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from tensorprog.calculus.explain import CHANGE, INITIAL, Explainer, Sums
from tensorprog.calculus.grades import Grade
from tensorprog.calculus.shared import UNIT, describe
from tensorprog.calculus.terms import Term, Terms
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

# What only moves entries about, and other kinds that have one rule.
_KINDS = {"Split": "an axis seen as several", "Merge": "several axes seen as one", "Window": "entries read by position",
          "Fold": "entries put at positions", "StopGrad": "the same, without its gradient",
          "SoftmaxGrad": "derivative of a softmax along a finite axis",
          "TopK": "the choice of the largest along a finite axis", "Loss": "the loss"}  # fmt: skip
Place = tuple[int, str, Term]  # a node, one of its two parts, a term of that part
Replay = tuple[list[Place], Sums]


class Chains(Explainer):
    """An explainer that follows terms back, too."""

    def gradient(self, param: str) -> list[str]:
        """Lines that lead from the largest term of a parameter's gradient back to the loss."""
        grad, snapshot = self.program.grads[param], self.solution.snapshot
        parts = ((INITIAL, snapshot.initial[grad]), (CHANGE, snapshot.change[grad]))
        places = [(part, term) for part, terms in parts for term in terms]
        return self.chain(grad, *max(places, key=lambda place: place[1][0])) if places else []

    def chain(self, node: int, part: str, target: Term, depth: int = 24) -> list[str]:
        """Lines that lead from `target`, a term of a part of node, back to inputs and parameters."""
        lines: list[str] = []
        here: Place | None = (node, part, target)
        shown: set[Place] = set()
        while here is not None and depth > 0 and here not in shown:
            shown.add(here)
            line, here = self._step(*here)
            if line and line not in lines[-1:]:  # one axis after the other is cut or moved
                lines.append(line)
                depth -= 1
        if here is not None and depth <= 0:
            lines.append("...")
        return lines

    def _step(self, k: int, part: str, target: Term) -> tuple[str, Place | None]:
        node = self.program.nodes[k]
        where = describe(node, self.program.nodes)
        head = f"{part} of `{where}` ~ {self.power(target[0])}, {self.grade_at(k, part, target)}"
        match node.op:
            case Input() | Const():
                return f"{head}: data or a constant", None
            case LossGrad():
                return f"{head}: the derivative of the loss is Theta(1)", None
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
        following = max(parents, key=self._interest)
        beside = [None if place is following else self.power(place[2][0]) for place in parents]
        rule = self._rule(node, sums, beside)
        backward = k >= len(self.program.forward.nodes)
        if isinstance(node.op, Scale | Add) and following[2] == target and (not node.name or backward):
            return "", following
        return f"{head}: {rule}", following

    def _interest(self, place: Place) -> tuple[bool, bool, bool]:
        """Which operand a chain follows: rather not a slope f'(x), rather a change, rather not a parameter."""
        op = self.program.nodes[place[0]].op
        return (not (isinstance(op, Map) and op.derivative), place[1] == CHANGE, not isinstance(op, Param))

    def _matching(self, k: int, grades: tuple[tuple[Grade, ...], ...]) -> Place | None:
        snapshot = self.solution.snapshot
        for part, terms in ((INITIAL, snapshot.initial[k]), (CHANGE, snapshot.change[k])):
            for term in terms:
                if term[2] in grades:
                    return (k, part, term)
        return None

    def _replay(self, node: Node, part: str, target: Term) -> Replay | None:
        """Single terms of the operands that the node's rule turns into a term like `target`."""
        snapshot = self.solution.snapshot
        options: list[list[Place]] = []
        for a in node.args:
            parts = [(INITIAL, snapshot.initial[a])] + ([(CHANGE, snapshot.change[a])] if part == CHANGE else [])
            options.append([(a, p, term) for p, terms in parts for term in terms])
        found = self._products if isinstance(node.op, Contract) else self._singles
        best: Replay | None = None
        for parents, sums, result in found(node, part, options):
            if target in result:
                return parents, sums
            if best is None and any(value[0] == target[0] for value in result):
                best = parents, sums
        return best

    def _products(self, node: Node, part: str, options: list[list[Place]]) -> Iterator[tuple[list[Place], Sums, Terms]]:
        for choice in product(*options):
            if part == CHANGE and all(p == INITIAL for _, p, _ in choice):
                continue
            y = choice[1][2] if len(choice) > 1 else UNIT
            found = self.contraction(node, choice[0][2], y, start=part == INITIAL)
            if found is not None:
                yield list(choice), found[1], (found[0],)

    def _singles(self, node: Node, part: str, options: list[list[Place]]) -> Iterator[tuple[list[Place], Sums, Terms]]:
        rule = self.solver.rules[node.id]
        assert rule is not None
        inputs = [self.solution.snapshot.initial[a] for a in node.args]
        nonlinear = isinstance(node.op, Map | Softmax | SoftmaxGrad | InvRms | TopK | LossGrad)
        for position, places in enumerate(options):
            for place in places:
                if place[1] != part:
                    continue
                single: list[Terms] = [()] * len(options)
                single[position] = (place[2],)
                if nonlinear and part == CHANGE:
                    yield [place], (), rule.change(inputs, single)
                elif nonlinear:
                    yield [place], (), rule.initial([one or whole for one, whole in zip(single, inputs, strict=True)])
                else:
                    yield [place], (), rule.initial(single)

    def _label(self, k: int) -> str:
        return describe(self.program.nodes[k], self.program.nodes)

    def _rule(self, node: Node, sums: Sums, beside: list[str | None]) -> str:
        """How the operands make the value. `beside`: the sizes of those that the chain does not follow."""
        match node.op:
            case Contract(_, right, _):
                names = " with ".join(f"`{self._label(a)}`" + (f" ~ {size}" if size else "")
                                      for a, size in zip(node.args, beside, strict=True))  # fmt: skip
                if sums:
                    return f"contraction of {names}; {'; '.join(map(str, sums))}"
                kind = "product" if right is not None else "sum or transposition"
                return f"{kind} of {names}, nothing that grows is summed"
            case Map(fn, order):
                return f"{fn}{chr(39) * order} of `{self._label(node.args[0])}`, entry by entry"
            case Add():
                return "the largest term of a sum"
            case Scale():
                return f"times a scalar of size {self.power(self.solver.scalar_size(node.op))}"
            case Softmax():
                return "softmax along a finite axis"
            case InvRms():
                return "one over the root mean square"
            case _:
                kind = type(node.op).__name__
                return _KINDS.get(kind, kind.lower())
