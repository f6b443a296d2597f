"""Whether what a product of activations does reaches the results: its multiplier makes it of order 1 where something
reads it, and a number of the code behind that may make it vanish again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tensorprog.calculus.shared import describe
from tensorprog.calculus.solve import Solution
from tensorprog.calculus.terms import largest
from tensorprog.errors import TensorProgError
from tensorprog.exponents import Power
from tensorprog.functions import BUILTIN, Function
from tensorprog.graph import Add, Contract, Graph, InvRms, Loss, Map, Node, Scalar, Scale, Softmax, TopK
from tensorprog.norms import by_its_norm
from tensorprog.torch.lower.scalars import scalar_power
from tensorprog.torch.positive import POSITIVE

FUNCTIONS: Mapping[str, Function] = {**BUILTIN, **POSITIVE}


def require_reach(graph: Graph, solution: Solution) -> None:
    """Raises TensorProgError where a product changes no result by more than what vanishes with the width, because of a
    number that shrinks."""
    snapshot, nodes = solution.snapshot, graph.nodes
    sizes = [max((s for s in (largest(a), largest(b)) if s is not None), default=None)
             for a, b in zip(snapshot.initial[: len(nodes)], snapshot.change[: len(nodes)], strict=True)]  # fmt: skip
    losses = [node.id for node in nodes if isinstance(node.op, Loss)]
    effect = dict.fromkeys((graph.loss, *losses, *(k for _, k in graph.outputs)), 0)  # of a node's relative change
    reader: dict[int, int] = {}  # the one through which most of it comes
    for node in reversed(nodes):
        for a in node.args if node.id in effect else ():
            step = _passed(graph, node, a, sizes)
            if step is not None and (a not in effect or effect[node.id] + step > effect[a]):
                effect[a], reader[a] = effect[node.id] + step, node.id
    roots: dict[str, list[Node]] = {}
    for node in nodes:
        if isinstance(node.op, Scale):
            for u in node.op.scalar.unknowns:
                if graph.unknowns[u].kind == "multiplier":
                    roots.setdefault(u, []).append(node)
    for name, ends in roots.items():
        root = max((n for n in ends if n.id in effect), key=lambda n: effect[n.id], default=None)
        if root is not None and effect[root.id] < 0:
            _refuse(graph, name, root, effect, reader, len({_number(graph.nodes[n.args[0]]) for n in ends}) > 1)


def _passed(graph: Graph, node: Node, a: int, sizes: Sequence[int | None]) -> int | None:
    """The relative change of a node's value for one of its operand, as a size; None if it does not see any."""
    before, after = sizes[a], sizes[node.id]
    if before is None or isinstance(node.op, TopK | InvRms) or by_its_norm(graph.nodes, node) is not None:
        return None
    match node.op:
        case Add() if after is not None:
            return min(before - after, 0)
        case Softmax():
            return min(before, 0)
        case Map(fn, derivative) if derivative < 2:
            if (known := FUNCTIONS.get(fn)) is None:
                return 0
            facts = known.facts[derivative]
            if facts.degree == 0 or facts.order is None:
                return None
            return min(facts.order * before, 0) if facts.constant else 0
    return 0


def _refuse(
    graph: Graph, name: str, root: Node, effect: Mapping[int, int], reader: Mapping[int, int], apart: bool
) -> None:
    """Raises the error that names the number by which it vanishes; nothing where there is none, or where that is
    another product's and this one has its own: then it is the model's own."""
    nodes = graph.nodes
    own = _number(nodes[root.args[0]]).degree < 0
    at, last = root, ""  # what reads it first, other than a multiple
    while at.id in reader:
        before, at = at, nodes[reader[at.id]]
        if own and _mixed(before, at):
            if effect[root.id] == effect[at.id]:
                return
            break
        power = _number(at)
        if power.degree < 0:
            raise TensorProgError(
                f"what the product `{name}` does vanishes like {power}, by the number at `{describe(at, nodes)}`",
                why=f"its multiplier makes `{last}` of order 1, and nothing makes up for a number behind that",
                fix="the number right behind the product: `f(z / d ** 0.5)` instead of `f(z) / d ** 0.5`",
            )
        last = describe(at, nodes)
    if apart:
        raise TensorProgError(
            f"the product `{name}` is read with different numbers, and the part with the smaller one vanishes",
            why="one multiplier serves both, and the larger part has to stay of order 1",
            fix="the same number for both: `z = (q @ k.mT) / d ** 0.5` once, in front of all that reads it",
        )


def _mixed(part: Node, node: Node) -> bool:
    """Whether a node is a product of this and another value that is neither's multiple: it sums, or has a width."""
    if not isinstance(node.op, Contract) or node.op.right is None:
        return False
    return bool(node.op.summed) or any(axis.dim.grows and axis not in part.axes for axis in node.axes)


def _number(node: Node) -> Power:
    """The number by which a node multiplies, as a power of the widths."""
    scalar = node.op.scalar if isinstance(node.op, Scale) else Scalar()
    return scalar_power(scalar)
