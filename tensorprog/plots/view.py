"""The computation graph as people draw it: one card per tensor that has a name, or per block where there are many."""

from __future__ import annotations

import re
from dataclasses import dataclass

import networkx as nx

from tensorprog.derivation import Derivation
from tensorprog.exponents import Power
from tensorprog.graph import Graph, Input, Loss, Node, Param, Scale

CARDS = 16  # more than that, and blocks are drawn as one card


@dataclass(frozen=True, slots=True)
class Line:
    """Parameters of a card that share their exponents: multiplier, initial std (None: zero), learning rate (None:
    frozen); or an unknown multiplier `?name` (`kind` "multiplier"), which has no more than the first."""

    names: tuple[str, ...]
    multiplier: Power
    init: Power | None = None
    lr: Power | None = None
    kind: str = "parameter"


@dataclass(frozen=True, slots=True)
class Card:
    """A tensor with the parameters used for it, or a block with its result and all its parameters. `start`, `change`:
    exponents of the tensor (None: exactly zero). `kind`: input | tensor | block | loss | parameter."""

    name: str
    kind: str
    shape: tuple[str, ...]
    start: Power | None
    change: Power | None
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class View:
    """Cards in order of computation, edges between their positions, and how many tensors they stand for. `back`: edges
    from the end of a layer to the beginning of the next one, where a repeat has a depth that is a symbol."""

    cards: tuple[Card, ...]
    edges: tuple[tuple[int, int], ...]
    back: tuple[tuple[int, int], ...]
    tensors: int


def view(derivation: Derivation, limit: int = CARDS) -> View:
    """The most detailed view with at most `limit` cards (if none has so few, the coarsest): tensors by name, else
    blocks at the depth of nesting that fits; at every depth first with all layers of a loop, then with the first of
    them and one card for the others."""
    graph = derivation.architecture.graph
    names = _owners(graph)
    deepest = max(_nesting(_scope(name)) for name in names.values())
    for depth, first_only in [(d, f) for d in range(deepest, -2, -1) for f in (False, True)]:
        groups = _merged(graph, {k: _at_depth(name, depth, first_only) for k, name in names.items()})
        if len(set(groups.values())) <= limit:
            break
    return _cards(derivation, groups)


def _owners(graph: Graph) -> dict[int, str]:
    """Node -> the named tensor whose line it belongs to. Results without a name belong to what they are used for first,
    parameters to their only user, or to themselves."""
    users: dict[int, list[int]] = {node.id: [] for node in graph.nodes}
    for node in graph.nodes:
        for a in node.args:
            if a < node.id:
                users[a].append(node.id)
    names = _distinct(graph)
    owner: dict[int, str] = {}
    for node in reversed(graph.nodes):
        if isinstance(node.op, Loss):
            owner[node.id] = "loss"
        elif node.id in names:
            owner[node.id] = names[node.id]
        elif users[node.id]:
            owner[node.id] = owner[users[node.id][0]]
    for node in graph.nodes:
        if isinstance(node.op, Param):
            used_by = {owner[user] for k in _reached(node.id, users, graph) for user in users[k] if user in owner}
            if len(used_by) != 1:
                owner[node.id] = node.op.name
                owner.update((k, node.op.name) for k in _reached(node.id, users, graph))
    return owner


def _distinct(graph: Graph) -> dict[int, str]:
    """Node -> name, a second `x` as `x #2`. What a loop of symbolic depth carries has a name of its own before the
    layer (`#0`), and what a layer adds to it goes by the name that it has after the layer."""
    names: dict[int, str] = {}
    for node in graph.nodes:
        if node.name and not isinstance(node.op, Param):
            again = sum(name.partition(" #")[0] == node.name for name in names.values())
            names[node.id] = f"{node.name} #{again + 1}" if again else node.name
    for loop in graph.loops:
        for stream in loop.streams:
            after = names.get(stream.path[0], f"{loop.prefix}stream")
            names[stream.increment] = after
            names[stream.path[-1]] = f"{after.partition('#')[0].strip()}#0"
    return names


def _reached(param: int, users: dict[int, list[int]], graph: Graph) -> list[int]:
    """The parameter's node and the multipliers that stand between it and its uses."""
    found = [param]
    for k in found:
        found += [user for user in users[k] if isinstance(graph.nodes[user].op, Scale) and not graph.nodes[user].name]
    return found


def _scope(name: str) -> list[str]:
    """What is around a tensor: `layers.0.attention.q` -> [layers.0, attention]."""
    return [part.replace("\0", ".") for part in re.sub(r"\.(?=(\d+|\*)(\.|$))", "\0", name).split(".")[:-1]]


def _nesting(scope: list[str]) -> int:
    """How many blocks are around a tensor; layers of a loop do not count."""
    return sum("." not in part for part in scope)


