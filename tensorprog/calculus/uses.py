"""Where parameters are used: from each Param node to the first node that sums over it, adds it, or maps it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import prod

from tensorprog.functions import Function, find
from tensorprog.graph import (
    Accumulate,
    Add,
    Contract,
    Fold,
    InvRms,
    Map,
    Merge,
    Param,
    Program,
    Scale,
    Split,
    StopGrad,
    Window,
    readers,
)


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One place where a parameter is used.

    `chain`: from the Param node to the operand, through relabelling nodes and products that leave it a weight
    (`_keeps_matrix`). `node`: what consumes it, as operand `position`. `tail`: the Scale nodes that follow, each the
    only consumer. `multiplier`: the unknown among them, if any. `behind`: whether the chain passes a function, as
    for W in (tanh(W) * V) x: such a use bounds how far W may move, not how W starts. `degree`: the power of W that
    arrives, where products of a weight with itself stand on the chain.
    """

    param: str
    use: str
    chain: tuple[int, ...]
    node: int
    position: int
    tail: tuple[int, ...]
    multiplier: str | None
    behind: bool
    degree: int


def occurrences(program: Program) -> list[Occurrence]:
    """Every use of every parameter in the forward graph, in graph order."""
    nodes = program.forward.nodes
    consumers = readers(nodes)
    found: list[Occurrence] = []
    weights: dict[int, frozenset[str]] = {}  # nodes computed from parameters alone, or with masks -> which
    data: set[int] = set()  # from none
    for node in nodes:
        if not isinstance(node.op, Param) and all(a in data for a in node.args):
            data.add(node.id)
        alone = isinstance(node.op, Param) or (node.args and all(a in weights for a in node.args))
        if alone or any(a in weights and _masks(program, node.id, a, data) for a in node.args):
            names = {node.op.name} if isinstance(node.op, Param) else set()
            weights[node.id] = frozenset(names).union(*(weights[a] for a in node.args if a in weights))

    def record(param: str, use: str, chain: tuple[int, ...], node: int) -> None:
        tail: list[int] = []
        multiplier = None
        at = node
        while len(consumers[at]) == 1 and isinstance(after := nodes[consumers[at][0]].op, Scale):
            at = consumers[at][0]
            tail.append(at)
            multiplier = next(iter(after.scalar.unknowns), multiplier)
        behind = any(isinstance(nodes[k].op, Map) for k in chain)
        degree = prod(nodes[k].args.count(a) for a, k in pairwise(chain) if isinstance(nodes[k].op, Contract))
        for position, a in enumerate(nodes[node].args):
            if a == chain[-1]:
                found.append(Occurrence(param, use, chain, node, position, tuple(tail), multiplier, behind, degree))

    def part_of_weight(node: int) -> bool:
        """Whether a node goes into weights of the same axes alone, as what is added without its gradient does."""
        return all(k in weights and len(nodes[k].axes) == len(nodes[node].axes) for k in consumers[node])

    def follow(param: str, use: str, chain: tuple[int, ...]) -> None:
        for c in consumers[chain[-1]]:
            op = nodes[c].op
            if isinstance(op, Scale):
                named = [u for u in op.scalar.unknowns if program.forward.unknowns[u].kind == "use"]
                follow(param, named[0] if named else use, (*chain, c))
            elif (
                isinstance(op, Split | Merge | Window | Fold)
                or (isinstance(op, StopGrad) and part_of_weight(c))
                or _spreads(program, c)
                or _keeps_matrix(program, c, chain[-1], weights)
            ):
                if isinstance(op, Add) and len(weights.get(c, ())) > 1:  # its parts are to be of one size
                    record(param, use, chain, c)
                follow(param, use, (*chain, c))
            elif not isinstance(op, InvRms):  # there its own scale does not matter
                record(param, use, chain, c)
                matrix = sum(axis.dim.grows and not axis.loop for axis in nodes[c].axes) > 1
                if isinstance(op, Map) and c in weights and matrix:
                    follow(param, use, (*chain, c))

    for node in nodes:
        if isinstance(node.op, Param):
            follow(node.op.name, "", (node.id,))
    growing = {name: sum(axis.dim.grows for axis in p.axes) for name, p in program.forward.parameters.items()}
    return sorted(found, key=lambda o: (o.node, o.position, -growing[o.param]))  # a matrix takes size before its gain


