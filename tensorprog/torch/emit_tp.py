"""An imported graph as a readable .tp file, in index notation, which derives to the same exponents."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from tensorprog.dims import BATCH, BATCH_SYMBOL, ONE, Dim
from tensorprog.graph import (
    Add,
    Const,
    Contract,
    Fold,
    Graph,
    Input,
    InvRms,
    Loss,
    Map,
    Merge,
    Node,
    Param,
    Parameter,
    Scalar,
    Scale,
    Softmax,
    Split,
    StopGrad,
    TopK,
    Window,
)
from tensorprog.torch.names import Names
from tensorprog.torch.tp_text import (
    dim_text,
    init_text,
    is_count,
    number_text,
    offset_text,
    refuse,
    shifted,
    tiles,
    times,
)

SUM, PRODUCT, ATOM = 1, 2, 3
LETTERS = {"batch": "b"}


@dataclass(frozen=True, slots=True)
class Emitted:
    """The text, and what the parameters of the graph are called in it."""

    text: str
    parameters: Mapping[str, str]
    multipliers: Mapping[str, str]


def emit_tp(graph: Graph) -> Emitted:
    """The graph as text. Raises TensorProgError for what the language has no notation for."""
    return _Writer(graph).write()


@dataclass(slots=True)
class _Statement:
    """The indices of one statement: names are handed out per size."""

    writer: _Writer
    used: dict[Dim, int] = field(default_factory=dict)

    def index(self, dim: Dim) -> str:
        """A name that no other index of the statement has."""
        number = self.used.get(dim, 0)
        self.used[dim] = number + 1
        return self.writer.index(dim, number)


class _Writer:
    def __init__(self, graph: Graph) -> None:
        self.graph, self.nodes = graph, graph.nodes
        self.names = Names(graph)
        self.indices: dict[tuple[Dim, int], str] = {}
        self.consumers: list[list[int]] = [[] for _ in graph.nodes]
        for node in graph.nodes:
            for a in node.args:
                self.consumers[a].append(node.id)
        self.lines: list[str] = []
        self.inputs: list[str] = []
        self.params: list[str] = []

    # --- axes -----------------------------------------------------------------------------------------

    def index(self, dim: Dim, number: int) -> str:
        if (dim, number) not in self.indices:
            self.indices[dim, number] = self.names.index(dim, number)
        return self.indices[dim, number]

    def seen(self, dim: Dim) -> Dim | None:
        """The size of an axis as the file writes it: the batch is left out; None if nothing is left."""
        if dim == BATCH:
            return None
        if BATCH_SYMBOL in dim.symbols:
            try:
                return dim / BATCH
            except ValueError:
                raise refuse("an axis that is partly the batch") from None
        return dim

    def visible(self, node: Node) -> list[Dim]:
        return [d for axis in node.axes if (d := self.seen(axis.dim)) is not None]

    # --- statements -----------------------------------------------------------------------------------

    def write(self) -> Emitted:
        outputs: dict[int, str] = {}
        for label, number in self.graph.outputs:
            outputs.setdefault(number, label)
        for node in self.nodes:
            if isinstance(node.op, Loss) or (not self.consumers[node.id] and node.id not in outputs):
                continue
            if node.id in outputs:
                self.statement(node, "output ")
            elif not self.inlined(node):
                self.statement(node, "")
        loss = self.loss(outputs)
        header = [f"width {', '.join(self.graph.widths)}"]
        dims = [f"{name}: {dim}" for (dim, _), name in self.indices.items()]
        header += ["axis " + ", ".join(dims[k : k + 8]) for k in range(0, len(dims), 8)]
        body = [
            f"# Read from the PyTorch module {self.graph.name}.",
            *header,
            "",
            *self.inputs,
            *self.params,
            "",
            *self.lines,
            "",
            loss,
        ]
        multipliers = {u: self.names.of_unknown(u) for u, k in self.graph.unknowns.items() if k.kind == "multiplier"}
        text = "\n".join(body) + "\n"
        return Emitted(text, {p: self.names.of_param(p) for p in self.graph.parameters}, multipliers)

    def inlined(self, node: Node) -> bool:
        """Whether a node is written where it is used."""
        op, users = node.op, self.consumers[node.id]
        match op:
            case Const():
                return not node.axes
            case Param() | Input():
                return True
            case Scale(scalar) if any(self.graph.unknowns[u].kind == "use" for u in scalar.unknowns):
                return True
            case Contract(_, None, out) if len(out) == len(op.left):
                return all(isinstance(self.nodes[u].op, Contract | Add | Scale | Map | Merge) for u in users)
            case Contract(_, None, _):
                return len(users) == 1 and isinstance(self.nodes[users[0]].op, Scale)
            case InvRms():
                return len(users) == 1 and isinstance(self.nodes[users[0]].op, Contract)
            case Window(axis=axis):
                return all(self.takes_positions(self.nodes[u], node, axis) for u in users)
            case Split():
                return all(isinstance(self.nodes[u].op, Contract | Add | Scale | Map) for u in users)
            case Fold(taps=False) | Scale() | Map():
                return len(users) == 1 and isinstance(self.nodes[users[0]].op, Add | Scale | Map | Contract)
            case Contract(right=right) if right is not None:
                return len(users) == 1 and isinstance(self.nodes[users[0]].op, Add | Scale) and self.simple(node)
            case _:
                return False

    def simple(self, node: Node) -> bool:
        """A product whose sum, if any, may be written within a larger one: nothing of the batch is summed."""
        assert isinstance(node.op, Contract)
        return not self.batch_summed(node)

    def takes_positions(self, user: Node, window: Node, axis: int) -> bool:
        """Whether a user of a window can be written with computed positions along its axis: a sum or product, or a
        window along another axis."""
        if isinstance(user.op, Window) and isinstance(window.op, Window):
            own = (axis, axis + 1) if window.op.taps else (axis,)
            return user.op.axis not in own
        return isinstance(user.op, Contract | Add | Scale | Map)

    def statement(self, node: Node, keyword: str) -> None:
        statement = _Statement(self)
        left = [statement.index(d) for d in self.visible(node)]
        if isinstance(node.op, Merge) or tiles(node, self.nodes):
            left_text, right = self.merged(node, statement)
        else:
            left_text, right = ",".join(left), self.whole(node, left, statement)
        name = self.names.of_node(node.id, keyword)
        self.lines.append(f"{keyword}{name}[{left_text}] = {right}")

    def merged(self, node: Node, statement: _Statement) -> tuple[str, str]:
        """`m[t,(h e)] = z[t,h,e]`."""
        op = node.op
        assert isinstance(op, Merge | Fold)
        count = op.count if isinstance(op, Merge) else 2
        statement.used.clear()
        arg = self.nodes[node.args[0]]
        names = [None if self.seen(a.dim) is None else statement.index(self.seen(a.dim) or ONE) for a in arg.axes]
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
        return ",".join(left), self.operand(arg.id, [n for n in names if n is not None], statement, SUM)

    # --- expressions ----------------------------------------------------------------------------------

    def whole(self, node: Node, left: Sequence[str], statement: _Statement) -> str:
        return self.expression(node, list(left), statement)[0]

    def operand(self, number: int, indices: list[str], statement: _Statement, least: int) -> str:
        """A node's value at these indices, in parentheses if it binds less tightly than `least`."""
        node = self.nodes[number]
        text, binding = (
            self.expression(node, indices, statement) if self.inlined(node) else (self.name_at(node, indices), ATOM)
        )
        return f"({text})" if binding < least else text

    def name_at(self, node: Node, indices: Sequence[str]) -> str:
        return f"{self.names.of_node(node.id)}[{','.join(indices)}]"

    def expression(self, node: Node, indices: list[str], statement: _Statement) -> tuple[str, int]:
        op = node.op
        match op:
            case Const(value):
                return number_text(Fraction(value)), ATOM
            case Param() | Input():
                return self.reference(node, indices, statement), ATOM
            case Scale(scalar):
                return self.scaled(node, scalar, indices, statement)
            case Map(fn):
                return f"{fn}({self.operand(node.args[0], indices, statement, SUM)})", ATOM
            case StopGrad():
                return f"stop_gradient({self.operand(node.args[0], indices, statement, SUM)})", ATOM
            case Add(places):
                return self.added(node, places, indices, statement), SUM
            case Contract(_, right, out):
                if right is None and len(out) == len(op.left):
                    return self.reference(node, indices, statement), ATOM
                if right is None and self.picks(node):
                    arg = self.nodes[node.args[0]]
                    known = dict(zip(out, self.spread(node, indices), strict=True))
                    picked = [n for i in op.left if (n := known.get(i, "0")) is not None]
                    return self.reference(arg, picked, statement), ATOM
                return self.product(node, op, indices, statement)
            case InvRms(axes, _):
                inner, names = self.reduced(node, axes, indices, statement)
                return f"rms_scale[{names}]({inner})", ATOM
            case Softmax(axis, mask):
                k = self.position(node, axis)
                bound = indices[k]
                inside = list(indices)
                condition = ""
                if mask is not None:
                    condition = f" | {bound} {mask[1]} {indices[self.position(node, mask[2])]}"
                text = self.operand(node.args[0], inside, statement, SUM)
                return f"softmax[{bound}{condition}]({text})", ATOM
            case TopK(axis, count):
                text = self.operand(node.args[0], indices, statement, SUM)
                return f"topk[{indices[self.position(node, axis)]}]({text}, {count})", ATOM
            case Window() | Split() | Fold():
                return self.reference(node, indices, statement), ATOM
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
        return sum(self.seen(a.dim) is not None for a in node.axes[:axis])

    def spread(self, node: Node, indices: Sequence[str]) -> list[str | None]:
        """One entry per axis of the node: its index, None for the batch."""
        rest = iter(indices)
        return [None if self.seen(a.dim) is None else next(rest) for a in node.axes]

    def scaled(self, node: Node, scalar: Scalar, indices: list[str], statement: _Statement) -> tuple[str, int]:
        mean = self.mean(node, scalar, indices, statement)
        if mean is not None:
            return mean
        factors = [f"?{self.names.of_unknown(u)}" for u in scalar.unknowns if self.graph.unknowns[u].kind != "use"]
        uses = [u for u in scalar.unknowns if self.graph.unknowns[u].kind == "use"]
        if uses and not factors:
            return self.operand(node.args[0], indices, statement, SUM), self.binding(node.args[0])
        for dim, power in scalar.powers:
            if BATCH_SYMBOL in dim.symbols:
                raise refuse("a number that depends on the batch size")
            factors.append(f"{dim_text(dim)}^({power})" if power != 1 else dim_text(dim))
        if scalar.coefficient != 1 and not (scalar.coefficient == -1 and not factors):
            factors.insert(0, number_text(scalar.coefficient))
        inner = self.operand(node.args[0], indices, statement, PRODUCT)
        if isinstance(self.nodes[node.args[0]].op, Contract) and self.inlined(self.nodes[node.args[0]]):
            inner = f"({inner})"
        if scalar.coefficient == -1 and len(factors) == 0:
            return f"-{inner}", SUM
        return " * ".join([*factors, inner]), PRODUCT if scalar.coefficient > 0 else SUM

    def binding(self, number: int) -> int:
        node = self.nodes[number]
        return SUM if self.inlined(node) and isinstance(node.op, Add) else ATOM

    def mean(self, node: Node, scalar: Scalar, indices: list[str], statement: _Statement) -> tuple[str, int] | None:
        """`mean[i](..)` where a sum is divided by the number of its terms."""
        sum_node = self.nodes[node.args[0]]
        if scalar.unknowns or not isinstance(sum_node.op, Contract) or sum_node.op.right is not None:
            return None
        if len(self.consumers[sum_node.id]) != 1:
            return None
        op, arg = sum_node.op, self.nodes[sum_node.args[0]]
        gone = [k for k, i in enumerate(op.left) if i not in op.out]
        sign = -1 if scalar.coefficient < 0 else 1
        if not gone or not is_count(scalar, [arg.axes[k].dim for k in gone], sign):
            return None
        text = self.over("mean", sum_node, indices, statement)
        return (f"-{text}", SUM) if sign < 0 else (text, ATOM)

    def over(self, word: str, node: Node, indices: list[str], statement: _Statement) -> str:
        """A reduction that names the indices it works over."""
        op = node.op
        assert isinstance(op, Contract)
        arg = self.nodes[node.args[0]]
        kept = dict(zip(op.out, self.spread(node, indices), strict=True))
        inside: list[str] = []
        bound: list[str] = []
        for axis, number in zip(arg.axes, op.left, strict=True):
            dim = self.seen(axis.dim)
            if number in kept:
                name = kept[number]
                if name is not None:
                    inside.append(name)
                continue
            if dim is None:
                bound.append("batch")
            else:
                name = statement.index(dim)
                inside.append(name)
                bound.append(name)
                if dim != axis.dim:
                    bound.append("batch")
        return f"{word}[{','.join(bound)}]({self.operand(arg.id, inside, statement, SUM)})"

    def reduced(self, node: Node, axes: Sequence[int], indices: list[str], statement: _Statement) -> tuple[str, str]:
        arg = self.nodes[node.args[0]]
        rest = iter(indices)
        inside: list[str] = []
        bound: list[str] = []
        for k, axis in enumerate(arg.axes):
            dim = self.seen(axis.dim)
            if k not in axes:
                if dim is not None:
                    inside.append(next(rest))
                continue
            if dim is None or dim != axis.dim:
                bound.append("batch")
            if dim is not None:
                name = statement.index(dim)
                inside.append(name)
                bound.append(name)
        return self.operand(arg.id, inside, statement, SUM), ",".join(bound)

    def added(self, node: Node, places: tuple[tuple[int, ...], ...], indices: list[str], statement: _Statement) -> str:
        by_axis = self.spread(node, indices)
        text = ""
        for place, a in zip(places, node.args, strict=True):
            inside = [by_axis[at] for at in place]
            part = self.operand(a, [i for i in inside if i is not None], statement, SUM)
            if not text:
                text = part
            elif part.startswith("-"):
                text += f" - {part[1:]}"
            else:
                text += f" + {part}"
        return text

    # --- products -------------------------------------------------------------------------------------

    def batch_summed(self, node: Node) -> bool:
        op = node.op
        assert isinstance(op, Contract)
        for indices, a in zip((op.left, op.right or ()), node.args, strict=False):
            for i, axis in zip(indices, self.nodes[a].axes, strict=True):
                if i not in op.out and BATCH_SYMBOL in axis.dim.symbols:
                    return True
        return False

    def product(self, node: Node, op: Contract, indices: list[str], statement: _Statement) -> tuple[str, int]:
        if op.right is None:
            return self.over("sum", node, indices, statement), ATOM
        if self.batch_summed(node):
            raise refuse("a product that is summed over the batch")
        known: dict[int, str | None] = dict(zip(op.out, self.spread(node, indices), strict=True))
        summed: list[str] = []
        for numbers, a in ((op.left, node.args[0]), (op.right, node.args[1])):
            for number, axis in zip(numbers, self.nodes[a].axes, strict=True):
                if number not in known:
                    dim = self.seen(axis.dim)
                    known[number] = None if dim is None else statement.index(dim)
                    if dim is not None:
                        summed.append(known[number] or "")
        factors: list[str] = []
        tokens = self.lookup(node, op)
        for side, (numbers, a) in enumerate(((op.left, node.args[0]), (op.right, node.args[1]))):
            arg = self.nodes[a]
            if isinstance(arg.op, Const) and arg.op.value == 1.0 and not arg.axes:
                continue
            if tokens is not None and side == tokens:
                continue
            names = [known[i] for i in numbers]
            if tokens is not None:
                word = (op.left, op.right)[tokens][-1]
                rows = self.nodes[node.args[tokens]]
                assert isinstance(rows.op, Input)
                own = [known[i] for i in (op.left, op.right)[tokens][:-1]]
                look = f"{self.input(rows)}[{','.join(i for i in own if i is not None)}]"
                names = [look if i == word else n for i, n in zip(numbers, names, strict=True)]
            factors.append(self.operand(a, [n for n in names if n is not None], statement, PRODUCT))
        if not factors:
            return "1", ATOM
        if len(factors) == 1:
            return factors[0], PRODUCT
        juxtaposed = all(re.fullmatch(r"\w+\[[^()]*\]", f) for f in factors)
        return (" " if juxtaposed else " * ").join(factors), PRODUCT

    def lookup(self, node: Node, op: Contract) -> int | None:
        """Which factor is one-hot rows whose vocabulary is summed."""
        for side, numbers in enumerate((op.left, op.right or ())):
            arg = self.nodes[node.args[side]]
            if isinstance(arg.op, Input) and arg.op.kind == "tokens":
                other = (op.right or (), op.left)[side]
                if numbers[-1] in op.out or numbers[-1] not in other:
                    raise refuse("one-hot rows that are not used as a look-up")
                return side
        return None

    # --- references -----------------------------------------------------------------------------------

    def reference(self, node: Node, indices: Sequence[str], statement: _Statement) -> str:
        """A tensor at indices; windows, splits and transpositions become part of the indices."""
        op = node.op
        by_axis = self.spread(node, indices)
        match op:
            case Param(name):
                return f"{self.param(self.graph.parameters[name])}[{','.join(indices)}]"
            case Input(_, kind):
                if kind == "tokens":
                    raise refuse("one-hot rows that are not used as a look-up")
                return f"{self.input(node)}[{','.join(indices)}]"
            case Contract(left, None, out) if len(left) == len(out):
                known = dict(zip(out, by_axis, strict=True))
                return self._behind(node, [known[i] for i in left], statement)
            case Window(axis, stride, dilation, offset, taps):
                return self._window(node, axis, stride, dilation, offset, taps, by_axis, statement)
            case Fold(axis, 1, _, offset, taps=False):
                inner = list(by_axis)
                inner[axis] = shifted(inner[axis] or "", 1, -offset)
                return self._behind(node, inner, statement)
            case Fold():
                raise refuse("a transposed convolution whose windows overlap")
            case Split(axis, count):
                group = [i for i in by_axis[axis : axis + count] if i is not None]
                one = group[0] if len(group) == 1 else f"({' '.join(group)})"
                inner = [*by_axis[:axis], one if group else None, *by_axis[axis + count :]]
                return self._behind(node, inner, statement)
            case Scale(scalar) if all(self.graph.unknowns[u].kind == "use" for u in scalar.unknowns) and (
                not scalar.powers and scalar.coefficient == 1
            ):
                return self._behind(node, by_axis, statement)
            case _:
                if self.inlined(node):
                    text, binding = self.expression(node, list(indices), statement)
                    return text if binding == ATOM else f"({text})"
                return self.name_at(node, indices)

    def _window(
        self, node: Node, axis: int, stride: int, dilation: int, offset: Dim, taps: bool, by_axis: list[str | None],
        statement: _Statement,
    ) -> str:  # fmt: skip
        u = by_axis[axis] or ""
        if taps:
            a = by_axis[axis + 1] or ""
            text = f"{times(stride, u)} + {times(dilation, a)}" if u != "0" else times(dilation, a)
            position = text + offset_text(offset)
            inner = [*by_axis[:axis], position, *by_axis[axis + 2 :]]
        else:
            inner = [*by_axis[:axis], shifted(u, stride, offset), *by_axis[axis + 1 :]]
        return self._behind(node, inner, statement)

    def _behind(self, node: Node, by_axis: Sequence[str | None], statement: _Statement) -> str:
        """The operand of a relabelling at indices; one that cannot carry computed indices has a name of its own."""
        arg = self.nodes[node.args[0]]
        names = [i for i in by_axis if i is not None]
        return self.reference(arg, names, statement) if self.inlined(arg) else self.name_at(arg, names)

    # --- leaves ---------------------------------------------------------------------------------------

    def input(self, node: Node) -> str:
        op = node.op
        assert isinstance(op, Input)
        name = self.names.of_input(op.name)
        axes = node.axes[:-1] if op.kind == "tokens" else node.axes
        statement = _Statement(self)
        pattern = ",".join(statement.index(d) for axis in axes if (d := self.seen(axis.dim)) is not None)
        line = f"input {name}[{pattern}]"
        if op.kind == "tokens":
            line += f" in {node.axes[-1].dim}"
        if line not in self.inputs:
            self.inputs.append(line)
        return name

    def param(self, parameter: Parameter) -> str:
        name = self.names.of_param(parameter.name)
        statement = _Statement(self)
        line = f"param {name}[{','.join(statement.index(axis.dim) for axis in parameter.axes)}]"
        line += init_text(parameter.init) + (" frozen" if parameter.frozen else "")
        if line not in self.params:
            self.params.append(line)
        return name

    # --- loss -----------------------------------------------------------------------------------------

    def loss(self, outputs: dict[int, str]) -> str:
        """The loss, if it is a sum of losses that the language has; else the outputs against targets."""
        terms = self.loss_terms(self.nodes[self.graph.loss], Fraction(1))
        if terms is None:
            terms = [(Fraction(1), "mse", number) for number in outputs]
            self.lines += ["", "# The model's own loss is written differently; it has the same exponents."]
        parts = []
        for weight, kind, number in terms:
            node = self.nodes[number]
            if number not in outputs and self.inlined(node):
                self.statement(node, "")
            text = f"{kind}({self.names.of_node(number)})"
            parts.append(text if weight == 1 else f"{number_text(weight)} * {text}")
        return "loss " + " + ".join(parts)

    def loss_terms(self, node: Node, weight: Fraction) -> list[tuple[Fraction, str, int]] | None:
        match node.op:
            case Loss(kind) if kind != "mean":
                return [(weight, kind, node.args[0])]
            case Scale(scalar) if not scalar.powers and not scalar.unknowns:
                return self.loss_terms(self.nodes[node.args[0]], weight * scalar.coefficient)
            case Add():
                found = [self.loss_terms(self.nodes[a], weight) for a in node.args]
                return None if any(f is None for f in found) else [t for f in found for t in f or []]
            case _:
                return None
