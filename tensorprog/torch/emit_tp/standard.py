"""Which blocks and functions of the language are exactly a region.

Nothing is known about the blocks but how they are called: every call that has the region's sizes is tried, and it is
the region if the same parameters, started alike, give the same numbers at two sizes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, permutations, product
from typing import Any

import numpy as np

from tensorprog import syntax
from tensorprog.architecture import Architecture, parse
from tensorprog.dims import Dim
from tensorprog.elaborate import standard_block, standard_names
from tensorprog.errors import TensorProgError
from tensorprog.exponents import Power
from tensorprog.expressions import text
from tensorprog.functions import BUILTIN
from tensorprog.graph import Add, Const, Contract, InvRms, Map, Scale, Softmax, Split, StopGrad, TopK
from tensorprog.interpret import Interpreter
from tensorprog.parameters import Parameter
from tensorprog.parametrization import Parametrization, ParamExponents
from tensorprog.statements import Block, Formal, If, Let, ParamDecl, Return, Scan, Statement
from tensorprog.torch.emit_tp.bodies import Body
from tensorprog.torch.emit_tp.regions import Region
from tensorprog.torch.emit_tp.scope import visible

BATCH = 3
SAME = 1e-10  # relative, in float64
MOST_ORDERS = 200  # of the parameters that are tried
REDUCTIONS = {Softmax: "softmax", InvRms: "rms_scale", TopK: "topk"}
MOST_CALLS = 300  # of one block
MOST_ALIKE = 6  # parameters of one shape
Shape = tuple[tuple[Dim, ...], str, float | None, bool]


@dataclass
class Standard:
    """`points`: widths at which every size of the graph is whole. Text of a region -> its call and the order of its
    parameters there, or None."""

    points: Sequence[Mapping[str, int]]
    known: dict[str, tuple[str, tuple[int, ...]] | None] = field(default_factory=dict)

    def call(self, region: Region, body: Body) -> tuple[str, tuple[int, ...]] | None:
        """The call (with `{}` for the argument) that is exactly the region, and the numbers of the region's parameters
        in the order in which the block declares them. None if there is none."""
        if body.text not in self.known:
            self.known[body.text] = self._find(region, body)
        return self.known[body.text]

    def _find(self, region: Region, body: Body) -> tuple[str, tuple[int, ...]] | None:
        if len(body.scope.arguments) != 1 or body.scope.arguments[0][0][0] == "param" or "?" in body.text:
            return None
        if " in vocab" in body.text or any(isinstance(op, StopGrad) for op in _ops(region)):
            return None
        axes = _argument_axes(region, body)
        try:
            own = _Network(axes, f"block Region{body.text}", "Region(x)")
        except TensorProgError:
            return None
        for call in _calls(region, len(body.parameters), len(axes)):
            try:
                other = _Network(axes, "", call.format("x"))
                if (order := self._same(own, other)) is not None:
                    return call, order
            except (TensorProgError, ValueError, ArithmeticError):  # sizes that this block cannot have
                continue
        return None

    def _same(self, own: _Network, other: _Network) -> tuple[int, ...] | None:
        """The order of the parameters in which the two compute the same, None if there is none."""
        if sorted(map(repr, own.shapes)) != sorted(map(repr, other.shapes)) or own.result != other.result:
            return None
        kinds = Counter(own.shapes)
        if max(kinds.values(), default=0) > MOST_ALIKE:
            return None
        within = (permutations(k for k, shape in enumerate(own.shapes) if shape == kind) for kind in kinds)
        orders = (_order(chosen, other.shapes, kinds) for chosen in product(*within))
        for order in islice(orders, MOST_ORDERS):
            if all(self._same_at(own, other, order, point) for point in self.points):
                return order
        return None

    def _same_at(self, own: _Network, other: _Network, order: Sequence[int], point: Mapping[str, int]) -> bool:
        generator = np.random.default_rng(0)
        arrays = [generator.standard_normal([int(d.evaluate(point)) for d in shape[0]]) for shape in own.shapes]
        one = own.run(point, arrays)
        two = other.run(point, [arrays[k] for k in order])
        return bool(np.abs(one - two).max() <= SAME * np.abs(one).max())


def _order(chosen: Sequence[Sequence[int]], shapes: Sequence[Shape], kinds: Iterable[Shape]) -> tuple[int, ...]:
    """The numbers that were chosen for every kind of parameter, in the order in which the kinds stand."""
    rest = {kind: iter(numbers) for kind, numbers in zip(kinds, chosen, strict=True)}
    return tuple(next(rest[shape]) for shape in shapes)


class _Network:
    """A network that is one call on one input."""

    def __init__(self, axes: Sequence[Dim], block: str, call: str) -> None:
        names = [f"i{k}" for k in range(len(axes))]
        symbols = sorted({s for d in axes for s in d.symbols} | {"n"})
        declared = ", ".join(f"{name}: {d}" for name, d in zip(names, axes, strict=True))
        source = f"width {', '.join(symbols)}\naxis {declared}\ninput x[{','.join(names)}]\n{block}\n"
        self.architecture: Architecture = parse(f"{source}output y = {call}\nloss mse(y)\n")
        graph = self.architecture.graph
        self.shapes: list[Shape] = [_shape(p) for p in graph.parameters.values()]
        ((_, self.node),) = graph.outputs
        self.result = [a.dim for a in graph.nodes[self.node].axes]

    def run(self, point: Mapping[str, int], arrays: Sequence[Any]) -> Any:
        """The result for these parameters and the same random input."""
        program = self.architecture.program
        neutral = ParamExponents(Power(), Power(), Power(), None, None)
        names = list(program.forward.parameters)
        parametrization = Parametrization("sp", "sgd", dict.fromkeys(names, neutral),
                                          dict.fromkeys(program.forward.unknowns, Power()))  # fmt: skip
        widths = {s: point[s] for s in program.forward.widths if s in point}
        interpreter = Interpreter(program, widths, widths, parametrization, batch=BATCH)
        interpreter.set_params(dict(zip(names, arrays, strict=True)))
        return interpreter.run(interpreter.data, keep={self.node}, backward=False)[self.node]


def _shape(p: Parameter) -> Shape:
    return tuple(a.dim for a in p.axes), p.init.kind, p.init.value, p.frozen


def _ops(region: Region) -> Iterator[Any]:
    """The operations that the region's lines are written with."""
    nodes, todo, done = region.plan.graph.nodes, list(region.lines), set(region.lines)
    while todo:
        node = nodes[todo.pop()]
        yield node.op
        inner = [a for a in node.args if a not in region.plan.reads and a not in done]
        todo += inner
        done.update(inner)


