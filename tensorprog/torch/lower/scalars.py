"""Fixed scalars that depend on the width, moved to where they belong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from heapq import heappop, heappush

from tensorprog.exponents import Power
from tensorprog.functions import BUILTIN
from tensorprog.graph import Add, Contract, Fold, Graph, Map, Merge, Node, Scalar, Scale, Split, StopGrad, TopK, Window
from tensorprog.torch.lower.nodes import renumbered

ZERO, ONE = Fraction(0), Fraction(1)


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
    """(the graph in which a scalar behind sums, gates and homogeneous functions of products of activations stands right
    behind these products, old node -> new node).

    `c relu(m q k + b)` becomes `relu(m (c q k) + c b)`: the multiplier m then counts c in, as it does where nothing
    stands between. What else reads such a product gets it without c; of several numbers the largest is counted in.
    Nodes that are then a multiple of what they were have no new node.
    """
    known = {n.id: n.id for n in graph.nodes}
    while (step := _moved_once(graph)) is not None:  # once for each of several numbers in a row
        graph, places = step
        known = {old: places[new] for old, new in known.items() if new in places}
    return graph, known


def _moved_once(graph: Graph) -> tuple[Graph, dict[int, int]] | None:
    """One pass of `onto_products`; None where nothing is left to move."""
    leading = _leading(graph)
    readers: list[list[Node]] = [[] for _ in graph.nodes]
    for node in graph.nodes:
        for a in dict.fromkeys(node.args):
            readers[a].append(node)
    scaled: dict[int, Scalar] = {}  # node -> what it is multiplied with
    gone: set[int] = set()  # the scalars that move
    for node in graph.nodes:
        number = _number(node)
        if number and number.powers and node.args[0] in leading:
            found = _behind(node, number, graph, leading, readers)
            if any(not leading[k].through for k in found) and not (scaled.keys() | gone) & {*found, node.id}:
                scaled |= found
                gone.add(node.id)
    if not gone:
        return None
    nodes: list[Node] = []
    place: dict[int, int] = {}

    def times(a: int, scalar: Scalar) -> int:
        """The new number of an old node's multiple; two numbers in a row are one."""
        node = nodes[place[a]]
        inner = _number(node)
        if inner is not None and scalar.powers:
            scalar, node = inner * scalar, nodes[node.args[0]]
        if scalar == Scalar():
            return node.id
        nodes.append(Node(len(nodes), Scale(scalar), (node.id,), node.axes, "", graph.nodes[a].span))
        return len(nodes) - 1

    for old in graph.nodes:
        number = _number(old)
        if number is not None and old.args[0] in scaled and old.id not in scaled:
            k = place[old.id] = times(old.args[0], number * _power(scaled[old.args[0]], -ONE))
            nodes[k] = replace(nodes[k], name=nodes[k].name or old.name)
            continue
        shares: Mapping[int, Fraction] = {}
        if old.id in scaled:
            shares = leading[old.id].shares or {old.args[0]: ONE}  # a multiplier's node has c in front of it
        factors = {a: Scalar() if _blind(old) else
                   _power(scaled.get(old.id, Scalar()), shares.get(a, ZERO)) * _power(scaled.get(a, Scalar()), -ONE)
                   for a in old.args}  # fmt: skip
        args = {a: times(a, factor) for a, factor in factors.items()}
        new = replace(old, id=len(nodes), args=tuple(args[a] for a in old.args))
        nodes.append(replace(new, name="") if old.id in scaled else new)
        place[old.id] = new.id
    outputs = [(label, place[k]) for label, k in graph.outputs]
    kept, new_ids = renumbered(nodes, [place[graph.loss], *(k for _, k in outputs)])
    moved = replace(graph, nodes=tuple(kept), loss=new_ids[place[graph.loss]],
                    outputs=tuple((label, new_ids[k]) for label, k in outputs))  # fmt: skip
    return moved, {old: new_ids[k] for old, k in place.items() if old not in scaled and k in new_ids}


