"""The rule of a contraction: the products of its operands' terms, and how their changes multiply."""

from __future__ import annotations

from tensorprog.calculus.affine import least
from tensorprog.calculus.carriers import Carriers
from tensorprog.calculus.multiply import ContractPlan, GramError
from tensorprog.calculus.normalising import normalises
from tensorprog.calculus.shared import UNIT, Rule, Sizes, contract_plan, linear, products, refuse
from tensorprog.calculus.terms import Replaced, Term, Terms, parts, reduce_terms
from tensorprog.graph import Contract, Node, Program


def contraction(
    node: Node, op: Contract, args: list[Node], sizes: Sizes, program: Program, carriers: Carriers,
    balance: tuple[bool, bool],
) -> Rule:  # fmt: skip
    """The rule of a Contract node. `balance`: of its operands (see balanced.py). Raises CalculusError from it where a
    random matrix meets itself."""
    plan = contract_plan(op, args, sizes, program.nodes, balance)
    if op.right is None:
        return linear(lambda t: reduce_terms(products(t[0], (UNIT,), plan)))

    at_start, normalised = carriers.at_start(plan, node), normalises(node, program)

    def pairs(x: Terms, y: Terms, plan: ContractPlan = plan) -> list[Term]:
        try:
            found = products(x, y, plan)
        except GramError:
            raise refuse(
                node,
                program.nodes,
                "it multiplies a random matrix with itself (a Gram matrix)",
                "multiply the matrix with a vector first, then again",
            ) from None
        return [(least(size, 0), raw, grades) for size, raw, grades in found] if normalised else found

    def initial(t: list[Terms]) -> Terms:
        return reduce_terms(pairs(t[0], t[1], at_start))

    def change(t: list[Terms], d: list[Terms]) -> Terms:  # dx y0 + x0 dy + dx dy
        (x, dx, lost_x), (y, dy, lost_y) = map(parts, t, d)
        gained = pairs(x, dy) + pairs(dx, y) + pairs(dx, dy) if dy else pairs(dx, y) if dx else []
        replaced = [c for c in d if isinstance(c, Replaced)]
        if not replaced:
            return reduce_terms(gained)
        lost = pairs(x, lost_y) + pairs(lost_x, y) + pairs(lost_x, lost_y)
        if not all(c.everywhere for c in replaced):
            return reduce_terms(gained + lost)
        return Replaced(reduce_terms(pairs(x, y)), reduce_terms(gained), reduce_terms(lost))

    return Rule(initial, change)