def _argument_axes(region: Region, body: Body) -> list[Dim]:
    (key, _), *_ = body.scope.arguments
    kind, what = key
    nodes = region.plan.graph.nodes
    node = nodes[int(what)] if kind == "node" else body.scope.input_node(str(what))
    return visible(node.axes)


# --- what is tried --------------------------------------------------------------------------------------


def _calls(region: Region, parameters: int, rank: int) -> Iterator[str]:
    """Functions and uses of standard blocks that could be the region."""
    ops = list(_ops(region))
    functions = [op.fn for op in ops if isinstance(op, Map)]
    entrywise = all(isinstance(op, Map | Scale | Add | Const) or (isinstance(op, Contract) and not op.summed)
                    for op in ops)  # fmt: skip
    if not parameters and entrywise:
        yield from (f"{name}({{}})" for name in BUILTIN)
    sizes = _sizes(region)
    blocks = {name: standard_block(name) for name in standard_names()}
    reductions = {REDUCTIONS[type(op)] for op in ops if type(op) in REDUCTIONS}
    for block in blocks.values():
        low, high, words = _holds(block.body, blocks)
        if low <= parameters <= high and words & set(REDUCTIONS.values()) == reductions:
            uses = list(islice(_uses(block, rank, sizes, functions), MOST_CALLS + 1))
            yield from uses if len(uses) <= MOST_CALLS else ()


