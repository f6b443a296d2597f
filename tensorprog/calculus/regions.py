"""Regions of a parameter: entries whose gradient lacks some of its parts, which are exactly zero there, or everywhere.

A gradient is followed back as it is in one region: what each node is made of there, and what of that is zero. Nodes
that are not all there are kept once more behind the program, each with the rule of the node that it is a part of.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, product
from typing import Any

import numpy as np

from tensorprog.calculus.cuts import INSIDE, Cuts
from tensorprog.calculus.entries import Cut, Labels, Rows, Token, first_of_each, firsts
from tensorprog.calculus.places import Place, behind_masks, moved, some
from tensorprog.calculus.shared import refuse
from tensorprog.calculus.vanishing import NONE, Axes, Left, Vanishing, vanishes
from tensorprog.graph import (
    Add,
    Const,
    Contract,
    Input,
    InvRms,
    LossGrad,
    Node,
    Param,
    Program,
)

Part = tuple[int, tuple[tuple[int, Place], ...], Axes]  # a node at such places of some axes, if summed over others
UNREAD: Token = (-1, ())  # a row that no token chooses
MOST = 40  # parts per node of the program (Swin, of four blocks: 14)
NEAR = 2000  # parts that one norm is made of


@dataclass(frozen=True, slots=True)
class Regions:
    """`nodes`: those of the program, and behind them a zero and parts. `of`: part -> the node that it is a part of.
    `found`: of what was asked for (gradients, or what norms divide by) that in each region where it lacks something.
    `narrowed`: sums in which an axis that grows is not all there."""

    nodes: Sequence[Node]
    of: Mapping[int, int]
    found: Mapping[Any, tuple[int, ...]]
    narrowed: frozenset[int]


def regions(program: Program, names: Iterable[str], whole: Iterable[str] = ()) -> Regions:
    """Of the gradients of these parameters. `whole`: parameters whose entries are not told apart, so that only what is
    zero in all of them is left out. Raises CalculusError if there are far too many."""
    asked = {
        name: (k, range(together * len(program.nodes[k].axes)))
        for together, group in enumerate((names, whole))
        for name in group
        if (k := program.grads.get(name)) is not None
    }
    cuts = Cuts(program)
    return _Reader(program, cuts, Vanishing(program, cuts)).regions(asked)


def regions_of_norms(program: Program) -> Regions:
    """Of what each norm of the forward pass divides by, where one divides apart from others. Where there are far too
    many parts (windows that are shifted from layer to layer), those far from a norm are taken as all of their node."""
    norms = [(node, node.op) for node in program.forward.nodes if isinstance(node.op, InvRms)]
    asked = {node.id: (node.args[0], op.axes) for node, op in norms}
    return _Reader(program, Cuts(program, inside=True)).regions(asked, NEAR)


@dataclass
class _Reader:
    program: Program
    cuts: Cuts
    sums: Vanishing | None = None
    alike: dict[tuple[int, int], Labels] = field(default_factory=dict)  # of entries of an axis, the first like it
    made: dict[Part, list[Part | None]] = field(default_factory=dict)  # what of its operands; None: zero

    def regions(self, whole: Mapping[Any, tuple[int, Sequence[int]]], near: int | None = None) -> Regions:
        """Of nodes, by any names; each with axes along which its entries stay together. `near`: at most so many parts
        of each."""
        nodes = self.program.nodes
        apart = any(self.cuts.of[k] for k, _ in whole.values())
        if not apart and not any(self._lacks((k, (), NONE)) for k, _ in whole.values()):
            return Regions(nodes, {}, {}, frozenset())
        wanted = {name: [part for part in islice(self._regions(k, axes), near) if self._is_apart(part)]
                  for name, (k, axes) in whole.items()}  # fmt: skip
        for asked in wanted.values():
            if near is None:
                self._follow(asked)
            else:
                self._follow_near(asked, near)
        zero = len(nodes)
        found, of, narrowed = [*nodes, Node(zero, Const(0.0), (), ())], dict[int, int](), set[int]()
        known = self._known(zero)
        parts = [part for part in sorted(self.made, key=lambda part: part[0]) if known[part] < 0]
        known.update({part: zero + 1 + k for k, part in enumerate(parts)})
        for part in parts:
            node = nodes[part[0]]
            args = tuple([zero if p is None else known[p] for p in self.made[part]])
            if isinstance(node.op, Add) and any(axis != INSIDE and node.axes[axis].dim.grows for axis, _ in part[1]):
                narrowed.add(len(found))
            of[len(found)] = node.id
            found.append(replace(node, id=len(found), args=args))
        lacking = {name: tuple(sorted({known[p] for p in asked} - {zero, whole[name][0]}))
                   for name, asked in wanted.items()}  # fmt: skip
        return Regions(found, of, lacking, frozenset(narrowed))

    def _regions(self, node: int, together: Sequence[int]) -> Iterator[Part]:
        cuts = [(axis, places) for axis, cut in sorted(self.cuts.of[node].items())
                if len(places := _places(cut)) == 1 or axis not in together]  # fmt: skip
        for chosen in product(*[places for _, places in cuts]):
            yield node, tuple([(axis, place) for (axis, _), place in zip(cuts, chosen, strict=True)]), NONE

    def _lacks(self, part: Part) -> bool:
        """Whether some of what a node is made of is zero in its sum."""
        return self.sums is not None and self.sums.left(part[0], part[2]) is not Left.ALL

    def _is_apart(self, part: Part) -> bool:
        return bool(part[1]) or self._lacks(part)

    def _follow(self, starts: Sequence[Part]) -> None:
        pending = list(starts)
        while pending:
            part = pending.pop()
            if part in self.made:
                continue
            self.made[part] = parts = self._operands(part) if self._is_apart(part) else []
            pending += [p for p in parts if p is not None]
            if len(self.made) > MOST * max(1000, len(self.program.nodes)):
                raise refuse(
                    self.program.nodes[starts[0][0]], self.program.nodes, "it has too many parts that are zero in some "
                    "of its entries", "read the parameter as a whole, or make one of each part",
                )  # fmt: skip

    def _follow_near(self, starts: Sequence[Part], most: int) -> None:
        """The nearest are followed, whatever others have been; what is behind them is taken as a whole."""
        order, seen = list(starts), set(starts)
        for part in order:
            if not self.made.get(part):
                self.made[part] = self._operands(part) if self._is_apart(part) else []
            for new in self.made[part]:
                if new is not None and new not in seen and len(order) < most:
                    seen.add(new)
                    order.append(new)
                elif new is not None:
                    self.made.setdefault(new, [])

    def _known(self, zero: int) -> dict[Part, int]:
        """Of each part the node that it is: its own if nothing is zero there, `zero` if all is; else -1."""
        known = {part: part[0] for part in self.made}
        order, moved = sorted(known, key=lambda part: part[0]), True
        while moved:  # more than once only where layers read each other
            moved = False
            for part in order:
                op, args = self.program.nodes[part[0]].op, [zero if p is None else known[p] for p in self.made[part]]
                whole = [part[0]] if not args else [zero] if vanishes(op, [a == zero for a in args]) else []
                same = all(p is not None and known[p] == p[0] for p in self.made[part])
                new = whole[0] if whole else part[0] if same else -1
                moved |= new != known[part] and bool(self.program.forward.loops)
                known[part] = new
        return known

    def _part(self, node: int, places: Mapping[int, Place]) -> Part:
        """Of places that are alike one; only of axes in which something may be zero."""
        kept: list[tuple[int, Place]] = []
        for axis, cut in sorted(self.cuts.of[node].items()):
            place = 0 if axis == INSIDE else places.get(axis)
            labels = cut.labels if isinstance(cut, Rows) else cut
            entry = place[1] if isinstance(place, tuple) else place
            if entry is not None and labels is not None:
                entry = self._like(node, axis, labels, entry)
            if isinstance(cut, Rows) and isinstance(place, tuple):
                row = entry if labels is not None and isinstance(entry, int) else 0
                kept.append((axis, (cut.like(place[0]) or UNREAD, row)))
            elif isinstance(cut, np.ndarray) and entry is not None:
                kept.append((axis, entry))
        return node, tuple(kept), NONE

    def _like(self, node: int, axis: int, labels: Labels, entries: int | frozenset[int]) -> int | frozenset[int] | None:
        """The first entries that are like these; None: of all kinds, or not known."""
        like = self.alike.get((node, axis))
        if like is None:
            like = self.alike[node, axis] = first_of_each(labels)
        if isinstance(entries, int):
            return int(like[entries]) if entries < len(like) else None
        found = frozenset(int(like[entry]) for entry in entries if entry < len(like))
        if max(entries) >= len(like) or len(found) == len(firsts(labels)) > 1:
            return None
        return some(found)

    def _operands(self, part: Part) -> list[Part | None]:
        """What a part is made of; nothing where it is taken as a whole."""
        node, places = self.program.nodes[part[0]], dict(part[1])
        match node.op:
            case Contract(left, right, out):
                at = {out[axis]: place for axis, place in places.items() if axis != INSIDE}
                parts = self._factors(node, at, (left, right or ()))
                return self._left(node, part[2], parts, at)
            case Param() | Input() | Const() | LossGrad():
                return []
        seen = []
        for k, arg in enumerate(node.args):
            axes = range(len(self.program.nodes[arg].axes))
            to = [(own, axis) for own in axes for axis in self.cuts.becomes(node, k, own)]
            seen.append({own: places[axis] for own, axis in to if axis in places})
        read = moved(self.cuts, node, places)
        if read is None:
            return [None]
        parts = [self._part(arg, {**own, **read}) for arg, own in zip(node.args, seen, strict=True)]
        return self._left(node, part[2], parts)

    def _left(
        self, node: Node, summed: Axes, parts: Sequence[Part | None], placed: Iterable[int] = ()
    ) -> list[Part | None]:
        """What of the operands of a node is left, if it is summed."""
        if self.sums is None:
            return list(parts)
        found: list[Part | None] = []
        for part, of in zip(parts, self.sums.operands(node, summed, placed), strict=True):
            left = Left.NOTHING if part is None or of is None else self.sums.left(*of)
            if part is None or of is None or left is Left.NOTHING:
                found.append(None)
            else:
                found.append((*part[:2], of[1] if left is Left.PART else NONE))
        return found

    def _factors(
        self, node: Node, at: dict[int, Place], indices: tuple[tuple[int, ...], tuple[int, ...]]
    ) -> list[Part | None]:
        """Of a product; a row of a table is made of what stands where its token does."""
        for arg, own in zip(node.args, indices, strict=False):
            table = self.cuts.tokens.get(arg)
            row = at.get(own[table.axis]) if table is not None else None
            if table is None or not isinstance(row, tuple):
                continue
            token = row[0]
            if token[0] != table.root:
                return [None for _ in node.args]
            entries = dict(token[1])
            for axis, (root, stride, start) in table.places.items():
                if root in entries:
                    place, rest = divmod(entries[root] - start, stride)
                    if rest or not 0 <= place < self.cuts.length(self.program.nodes[arg].axes[axis].dim):
                        return [None for _ in node.args]
                    at.setdefault(own[axis], place)
        if not behind_masks(self.cuts, node, at, indices):
            return [None for _ in node.args]
        for k, own in enumerate(indices[: len(node.args)]):
            at = {**dict.fromkeys([own[axis] for axis in self.cuts.single(node, k)], 0), **at}
        return [self._part(arg, {axis: at[i] for axis, i in enumerate(own) if i in at})
                for arg, own in zip(node.args, indices, strict=False)]  # fmt: skip


def _places(cut: Cut) -> list[Place]:
    if isinstance(cut, Rows):
        return list(product([UNREAD, *cut.places], [0] if cut.labels is None else firsts(cut.labels)))
    return list(firsts(cut))
