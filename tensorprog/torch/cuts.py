"""A cut (a window of an axis) moved up through a graph, to the parameters it comes from."""

from __future__ import annotations

from dataclasses import dataclass, replace
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


class ObstacleError(Exception):
    """A window cannot be moved up here."""


class Cuts:
    """A copy of a graph in the making, and how a cut is moved up in it. `split`: the parameters that may be cut; None:
    those that must be (a first pass)."""

    def __init__(self, graph: Graph, split: frozenset[str] | None) -> None:
        self.graph, self.split = graph, split
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
                    raise ObstacleError
                return one(axis)
            case Softmax(along, mask):
                if axis == along or (mask is not None and axis == mask[2]):
                    raise ObstacleError
                return one(axis)
            case TopK(along, _):
                if axis == along:
                    raise ObstacleError
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
                    raise ObstacleError
                return one(axis if axis < at else axis - count + 1)
            case Merge(at, count):
                if axis == at:
                    raise ObstacleError
                return one(axis if axis < at else axis + count - 1)
            case Window(at, stride, _, offset, taps):
                if axis == at and not taps and stride == 1:
                    return self.push(args[0], axis, start + offset, size)
                if axis == at or (taps and axis == at + 1):
                    raise ObstacleError
                return one(axis if axis < at or not taps else axis - 1)
            case Fold(at, stride, _, offset, taps):
                if axis == at:
                    if taps or stride != 1:
                        raise ObstacleError
                    return self._push_fold(args[0], axis, start, size, offset)
                return one(axis if axis < at or not taps else axis + 1)
            case _:
                raise ObstacleError

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
            raise ObstacleError
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
        raise ObstacleError

    def _zero(self, at: int, axis: int, start: Dim, size: Dim) -> bool:
        return self.push(at, axis, start, size) == ZERO

    def _segment(self, name: str, axis: int, start: Dim, size: Dim, axes: tuple[Axis, ...]) -> int:
        if name in self._origin:  # a part of a part
            name, whole = self._origin[name]
            if whole.axis != axis:
                raise ObstacleError
            start = whole.start + start
        if self.split is not None and name not in self.split:
            raise ObstacleError
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


def _never_negative(dim: Dim) -> bool:
    return all(c >= 0 for _, c in dim.terms)
