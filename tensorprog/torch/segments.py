"""Parameters whose rows are of several kinds, such as Mamba's projection to (time step, B, C): `n + 6 + 6` rows.

An axis of size `n + 12` that is cut into parts that grow and parts that do not is a sum, and its parts may need
different exponents. The cuts (windows) are moved up through the graph to the parameters they come from, which then
count as several, one per range. Cuts into parts that grow alike stay where they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise

from tensorprog.dims import Dim
from tensorprog.graph import Add, Contract, Fold, Graph, InvRms, Node, Param, Scale, Split, Window, reached
from tensorprog.torch.cuts import ZERO, Cuts, ObstacleError, Segment
from tensorprog.torch.joined_norms import inverse_rms

Piece = tuple[Dim, Dim]  # where it starts along an axis, and its size


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
        self._joints: dict[tuple[int, int], tuple[Piece, ...]] = {}
        self._sums: set[int] = set()  # sums of what the pieces of a summed axis give

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
            unlike = len(self.nodes[args[0]].axes[op.axis].dim.terms) > 1
            if (unlike and self.split is not None) or self.which.wanted(self.graph, old):
                try:
                    cut = self.push(args[0], op.axis, op.offset, old.axes[op.axis].dim)
                    if old.name and not self.nodes[cut].name:
                        self.nodes[cut] = replace(self.nodes[cut], name=old.name)
                    return cut
                except ObstacleError:
                    pass
        if isinstance(op, Contract):
            for index, pieces in self._joined_sums(op, args):
                try:
                    return self._sum(op, args, index, pieces, old)
                except ObstacleError:
                    pass
        if isinstance(op, Scale) and args[0] in self._sums and not op.scalar.unknowns:
            return self._scaled(op, self.nodes[args[0]], old)
        if isinstance(op, InvRms):
            for axis in op.axes:
                try:
                    if pieces := self._joined(args[0], axis):
                        return self._norm(op, args[0], axis, pieces, old)
                except ObstacleError:
                    pass
        return self.emit(op, args, old.axes, old.name)

    # --- sums and norms over an axis that is put together -----------------------------------------------------

    def _joined_sums(self, op: Contract, args: tuple[int, ...]) -> Iterator[tuple[int, tuple[Piece, ...]]]:
        """Every summed index along which a factor is put together of tensors of different orders of size."""
        for a, indices in zip(args, (op.left, op.right or ()), strict=False):
            for axis, index in enumerate(indices):
                if index not in op.out and (pieces := self._joined(a, axis)):
                    yield index, pieces

    def _joined(self, at: int, axis: int) -> tuple[Piece, ...]:
        """The pieces of an axis of which tensors stand side by side, in the node or where its axis comes from; none if
        they are of one order of size."""
        node = self.nodes[at]
        if len(node.axes[axis].dim.terms) < 2:
            return ()
        if (at, axis) not in self._joints:
            below = (self._joined(node.args[k], own) for k, own in self.sources(node, axis))
            self._joints[at, axis] = self._side_by_side(node, axis) or next(filter(None, below), ())
        return self._joints[at, axis]

    def _side_by_side(self, node: Node, axis: int) -> tuple[Piece, ...]:
        match node.op:
            case Add(places):
                parts = list(zip(places, (self.nodes[a] for a in node.args), strict=True))
            case Fold():  # zeros are a part, too
                parts = [(tuple(range(len(node.axes))), node)]
            case _:
                return ()
        ends = {Dim.of(0), node.axes[axis].dim}
        for place, part in parts:
            match part.op:
                case Fold(own, 1, _, offset, False) if axis in place and own == place.index(axis):
                    ends |= {offset, offset + self.nodes[part.args[0]].axes[own].dim}
                case _:
                    return ()
        pieces = tuple((a, b - a) for a, b in pairwise(sorted(ends, key=_order)))
        return pieces if len({size.growth for _, size in pieces}) > 1 else ()

    def _sum(self, op: Contract, args: tuple[int, ...], index: int, pieces: tuple[Piece, ...], old: Node) -> int:
        """The contraction of each piece of the summed index, added."""
        terms = []
        for start, size in pieces:
            factors = tuple(self.push(a, ix.index(index), start, size) if index in ix else a
                            for a, ix in zip(args, (op.left, op.right or ()), strict=False))  # fmt: skip
            if ZERO not in factors:
                terms.append(self.emit(op, factors, old.axes))
        if len(terms) == 1:
            return terms[0]
        total = self._added(terms, old)
        self._sums.add(total)
        return total

    def _added(self, terms: list[int], old: Node) -> int:
        same = tuple(range(len(old.axes)))
        return self.emit(Add((same,) * len(terms)), tuple(terms), old.axes, old.name)

    def _scaled(self, op: Scale, total: Node, old: Node) -> int:
        """A sum times a number: each term times it, since the terms alone may outgrow what is summed."""
        return self._added([self.emit(op, (term,), total.axes) for term in total.args], old)

    def _norm(self, op: InvRms, arg: int, axis: int, pieces: tuple[Piece, ...], old: Node) -> int:
        """The inverse root mean square of each piece of the axis, put together."""
        cut = [self.push(arg, axis, start, size) for start, size in pieces]
        whole = self.nodes[arg].axes[axis].dim
        node = inverse_rms(self, op, [a for a in cut if a != ZERO], axis, whole, old.axes)
        self.nodes[node] = replace(self.nodes[node], name=self.nodes[node].name or old.name)
        return node

    # --- the end ------------------------------------------------------------------------------------

    def _finished(self, place: dict[int, int]) -> tuple[Graph, dict[int, int]]:
        """Without what nothing needs any more."""
        graph = self.graph
        roots = [place[graph.loss], *(place[n] for _, n in graph.outputs)]
        wanted = reached(self.nodes, roots)
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