def _at_depth(name: str, depth: int, first_only: bool) -> str:
    """The card of a tensor if blocks nested deeper than `depth` are one card each (-1: and so are the layers of a
    loop); `first_only`: all layers of a loop but the first are one card."""
    scope = _scope(name)
    for k, part in enumerate(scope):
        loop, dot, number = part.partition(".")
        if first_only and dot and number not in ("0", "*"):
            return ".".join([*scope[:k], f"{loop}.1.."])
    if depth < 0:
        return scope[0] if scope else name
    if _nesting(scope) <= depth:
        return name
    end = next(k for k in range(len(scope)) if _nesting(scope[: k + 1]) > depth)
    return ".".join(scope[: end + 1])


def _merged(graph: Graph, groups: dict[int, str]) -> dict[int, str]:
    """The same, with groups that depend on one another as one, so that what is left has no cycle."""
    for component in list(nx.strongly_connected_components(_quotient(graph, groups))):
        first = min(component, key=lambda name: next(k for k, g in groups.items() if g == name))
        groups = {k: first if g in component else g for k, g in groups.items()}
    return groups


def _quotient(graph: Graph, groups: dict[int, str]) -> nx.DiGraph[str]:
    result: nx.DiGraph[str] = nx.DiGraph()
    for node in graph.nodes:
        if node.id in groups and not _is_target(node):
            result.add_node(groups[node.id])
            result.add_edges_from(
                (groups[a], groups[node.id])
                for a in node.args
                if a < node.id and a in groups and groups[a] != groups[node.id] and not _is_target(graph.nodes[a])
            )
    return result


def _is_target(node: Node) -> bool:
    return isinstance(node.op, Input) and node.op.kind == "target"


def _cards(derivation: Derivation, groups: dict[int, str]) -> View:
    graph = derivation.architecture.graph
    quotient = _quotient(graph, groups)
    members: dict[str, list[Node]] = {name: [] for name in quotient}
    for node in graph.nodes:
        if node.id in groups and not _is_target(node):
            members[groups[node.id]].append(node)
    used = {a for node in graph.nodes for a in node.args if groups.get(a) != groups.get(node.id)}
    used |= {node for _, node in graph.outputs} | {graph.loss}
    order = sorted(members, key=lambda name: max(node.id for node in members[name]))
    cards = tuple(_card(derivation, name, members[name], used) for name in order)
    place = {name: k for k, name in enumerate(order)}
    edges = tuple(sorted((place[a], place[b]) for a, b in quotient.edges))
    returns = {(place[groups[a]], place[groups[n.id]]) for n in graph.nodes for a in n.args if a >= n.id}
    back = tuple(sorted((a, b) for a, b in returns if a != b))
    return View(cards, edges, back, sum(bool(node.name) for node in graph.nodes))


def _card(derivation: Derivation, name: str, nodes: list[Node], used: set[int]) -> Card:
    results = [node for node in nodes if node.id in used and not isinstance(node.op, Param)]
    result = next((node for node in nodes if node.name == name), results[-1] if results else nodes[-1])
    kind = "tensor"
    if isinstance(result.op, Input):
        kind = "input"
    elif isinstance(result.op, Loss):
        kind = "loss"
    elif all(isinstance(node.op, Param | Scale) for node in nodes) and any(isinstance(n.op, Param) for n in nodes):
        kind = "parameter"
    elif result.name != name.partition(" #")[0] and not name.endswith("#0"):
        kind = "block"
    start, change = derivation.sizes(result.id)
    shape = tuple(str(axis.dim) for axis in result.axes if str(axis.dim) != "batch" and not axis.loop)
    return Card(name, kind, shape, start, change, _lines(derivation, name, nodes))


def _lines(derivation: Derivation, card: str, nodes: list[Node]) -> tuple[Line, ...]:
    """The card's parameters and unknown multipliers, those with equal exponents in one line."""
    params: dict[tuple[Power, Power | None, Power | None], list[str]] = {}
    unknowns: dict[str, Power] = {}
    for node in nodes:
        if isinstance(node.op, Param):
            exponents = derivation.params[node.op.name]
            known = params.setdefault((exponents.multiplier, exponents.init_std, exponents.lr), [])
            short = _inside(node.op.name, card)
            if short not in known:
                known.append(short)
        elif isinstance(node.op, Scale):
            for name in node.op.scalar.unknowns:
                if derivation.architecture.graph.unknowns[name].kind == "multiplier":
                    unknowns[name.rpartition(".")[2]] = derivation.multipliers[name]
    lines = [Line(tuple(names), *exponents) for exponents, names in params.items()]
    return (*lines, *(Line((f"?{name}",), power, kind="multiplier") for name, power in unknowns.items()))


def _inside(name: str, card: str) -> str:
    """A parameter's name without what the card's name says already."""
    path = card.removesuffix(".1..")
    short = name.removeprefix(f"{path}.")
    return short.partition(".")[2] if path != card and short[:1].isdigit() else short
