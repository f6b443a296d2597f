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
from math import prod

from tensorprog.dims import Dim
from tensorprog.graph import (
    Add,
    Axis,
    Const,
    Contract,
    Fold,
    Graph,
    InvRms,
    Map,
    Merge,
    Node,
    Op,
    Param,
    Scale,
    Softmax,
    Split,
    StopGrad,
    TopK,
    Unknown,
    Window,
)

ZERO = -1  # instead of a node: the tensor is zero there


@dataclass(frozen=True, slots=True)
class Segment:
    """A range of one axis (of the parameter without its axes of size 1) that counts as a parameter called `name`."""

    name: str
    axis: int
    start: Dim
    stop: Dim


class _ObstacleError(Exception):
    """A window cannot be moved up here."""


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


class _Rewriter:
    """One pass over the graph. `split`: the parameters that may be cut; None: those that must be (a first pass)."""

    def __init__(self, graph: Graph, split: frozenset[str] | None, which: _Which) -> None:
        self.graph, self.split, self.which = graph, split, which
        self.nodes: list[Node] = []
        self.parameters = dict(graph.parameters)
        self.unknowns = dict(graph.unknowns)
        self.segments: dict[str, dict[object, Segment]] = {}
        self._origin: dict[str, tuple[str, Segment]] = {}
        self._known: dict[object, int] = {}
        self._pushed: dict[object, int] = {}

    def emit(self, op: Op, args: tuple[int, ...], axes: tuple[Axis, ...], name: str = "") -> int:
        key = (op, args, tuple(a.dim for a in axes))
        if key not in self._known:
            self._known[key] = len(self.nodes)
            self.nodes.append(Node(len(self.nodes), op, args, axes, name))
        return self._known[key]

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
                except _ObstacleError:
                    pass
        if isinstance(op, Contract) and op.right is not None:
            for side in (0, 1):
                parts = self._parts(args[side], (op.left, op.right)[side], op.out)
                if parts is not None:
                    try:
                        return self._sum(op, args, side, parts, old)
                    except _ObstacleError:
                        pass
        return self.emit(op, args, old.axes, old.name)

    # --- cuts ---------------------------------------------------------------------------------------

    def push(self, at: int, axis: int, start: Dim, size: Dim) -> int:
        """The node of positions start .. start + size along an axis of a node."""
        node = self.nodes[at]
        if node.axes[axis].dim == size and not start.terms:
            return at
        key = (at, axis, start, size)
        if key not in self._pushed:
            self._pushed[key] = self._push(node, axis, start, size)
        return self._pushed[key]

    def _push(self, node: Node, axis: int, start: Dim, size: Dim) -> int:
        op, args = node.op, node.args
        axes = (*node.axes[:axis], Axis(size, node.axes[axis].label), *node.axes[axis + 1 :])

        def one(new_axis: int, new_op: Op | None = None, at: Dim | None = None, count: Dim | None = None) -> int:
            inner = self.push(args[0], new_axis, at if at is not None else start, count if count is not None else size)
            return inner if inner == ZERO else self.emit(new_op or op, (inner,), axes)

        match op:
            case Param(name):
                return self._segment(name, axis, start, size, axes)
            case Const():
                return self.emit(op, (), axes)
            case Scale(scalar):
                inner = self.push(args[0], axis, start, size)
                if inner == ZERO:
                    return ZERO
                used = tuple(self._use(u, inner) for u in scalar.unknowns)
                return self.emit(Scale(replace(scalar, unknowns=used)), (inner,), axes)
            case Map() | StopGrad():
                if isinstance(op, Map) and self._zero(args[0], axis, start, size):
                    raise _ObstacleError
                return one(axis)
            case Softmax(along, mask):
                if axis == along or (mask is not None and axis == mask[2]):
                    raise _ObstacleError
                return one(axis)
            case TopK(along, _):
                if axis == along:
                    raise _ObstacleError
                return one(axis)
            case Contract(left, right, out):
                index = out[axis]
                moved = [self.push(a, ix.index(index), start, size) if index in ix else a
                         for a, ix in zip(args, (left, right or ()), strict=False)]  # fmt: skip
                return ZERO if ZERO in moved else self.emit(op, tuple(moved), axes)
            case Add(places):
                return self._push_sum(node, places, axis, start, size, axes)
            case InvRms(reduced, _):
                kept = [k for k in range(len(self.nodes[args[0]].axes)) if k not in reduced]
                return one(kept[axis])
            case Split(at, count):
                if axis == at:  # the slowest of the parts
                    rest = prod((a.dim for a in node.axes[at + 1 : at + count]), start=Dim.of(1))
                    return one(at, None, start * rest, size * rest)
                if at < axis < at + count:
                    raise _ObstacleError
                return one(axis if axis < at else axis - count + 1)
            case Merge(at, count):
                if axis == at:
                    raise _ObstacleError
                return one(axis if axis < at else axis + count - 1)
            case Window(at, stride, _, offset, taps):
                if axis == at and not taps and stride == 1:
                    return self.push(args[0], axis, start + offset, size)
                if axis == at or (taps and axis == at + 1):
                    raise _ObstacleError
                return one(axis if axis < at or not taps else axis - 1)
            case Fold(at, stride, _, offset, taps):
                if axis == at:
                    if taps or stride != 1:
                        raise _ObstacleError
                    return self._push_fold(args[0], axis, start, size, offset)
                return one(axis if axis < at or not taps else axis + 1)
            case _:
                raise _ObstacleError

    def _push_sum(
        self, node: Node, places: tuple[tuple[int, ...], ...], axis: int, start: Dim, size: Dim, axes: tuple[Axis, ...]
    ) -> int:
        kept: list[tuple[tuple[int, ...], int]] = []
        for place, a in zip(places, node.args, strict=True):
            moved = self.push(a, place.index(axis), start, size) if axis in place else a
            if moved != ZERO:
                kept.append((place, moved))
        if not kept:
            return ZERO
        if {k for place, _ in kept for k in place} != set(range(len(axes))):
            raise _ObstacleError
        if len(kept) == 1 and kept[0][0] == tuple(range(len(axes))):
            return kept[0][1]
        return self.emit(Add(tuple(p for p, _ in kept)), tuple(a for _, a in kept), axes)

    def _push_fold(self, arg: int, axis: int, start: Dim, size: Dim, offset: Dim) -> int:
        """A cut of something that stands among zeros."""
        own = self.nodes[arg].axes[axis].dim
        first, last = start - offset, start + size - offset - own
        if _never_negative(first) and _never_negative(-last):
            return self.push(arg, axis, first, size)
        if _never_negative(first - own) or _never_negative(-(first + size)):
            return ZERO
        raise _ObstacleError

    def _zero(self, at: int, axis: int, start: Dim, size: Dim) -> bool:
        return self.push(at, axis, start, size) == ZERO

    def _segment(self, name: str, axis: int, start: Dim, size: Dim, axes: tuple[Axis, ...]) -> int:
        if name in self._origin:  # a part of a part
            name, whole = self._origin[name]
            if whole.axis != axis:
                raise _ObstacleError
            start = whole.start + start
        if self.split is not None and name not in self.split:
            raise _ObstacleError
        stop = start + size
        segment = Segment(f"{name}[{', '.join([':'] * axis + [f'{start}:{stop}'])}]", axis, start, stop)
        self.segments.setdefault(name, {})[axis, start, size] = segment
        self._origin[segment.name] = name, segment
        old = self.graph.parameters[name]
        self.parameters[segment.name] = replace(old, name=segment.name, axes=axes)
        return self.emit(Param(segment.name), (), axes)

    def _use(self, unknown: str, inner: int) -> str:
        """The multiplier of a use, for the part of the parameter that is used."""
        old = self.unknowns[unknown]
        if old.kind != "use":
            return unknown
        at = self.nodes[inner]
        while not isinstance(at.op, Param):
            at = self.nodes[at.args[0]]
        part = at.op.name
        if part == old.param:
            return unknown
        name = f"{part}@{unknown.rsplit('@', 1)[1]}"
        self.unknowns[name] = Unknown(name, old.base, "use", part)
        return name

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


def _never_negative(dim: Dim) -> bool:
    return all(c >= 0 for _, c in dim.terms)
