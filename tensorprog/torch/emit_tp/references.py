"""Tensors at indices: names with brackets, in which windows, splits and transpositions become computed indices."""

from __future__ import annotations

from collections.abc import Sequence

from tensorprog.dims import Dim
from tensorprog.graph import Contract, Fold, Input, Node, Param, Scale, Split, Window
from tensorprog.torch.emit_tp.plan import Plan
from tensorprog.torch.emit_tp.scope import Scope, seen
from tensorprog.torch.emit_tp.text import offset_text, only_use, refuse, shifted, times

SUM, PRODUCT, ATOM = 1, 2, 3  # how tightly an expression binds


class References:
    """One line in the making: the indices that it uses, and what it refers to."""

    def __init__(self, plan: Plan, scope: Scope) -> None:
        self.plan, self.scope, self.nodes = plan, scope, plan.graph.nodes
        self.used: dict[Dim, int] = {}

    def index(self, dim: Dim) -> str:
        """A name that no other index of the line has."""
        number = self.used.get(dim, 0)
        self.used[dim] = number + 1
        return self.scope.index(dim, number)

    def written_here(self, node: Node) -> bool:
        """Whether the node is written within the line, not by a name."""
        return node.id not in self.plan.reads

    def spread(self, node: Node, indices: Sequence[str]) -> list[str | None]:
        """One entry per axis of the node: its index, None for the batch."""
        rest = iter(indices)
        return [None if seen(a.dim) is None else next(rest) for a in node.axes]

    def operand(self, number: int, indices: list[str], least: int) -> str:
        """A node's value at these indices, in parentheses if it binds less tightly than `least`."""
        node = self.nodes[number]
        if not self.written_here(node):
            return self.name_at(node, indices)
        text, binding = self.expression(node, indices)
        return f"({text})" if binding < least else text

    def expression(self, node: Node, indices: list[str]) -> tuple[str, int]:
        """The text of a node's value at these indices, and how tightly it binds."""
        raise NotImplementedError

    def name_at(self, node: Node, indices: Sequence[str]) -> str:
        return f"{self.scope.of_line(node.id)}[{','.join(indices)}]"

    def reference(self, node: Node, indices: Sequence[str]) -> str:
        """A tensor at indices."""
        op = node.op
        by_axis = self.spread(node, indices)
        match op:
            case Param(name):
                return f"{self.scope.of_param(self.plan.graph.parameters[name])}[{','.join(indices)}]"
            case Input(_, kind):
                if kind == "tokens":
                    raise refuse("one-hot rows that are not used as a look-up")
                return f"{self.scope.of_input(node)}[{','.join(indices)}]"
            case Contract(left, None, out) if len(left) == len(out):
                known = dict(zip(out, by_axis, strict=True))
                return self.behind(node, [known[i] for i in left])
            case Window():
                return self._window(node, op, by_axis)
            case Fold(axis, 1, _, offset, taps=False):
                inner = list(by_axis)
                inner[axis] = shifted(inner[axis] or "", 1, -offset)
                return self.behind(node, inner)
            case Fold():
                raise refuse("a transposed convolution whose windows overlap")
            case Split(axis, count):
                parts = zip(by_axis[axis : axis + count], node.axes[axis : axis + count], strict=True)
                named = [(i, part.dim) for i, part in parts if i is not None]
                group = [i for i, dim in named if i != "0" or dim != Dim.of(1)] or [i for i, _ in named]
                one = group[0] if len(group) == 1 else f"({' '.join(group)})"
                return self.behind(node, [*by_axis[:axis], one if group else None, *by_axis[axis + count :]])
            case Scale(scalar) if only_use(self.plan.graph, scalar):
                return self.behind(node, by_axis)
            case _:
                text, binding = self.expression(node, list(indices))
                return text if binding == ATOM else f"({text})"

    def _window(self, node: Node, op: Window, by_axis: list[str | None]) -> str:
        u = by_axis[op.axis] or ""
        if op.taps:
            a = by_axis[op.axis + 1] or ""
            tap = times(op.dilation, a)
            position = (f"{times(op.stride, u)} + {tap}" if u != "0" else tap) + offset_text(op.offset)
            return self.behind(node, [*by_axis[: op.axis], position, *by_axis[op.axis + 2 :]])
        position = shifted(u, op.stride, op.offset)
        return self.behind(node, [*by_axis[: op.axis], position, *by_axis[op.axis + 1 :]])

    def behind(self, node: Node, by_axis: Sequence[str | None]) -> str:
        """The operand of a relabelling at indices."""
        arg = self.nodes[node.args[0]]
        names = [i for i in by_axis if i is not None]
        return self.reference(arg, names) if self.written_here(arg) else self.name_at(arg, names)
