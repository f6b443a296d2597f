"""What piecewise functions of products are far from zero, entry by entry: `relu(z + 5) - relu(z - 5)` is nothing, and
neither is `z` where it lies between two numbers."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from fractions import Fraction
from functools import cache

from tensorprog.functions import BUILTIN
from tensorprog.graph import Add, Const, Contract, Graph, Map, Merge, Node, Scalar, Scale, Split, StopGrad, Window

End = Fraction | None  # None: of a step whose argument has no leading part, so that numbers decide
Both = tuple[End, End]  # far above zero and far below it
Ends = Mapping[int, Both]  # a sum of functions of some values (bases): per power of the size of each, both ends
ALONE: Both = (Fraction(1), Fraction(-1))
NOTHING: Both = (Fraction(0), Fraction(0))
NUMBER = -1  # in place of a base: a number


def ends_of(node: Node, graph: Graph, found: Mapping[int, Ends], bases: dict[Hashable, int]) -> Ends:
    """The ends of a node, by those of the operands that it follows (`found`). Adds to the bases."""

    def base(*what: Hashable) -> int:
        return bases.setdefault(what, len(bases))

    def whole(a: int) -> Hashable:
        """An operand as a part of a new base: equal for equal ends."""
        return frozenset(found[a].items()) if a in found else a

    alike = all(graph.nodes[a].axes == node.axes for a in node.args)
    match node.op:
        case Const(value):
            return {NUMBER: (Fraction(value), Fraction(value))}
        case Add(places):
            total: dict[int, Both] = {}
            for a, place in zip(node.args, places, strict=True):
                there = graph.nodes[a].axes == node.axes and place == tuple(range(len(place)))
                for k, both in found.get(a, {}).items():
                    k = k if there or k == NUMBER else base(place, node.axes, k)
                    total[k] = _plus(both, total.get(k, NOTHING))
            if len(total) == 2 and NUMBER in total:
                number, (k,) = total.pop(NUMBER), total
                total[k] = _plus(number, total[k])
            return {k: both for k, both in total.items() if both != NOTHING}
        case Map(fn, derivative):
            (k, both), *others = found[node.args[0]].items() or [(NUMBER, NOTHING)]
            if others:
                k, both = base(whole(node.args[0])), ALONE
            return {k: (_at(fn, derivative, both[0]), _at(fn, derivative, both[1]))}
        case StopGrad() if isinstance(step := graph.nodes[node.args[0]].op, Map) and step.derivative and found:
            return found[node.args[0]]  # a step has no derivative anyway
        case Split() | Merge() | Window() if found:
            return {k if k == NUMBER else base(node.op, node.axes, k): both for k, both in found[node.args[0]].items()}
        case Scale(scalar) if found and not scalar.powers and not scalar.unknowns:
            return {k: _times(both, _number(scalar)) for k, both in found[node.args[0]].items()}
        case Scale(scalar) if scalar.unknowns:  # a product, or its negative, and their multiplier
            (inner,) = node.args
            while isinstance(op := graph.nodes[inner].op, Scale) and not op.scalar.powers and not op.scalar.unknowns:
                scalar, (inner,) = scalar * op.scalar, graph.nodes[inner].args
            return {base(scalar.unknowns, inner): _times(ALONE, _number(scalar))}
        case Contract(left, right, out) if left == right == out and alike and found.keys() == set(node.args):
            one, other = (found[a] for a in node.args)
            keys = {*one, *other} - {NUMBER}
            if len(one) == len(other) == 1 and len(keys) <= 1:
                return {next(iter(keys), NUMBER): _times(*one.values(), *other.values())}
    if any(fades(found[a]) for a in node.args if a in found):
        return {}
    return {base(node.op, node.axes, *map(whole, node.args)): ALONE}


def _number(scalar: Scalar) -> Both:
    return scalar.coefficient, scalar.coefficient


def fades(ends: Ends) -> bool:
    """Whether nothing is left far from zero, as far as is known."""
    return not any(any(both) for both in ends.values())


def _plus(a: Both, b: Both) -> Both:
    up, down = (None if x is None or y is None else x + y for x, y in zip(a, b, strict=True))
    return up, down


def _times(a: Both, b: Both) -> Both:
    up, down = (Fraction(0) if 0 in (x, y) else None if x is None or y is None else x * y
                for x, y in zip(a, b, strict=True))  # fmt: skip
    return up, down


@cache
def _at(fn: str, derivative: int, x: End) -> End:
    """The value of a homogeneous function, exactly."""
    from tensorprog.facts import Z, parse

    if x is None or (x == 0 and BUILTIN[fn].facts[derivative].degree == 0):
        return None
    value = parse(BUILTIN[fn].formula).diff(Z, derivative).subs(Z, x)
    return Fraction(int(value.p), int(value.q))
