"""One line of the file from one node."""

from __future__ import annotations

from fractions import Fraction

from tensorprog.dims import BATCH_SYMBOL, ONE
from tensorprog.graph import (
    Add,
    Const,
    Contract,
    Fold,
    Input,
    InvRms,
    Map,
    Merge,
    Node,
    Param,
    Scalar,
    Scale,
    Softmax,
    Split,
    StopGrad,
    TopK,
    Window,
)
from tensorprog.torch.emit_tp.products import Products
from tensorprog.torch.emit_tp.references import ATOM, PRODUCT, SUM
from tensorprog.torch.emit_tp.scope import seen, visible
from tensorprog.torch.emit_tp.text import dim_text, number_text, refuse, tiles
from tensorprog.torch.positive import SHIFTED

DEFAULT_EPS = InvRms(()).eps


class Line(Products):
    """The two sides of a line: what is left of `=`, in brackets, and what is right of it."""

    def sides(self, node: Node) -> tuple[str, str]:
        """The indices on the left, and the expression."""
        if isinstance(node.op, Merge) or tiles(node, self.nodes):
            return self.merged(node)
        left = [self.index(d) for d in visible(node.axes)]
        return ",".join(left), self.expression(node, left)[0]

    def merged(self, node: Node) -> tuple[str, str]:
        """`m[t,(h e)] = z[t,h,e]`."""
        op = node.op
        assert isinstance(op, Merge | Fold)
        count = op.count if isinstance(op, Merge) else 2
        arg = self.nodes[node.args[0]]
        names = [None if (dim := seen(a.dim)) is None else self.index(dim) for a in arg.axes]
        left: list[str] = []
        for k, name in enumerate(names):
            if k == op.axis:
                group = [n for n in names[op.axis : op.axis + count] if n is not None]
                if len(group) > 1:
                    left.append(f"({' '.join(group)})")
                elif group:
                    left.append(group[0])
            elif not op.axis < k < op.axis + count and name is not None:
                left.append(name)
        return ",".join(left), self.operand(arg.id, [n for n in names if n is not None], SUM)

    def expression(self, node: Node, indices: list[str]) -> tuple[str, int]:
        op = node.op
        match op:
            case Const(value):
                return number_text(Fraction(value)), ATOM
            case Param() | Input():
                return self.reference(node, indices), ATOM
            case Scale(scalar):
                return self.scaled(node, scalar, indices)
            case Map(fn, 0):
                inner = self.operand(node.args[0], indices, SUM)
                if fn not in SHIFTED:
                    return f"{fn}({inner})", ATOM
                return f"{SHIFTED[fn][0]}({inner} - 1)", ATOM
            case StopGrad():
                return f"stop_gradient({self.operand(node.args[0], indices, SUM)})", ATOM
            case Add(places):
                return self.added(node, places, indices), SUM
            case Contract(_, right, out):
                if right is None and len(out) == len(op.left):
                    return self.reference(node, indices), ATOM
                if right is None and self.picks(node):
                    known = dict(zip(out, self.spread(node, indices), strict=True))
                    return self.behind(node, [known.get(i, "0") for i in op.left]), ATOM
                return self.product(node, op, indices)
            case InvRms(axes, eps):
                inner, names = self.reduced(node, axes, indices)
                option = "" if eps == DEFAULT_EPS else f", eps = {number_text(Fraction(eps))}"
                return f"rms_scale[{names}]({inner}{option})", ATOM
            case Softmax(axis, mask):
                k = self.position(node, axis)
                bound = indices[k]
                inside = list(indices)
                condition = ""
                if mask is not None:
                    condition = f" | {bound} {mask[1]} {indices[self.position(node, mask[2])]}"
                text = self.operand(node.args[0], inside, SUM)
                return f"softmax[{bound}{condition}]({text})", ATOM
            case TopK(axis, count):
                text = self.operand(node.args[0], indices, SUM)
                return f"topk[{indices[self.position(node, axis)]}]({text}, {count})", ATOM
            case Window() | Split() | Fold():
                return self.reference(node, indices), ATOM
            case Map(fn):
                raise refuse(f"a comparison or sign (the slope of {fn})")
            case _:
                raise refuse(f"a node of the kind {type(op).__name__}")

    def picks(self, node: Node) -> bool:
        """Whether a sum is over axes of size 1 only: one position is picked."""
        op = node.op
        assert isinstance(op, Contract)
        arg = self.nodes[node.args[0]]
        return all(a.dim == ONE for a, i in zip(arg.axes, op.left, strict=True) if i not in op.out)

    def position(self, node: Node, axis: int) -> int:
        """The place of a node's axis among those that are written."""
        return sum(seen(a.dim) is not None for a in node.axes[:axis])

    def scaled(self, node: Node, scalar: Scalar, indices: list[str]) -> tuple[str, int]:
        mean = self.mean(node, scalar, indices)
        if mean is not None:
            return mean
        factors = [f"?{self.scope.of_unknown(u)}" for u in scalar.unknowns if self.plan.graph.unknowns[u].kind != "use"]
        uses = [u for u in scalar.unknowns if self.plan.graph.unknowns[u].kind == "use"]
        if uses and not factors:
            return self.operand(node.args[0], indices, SUM), self.binding(node.args[0])
        for dim, power in scalar.powers:
            if BATCH_SYMBOL in dim.symbols:
                raise refuse("a number that depends on the batch size")
            factors.append(f"{dim_text(dim)}^({power})" if power != 1 else dim_text(dim))
        if scalar.coefficient != 1 and not (scalar.coefficient == -1 and not factors):
            factors.insert(0, number_text(scalar.coefficient))
        inner = self.operand(node.args[0], indices, PRODUCT)
        if isinstance(self.nodes[node.args[0]].op, Contract) and self.written_here(self.nodes[node.args[0]]):
            inner = f"({inner})"
        if scalar.coefficient == -1 and len(factors) == 0:
            return f"-{inner}", SUM
        return " * ".join([*factors, inner]), PRODUCT if scalar.coefficient > 0 else SUM

    def binding(self, number: int) -> int:
        node = self.nodes[number]
        return SUM if self.written_here(node) and isinstance(node.op, Add) else ATOM

    def added(self, node: Node, places: tuple[tuple[int, ...], ...], indices: list[str]) -> str:
        by_axis = self.spread(node, indices)
        text = ""
        for place, a in zip(places, node.args, strict=True):
            inside = [by_axis[at] for at in place]
            part = self.operand(a, [i for i in inside if i is not None], SUM)
            if not text:
                text = part
            elif part.startswith("-"):
                text += f" - {part[1:]}"
            else:
                text += f" + {part}"
        return text
