"""From recorded operations to the project's graph: one rule per kind of ATen operation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tensorprog.dims import BATCH_SYMBOL
from tensorprog.exponents import Power
from tensorprog.graph import Add, Graph, Input, Loss, Node, Param, Scale
from tensorprog.parameters import Init
from tensorprog.torch.cuts import Segment
from tensorprog.torch.lower.counted import onto_products
from tensorprog.torch.lower.lowering import Lowering, Site
from tensorprog.torch.lower.nodes import renumbered
from tensorprog.torch.lower.registry import rule
from tensorprog.torch.lower.scalars import behind_products
from tensorprog.torch.lower.uses import onto_uses
from tensorprog.torch.segments import segmented
from tensorprog.torch.trace import Ref
from tensorprog.torch.zipped import Zipped

__all__ = ["Lowered", "Lowering", "Site", "lower", "rule"]


@dataclass(frozen=True)
class Lowered:
    """`graph`; `sites`: the recorded results that are nodes of it; `data`: input name -> its array at every point;
    `multipliers`: unknown multiplier -> (module, place) where it stands; `products`: multiplier -> the product before
    it; `parts`: parameter -> its ranges that count as parameters; `notes`: what was assumed."""

    graph: Graph
    sites: tuple[Site, ...]
    data: Mapping[str, tuple[Any, ...]]
    multipliers: Mapping[str, tuple[str, int]]
    products: Mapping[str, int]
    parts: Mapping[str, tuple[Segment, ...]]
    notes: tuple[str, ...]


def lower(
    zipped: Zipped,
    inits: Mapping[str, Init],
    frozen: frozenset[str] = frozenset(),
    given: Mapping[str, Power | None] | None = None,
    name: str = "model",
) -> Lowered:
    """The graph of a zipped recording. `inits`: how every parameter starts; `frozen`: the parameters not trained;
    `given`: how those start that are not to be changed.

    Where the model gives no loss, every floating result is compared with a target by squares (a generic loss).
    Raises TensorProgError that names the operation and the module where there is no rule or no law.
    """
    from tensorprog.torch.lower import (  # noqa: F401  (each module registers its rules)
        activations,
        complexes,
        contractions,
        decisions,
        elementwise,
        gather,
        joins,
        losses,
        masks,
        matrices,
        norms,
        pools,
        positions,
        powers,
        reducing,
        reductions,
        roots,
        sampling,
        strided,
        views,
    )

    low = Lowering(zipped, inits, frozen, given or {})
    sites = low.run()
    low.module, low.op, low.gradient = "", "output", True
    outputs = []
    for label, number in zipped.first.outputs:
        if number in low.values or number in low.logits:
            value = low.materialize(low.value(Ref(number)))
            outputs.append((label, value.node))
    loss = _loss(low, zipped, outputs)
    for label, node in outputs:
        low.name(node, label)
    graph, place = _reachable(low, outputs, loss, name)
    for arranged in (behind_products, onto_products, onto_uses):
        graph, moved = arranged(graph)
        place = {old: moved[new] for old, new in place.items() if new in moved}
    graph, moved, parts = segmented(graph)
    place = {old: moved[new] for old, new in place.items() if new in moved}
    kept = tuple(replace(s, node=place[s.node]) for s in sites if s.node in place)
    data = {n: arrays for n, arrays in low.data.arrays.items() if any(_is_input(node, n) for node in graph.nodes)}
    whole = {part.name: p for p, ranges in parts.items() for part in ranges}
    origin = {u.name: f"{whole[u.param]}@{u.name.rsplit('@', 1)[1]}" if u.param in whole else u.name
              for u in graph.unknowns.values()}  # fmt: skip
    sites_of = {u: low.sites[old] for u, old in origin.items()}
    behind = {u: n.args[0] for n in reversed(graph.nodes) if isinstance(n.op, Scale) for u in n.op.scalar.unknowns}
    products = {u: place.get(node, behind[u]) for u, node in low.products.items() if u in graph.unknowns}
    return Lowered(graph, kept, data, sites_of, products, parts, tuple(dict.fromkeys(low.notes)))


def _is_input(node: Node, name: str) -> bool:
    return isinstance(node.op, Input) and node.op.name == name


def _loss(low: Lowering, zipped: Zipped, outputs: list[tuple[str, int]]) -> int:
    number = zipped.first.loss
    if number is not None:
        value = low.materialize(low.value(Ref(number)))
        if not outputs:
            outputs.append(("loss", value.node))
        return value.node
    parts = []
    low.notes.append("the model returns no loss: its floating results are compared with targets by squares")
    for label, node in outputs:
        axes = low.nodes[node].axes
        target = low.emit(Input(f"target_{label}", "target"), (), axes)
        parts.append(low.emit(Loss("mse"), (node, target), ()))
    return parts[0] if len(parts) == 1 else low.emit(Add(((),) * len(parts)), tuple(parts), ())


def _reachable(low: Lowering, outputs: list[tuple[str, int]], loss: int, name: str) -> tuple[Graph, dict[int, int]]:
    """The graph of what the loss and the outputs depend on, renumbered; old number -> new."""
    nodes, place = renumbered(low.nodes, [loss, *(n for _, n in outputs)])
    used = {n.op.name for n in nodes if isinstance(n.op, Param)}
    parameters = {k: p for k, p in low.parameters.items() if k in used}
    scales = {u for n in nodes if isinstance(n.op, Scale) for u in n.op.scalar.unknowns}
    unknowns = {k: u for k, u in low.unknowns.items() if k in scales}
    widths = tuple(s for s in low.laws.symbols if s != BATCH_SYMBOL)
    outs = tuple((label, place[n]) for label, n in outputs)
    return Graph(tuple(nodes), parameters, unknowns, outs, place[loss], widths, name=name), place
