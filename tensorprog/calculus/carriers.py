"""Which slices of random parameters the entries of a forward tensor carry along an axis, as it starts.

Entry j of W x carries row j of W and, to leading order, nothing else of that coordinate. Let m be centred, and let y
carry nothing that m does. Exchange the rows that m carries: the sum over j of m_j y_j becomes that of m_p(j) y_j, equal
in law for every permutation p. So its mean is that of m's own mean times the sum of y, zero: a central limit sum,
though m may be even in all that it depends on, as cos(W z) is without its mean.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from tensorprog.calculus.multiply import ContractPlan
from tensorprog.calculus.shared import Sizes
from tensorprog.graph import Add, Const, Contract, Input, InvRms, Map, Node, Param, Program, Scale, Softmax, StopGrad

ANYTHING = -1


@dataclass
class Carriers:
    """What the forward tensors of a program carry, should anybody ask. Masks have a bit per parameter and per input."""

    program: Program
    sizes: Sizes

    def at_start(self, plan: ContractPlan, node: Node) -> ContractPlan:
        """The plan of a contraction for its operands' initial values: it says where two vectors carry nothing in
        common along the axis that is summed. (Not of weights: what is asked of those holds for their steps, too.)"""
        forward, op = self.program.forward, node.op
        if node.id >= len(forward.nodes) or forward.loops or len(plan.summed) != 1 or not isinstance(op, Contract):
            return plan
        growing = [self.sizes.growing(forward.nodes[a].axes) for a in node.args]
        if [len(axes) for axes in growing] != [1, 1] or not all(self._known[a][1] & self._inputs for a in node.args):
            return plan
        left, right = (self._known[a][0][axes[0]] for a, axes in zip(node.args, growing, strict=True))
        if left & right:
            return plan
        return self.sizes.same(replace(plan, summed=(replace(plan.summed[0], apart=True),), known={}))

    @cached_property
    def _bits(self) -> dict[str, int]:
        names = [*self.program.forward.parameters, *(self._input(node) for node in self.program.forward.nodes)]
        return {name: 1 << k for k, name in enumerate(dict.fromkeys(names))}

    @staticmethod
    def _input(node: Node) -> str:
        return f"input {node.op.name}" if isinstance(node.op, Input) else ""

    @cached_property
    def _inputs(self) -> int:
        return sum(bit for name, bit in self._bits.items() if name.startswith("input "))

    @cached_property
    def _known(self) -> list[tuple[list[int], int]]:
        """Of every forward node: what it carries along each of its axes, and all that it was computed from."""
        known: list[tuple[list[int], int]] = []
        for node in self.program.forward.nodes:
            args = [known[a] for a in node.args]
            source = 0
            for _, mask in args:
                source |= mask
            match node.op:
                case Param(name):
                    source = self._bits[name]
                    carried = [source] * len(node.axes)
                case Input():
                    source = self._bits[self._input(node)]
                    carried = [source] * len(node.axes)
                case Const():
                    carried = [0] * len(node.axes)
                case Scale() | StopGrad() | Map() | Softmax():
                    carried = args[0][0]
                case InvRms(axes, _):
                    carried = [mask for k, mask in enumerate(args[0][0]) if k not in axes]
                case Add(places):
                    carried = [0] * len(node.axes)
                    for place, (masks, _) in zip(places, args, strict=True):
                        for target, mask in zip(place, masks, strict=True):
                            carried[target] |= mask
                case Contract():
                    carried = self._contracted(node.op, node, args)
                case _:
                    carried = [ANYTHING] * len(node.axes)
            known.append((carried, source))
        return known

    def _contracted(self, op: Contract, node: Node, args: list[tuple[list[int], int]]) -> list[int]:
        """A row of W in W x, unless x knows W: then x may contain W^T y, and W x anything that y carries."""
        nodes, result = self.program.forward.nodes, dict.fromkeys(op.out, 0)
        entangled = len(args) == 2 and args[0][1] & args[1][1] & ~self._inputs
        for a, indices, (masks, _) in zip(node.args, (op.left, op.right or ()), args, strict=False):
            summed = any(
                i not in op.out and self.sizes(axis.dim) for i, axis in zip(indices, nodes[a].axes, strict=True)
            )
            for i, mask in zip(indices, masks, strict=True):
                if i in result:
                    result[i] |= ANYTHING if summed and entangled else mask
        return [result[i] for i in op.out]
