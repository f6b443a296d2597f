"""The rule of a contraction: the products of its operands' terms, and how their changes multiply."""

from __future__ import annotations

from tensorprog.calculus.carriers import Carriers
from tensorprog.calculus.multiply import ContractPlan, GramError
from tensorprog.calculus.normalising import inverse_rms, normalises, rescaled
from tensorprog.calculus.shared import UNIT, Rule, Sizes, contract_plan, linear, products, refuse
from tensorprog.calculus.terms import Term, Terms, reduce_terms
from tensorprog.graph import Contract, InvRms, Node, Program


def contraction(
    node: Node, op: Contract, args: list[Node], sizes: Sizes, program: Program, carriers: Carriers
) -> Rule:  # fmt: skip
    """The rule of a Contract node. Raises CalculusError from it where a random matrix meets itself."""
    plan = contract_plan(op, args, sizes, program.nodes)
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
        return [(min(size, 0), raw, grades) for size, raw, grades in found] if normalised else found

    def initial(t: list[Terms]) -> Terms:
        return reduce_terms(pairs(t[0], t[1], at_start))

    def change(t: list[Terms], d: list[Terms]) -> Terms:  # dx y0 + x0 dy + dx dy
        x, y, dx, dy = t[0], t[1], d[0], d[1]
        if not dy:
            return reduce_terms(pairs(dx, y)) if dx else ()
        return reduce_terms(pairs(x, dy) + pairs(dx, y) + pairs(dx, dy))

    for place, arg in enumerate(args):
        if isinstance(arg.op, InvRms):
            scale, _ = inverse_rms(program.nodes[arg.args[0]], arg.op.axes, sizes)
            return Rule(initial, rescaled(change, pairs, scale, place), arg.args)
    return Rule(initial, change)
