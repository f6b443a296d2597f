"""Numbers behind sums of products with parameters, counted into the uses of these."""

from __future__ import annotations

from collections.abc import Mapping, Set

from tensorprog.graph import Add, Contract, Fold, Graph, Merge, Node, Param, Scalar, Scale, Split, Window, readers
from tensorprog.torch.lower.counted import ONE, Lead, power_of, rebuilt


def onto_uses(graph: Graph) -> tuple[Graph, dict[int, int]]:
    """(the graph in which a scalar behind a sum stands at its operands, if one of them is a product with a parameter,
    old node -> new node).

    `c (W x + b)` becomes `c (W x) + c b`: the scalar then belongs to the uses of both, as it does where nothing stands
    between. Nodes that are then a multiple of what they were have no new node.
    """
    read_by, kept = readers(graph.nodes), {k for _, k in graph.outputs}
    weights: set[int] = set()  # nodes made of parameters alone
    data: set[int] = set()  # of none
    for node in graph.nodes:
        if not isinstance(node.op, Param) and all(a in data for a in node.args):
            data.add(node.id)
        elif isinstance(node.op, Param) or all(a in weights for a in node.args):
            weights.add(node.id)
    wanted: dict[int, Scalar] = {}  # node -> the number that all that reads it multiplies it with
    scaled: dict[int, Scalar] = {}  # the sums that pass it on
    for node in reversed(graph.nodes):
        by = [graph.nodes[n] for n in read_by[node.id]]
        passed = {n.id for n in by if n.id in scaled and node.id in _summands(n, weights, data)}
        number, *others = {_number(n) or (scaled[n.id] if n.id in passed else Scalar()) for n in by} or {Scalar()}
        if number.powers and not others and node.id not in kept:
            wanted[node.id] = number
            if _summands(node, weights, data):
                scaled[node.id] = number
    for part in _connected(graph, scaled, weights, data):
        ends = {a for k in part for a in _summands(graph.nodes[k], weights, data)} - part
        if not all(_takes(graph.nodes[a], wanted, weights) for a in ends) or not any(
            _uses(graph.nodes[a], weights) for a in ends
        ):
            scaled = {k: number for k, number in scaled.items() if k not in part}
    if not scaled:
        return graph, {n.id: n.id for n in graph.nodes}
    leading = {k: Lead(frozenset(), ONE, dict.fromkeys(_summands(graph.nodes[k], weights, data), ONE)) for k in scaled}
    return rebuilt(graph, leading, scaled)


def _number(node: Node) -> Scalar | None:
    """The part that depends on the widths of a known number by which a node multiplies."""
    if not isinstance(node.op, Scale) or node.op.scalar.unknowns:
        return None
    found = power_of(node.op.scalar, ONE)
    return found if found.powers else None


def _connected(graph: Graph, scaled: Mapping[int, Scalar], weights: Set[int], data: Set[int]) -> list[set[int]]:
    """The sums that pass a number on, with those that they are operands of: all of them take it, or none."""
    parts: list[set[int]] = []
    for k in scaled:
        one = {k, *(a for a in _summands(graph.nodes[k], weights, data) if a in scaled)}
        met = [p for p in parts if p & one]
        parts = [p for p in parts if not p & one] + [one.union(*met)]
    return parts


def _takes(node: Node, wanted: Mapping[int, Scalar], weights: Set[int]) -> bool:
    """Whether a start or a multiplier makes up for the number at an operand."""
    if node.id in weights:
        return True
    if isinstance(node.op, Scale):
        return bool(node.op.scalar.unknowns) or (
            node.id in wanted and not power_of(node.op.scalar * wanted[node.id], ONE).powers
        )
    return node.id in wanted and isinstance(node.op, Contract) and any(a in weights for a in node.args)


def _summands(node: Node, weights: Set[int], data: Set[int]) -> tuple[int, ...]:
    """The operands of which a node is a sum, or a rearrangement, maybe with masks or positions; none of a weight."""
    if isinstance(node.op, Contract):
        linear = [a for a in node.args if a not in data]
        return tuple(linear) if len(linear) == 1 < len(node.args) and not weights & set(linear) else ()
    plain = isinstance(node.op, Scale) and not node.op.scalar.unknowns and not node.op.scalar.powers
    linear_in = plain or isinstance(node.op, Add | Split | Merge | Window | Fold)
    return node.args if node.id not in weights and linear_in else ()


def _uses(node: Node, weights: Set[int]) -> bool:
    """Whether a node is a product with a parameter, with a sum."""
    return isinstance(node.op, Contract) and bool(node.op.summed) and any(a in weights for a in node.args)
