"""Norms of parts of different sizes: entries along an axis are not told apart, and have the size of the largest.

Where vectors are stacked (the states of a scan, a concatenation) and each is divided by its own norm, the inverse of a
small one is larger than that of the largest.
"""

from __future__ import annotations

from collections.abc import Sequence

from tensorprog.calculus.regions import regions_of_norms
from tensorprog.calculus.rules import parts_rules
from tensorprog.calculus.shared import Rule, Sizes, refuse
from tensorprog.calculus.terms import Terms, size_of
from tensorprog.graph import Program


def require_norms_of_equals(
    program: Program, initial: Sequence[Terms], rules: Sequence[Rule | None], sizes: Sizes
) -> None:
    """Raises CalculusError where parts of a norm's argument start at different sizes, each with a norm of its own.
    (Along layers, a part counts as all of what it is a part of.)"""
    nodes, regions = program.forward.nodes, regions_of_norms(program)
    terms = list(initial)
    for node, rule in zip(regions.nodes[len(terms) :], parts_rules(rules, regions, sizes), strict=True):
        args = [terms[a] if a < node.id else initial[regions.of[a]] for a in node.args]
        terms.append(rule.initial(args) if rule is not None else ())
    for norm, parts in regions.found.items():
        of = nodes[norm].args[0]
        apart = [size_of(initial[of]) - size_of(terms[part]) for part in parts if terms[part] and initial[of]]
        if any(by > 0 and sizes.units.unpack(by).degree for by in apart):
            raise refuse(
                nodes[norm], nodes, "what it divides by is put together of parts that start at different sizes, and "
                "the inverse of the smallest is larger than the calculus knows",
                "normalise the parts before they are put together",
            )  # fmt: skip
