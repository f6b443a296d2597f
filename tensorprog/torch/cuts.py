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
    Window,
)
from tensorprog.parameters import Unknown

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
            case Add(places):
                return self._push_sum(node, places, axis, start, size, axes)
            case Split(at, count) if axis == at:  # the slowest of the parts
                rest = prod((a.dim for a in node.axes[at + 1 : at + count]), start=Dim.of(1))
                start, size, sources = start * rest, size * rest, [(0, at)]
            case Window(at, 1, _, offset, False) if axis == at:
                return self.push(args[0], axis, start + offset, size)
            case Fold(at, 1, _, offset, False) if axis == at:
                return self._push_fold(args[0], axis, start, size, offset)
            case _:
                sources = self.sources(node, axis)
        if not sources:
            raise ObstacleError
        moved = list(args)
        for k, own in sources:
            moved[k] = self.push(args[k], own, start, size)
        if ZERO not in moved:
            return self.emit(op, tuple(moved), axes)
        if isinstance(op, Map | InvRms):
            raise ObstacleError
        return ZERO

    def sources(self, node: Node, axis: int) -> list[tuple[int, int]]:
        """The operands, each with the axis of it, that have the same positions as an axis of a node; none if the node
        makes the axis."""
        match node.op:
            case Contract(left, right, out):
                return [(k, ix.index(out[axis])) for k, ix in enumerate((left, right or ())) if out[axis] in ix]
            case Add(places):
                return [(k, place.index(axis)) for k, place in enumerate(places) if axis in place]
            case Scale() | Map() | StopGrad():
                return [(0, axis)]
            case Softmax(along, mask):
                return [] if axis == along or (mask is not None and axis == mask[2]) else [(0, axis)]
            case TopK(along, _):
                return [] if axis == along else [(0, axis)]
            case InvRms(reduced, _):
                kept = [k for k in range(len(self.nodes[node.args[0]].axes)) if k not in reduced]
                return [(0, kept[axis])]
            case Split(at, count):
                return [] if at <= axis < at + count else [(0, axis if axis < at else axis - count + 1)]
            case Merge(at, count):
                return [] if axis == at else [(0, axis if axis < at else axis + count - 1)]
            case Window(at, _, _, _, taps):
                made = axis == at or (taps and axis == at + 1)
                return [] if made else [(0, axis if axis < at or not taps else axis - 1)]
            case Fold(at, _, _, _, taps):
                return [] if axis == at else [(0, axis if axis < at or not taps else axis + 1)]
        return []

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
        alone = [k for k in range(len(axes)) if not any(k in place for place, _ in kept)]
        if alone:  # along these, only what is zero here was long
            place, moved = kept[0]
            ones = self.emit(Const(1.0), (), tuple(axes[k] for k in alone))
            spread = tuple(sorted((*place, *alone)))
            product = self.emit(Contract(place, tuple(alone), spread), (moved, ones), tuple(axes[k] for k in spread))
            kept[0] = spread, product
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

    def _segment(self, name: str, axis: int, start: Dim, size: Dim, axes: tuple[Axis, ...]) -> int:
        if name in self._origin:  # a part of a part
            name, whole = self._origin[name]
            if whole.axis != axis:
                raise ObstacleError
            start = whole.start + start
        if self.split is not None and name not in self.split:
            raise ObstacleError
        stop = start + size
        segment = Segment(ranged(name, axis, start, stop), axis, start, stop)
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


def ranged(name: str, axis: int, start: Dim, stop: Dim) -> str:
    """How a range of a tensor is called: `weight[:, 0:n]`."""
    return f"{name}[{':, ' * axis}{start}:{stop}]"
