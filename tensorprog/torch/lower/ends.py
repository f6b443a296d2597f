"""What homogeneous functions of products are far from zero, entry by entry: `relu(z + 5) - relu(z - 5)` is nothing."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Set
from fractions import Fraction
from functools import cache

from tensorprog.functions import BUILTIN
from tensorprog.graph import Add, Contract, Graph, Map, Node, Scale

Both = tuple[Fraction, Fraction]  # far above zero and far below it
Ends = Mapping[int, Both]  # a sum of functions of some values (bases): per power of the size of each, both ends
ALONE: Both = (Fraction(1), Fraction(-1))


def ends_of(
    node: Node, graph: Graph, known: Set[int], found: Mapping[int, Ends], bases: dict[Hashable, int]
) -> dict[int, Both]:
    """The ends of a node that follows these operands (`known`); empty where all cancel. Adds to the bases."""

    def base(*what: Hashable) -> int:
        return bases.setdefault(what, len(bases))

    def whole(a: int) -> Hashable:
        """An operand as a part of a new base: equal for equal ends."""
        return frozenset(found[a].items()) if a in found else a

    alike = all(graph.nodes[a].axes == node.axes for a in node.args)
    match node.op:
        case Add(places):
            total: dict[int, Both] = {}
            for a, place in zip(node.args, places, strict=True):
                for k, (up, down) in found[a].items() if a in known else ():
                    there = graph.nodes[a].axes == node.axes and place == tuple(range(len(place)))
                    k = k if there else base(place, node.axes, k)
                    more = total.get(k, (0, 0))
                    total[k] = (up + more[0], down + more[1])
        case Scale(scalar) if known and not scalar.powers and not scalar.unknowns:
            total = {k: (up * scalar.coefficient, down * scalar.coefficient)
                     for k, (up, down) in found[node.args[0]].items()}  # fmt: skip
        case Map(fn, derivative):
            (k, both), *others = found[node.args[0]].items()
            if others:
                k, both = base(whole(node.args[0])), ALONE
            total = {k: (_at(fn, derivative, both[0]), _at(fn, derivative, both[1]))}
        case Contract(left, right, out) if left == right == out and alike and known == set(node.args):
            one, other = (found[a] for a in node.args)
            total = {k: (a[0] * b[0], a[1] * b[1]) for (k, a), b in zip(one.items(), other.values(), strict=False)}
            if one.keys() != other.keys() or len(one) > 1:
                total = {base(node.op, whole(node.args[0]), whole(node.args[1])): ALONE}
        case _:
            total = {base(node.op, node.axes, *map(whole, node.args)): ALONE}
    return {k: both for k, both in total.items() if any(both)}


@cache
def _at(fn: str, derivative: int, x: Fraction) -> Fraction:
    """The value of a homogeneous function, exactly."""
    from tensorprog.facts import Z, parse

    value = parse(BUILTIN[fn].formula).diff(Z, derivative).subs(Z, x)
    return Fraction(int(value.p), int(value.q))
