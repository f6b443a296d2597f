"""Fixed scalars that depend on the width, moved to where they belong."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from tensorprog.exponents import Power
from tensorprog.graph import Contract, Graph, Node, Scalar, Scale, readers


def behind_products(graph: Graph) -> tuple[Graph, dict[int, int]]:
    """(the graph in which a scalar that only products read stands behind these products, old node -> new node).

    `W (c x)` becomes `c (W x)`: the scalar then belongs to W's use, not to whatever made x, such as the gain of a norm
    whose start nobody would want to scale. A scalar that is removed has no new node.
    """
    consumers = readers(graph.nodes)
    kept = {k for _, k in graph.outputs}
    moved: dict[int, Scalar] = {}
    for node in graph.nodes:
        if (
            isinstance(node.op, Scale)
            and node.op.scalar.powers
            and not node.op.scalar.unknowns
            and node.id not in kept
            and all(sums(n, graph) and len(n.args) > 1 for n in map(graph.nodes.__getitem__, consumers[node.id]))
        ):
            moved[node.id] = node.op.scalar
    if not moved:
        return graph, {n.id: n.id for n in graph.nodes}
    nodes: list[Node] = []
    place: dict[int, int] = {}
    for old in graph.nodes:
        if old.id in moved:
            place[old.id] = place[old.args[0]]
            continue
        args = tuple(place[a] for a in old.args)
        outer = Scalar()
        for a in old.args:
            outer = outer * moved.get(a, Scalar())
        nodes.append(replace(old, id=len(nodes), args=args, name=old.name if outer == Scalar() else ""))
        if outer != Scalar():
            nodes.append(Node(len(nodes), Scale(outer), (len(nodes) - 1,), old.axes, old.name, old.span))
        place[old.id] = len(nodes) - 1
    new = replace(graph, nodes=tuple(nodes), loss=place[graph.loss],
                  outputs=tuple((label, place[k]) for label, k in graph.outputs))  # fmt: skip
    return new, {old: new_id for old, new_id in place.items() if old not in moved}


def scalar_power(scalar: Scalar) -> Power:
    """How a number scales with the widths."""
    total = Power()
    for dim, power in scalar.powers:
        total = total * Power.of({s: Fraction(p) for s, p in dim.growth}) ** power
    return total


def sums(node: Node, graph: Graph) -> bool:
    """Whether a node sums over an axis that grows."""
    op = node.op
    if not isinstance(op, Contract):
        return False
    sizes = {i: axis.dim for ix, a in zip((op.left, op.right or ()), node.args, strict=False)
             for i, axis in zip(ix, graph.nodes[a].axes, strict=True)}  # fmt: skip
    return any(dim.grows for i, dim in sizes.items() if i not in op.out)
