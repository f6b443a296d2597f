"""Assumed alignment: how a sum over a growing axis with a parameter grows is stated instead of derived.

At every contraction of a parameter W with some x, the three parts of the change,

    dW x (alpha)    W dx (omega)    dW dx (u)

grow like n to the stated exponent for every axis of size n that is summed: 1 if fully aligned, 1/2 if not at all. As
in the paper, gradients keep the size that they have at initialisation. Everything else is derived.

Source: K. Everett et al. 2024, Scaling Exponents Across Parameterizations and Optimizers (arXiv:2407.05872).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from tensorprog.calculus.analysis import largest
from tensorprog.calculus.explain import Explainer
from tensorprog.calculus.exponents import Snapshot
from tensorprog.calculus.multiply import ContractPlan, multiply
from tensorprog.calculus.shared import Change, Rule, contract_plan, describe
from tensorprog.calculus.solve import Solution
from tensorprog.calculus.terms import Term, Terms, reduce_terms
from tensorprog.calculus.uses import Occurrence
from tensorprog.errors import TensorProgError
from tensorprog.graph import Contract
from tensorprog.powers import read_number
from tensorprog.programme.trajectory import Trainer


@dataclass(frozen=True, slots=True)
class Alignment:
    """Exponents per summed growing axis: of dW with x, of W with dx, of dW with dx."""

    alpha: Fraction
    omega: Fraction
    u: Fraction

    def __str__(self) -> str:
        return f"alpha {self.alpha}, omega {self.omega}, u {self.u}"


_HALF = Fraction(1, 2)
ALIGNMENTS = {
    "full": Alignment(Fraction(1), _HALF, Fraction(1)),  # omega as in the paper's tables
    "none": Alignment(_HALF, _HALF, _HALF),
}


def read_alignment(text: str) -> Alignment | None:
    """`derived` (None), `full`, `none`, or three numbers from 1/2 to 1. Raises TensorProgError for anything else."""
    if text == "derived":
        return None
    if text in ALIGNMENTS:
        return ALIGNMENTS[text]
    numbers = [read_number(part) for part in text.split(",")]
    exponents = [e for e in numbers if e is not None and _HALF <= e <= 1]
    if len(numbers) != 3 or exponents != numbers:
        raise TensorProgError(f"`{text}` is no alignment", fix="derived, full, none, or alpha,omega,u such as 1,1/2,1",
                              why="it gives exponents of the sums in dW x, W dx and dW dx")  # fmt: skip
    return Alignment(*exponents)


@dataclass
class AlignedTrainer(Trainer):
    """A trainer in which the alignment with parameters is assumed."""

    alignment: Alignment = field(default=ALIGNMENTS["full"])

    def __post_init__(self) -> None:
        super().__post_init__()
        for occurrence in self.uses:
            plan = plan_of(self, occurrence)
            old = self.rules[occurrence.node]
            if plan is not None and plan.summed and old is not None:
                self.rules[occurrence.node] = Rule(old.initial, self._change(plan, occurrence.position))

    def _change(self, plan: ContractPlan, position: int) -> Change:
        a = self.alignment

        def change(t: list[Terms], d: list[Terms]) -> Terms:
            (w, dw), (x, dx) = (t[position], d[position]), (t[1 - position], d[1 - position])
            parts = ((dw, x, a.alpha), (w, dx, a.omega), (dw, dx, a.u))
            return reduce_terms([term for part in parts for term in aligned(*part, plan, position)])

        return change

    def moving(self, occurrence: Occurrence, moved: Terms) -> int | None:
        return self._value(occurrence, moved, self.alignment.alpha, self.alignment.u)

    def starting(self, occurrence: Occurrence) -> int | None:
        unit = self.unit_terms(self.program.forward.parameters[occurrence.param])
        return self._value(occurrence, unit, None, self.alignment.omega)

    def _value(self, occurrence: Occurrence, weight: Terms, start: Fraction | None, change: Fraction) -> int | None:
        """The size of a use's value, with these alignments of W with the start (None: derived) and the change of x."""
        plan, node = plan_of(self, occurrence), self.program.nodes[occurrence.node]
        rule = self.rules[occurrence.node]
        if plan is None or not plan.summed or rule is None:
            return self.used(occurrence, weight)
        operand, other = self.through(occurrence, weight), node.args[1 - occurrence.position]
        x, dx = self.initial[other], self.change[other]
        if start is None:
            found = list(rule.initial([operand, x] if occurrence.position == 0 else [x, operand]))
        else:
            found = aligned(operand, x, start, plan, occurrence.position)
        size = largest(tuple(found + aligned(operand, dx, change, plan, occurrence.position)))
        return None if size is None else size + self.tail_size(occurrence)

    def gradients(self) -> dict[str, Terms]:
        """Of their initial size (of a later one only where that is zero)."""
        nodes = {name: self.program.nodes[node].args[0] for name, node in self.program.updates.items()}
        return {name: self.initial[k] or self.change[k] for name, k in nodes.items()}


