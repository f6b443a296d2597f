"""Which entries of an axis a program tells apart: some of its parts may be exactly zero in some of them.

A slice has a gradient in itself alone, and a lookup in the rows that it reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np

from tensorprog.calculus.entries import Cut, Labels, Rows, common, counted, kinds, of_length, rows_apart
from tensorprog.calculus.lengths import LONGEST
from tensorprog.calculus.ways import INSIDE as INSIDE  # one place for those who read cuts
from tensorprog.calculus.ways import Ways
from tensorprog.dims import Dim
from tensorprog.graph import (
    Contract,
    Fold,
    Input,
    Merge,
    Node,
    Split,
    StopGrad,
    Window,
)


@dataclass(frozen=True, slots=True)
class Table:
    """Tokens as rows of zeros and a one along `axis`. `places`: of the other axes, which one of the input `root` each
    is, with a stride and a first entry."""

    root: int
    axis: int
    places: Mapping[int, tuple[int, int, int]]


@dataclass
class Cuts(Ways):
    """Of all nodes of a program. (Sizes are compared at some widths that make all of them whole.) `inside`: also where
    a single entry is read, and its axis is gone."""

    inside: bool = False

    @cached_property
    def starts(self) -> set[int]:
        """The nodes at which entries begin to be told apart: slices, and what reads tokens."""
        return {node.id for node in self.program.nodes
                if (isinstance(op := node.op, Fold | Window) and (not op.taps or self.misses(node)))
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
                yield from self._behind_masks(node, (left, right or ()), out, known)
            case Fold(axis, taps=True) | Window(axis, taps=True):
                yield from self._tapped(node, axis, known[node.args[0]])
            case Fold(axis, stride, _, offset, False) | Window(axis, stride, _, offset, False):
                yield from self._sliced(node, axis, stride, offset, known[node.args[0]].get(axis))
            case Split(axis, count):
                whole = known[node.args[0]].get(axis)
                sizes = self.lengths(node, axis, count) if isinstance(whole, np.ndarray) else []
                if isinstance(whole, np.ndarray) and len(whole) == prod(sizes):
                    for k in range(count):
                        rows = np.moveaxis(whole.reshape(sizes), k, 0).reshape(sizes[k], -1)
                        yield axis + k, rows_apart(rows) + (np.ptp(whole) == 0)
            case Merge(axis, count):
                arg = node.args[0]
                labels = {k: of for k in range(count) if isinstance(of := known[arg].get(axis + k), np.ndarray)}
                sizes = self.lengths(self.program.nodes[arg], axis, count) if labels else []
                if labels and all(sizes):
                    joint = np.zeros(sizes, dtype=np.int64)
                    for k, of in labels.items():
                        joint = joint * (int(of.max()) + 1) + of.reshape([-1 if j == k else 1 for j in range(count)])
                    yield axis, counted(joint.reshape(-1)) + (np.ptp(joint) == 0)

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

    # --- windows of several taps, and masks ----------------------------------------------------------------

    def _tapped(self, node: Node, axis: int, known: Mapping[int, Cut]) -> Iterator[tuple[int, Cut]]:
        to, cuts = self.taps(node), {k: cut for k, cut in known.items() if isinstance(cut, np.ndarray)}
        if to is None:
            return
        whole = self.program.nodes[node.args[0]] if isinstance(node.op, Window) else node
        length = self.length(whole.axes[axis].dim)
        there = (to >= 0) & (to < length)
        if isinstance(node.op, Window):
            inside = cuts.get(axis)
            if inside is not None and length:
                read = np.where(there, 1 + inside[to * there], 0)
                for k, rows in enumerate((read, read.T)):
                    labels = rows_apart(rows)
                    yield axis + k, labels + (not np.ptp(labels))
        elif length:
            own = [cuts.get(axis + k, np.zeros(count, dtype=np.int64)) for k, count in enumerate(to.shape)]
            kind = own[0][:, None] * (int(own[1].max()) + 1) + own[1][None, :]
            if length * (int(kind.max()) + 1) <= LONGEST:
                met = np.zeros((length, int(kind.max()) + 1), dtype=bool)
                met[to[there], kind[there]] = True
                labels = rows_apart(met)
                yield axis, labels + (not np.ptp(labels) and not cuts.keys().isdisjoint((axis, axis + 1)))

    def _behind_masks(
        self, node: Node, indices: Sequence[Sequence[int]], out: Sequence[int], known: Sequence[Mapping[int, Cut]]
    ) -> Iterator[tuple[int, Cut]]:
        """Entries of a product are told apart by which of those that are summed a mask leaves."""
        for k, arg in enumerate(node.args):
            if arg not in self.masked:
                continue
            key, _, query = self.masked[arg]
            for kept, summed in ((key, query), (query, key)):
                own, allowed = indices[k], self.allowed(arg, kept)
                if own[kept] not in out or own[summed] in out or allowed is None:
                    continue
                apart = [cut for a, of in zip(node.args, indices, strict=False) if own[summed] in of
                         and isinstance(cut := known[a].get(of.index(own[summed])), np.ndarray)]  # fmt: skip
                cut = common(apart[0], apart[-1]) if apart else np.zeros(allowed.shape[1], dtype=np.int64)
                assert isinstance(cut, np.ndarray)
                seen = np.stack([allowed[:, cut == kind].any(axis=1) for kind in np.unique(cut)], axis=1)
                labels = rows_apart(seen)
                if apart or np.ptp(labels):  # nothing is summed for some
                    yield out.index(own[kept]), labels + (not np.ptp(labels))

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
