"""Numbers behind sums of products with parameters, counted into the uses of these."""

from __future__ import annotations

from collections.abc import Set

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
    scaled: dict[int, Scalar] = {}
    for node in graph.nodes:
        if not isinstance(node.op, Param) and all(a in data for a in node.args):
            data.add(node.id)
        elif isinstance(node.op, Param) or all(a in weights for a in node.args):
            weights.add(node.id)
        if not isinstance(node.op, Scale) or node.op.scalar.unknowns or not power_of(node.op.scalar, ONE).powers:
            continue
        passed, ends, queue = set[int](), set[int](), [node.args[0]]
        while queue:
            k = queue.pop()
            if len(read_by[k]) > 1 or k in kept:
                continue
            if inner := _summands(graph.nodes[k], weights, data):
                passed.add(k)
                queue.extend(inner)
            else:
                ends.add(k)
        if any(_uses(graph.nodes[k], weights) for k in ends):
            scaled |= dict.fromkeys(passed, power_of(node.op.scalar, ONE))
    if not scaled:
        return graph, {n.id: n.id for n in graph.nodes}
    leading = {k: Lead(frozenset(), ONE, dict.fromkeys(_summands(graph.nodes[k], weights, data), ONE)) for k in scaled}
    return rebuilt(graph, leading, scaled)


def _summands(node: Node, weights: Set[int], data: Set[int]) -> tuple[int, ...]:
    """The operands of which a node is a sum, or a rearrangement, maybe with masks or positions; none of a weight."""
    if isinstance(node.op, Contract):
        linear = [a for a in node.args if a not in data]
        return tuple(linear) if len(linear) == 1 < len(node.args) and not weights & set(linear) else ()
    return node.args if node.id not in weights and isinstance(node.op, Add | Split | Merge | Window | Fold) else ()


def _uses(node: Node, weights: Set[int]) -> bool:
    """Whether a node is a product with a parameter, with a sum."""
    return isinstance(node.op, Contract) and bool(node.op.summed) and any(a in weights for a in node.args)
