"""Parameters whose rows are of several kinds, such as Mamba's projection to (time step, B, C): `n + 6 + 6` rows.

An axis of size `n + 12` that is cut into parts that grow and parts that do not is a sum, and its parts may need
different exponents. The cuts (windows) are moved up through the graph to the parameters they come from, which then
count as several, one per range. Cuts into parts that grow alike stay where they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise

from tensorprog.dims import Dim
from tensorprog.graph import (
    Add,
    Contract,
    Fold,
    Graph,
    Node,
    Param,
    Scale,
    Split,
    Window,
)
from tensorprog.torch.cuts import ZERO, Cuts, ObstacleError, Segment


def segmented(
    graph: Graph, everywhere: bool = False, slots: bool = False
) -> tuple[Graph, dict[int, int], dict[str, tuple[Segment, ...]]]:
    """(the graph with its cuts moved up, old node -> new node, parameter -> its ranges in order). `everywhere`: also
    cuts along growing axes into parts that grow alike; `slots`: and along a part of one, such as the 3 of (3, n)."""
    which = _Which(everywhere, slots)
    unequal = [n for n in graph.nodes if _cuts(graph, n) and which.wanted(graph, n)] + _unequal_sums(graph)
    split: frozenset[str] = frozenset()
    if unequal:
        probe = _Rewriter(graph, None, which)
        probe.run()
        split = frozenset(probe.segments)
    while split:
        work = _Rewriter(graph, split, which)
        result, place = work.run()
        whole = {n.op.name for n in result.nodes if isinstance(n.op, Param)}
        bad = {p for p in split if p in whole or not _disjoint(work.segments.get(p, {}))}
        if not bad:
            parts = {
                p: tuple(sorted(found.values(), key=lambda s: _order(s.start))) for p, found in work.segments.items()
            }
            return result, place, parts
        split -= bad
    return graph, {n.id: n.id for n in graph.nodes}, {}


def _cuts(graph: Graph, node: Node) -> bool:
    return isinstance(node.op, Window) and not node.op.taps and node.op.stride == 1


@dataclass(frozen=True, slots=True)
class _Which:
    """Which cuts are moved up: into parts of another order of size; all along axes that grow; along parts of these."""

    everywhere: bool
    slots: bool

    def wanted(self, graph: Graph, node: Node) -> bool:
        assert isinstance(node.op, Window)
        arg, axis = graph.nodes[node.args[0]], node.op.axis
        before = arg.axes[axis].dim
        if not self.everywhere:
            return before.growth != node.axes[axis].dim.growth
        if not self.slots:
            return before.grows
        while isinstance(arg.op, Contract) and arg.op.right is None and len(arg.op.out) == len(arg.op.left):
            axis = arg.op.left.index(arg.op.out[axis])
            arg = graph.nodes[arg.args[0]]
        if isinstance(arg.op, Split) and arg.op.axis <= axis < arg.op.axis + arg.op.count:
            return graph.nodes[arg.args[0]].axes[arg.op.axis].dim.grows
        return before.grows


def _unequal_sums(graph: Graph) -> list[Node]:
    """Folds that put something into an axis of another order of size."""
    return [n for n in graph.nodes if isinstance(n.op, Fold) and not n.op.taps
            and graph.nodes[n.args[0]].axes[n.op.axis].dim.growth != n.axes[n.op.axis].dim.growth]  # fmt: skip


def _order(dim: Dim) -> Fraction:
    """A value that sorts sizes where one is larger at all large widths."""
    return dim.evaluate(dict.fromkeys(dim.symbols, 10**6))


def _disjoint(segments: Mapping[object, Segment]) -> bool:
    ordered = sorted(segments.values(), key=lambda s: _order(s.start))
    same_axis = len({s.axis for s in ordered}) == 1
    return same_axis and all(_order(a.stop) <= _order(b.start) for a, b in pairwise(ordered))


class _Rewriter(Cuts):
    """One pass over the graph."""

    def __init__(self, graph: Graph, split: frozenset[str] | None, which: _Which) -> None:
        super().__init__(graph, split)
        self.which = which

    def run(self) -> tuple[Graph, dict[int, int]]:
        place: dict[int, int] = {}
        for old in self.graph.nodes:
            args = tuple(place[a] for a in old.args)
            place[old.id] = self._rewritten(old, args)
        return self._finished(place)

    def _rewritten(self, old: Node, args: tuple[int, ...]) -> int:
        op = old.op
        if _cuts(self.graph, old):
            assert isinstance(op, Window)
            if self.split is not None or self.which.wanted(self.graph, old):
                try:
                    cut = self.push(args[0], op.axis, op.offset, old.axes[op.axis].dim)
                    if old.name and not self.nodes[cut].name:
                        self.nodes[cut] = replace(self.nodes[cut], name=old.name)
                    return cut
                except ObstacleError:
                    pass
        if isinstance(op, Contract) and op.right is not None:
            for side in (0, 1):
                parts = self._parts(args[side], (op.left, op.right)[side], op.out)
                if parts is not None:
                    try:
                        return self._sum(op, args, side, parts, old)
                    except ObstacleError:
                        pass
        return self.emit(op, args, old.axes, old.name)

    # --- sums over an axis that is put together -----------------------------------------------------

    def _parts(
        self, at: int, indices: tuple[int, ...], out: tuple[int, ...]
    ) -> tuple[int, list[tuple[int, Dim, Dim]]] | None:
        """(summed index, [(node, start, size)]) if a factor is several tensors side by side along a summed axis, of
        different orders of size."""
        node = self.nodes[at]
        if not isinstance(node.op, Add):
            return None
        same = tuple(range(len(node.axes)))
        inner = [self.nodes[a] for a in node.args]
        if any(p != same for p in node.op.places) or not all(
            isinstance(n.op, Fold) and not n.op.taps and n.op.stride == 1 for n in inner
        ):
            return None
        folds = [n.op for n in inner if isinstance(n.op, Fold)]
        if len({f.axis for f in folds}) != 1:
            return None
        axis = folds[0].axis
        sizes = [self.nodes[n.args[0]].axes[axis].dim for n in inner]
        if indices[axis] in out or len({s.growth for s in sizes}) == 1:
            return None
        return indices[axis], [(n.args[0], f.offset, s) for n, f, s in zip(inner, folds, sizes, strict=True)]

    def _sum(self, op: Contract, args: tuple[int, ...], side: int, parts: tuple[int, list[tuple[int, Dim, Dim]]],
             old: Node) -> int:  # fmt: skip
        """The contraction of each part with its range of the other factor, added."""
        index, pieces = parts
        other_indices = (op.right or ()) if side == 0 else op.left
        other, terms = args[1 - side], []
        for part, start, size in pieces:
            factor = self.push(other, other_indices.index(index), start, size) if index in other_indices else other
            if factor != ZERO:
                terms.append(self.emit(op, (part, factor) if side == 0 else (factor, part), old.axes))
        same = tuple(range(len(old.axes)))
        return self.emit(Add((same,) * len(terms)), tuple(terms), old.axes, old.name)

    # --- the end ------------------------------------------------------------------------------------

    def _finished(self, place: dict[int, int]) -> tuple[Graph, dict[int, int]]:
        """Without what nothing needs any more."""
        graph = self.graph
        roots = [place[graph.loss], *(place[n] for _, n in graph.outputs)]
        wanted, todo = set(roots), list(roots)
        while todo:
            for a in self.nodes[todo.pop()].args:
                if a not in wanted:
                    wanted.add(a)
                    todo.append(a)
        number = {n.id: k for k, n in enumerate(n for n in self.nodes if n.id in wanted)}
        nodes = tuple(replace(n, id=number[n.id], args=tuple(number[a] for a in n.args))
                      for n in self.nodes if n.id in wanted)  # fmt: skip
        names = {n.op.name for n in nodes if isinstance(n.op, Param)}
        self.segments = {p: {k: s for k, s in found.items() if s.name in names} for p, found in self.segments.items()}
        scales = {u for n in nodes if isinstance(n.op, Scale) for u in n.op.scalar.unknowns}
        new = replace(
            graph,
            nodes=nodes,
            parameters={k: p for k, p in self.parameters.items() if k in names},
            unknowns={k: u for k, u in self.unknowns.items() if k in scales},
            outputs=tuple((label, number[place[n]]) for label, n in graph.outputs),
            loss=number[place[graph.loss]],
        )
        return new, {k: number[v] for k, v in place.items() if v in number}
