"""Which entries of an axis a program tells apart: some of its parts may be exactly zero in some of them.

A slice has a gradient in itself alone, and a lookup in the rows that it reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count as natural
from math import ceil, isqrt, lcm, prod

import numpy as np

from tensorprog.calculus.entries import Cut, Labels, Rows, common, counted, kinds, of_length
from tensorprog.dims import Dim
from tensorprog.graph import (
    Accumulate,
    Add,
    Contract,
    Fold,
    Input,
    InvRms,
    Map,
    Merge,
    Node,
    Program,
    Scale,
    Softmax,
    SoftmaxGrad,
    Split,
    StopGrad,
    TopK,
    Window,
)

LEAST, SMALLEST = 48, 6  # a width that sizes are compared at, and its smallest share
LONGEST = 10**6  # entries of an axis that are told apart
MOST = 1000  # entries of a slice: longer ones are not told from those that grow
INSIDE = -1  # in place of an axis: something that a node is made of is not all there


@dataclass(frozen=True, slots=True)
class Table:
    """Tokens as rows of zeros and a one along `axis`. `places`: of the other axes, which one of the input `root` each
    is, with a stride and a first entry."""

    root: int
    axis: int
    places: Mapping[int, tuple[int, int, int]]


@dataclass
class Cuts:
    """Of all nodes of a program. (Sizes are compared at some widths that make all of them whole.) `inside`: also where
    a single entry is read, and its axis is gone."""

    program: Program
    inside: bool = False

    @cached_property
    def starts(self) -> set[int]:
        """The nodes at which entries begin to be told apart: slices, and what reads tokens."""
        return {node.id for node in self.program.nodes
                if (isinstance(op := node.op, Fold | Window) and not op.taps)
                or not self.tokens.keys().isdisjoint(node.args)}  # fmt: skip

    @cached_property
    def of(self) -> list[dict[int, Cut]]:
        """Of every node, of the axes of which some entry may lack something that others have. (Of single entries only
        the forward nodes.)"""
        nodes = self.program.forward.nodes if self.inside else self.program.nodes
        found: list[dict[int, Cut]] = [{} for _ in nodes]
        moved = bool(self.starts)
        while moved:  # more than once only where layers read each other
            moved = False
            for node in nodes:
                if node.id not in self.starts and not any(map(found.__getitem__, node.args)):
                    continue
                new = self._cuts(node, found)
                moved |= bool(self.program.forward.loops) and kinds(new) != kinds(found[node.id])
                found[node.id] = new
        return found

    def _cuts(self, node: Node, known: list[dict[int, Cut]]) -> dict[int, Cut]:
        found: dict[int, Cut] = {}
        for axis, cut in self._inherited(node, known):
            found[axis] = common(found[axis], cut) if axis in found else cut
        lengths = {axis: 1 if axis == INSIDE else self.length(node.axes[axis].dim) for axis in found}
        return {a: kept for a, cut in found.items() if (kept := of_length(cut, lengths[a])) is not None}

    def _inherited(self, node: Node, known: list[dict[int, Cut]]) -> Iterator[tuple[int, Cut]]:
        for k, arg in enumerate(node.args):
            for own, cut in known[arg].items():
                for axis in self.becomes(node, k, own):
                    yield axis, cut
                if own == INSIDE or (self.inside and own in self.single(node, k)):
                    yield INSIDE, np.ones(1, dtype=np.int64)
        match node.op:
            case Contract(left, right, out):
                for k, indices in enumerate((left, right) if right is not None else ()):
                    table = self.tokens.get(node.args[k])
                    if table is not None and indices[table.axis] in out:
                        other, cuts = (right, left)[k] or (), known[node.args[1 - k]]
                        yield out.index(indices[table.axis]), self._chosen(node.args[k], indices, other, cuts)
            case Fold(axis, stride, _, offset, False) | Window(axis, stride, _, offset, False):
                yield from self._sliced(node, axis, stride, offset, known[node.args[0]].get(axis))
            case Split(axis, count):
                whole = known[node.args[0]].get(axis)
                sizes = self.lengths(node, axis, count) if isinstance(whole, np.ndarray) else []
                if isinstance(whole, np.ndarray) and len(whole) == prod(sizes):
                    for k in range(count):
                        rows = np.moveaxis(whole.reshape(sizes), k, 0).reshape(sizes[k], -1)
                        yield (
                            axis + k,
                            np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1) + (np.ptp(whole) == 0),
                        )
            case Merge(axis, count):
                arg = node.args[0]
                labels = {k: of for k in range(count) if isinstance(of := known[arg].get(axis + k), np.ndarray)}
                sizes = self.lengths(self.program.nodes[arg], axis, count) if labels else []
                if labels and all(sizes):
                    joint = np.zeros(sizes, dtype=np.int64)
                    for k, of in labels.items():
                        joint = joint * (int(of.max()) + 1) + of.reshape([-1 if j == k else 1 for j in range(count)])
                    yield axis, counted(joint.reshape(-1)) + (np.ptp(joint) == 0)

    def single(self, node: Node, k: int) -> list[int]:
        """The axes of the k-th operand that are summed, and of one entry."""
        if not isinstance(node.op, Contract):
            return []
        axes, indices = self.program.nodes[node.args[k]].axes, (node.op.left, node.op.right or ())[k]
        return [a for a, i in enumerate(indices) if i in node.op.summed and axes[a].dim.constant == 1]

    def becomes(self, node: Node, k: int, own: int) -> list[int]:
        """The axes of a node that are an axis of its k-th operand, entry by entry."""
        if own == INSIDE:
            return []
        match node.op:
            case Contract(left, right, out):
                index = (left, right or ())[k][own]
                return [out.index(index)] if index in out else []
            case Add(places):
                return [places[k][own]]
            case Scale() | Map() | StopGrad() | Accumulate():
                return [own]
            case Softmax(axis) | SoftmaxGrad(axis) | TopK(axis):
                return [own] if own != axis else []
            case InvRms(axes):
                return [own - sum(axis < own for axis in axes)] if own not in axes else []
            case Fold(axis, _, _, _, taps) | Window(axis, _, _, _, taps):
                width = 1 + (taps and isinstance(node.op, Fold))
                further = len(node.axes) - len(self.program.nodes[node.args[0]].axes)
                return [own] if own < axis else [own + further] if own >= axis + width else []
            case Split(axis, count):
                return [own] if own < axis else [own + count - 1] if own > axis else []
            case Merge(axis, count):
                return [own] if own < axis else [own - count + 1] if own >= axis + count else []
            case _:
                return []

    def _sliced(self, node: Node, axis: int, stride: int, offset: Dim, cut: Cut | None) -> Iterator[tuple[int, Cut]]:
        inside = cut.labels if isinstance(cut, Rows) else cut
        after, before = self.length(node.axes[axis].dim), self.length(self.program.nodes[node.args[0]].axes[axis].dim)
        first = self.value(offset)
        if not after or not before or first is None:
            return
        labels = np.zeros(after, dtype=np.int64)
        inner = 1 + (np.zeros(before, dtype=np.int64) if inside is None else inside)
        if isinstance(node.op, Fold):
            to = first + stride * np.arange(before)
            there = (to >= 0) & (to < after)
            labels[to[there]] = inner[there]
        else:
            of = first + stride * np.arange(after)
            there = (of >= 0) & (of < before)
            labels[there] = inner[of[there]]
        labels = counted(labels) + (isinstance(node.op, Window) and inside is not None and not np.ptp(labels))
        yield axis, Rows(cut.tokens, labels) if isinstance(cut, Rows) else labels

    # --- sizes -------------------------------------------------------------------------------------------

    @cached_property
    def _widths(self) -> dict[str, int]:
        """Widths at which all sizes are whole numbers, and none is equal to another by accident: multiples of primes,
        larger than what slices of axes that grow have in entries that do not."""
        dims = self._dims | {node.op.offset for node in self.program.nodes if isinstance(node.op, Fold | Window)}
        whole = lcm(*[c.denominator for dim in dims for _, c in dim.terms])
        below = sorted({s for dim in dims for monomial, _ in dim.terms for s, power in monomial if power < 0})
        above = sorted({s for dim in dims for s in dim.symbols} - set(below))
        primes = _primes(max(SMALLEST, LEAST // whole, 2 * min(self._finite, MOST)))
        found = {symbol: whole * next(primes) for symbol in below}
        divided = prod(found.values())
        return found | {symbol: whole * divided * next(primes) for symbol in above}

    @cached_property
    def _dims(self) -> set[Dim]:
        """Those of all axes. (Most nodes have the very same ones: to compare them takes longer than to find that.)"""
        return set({id(axis.dim): axis.dim for node in self.program.nodes for axis in node.axes}.values())

    @cached_property
    def _finite(self) -> int:
        """How far slices of axes that grow reach in entries whose number stays as it is, and by how many others are
        shorter than a multiple of a width."""
        grown = [dim for dim in self._dims if dim.grows]
        most = max([ceil(-c) for dim in grown for monomial, c in dim.terms if not monomial], default=0)
        for node in self.program.nodes:
            if isinstance(op := node.op, Fold | Window) and not op.taps:
                sizes = (op.offset, node.axes[op.axis].dim, self.program.nodes[node.args[0]].axes[op.axis].dim)
                if any(dim.grows for dim in sizes):
                    fixed = [abs(c) for dim in sizes for monomial, c in dim.terms if not monomial]
                    most = max(most, ceil(op.stride * sum(fixed)))
        return most

    def value(self, dim: Dim) -> int | None:
        value = dim.evaluate(self._widths)
        return int(value) if value.denominator == 1 else None

    def length(self, dim: Dim) -> int:
        """0 if it is not known, or too long to tell its entries apart."""
        value = self.value(dim) or 0
        return value if 0 < value <= LONGEST else 0

    def lengths(self, node: Node, axis: int, count: int) -> list[int]:
        return [self.length(node.axes[axis + k].dim) for k in range(count)]

    # --- rows that tokens choose ---------------------------------------------------------------------------

    @cached_property
    def tokens(self) -> dict[int, Table]:
        """The nodes that are tokens, or a slice of them."""
        found: dict[int, Table] = {}
        for node in self.program.nodes:
            if _is_tokens(node):
                found[node.id] = Table(node.id, len(node.axes) - 1, {k: (k, 1, 0) for k in range(len(node.axes) - 1)})
            elif node.args and (table := found.get(node.args[0])):
                match node.op:
                    case StopGrad():
                        found[node.id] = table
                    case Contract(left, None, out) if len(out) == len(left):
                        at = {out.index(left[k]): place for k, place in table.places.items()}
                        found[node.id] = Table(table.root, out.index(left[table.axis]), at)
                    case Window(axis, stride, _, offset, False) if axis != table.axis and stride:
                        first = self.value(offset)
                        if first is not None:
                            root, step, start = table.places[axis]
                            moved = {axis: (root, step * stride, start + step * first)}
                            found[node.id] = Table(table.root, table.axis, {**table.places, **moved})
        return found

    def _chosen(self, arg: int, indices: Sequence[int], other: Sequence[int], cuts: Mapping[int, Cut]) -> Rows:
        """What may choose a row: tokens, told apart where what they are multiplied with is, or where they are read."""
        table, axes = self.tokens[arg], self.program.nodes[arg].axes
        inputs, seen = self.program.nodes[table.root].axes, dict[int, Labels]()
        for axis, (root, stride, start) in table.places.items():
            count, length = self.length(axes[axis].dim), self.length(inputs[root].dim)
            cut = cuts.get(other.index(indices[axis])) if indices[axis] in other else None
            there = start + stride * np.arange(count)
            read = (there >= 0) & (there < length)
            labels = np.zeros(length, dtype=np.int64)
            labels[there[read]] = 1 + (cut[read] if isinstance(cut, np.ndarray) and len(cut) == count else 0)
            if length and np.ptp(labels):
                seen[root] = counted(labels)
        return Rows({table.root: seen})


def _is_tokens(node: Node) -> bool:
    return isinstance(node.op, Input) and node.op.kind == "tokens"


def _primes(above: int) -> Iterator[int]:
    return (n for n in natural(above + 1) if all(n % k for k in range(2, isqrt(n) + 1)))
