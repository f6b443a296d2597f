"""Numbers behind products of activations, counted into the multipliers of these."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from fractions import Fraction
from heapq import heappop, heappush

from tensorprog.functions import BUILTIN
from tensorprog.graph import (
    Add,
    Const,
    Contract,
    Fold,
    Graph,
    Map,
    Merge,
    Node,
    Scalar,
    Scale,
    Split,
    StopGrad,
    TopK,
    Window,
    readers,
)
from tensorprog.torch.lower.ends import Ends, ends_of, fades
from tensorprog.torch.lower.nodes import renumbered
from tensorprog.torch.lower.scalars import scalar_power, sums

ZERO, ONE = Fraction(0), Fraction(1)


def onto_products(graph: Graph) -> tuple[Graph, dict[int, int]]:
    """(the graph in which a scalar behind sums, gates and homogeneous functions of products of activations stands right
    behind these products, old node -> new node).

    `c relu(m q k + b)` becomes `relu(m (c q k) + c b)`: the multiplier m then counts c in, as it does where nothing
    stands between. What else reads such a product gets it without c, but for comparisons, to which c is nothing; of
    several numbers the largest is counted in. Nodes that are then a multiple of what they were have no new node.
    """
    known = {n.id: n.id for n in graph.nodes}
    for pass_ in (_moved_once, _compared_alike):
        while (step := pass_(graph)) is not None:  # once for each of several numbers in a row
            graph, places = step
            known = {old: places[new] for old, new in known.items() if new in places}
    return graph, known


def _moved_once(graph: Graph) -> tuple[Graph, dict[int, int]] | None:
    """The graph in which numbers moved; None where nothing is left to move."""
    leading, read_by = _leading(graph), readers(graph.nodes)
    compared = _compared(graph, leading, read_by)
    scaled: dict[int, Scalar] = {}  # node -> what it is multiplied with
    gone: set[int] = set()  # the scalars that move
    for node in graph.nodes:
        number = _number(node)
        if number and power_of(number, ONE).powers and node.args[0] in leading and not leading[node.args[0]].fades:
            found = _behind(node, number, graph, leading, read_by, compared)
            if any(not leading[k].through for k in found):
                found = _with_compared(graph, leading, compared - {node.id}, found)
                if not (scaled.keys() | gone) & {*found, node.id}:
                    scaled |= found
                    gone |= {node.id} if found else set()
    return rebuilt(graph, leading, scaled) if gone else None


def _compared_alike(graph: Graph) -> tuple[Graph, dict[int, int]] | None:
    """The graph in which what only comparisons see of a product has the number in front that all else has: it tells
    nothing of the multiplier. None where it has."""
    leading = _leading(graph)
    compared = _compared(graph, leading, readers(graph.nodes))
    seen: dict[frozenset[str], Scalar] = {}
    scaled: dict[int, Scalar] = {}
    roots = [(node, lead, _number(graph.nodes[node.args[0]]) or Scalar()) for node in graph.nodes
             if (lead := leading.get(node.id)) and not lead.through]  # fmt: skip
    for node, lead, number in roots:
        if node.id not in compared:
            seen.setdefault(lead.of, power_of(number, ONE))
    for node, lead, number in roots:
        if node.id in compared and lead.of in seen and (more := seen[lead.of] * power_of(number, -ONE)).powers:
            scaled[node.id] = more
    scaled = _with_compared(graph, leading, compared, scaled)
    return rebuilt(graph, leading, scaled) if scaled else None


def rebuilt(graph: Graph, leading: Mapping[int, Lead], scaled: Mapping[int, Scalar]) -> tuple[Graph, dict[int, int]]:
    """The graph in which these nodes are multiplied with numbers, and what reads them gets what it got."""
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
        number, own = _number(old), scaled.get(old.id, Scalar())
        if number is not None and old.args[0] in scaled:
            k = place[old.id] = times(old.args[0], number * own * power_of(scaled[old.args[0]], -ONE))
            if old.id not in scaled:
                nodes[k] = replace(nodes[k], name=nodes[k].name or old.name)
            continue
        shares: Mapping[int, Fraction] = {}
        if old.id in scaled:
            shares = leading[old.id].shares or {old.args[0]: ONE}  # a multiplier's node has c in front of it
        factors = {a: Scalar() if _blind(old) else
                   power_of(own, shares.get(a, ZERO)) * power_of(scaled.get(a, Scalar()), -ONE)
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


def _compared(graph: Graph, leading: Mapping[int, Lead], read_by: Sequence[Sequence[int]]) -> set[int]:
    """The nodes that follow multipliers of which only comparisons are made: a positive number times all of it is
    nothing to them."""
    kept = {graph.loss, *(k for _, k in graph.outputs)}
    found: set[int] = set()
    for node in reversed(graph.nodes):
        if node.id in leading and node.id not in kept and all(
            _blind(graph.nodes[n]) or (n in found and node.id in leading[n].through) for n in read_by[node.id]
        ):  # fmt: skip
            found.add(node.id)
    return found


def _with_compared(
    graph: Graph, leading: Mapping[int, Lead], compared: Set[int], scaled: Mapping[int, Scalar]
) -> dict[int, Scalar]:
    """What else is multiplied where these nodes are: what is only compared. Empty where that would take two numbers."""
    found = dict(scaled)
    for node in graph.nodes:
        if node.id in compared and node.id not in found:
            lead = leading[node.id]
            numbers = {power_of(found[a], 1 / lead.shares[a]) for a in lead.through if a in found}
            if len(numbers) > 1:
                return {}
            for number in numbers:
                found[node.id] = number * power_of(_number(node) or Scalar(), -ONE)
    return found


def _behind(
    scale: Node,
    whole: Scalar,
    graph: Graph,
    leading: Mapping[int, Lead],
    read_by: Sequence[Sequence[int]],
    compared: Set[int],
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
        number = power_of(whole, power)
        for n in read_by[k]:
            found |= dict.fromkeys(_rearranged(n, number, graph, read_by, compared), number)
        alone = [graph.nodes[n] for n in read_by[k] if n != scale.id and not (n in found and k in leading[n].through)]
        read = (power_of(found[n.id], leading[n.id].shares.get(k, ZERO)) if n.id in found else _number(n) or Scalar()
                for n in alone if not _blind(n) and n.id not in compared)  # fmt: skip
        if others or k in kept or not all(_at_most(n, number) for n in read):
            continue
        found[k] = number
        for a in leading[k].through:
            if a not in wanted:
                heappush(queue, -a)
            wanted.setdefault(a, set()).add(power * leading[k].shares[a])
    return found


def _rearranged(n: int, number: Scalar, graph: Graph, read_by: Sequence[Sequence[int]], compared: Set[int]) -> set[int]:
    """This node and those behind it that only rearrange, if all that reads them has no more than this number."""
    if not isinstance(graph.nodes[n].op, Split | Merge | Window | StopGrad) or n in {k for _, k in graph.outputs}:
        return set()
    taken = {n}
    for reader in (graph.nodes[k] for k in read_by[n] if k not in compared):
        if not _blind(reader) and not _at_most(_number(reader) or Scalar(), number):
            more = _rearranged(reader.id, number, graph, read_by, compared)
            taken |= more
            if not more:
                return set()
    return taken


def _number(node: Node) -> Scalar | None:
    """The known number by which a node multiplies."""
    return node.op.scalar if isinstance(node.op, Scale) and not node.op.scalar.unknowns else None


def _at_most(a: Scalar, b: Scalar) -> bool:
    """Whether a is at most a constant times b, whichever widths grow."""
    return all(e <= 0 for _, e in (scalar_power(a) / scalar_power(b)).exponents)


def power_of(scalar: Scalar, power: Fraction) -> Scalar:
    """The part of a number that depends on the widths, to a power."""
    return Scalar(powers=tuple((dim, e * power) for dim, e in scalar.powers if power and dim.growth))


@dataclass(frozen=True, slots=True)
class Lead:
    """How a node follows multipliers of products (`of`): it is homogeneous in them, of this degree. It is c times what
    it is if its operands are c^share times what these are; `through`: those that follow the multipliers."""

    of: frozenset[str]
    degree: Fraction = ONE
    shares: Mapping[int, Fraction] = field(default_factory=dict)
    through: frozenset[int] = frozenset()
    fades: bool = False  # nothing is left of it far from zero: `z.clamp(-5, 5)`


def _leading(graph: Graph) -> dict[int, Lead]:
    """The nodes that follow multipliers of products; of a sum, only the operands of the highest degree do, and of these
    what fades only beside what does not."""
    found: dict[int, Lead] = {}
    ends: dict[int, Ends] = {}  # of these, and of what is made of their steps and numbers
    bases: dict[Hashable, int] = {}
    for node in graph.nodes:
        known = sorted((a for a in node.args if a in found), key=lambda a: found[a].fades)
        most = max((found[a].degree for a in known), default=ZERO)
        flat = [a for a in node.args if a in ends and a not in found]
        match node.op:
            case Scale(scalar) if own := [u for u in scalar.unknowns if graph.unknowns[u].kind == "multiplier"]:
                found[node.id] = Lead(frozenset(own))
                ends[node.id] = ends_of(node, graph, {}, bases)
                continue
            case Add() if known:
                known = [a for a in known if found[a].degree == most]
                lasting = frozenset().union(*(found[a].of for a in known if not found[a].fades))
                known = [a for a in known if not (lasting and found[a].fades) or found[a].of <= lasting]
                degree, shares, flat = most, dict.fromkeys(node.args, ONE), []
            case Scale() | Split() | Merge() | Window() | Fold() | StopGrad() if known:
                degree, shares = most, {node.args[0]: ONE}
            case Contract() if known and not sums(node, graph):
                if not found[known[0]].of & found[known[-1]].of:
                    known = known[:1]  # another product's: one takes all
                degree = sum((found[a].degree for a in known), ZERO)
                shares = {a: found[a].degree / degree for a in known}
            case Map() if known and (order := _degree(node) or 0) > 0:
                degree, shares = most * order, {node.args[0]: ONE / order}
            case _:
                if _steps(node, found, flat):
                    ends[node.id] = ends_of(node, graph, {a: ends[a] for a in node.args}, bases)
                continue
        ends[node.id] = ends_of(node, graph, {a: ends[a] for a in (*known, *flat)}, bases)
        found[node.id] = Lead(frozenset().union(*(found[a].of for a in known)), degree, shares, frozenset(known),
                              fades(ends[node.id]))  # fmt: skip
    return found


def _steps(node: Node, leading: Mapping[int, Lead], flat: Sequence[int]) -> bool:
    """Whether a node is a step of what follows a product, or made of such steps and numbers alone (`flat`)."""
    if isinstance(node.op, Map):
        return _degree(node) == 0 and node.args[0] in leading
    return isinstance(node.op, Const | Add | Contract | Scale | Split | Merge | Window | StopGrad) and (
        len(flat) == len(node.args)
    )


def _degree(node: Node) -> int | None:
    """The degree of the homogeneous function that a node applies; None for all else."""
    if not isinstance(node.op, Map) or node.op.fn not in BUILTIN or node.op.derivative > 1:
        return None
    return BUILTIN[node.op.fn].facts[node.op.derivative].degree


def _blind(node: Node) -> bool:
    """Whether a node does not see the size of what it reads."""
    return isinstance(node.op, TopK) or _degree(node) == 0