def _behind(
    scale: Node, whole: Scalar, graph: Graph, leading: Mapping[int, Lead], readers: Sequence[Sequence[Node]]
) -> dict[int, Scalar]:
    """What takes the number of `scale` in: node -> what it is then multiplied with. Not where something else reads a
    node with a number that may be larger."""
    kept = {k for _, k in graph.outputs}
    found: dict[int, Scalar] = {}
    wanted = {scale.args[0]: {ONE}}  # node -> the powers of the number that it is to be multiplied with
    queue = [-scale.args[0]]  # what reads a node comes before it
    while queue:
        k = -heappop(queue)
        power, *others = wanted[k]
        number = _power(whole, power)
        alone = [n for n in readers[k] if n.id != scale.id and not (n.id in found and k in leading[n.id].through)]
        read = (_power(found[n.id], leading[n.id].shares.get(k, ZERO)) if n.id in found else _number(n) or Scalar()
                for n in alone if not _blind(n))  # fmt: skip
        if others or k in kept or not all(_at_most(n, number) for n in read):
            continue
        found[k] = number
        for a in leading[k].through:
            if a not in wanted:
                heappush(queue, -a)
            wanted.setdefault(a, set()).add(power * leading[k].shares[a])
    return found


def _number(node: Node) -> Scalar | None:
    """The known number by which a node multiplies."""
    return node.op.scalar if isinstance(node.op, Scale) and not node.op.scalar.unknowns else None


def _at_most(a: Scalar, b: Scalar) -> bool:
    """Whether a is at most a constant times b, whichever widths grow."""
    return all(e <= 0 for _, e in (scalar_power(a) / scalar_power(b)).exponents)


def _power(scalar: Scalar, power: Fraction) -> Scalar:
    """The part of a number that depends on the widths, to a power."""
    return Scalar(powers=tuple((dim, e * power) for dim, e in scalar.powers if power))


def scalar_power(scalar: Scalar) -> Power:
    """How a number scales with the widths."""
    total = Power()
    for dim, power in scalar.powers:
        total = total * Power.of({s: Fraction(p) for s, p in dim.growth}) ** power
    return total


@dataclass(frozen=True, slots=True)
class Lead:
    """How a node follows multipliers of products (`of`): it is homogeneous in them, of this degree. It is c times what
    it is if its operands are c^share times what these are; `through`: those that follow the multipliers."""

    of: frozenset[str]
    degree: Fraction = ONE
    shares: Mapping[int, Fraction] = field(default_factory=dict)
    through: frozenset[int] = frozenset()


def _leading(graph: Graph) -> dict[int, Lead]:
    """The nodes that follow multipliers of products; of a sum, only the operands of the highest degree do."""
    found: dict[int, Lead] = {}
    for node in graph.nodes:
        known = [a for a in node.args if a in found]
        most = max((found[a].degree for a in known), default=ZERO)
        match node.op:
            case Scale(scalar) if own := [u for u in scalar.unknowns if graph.unknowns[u].kind == "multiplier"]:
                found[node.id] = Lead(frozenset(own))
                continue
            case Add() if known:
                known = [a for a in known if found[a].degree == most]
                degree, shares = most, dict.fromkeys(node.args, ONE)
            case Scale() | Split() | Merge() | Window() | Fold() | StopGrad() if known:
                degree, shares = most, {node.args[0]: ONE}
            case Contract() if known and not _sums(node, graph):
                if not found[known[0]].of & found[known[-1]].of:
                    known = known[:1]  # another product's: one takes all
                degree = sum((found[a].degree for a in known), ZERO)
                shares = {a: found[a].degree / degree for a in known}
            case Map() if known and (order := _degree(node) or 0) > 0:
                degree, shares = most * order, {node.args[0]: ONE / order}
            case _:
                continue
        found[node.id] = Lead(frozenset().union(*(found[a].of for a in known)), degree, shares, frozenset(known))
    return found


def _degree(node: Node) -> int | None:
    """The degree of the homogeneous function that a node applies; None for all else."""
    if not isinstance(node.op, Map) or node.op.fn not in BUILTIN or node.op.derivative > 1:
        return None
    return BUILTIN[node.op.fn].facts[node.op.derivative].degree


def _blind(node: Node) -> bool:
    """Whether a node does not see the size of what it reads."""
    return isinstance(node.op, TopK) or _degree(node) == 0


def _sums(node: Node, graph: Graph) -> bool:
    """Whether a node sums over an axis that grows."""
    op = node.op
    if not isinstance(op, Contract):
        return False
    sizes = {i: axis.dim for ix, a in zip((op.left, op.right or ()), node.args, strict=False)
             for i, axis in zip(ix, graph.nodes[a].axes, strict=True)}  # fmt: skip
    return any(dim.grows for i, dim in sizes.items() if i not in op.out)
