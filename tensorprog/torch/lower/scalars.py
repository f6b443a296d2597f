"""Fixed scalars that depend on the width, moved to where they belong."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from tensorprog.dims import BATCH_SYMBOL
from tensorprog.graph import Add, Contract, Fold, Graph, Input, Merge, Node, Scalar, Scale, Split, Window


def behind_products(graph: Graph) -> tuple[Graph, dict[int, int]]:
    """(the graph in which a scalar that only products read stands behind these products, old node -> new node).

    `W (c x)` becomes `c (W x)`: the scalar then belongs to W's use, not to whatever made x, such as the gain of a norm
    whose start nobody would want to scale. A scalar that is removed has no new node.
    """
    consumers: list[list[Node]] = [[] for _ in graph.nodes]
    for node in graph.nodes:
        for a in node.args:
            consumers[a].append(node)
    kept = {k for _, k in graph.outputs}
    moved: dict[int, Scalar] = {}
    for node in graph.nodes:
        if (
            isinstance(node.op, Scale)
            and node.op.scalar.powers
            and not node.op.scalar.unknowns
            and node.id not in kept
            and all(_sums(n, graph) and len(n.args) > 1 for n in consumers[node.id])
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


def onto_products(graph: Graph) -> tuple[Graph, dict[int, int]]:
    """(the graph in which a scalar behind sums and gates of products of activations stands right behind these products,
    old node -> new node).

    `c (m q k + b)` becomes `m (c q k) + c b`: the multiplier m then counts c in, as it does where nothing stands
    between. Nodes that are then c times what they were have no new node.
    """
    consumers: list[list[int]] = [[] for _ in graph.nodes]
    for node in graph.nodes:
        for a in dict.fromkeys(node.args):
            consumers[a].append(node.id)
    kept = {k for _, k in graph.outputs}
    leading = _leading(graph)

    def region(scale: Node) -> dict[int, Collection[int]] | None:
        """The nodes that are to be scaled -> which of their operands are (those of a multiplier's node: none); None
        where something else reads one of them."""
        found: dict[int, Collection[int]] = {}
        wanted = set(scale.args)
        for k in range(scale.args[0], -1, -1):
            if k in wanted and k in leading:
                if k in kept or not all(c in found or c == scale.id for c in consumers[k]):
                    return None
                found[k] = leading[k]
                wanted |= {*leading[k]}
        return found

    scaled: dict[int, Scalar] = {}  # node -> what it is multiplied with
    operands: dict[int, Collection[int]] = {}
    gone: set[int] = set()
    for node in graph.nodes:
        if isinstance(node.op, Scale) and node.op.scalar.powers and not node.op.scalar.unknowns:
            found = region(node)
            if found and not scaled.keys() & found.keys():
                scaled |= dict.fromkeys(found, node.op.scalar)
                operands |= found
                gone.add(node.id)
    if not gone:
        return graph, {n.id: n.id for n in graph.nodes}
    nodes: list[Node] = []
    place: dict[int, int] = {}

    def times(a: int, scalar: Scalar) -> int:
        nodes.append(Node(len(nodes), Scale(scalar), (place[a],), graph.nodes[a].axes, "", graph.nodes[a].span))
        return len(nodes) - 1

    for old in graph.nodes:
        if old.id in gone:
            place[old.id] = place[old.args[0]]
            nodes[place[old.id]] = replace(nodes[place[old.id]], name=old.name)
            continue
        c = scaled.get(old.id)
        if c is None:
            args = [place[a] for a in old.args]
        elif not operands[old.id]:  # a multiplier's
            args = [times(old.args[0], c)]
        else:
            args = [times(a, c) if a in operands[old.id] and a not in scaled else place[a] for a in old.args]
        nodes.append(replace(old, id=len(nodes), args=tuple(args), name=old.name if c is None else ""))
        place[old.id] = len(nodes) - 1
    new = replace(graph, nodes=tuple(nodes), loss=place[graph.loss],
                  outputs=tuple((label, place[k]) for label, k in graph.outputs))  # fmt: skip
    return new, {old: new_id for old, new_id in place.items() if old not in scaled}


def _leading(graph: Graph) -> dict[int, Collection[int]]:
    """The nodes that are c times what they are if the multipliers of products are -> their operands that must be."""
    weights: set[int] = set()  # made of no activations
    found: dict[int, Collection[int]] = {}
    for node in graph.nodes:
        data = isinstance(node.op, Input) and any(BATCH_SYMBOL in axis.dim.symbols for axis in node.axes)
        if not data and all(a in weights for a in node.args):
            weights.add(node.id)
            continue
        first = [a for a in node.args if a in found][:1]
        match node.op:
            case Scale(scalar) if any(graph.unknowns[u].kind == "multiplier" for u in scalar.unknowns):
                found[node.id] = ()
            case Add() if first and all(a in found or a in weights for a in node.args):
                found[node.id] = node.args
            case Scale() | Split() | Merge() | Window() | Fold() if first:
                found[node.id] = first
            case Contract() if first and not _sums(node, graph):
                found[node.id] = first
    return found


def _sums(node: Node, graph: Graph) -> bool:
    """Whether a node sums over an axis that grows."""
    op = node.op
    if not isinstance(op, Contract):
        return False
    sizes = {i: axis.dim for ix, a in zip((op.left, op.right or ()), node.args, strict=False)
             for i, axis in zip(ix, graph.nodes[a].axes, strict=True)}  # fmt: skip
    return any(dim.grows for i, dim in sizes.items() if i not in op.out)