def _sizes(region: Region) -> list[str]:
    """The sizes of the region's parameters and of what it splits axes into."""
    graph = region.plan.graph
    found = [a.dim for name in sorted(region.own) for a in graph.parameters[name].axes]
    todo, seen = list(region.lines), set[int]()
    while todo:
        node = graph.nodes[todo.pop()]
        if isinstance(node.op, Split):
            found += [a.dim for a in node.axes[node.op.axis : node.op.axis + node.op.count]]
        todo += [a for a in node.args if a not in region.plan.reads and a not in seen]
        seen.update(node.args)
    return list(dict.fromkeys(map(str, found)))


def _uses(block: Block, rank: int, sizes: Sequence[str], functions: Sequence[str]) -> Iterator[str]:
    tensors = [f for f in block.formals if f.kind == "tensor"]
    if len(tensors) != 1 or tensors[0].vocab is not None or not _fits(tensors[0], rank):
        return
    choices: list[list[str]] = []
    dims: list[str] = []
    for formal in block.formals:
        match formal.kind:
            case "tensor":
                choices.append(["{}"])
            case "dim" if formal.default is None:
                choices.append([f"{formal.name} = {size}" for size in sizes])
                dims.append(formal.name)
            case "fn":
                default = formal.default.id if isinstance(formal.default, syntax.Name) else ""
                names = dict.fromkeys(functions)
                choices.append(["" if name == default else f"{formal.name} = {name}" for name in names])
            case "flag":
                on = isinstance(formal.default, syntax.Name) and formal.default.id == "true"
                other = f"{formal.name} = false" if on else formal.name
                choices.append(["", other])
            case "scalar" if isinstance(formal.default, syntax.Unknown):
                value = formal.default.value
                choices.append([f"{formal.name} = {'1' if value is None else text(value)}"])
            case _:
                choices.append([""])
    for chosen in product(*choices):
        given = dict(c.split(" = ", 1) for c in chosen if " = " in c)
        values = [c for c in chosen if c]
        for name in dims:  # a default may use earlier arguments
            values = [re.sub(rf"\b{name}\b(?! =)", f"({given[name]})", c) for c in values]
        if len(dims) == 1:
            values[1] = values[1].removeprefix(f"{dims[0]} = ")
        yield f"{block.name}({', '.join(values)})"


def _fits(formal: Formal, rank: int) -> bool:
    indices = formal.indices or ()
    dots = any(isinstance(i, syntax.IndexEllipsis) for i in indices)
    return rank >= len(indices) - 1 if dots else rank == len(indices)


def _holds(body: Sequence[Statement], blocks: Mapping[str, Block]) -> tuple[int, int, frozenset[str]]:
    """The least and the largest number of parameters of the body of a block, and all that it calls."""
    low = high = 0
    words: frozenset[str] = frozenset()
    for s in body:
        inner = []
        match s:
            case ParamDecl(items):
                low, high = low + len(items), high + len(items)
            case If(_, then, otherwise):
                one, other = _holds(then, blocks), _holds(otherwise, blocks)
                inner = [(min(one[0], other[0]), max(one[1], other[1]), one[2] | other[2])]
            case Scan(_, inside):
                inner = [_holds(inside, blocks)]
            case Let(value=value) | Return(value=value):
                called = frozenset(_called(value))
                words |= called
                inner = [_holds(blocks[name].body, blocks) for name in called if name in blocks]
        low, high = low + sum(i[0] for i in inner), high + sum(i[1] for i in inner)
        words = words.union(*(i[2] for i in inner))
    return low, high, words


def _called(expr: Any) -> Iterator[str]:
    if isinstance(expr, syntax.Call):
        yield expr.id
        for argument in expr.arguments:
            yield from _called(argument.value)
    elif isinstance(expr, syntax.Binary):
        yield from _called(expr.left)
        yield from _called(expr.right)
