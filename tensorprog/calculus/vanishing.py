"""Sums that are exactly zero, whatever the parameters are: what a mean takes away, what a softmax does not see.

Behind a centring, and behind the derivatives of a softmax and of the cross entropy, a gradient sums to zero along some
axes. So the gradient of a bias in front of a batch norm is zero, and that of a bias of all keys of an attention. In a
sum, such parts count as the largest by their size; a step that divides by the size of a gradient does not see them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property, lru_cache

from tensorprog.calculus.cuts import Cuts
from tensorprog.calculus.linear import Linear
from tensorprog.graph import (
    Accumulate,
    Add,
    Const,
    Contract,
    Fold,
    LossGrad,
    Merge,
    Node,
    Program,
    Scale,
    SoftmaxGrad,
    Split,
    StopGrad,
    Window,
)

Axes = frozenset[int]
Indices = tuple[int, ...]
Sum = tuple[int, Axes]  # a node, and the axes that it is summed over
NONE: Axes = frozenset()
LINEAR = Add | Scale | StopGrad | Split | Merge | Window | Fold | Accumulate


class Left(Enum):
    """What is left of a sum."""

    ALL = "all"
    PART = "not some of what it is made of"
    NOTHING = "nothing"


@dataclass
class Vanishing:
    """`zeros`: of every node, sets of axes over which it sums to zero, with equal weights (no axes: it is zero).
    `alike`: the axes along which all its entries are alike. `pairs`: operands of a sum, such as x and -mean(x), and
    sets of axes over which they cancel."""

    program: Program
    cuts: Cuts
    alike: list[Axes] = field(default_factory=list)
    zeros: list[frozenset[Axes]] = field(default_factory=list)
    pairs: dict[int, dict[int, frozenset[Axes]]] = field(default_factory=dict)
    known: dict[Sum, Left] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.linear = Linear(self.program.nodes)
        for node in self.program.nodes:
            self.linear.note(node)
            self.alike.append(self._alike(node))
            self.zeros.append(_least(zero for zero in self._zeros(node) if not self._is_known(node, zero)))

    def _is_known(self, node: Node, summed: Axes) -> bool:
        """Whether the calculus knows that a sum is zero by itself: along axes that grow."""
        return bool(summed) and all(node.axes[axis].dim.grows for axis in summed)

    # --- what is left of a sum ---------------------------------------------------------------------------

    def left(self, node: int, summed: Axes = NONE) -> Left:
        """What is left of a node's sum over these axes. Of tensors of the forward pass as they are: all."""
        if not summed and node not in self.suspects:
            return Left.ALL
        if (known := self.known.get((node, summed))) is not None:
            return known
        forward, pending = len(self.program.forward.nodes), [(node, summed)]
        made: dict[Sum, Sequence[Sum | None]] = {}
        while pending:
            asked = k, over = pending[-1]
            if asked not in self.known:
                if asked not in made:
                    made[asked] = self.operands(self.program.nodes[k], over) if over or k >= forward else []
                    pending += [of for of in made[asked] if of is not None and of not in self.known and of[0] < k
                                and (of[1] or of[0] in self.suspects)]  # fmt: skip
                    continue
                self.known[asked] = self._left(k, over, made[asked])
            pending.pop()
        return self.known[node, summed]

    def _left(self, node: int, over: Axes, operands: Sequence[Sum | None]) -> Left:
        found = [Left.NOTHING if of is None else self.known.get(of, Left.ALL) for of in operands]
        if self._is_zero(node, over):
            return Left.NOTHING
        if Left.NOTHING in found and vanishes(self.program.nodes[node].op, [of is Left.NOTHING for of in found]):
            return Left.NOTHING
        return Left.ALL if all(of is Left.ALL for of in found) else Left.PART

    def _is_zero(self, node: int, over: Axes) -> bool:
        return bool(self.zeros[node]) and any(zero <= over for zero in self.zeros[node])

    def operands(self, node: Node, summed: Axes, placed: Iterable[int] = ()) -> list[Sum | None]:
        """The operands of a node that is summed over these axes, each with those that it is summed over itself; None
        for what another one takes away. `placed`: indices of which a product has one entry."""
        if isinstance(op := node.op, Contract):
            alike = tuple([self.alike[a] for a in node.args])
            axes = _summed(op.left, op.right, op.out, summed, frozenset(placed), alike)
            return list(zip(node.args, axes, strict=True))
        if not isinstance(op, Add | Scale | StopGrad | Accumulate):
            return [(a, NONE) for a in node.args]
        places = op.places if isinstance(op, Add) else [range(len(node.axes) - isinstance(op, Accumulate))]
        found: list[Sum | None] = []
        for k, a in enumerate(node.args):
            gone = self.pairs.get(node.id, {}).get(k, frozenset())
            own = frozenset(axis for axis, to in enumerate(places[k]) if to in summed)
            found.append(None if any(axes <= summed for axes in gone) else (a, own))
        return found

    def _told_apart(self, node: Node, op: Contract, k: int) -> set[int]:
        """The indices of a product that its k-th operand tells apart."""
        return _told_apart((op.left, op.right or ())[k], self.alike[node.args[k]]) if k < len(node.args) else set()

    # --- one node ----------------------------------------------------------------------------------------

    def _alike(self, node: Node) -> Axes:
        match node.op:
            case Const():
                return frozenset(range(len(node.axes)))
            case Add(places):
                whole = frozenset(range(len(node.axes)))
                return whole.difference(*[
                    [axis for k, axis in enumerate(own) if k not in self.alike[a]]
                    for a, own in zip(node.args, places, strict=True)
                ])  # fmt: skip
            case Contract(_, _, out) as op:
                if not any(map(self.alike.__getitem__, node.args)):
                    return NONE
                indices = {index for k in range(len(node.args)) for index in self._told_apart(node, op, k)}
                return frozenset(axis for axis, index in enumerate(out) if index not in indices)
            case Scale() | StopGrad():
                return self.alike[node.args[0]]
            case _:
                return NONE

    def _zeros(self, node: Node) -> Iterator[Axes]:
        match node.op:
            case LossGrad("cross_entropy"):
                yield frozenset({len(node.axes) - 1})
            case SoftmaxGrad(axis):
                yield frozenset({axis})
            case Add(places):
                yield from self._zeros_of_sum(node, places)
            case Contract() | Scale() | StopGrad() | Split() | Merge() | Window() | Fold():
                for k, a in enumerate(node.args):
                    for zero in self.zeros[a]:
                        if (carried := self._carried(node, k, zero)) is not None:
                            yield carried

    def _carried(self, node: Node, k: int, zero: Axes) -> Axes | None:
        """Where a node sums to zero as its k-th operand does so over these axes; None: nowhere."""
        if isinstance(op := node.op, Contract):
            indices = {(op.left, op.right or ())[k][axis] for axis in zero}
            if not indices.isdisjoint(self._told_apart(node, op, 1 - k)):
                return None
            return frozenset(axis for axis, index in enumerate(op.out) if index in indices)
        to = [self.cuts.becomes(node, k, axis) for axis in zero]
        return frozenset(axis for axes in to for axis in axes) if all(to) else None

    @cached_property
    def suspects(self) -> set[int]:
        """The nodes that may lack something: over some axes a part of what they are made of is zero, and all of these
        axes are summed. (What reads a node behind it may, too.)"""
        found: set[int] = set()
        parts: list[set[Axes]] = []
        for node in self.program.nodes:
            some = set(self.zeros[node.id]).union(*self.pairs.get(node.id, {}).values())
            for k, a in enumerate(
                node.args if isinstance(node.op, Contract | Add | Scale | StopGrad | Accumulate) else ()
            ):
                carried = [self._carried(node, k, zero) for zero in (parts[a] if a < node.id else ())]
                some.update(axes for axes in carried if axes is not None)
            parts.append(some)
            if NONE in some or any(a >= node.id or a in found for a in node.args):
                found.add(node.id)
        return found

    def _zeros_of_sum(self, node: Node, places: tuple[tuple[int, ...], ...]) -> Iterator[Axes]:
        pairs: dict[int, frozenset[Axes]] = {}
        for k, axes in self.linear.cancelling(node, places):
            if not self._is_known(node, axes):
                pairs[k] = pairs.get(k, frozenset()) | {axes}
        if pairs:
            self.pairs[node.id] = pairs
        sets = frozenset().union(*pairs.values()) | {
            frozenset(own[axis] for axis in zero)
            for a, own in zip(node.args, places, strict=True) for zero in self.zeros[a]
        }  # fmt: skip
        for summed in sets:
            if all(any(axes <= summed for axes in pairs.get(k, ()))
                   or self._is_zero(a, frozenset(axis for axis, to in enumerate(own) if to in summed))
                   for k, (a, own) in enumerate(zip(node.args, places, strict=True))):  # fmt: skip
                yield summed