def scale_free(program: Program, occurrence: Occurrence) -> bool:
    """Whether the chain divides the weight by its own root mean square, so that its initial scale does not matter."""
    nodes = program.forward.nodes
    factors = [a for k in occurrence.chain[1:] for a in nodes[k].args if a not in occurrence.chain]
    pending: list[int] = []
    while factors:  # an inverse root mean square may have factors of its own: the length g in v (g / |v|)
        k = factors.pop()
        if isinstance(nodes[k].op, InvRms):
            pending.append(k)
        elif isinstance(nodes[k].op, Contract | Scale):
            factors.extend(nodes[k].args)
    seen: set[int] = set()
    while pending:
        k = pending.pop()
        op = nodes[k].op
        if isinstance(op, Param) and op.name == occurrence.param:
            return True
        if k not in seen:
            seen.add(k)
            pending.extend(nodes[k].args)
    return False


def matters(program: Program, name: str, functions: Mapping[str, Function]) -> bool:
    """Whether the initial scale of a parameter matters anywhere: whether a sum, a function, the loss or an output sees
    something of another degree in it than 0 (v / |v| has degree 0)."""
    degrees: dict[int, int] = {}
    found = -1
    while found < len(degrees):  # more than once only where layers read later nodes, and what those see is told after
        found = len(degrees)
        for node in program.forward.nodes:
            of = [degrees[a] for a in node.args if a in degrees]
            if len(of) < len(node.args) and not (isinstance(node.op, Add) and of):
                continue
            match node.op:
                case Param():
                    degree = int(node.op.name == name)
                case Contract():
                    degree = sum(of)
                case InvRms():
                    degree = -of[0]
                case Add():
                    degree = of[0]
                    if len({*of}) > 1:
                        return True
                case Map(fn, order) if of[0]:
                    degree_of = find(fn, functions).facts[order].degree
                    if degree_of is None:
                        return True
                    degree = of[0] * degree_of
                case Scale() | Split() | Merge() | Window() | Fold() | StopGrad() | Accumulate():
                    degree = of[0]
                case _:
                    degree = 0
                    if any(of):
                        return True
            if degrees.setdefault(node.id, degree) != degree:
                return True
        if not program.forward.loops:
            break
    return any(degrees.get(node, 1) for _, node in program.forward.outputs)


def _spreads(program: Program, node: int) -> bool:
    """Whether a node is the same value in every layer of a loop."""
    here = program.nodes[node]
    return isinstance(here.op, Add) and len(here.args) == 1 and any(axis.loop for axis in here.axes)


def _keeps_matrix(program: Program, node: int, operand: int, weights: Collection[int]) -> bool:
    """Whether a node is still a weight to be used: a transposition, a sum over finite axes, a product or sum of
    parameters alone (or masked), or a growing matrix scaled by rows or columns."""
    nodes = program.forward.nodes
    op = nodes[node].op
    if node in weights and isinstance(op, Contract | Add):
        return True
    if not isinstance(op, Contract):
        return False
    if op.right is None:
        return True
    indices = op.left if nodes[node].args[0] == operand else op.right
    growing = [i for i, axis in zip(indices, nodes[operand].axes, strict=True) if axis.dim.grows and not axis.loop]
    spread = [axis for axis in nodes[node].axes if axis.dim.grows and not axis.loop]
    return len(growing) >= 2 and len(spread) == len(growing) and all(i in op.out for i in growing)


def _masks(program: Program, node: int, operand: int, data: set[int]) -> bool:
    """Whether a node is a tensor of two or more axes, some of which grow, times data of no further axes."""
    here, op = program.forward.nodes[node], program.forward.nodes[node].op
    if not isinstance(op, Contract) or op.right is None or not data.intersection(here.args):
        return False
    indices = op.left if here.args[0] == operand else op.right
    return len(indices) > 1 and sorted(indices) == sorted(op.out) and any(axis.dim.grows for axis in here.axes)