def aligned(weight: Terms, x: Terms, exponent: Fraction, plan: ContractPlan, position: int) -> list[Term]:
    """Products of terms of a parameter (operand `position`) and of x, graded as derived, of sizes as assumed."""
    shift = sum(int(exponent * s.full) for s in plan.summed)
    found = []
    for w in weight:
        for y in x:
            for _, raw, grades in multiply(*((w, y) if position == 0 else (y, w)), plan):
                found.append((w[0] + y[0] + shift, raw, grades))
    return found


def plan_of(trainer: Trainer, occurrence: Occurrence) -> ContractPlan | None:
    """What a use of a parameter sums; None if it is not contracted with anything."""
    node = trainer.program.nodes[occurrence.node]
    if not isinstance(node.op, Contract) or node.op.right is None:
        return None
    return contract_plan(node.op, [trainer.program.nodes[a] for a in node.args], trainer.sizes, trainer.program.nodes)


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A part of the change of `tensor` whose alignment is assumed to be one thing and derived to be another."""

    tensor: str
    line: int
    part: str  # "alpha", "omega" or "u"
    param: str
    other: str
    assumed: Fraction
    derived: Fraction
    because: str


def disagreements(trainer: Trainer, snapshot: Snapshot, alignment: Alignment) -> tuple[Disagreement, ...]:
    """Where the derived alignment differs from the assumed one, in graph order, and why. `trainer` has run to
    `snapshot` with derived alignment."""
    explainer = Explainer(Solution(trainer, trainer.exponents, snapshot))
    nodes = trainer.program.nodes
    assumed = {"alpha": alignment.alpha, "omega": alignment.omega, "u": alignment.u}
    found = []
    for occurrence in trainer.uses:
        plan, node = plan_of(trainer, occurrence), nodes[occurrence.node]
        full = sum(s.full for s in plan.summed) if plan is not None else 0
        if plan is None or not full:
            continue
        weight, other = node.args[occurrence.position], node.args[1 - occurrence.position]
        operands: Mapping[str, tuple[Terms, Terms]] = {
            "alpha": (snapshot.change[weight], snapshot.initial[other]),
            "omega": (snapshot.initial[weight], snapshot.change[other]),
            "u": (snapshot.change[weight], snapshot.change[other]),
        }
        for part, (w_terms, x_terms) in operands.items():
            pairs = [(w, x) if occurrence.position == 0 else (x, w) for w in w_terms for x in x_terms]
            products = [(product[0], pair) for pair in pairs for product in multiply(*pair, plan)]
            if not products:
                continue
            size, pair = max(products, key=lambda found: found[0])
            derived = Fraction(size - (largest(w_terms) or 0) - (largest(x_terms) or 0), full)
            if derived != assumed[part]:
                _, sums = explainer.contraction(node, *pair) or (None, ())
                because = "; ".join(s.because for s in sums)
                found.append(Disagreement(describe(node, nodes), node.span.line, part, occurrence.param,
                                          describe(nodes[other], nodes), assumed[part], derived, because))  # fmt: skip
    return tuple(found)