@lru_cache(4096)  # most products of a network are alike
def _summed(
    left: Indices, right: Indices | None, out: Indices, summed: Axes, placed: frozenset[int], alike: tuple[Axes, ...]
) -> tuple[Axes, ...]:
    """Of the operands of a product that is summed over these of its axes, those that are summed and that the other one
    does not tell apart. `alike`: of each, the axes along which its entries are."""
    kept = {index for axis, index in enumerate(out) if axis not in summed} | placed
    indices = [left, right or ()][: len(alike)]
    told = [_told_apart(own, axes) for own, axes in zip(indices, alike, strict=True)]
    found = []
    for k, own in enumerate(indices):
        apart = kept.union(*told[:k], *told[k + 1 :])
        found.append(frozenset(axis for axis, index in enumerate(own) if index not in apart))
    return tuple(found)


def _told_apart(indices: Indices, alike: Axes) -> set[int]:
    return {index for axis, index in enumerate(indices) if axis not in alike}


def vanishes(op: object, zero: Sequence[bool]) -> bool:
    """Whether a node is zero where these of its operands are."""
    return (isinstance(op, Contract) and any(zero)) or (isinstance(op, LINEAR) and bool(zero) and all(zero))


def _least(sets: Iterable[Axes]) -> frozenset[Axes]:
    """Those that hold no other."""
    found = frozenset(sets)
    return found if len(found) < 2 else frozenset(one for one in found if not any(other < one for other in found))
