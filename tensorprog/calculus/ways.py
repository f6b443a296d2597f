"""How a node's axes come from those of its operands: entry by entry, through windows of several taps, behind masks."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tensorprog.calculus.lengths import LONGEST, Lengths
from tensorprog.graph import (
    Accumulate,
    Add,
    Contract,
    Fold,
    InvRms,
    Map,
    Merge,
    Node,
    Scale,
    Softmax,
    SoftmaxGrad,
    Split,
    StopGrad,
    TopK,
    Window,
)

INSIDE = -1  # in place of an axis: something that a node is made of is not all there
_COMPARE = {"<=": operator.le, "<": operator.lt, ">=": operator.ge, ">": operator.gt}  # of masks


@dataclass
class Ways(Lengths):
    """Of all nodes of a program."""

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

    def taps(self, node: Node) -> np.ndarray | None:
        """Which entry of the axis that windows slide along each (window, tap) is; None: not known, or an axis that
        grows."""
        op, arg = node.op, self.program.nodes[node.args[0]]
        assert isinstance(op, Fold | Window)
        apart = node if isinstance(op, Window) else arg
        first, (windows, taps) = self.value(op.offset), self.lengths(apart, op.axis, 2)
        if first is None or apart.axes[op.axis].dim.grows or not 0 < windows * taps <= LONGEST:
            return None
        return np.asarray(first + op.stride * np.arange(windows)[:, None] + op.dilation * np.arange(taps)[None, :])

    def misses(self, node: Node) -> bool:
        """Whether there are entries that no window has."""
        to = self.taps(node) if isinstance(node.op, Fold) else None
        return to is not None and not set(range(self.length(node.axes[node.op.axis].dim))).issubset(to.flat)  # type: ignore[union-attr]

    @cached_property
    def masked(self) -> dict[int, tuple[int, str, int]]:
        """The nodes that a mask makes zero in some entries: (axis, comparison, axis), where it does not hold."""
        found: dict[int, tuple[int, str, int]] = {}
        for node in self.program.nodes:
            if isinstance(node.op, Softmax) and node.op.mask is not None:
                found[node.id] = node.op.mask
                continue
            for k, arg in enumerate(node.args):
                slope = isinstance(node.op, SoftmaxGrad) and k == 0  # zero where shares are, not where dy is
                if arg in found and (slope or isinstance(node.op, Contract | Scale | StopGrad)):
                    key, op, query = found[arg]
                    to = [[own] if slope else self.becomes(node, k, own) for own in (key, query)]
                    if all(to):
                        found[node.id] = (to[0][0], op, to[1][0])
        return found

    def allowed(self, node: int, axis: int) -> np.ndarray | None:
        """Which entries of the other axis of a mask (columns) are not zero at those of this one (rows)."""
        key, op, query = self.masked[node]
        axes = self.program.nodes[node].axes
        keys, queries = (self.length(axes[k].dim) for k in (key, query))
        if not 0 < keys * queries <= LONGEST:
            return None
        holds = np.asarray(_COMPARE[op](np.arange(keys)[:, None], np.arange(queries)[None, :]))
        return holds if axis == key else holds.T
