"""Stage 3: the structured Model becomes one flat Graph. Loops are unrolled, names get the path of their block use."""

from __future__ import annotations

from dataclasses import dataclass, field

from tensorprog.dims import ONE, Dim
from tensorprog.errors import ShapeError
from tensorprog.graph import Add, Axis, Const, Contract, Fold, Graph, Node, Op, Param, Scalar, Scale, Split, Window
from tensorprog.model import Compute, Loop, Model, Module, Use
from tensorprog.parameters import Parameter, Unknown
from tensorprog.syntax import Span

MAX_NODES = 2_000_000


def inline(model: Model) -> Graph:
    """The forward graph, in order of computation.

    Parameters and their use-multipliers are named by instance path with layer numbers
    (`layers.0.attention.Wq`, `layers.0.attention.Wq@1`), shared ones without; `?name` multipliers are global.
    A parameter has one Param node, a use in the text one Scale, however often a shared loop runs.
    """
    _check_size(model.top, {})
    return Flat().graph(model)


def _check_size(module: Module, known: dict[int, int]) -> int:
    """The number of nodes that this module unrolls to; an error where it passes the limit."""
    if id(module) in known:
        return known[id(module)]
    total = 0
    for step in module.steps:
        match step:
            case Compute():
                total += 1
            case Use(module=used):
                total += _check_size(used, known)
            case Loop(body=body, count=count):
                per_step = 2 * len(step.sliced) + 3 * len(step.collected)
                total += count * (_check_size(body, known) + per_step)
        if total > MAX_NODES:
            raise ShapeError(
                "the unrolled network is too large",
                step.span,
                why=f"it would have more than {MAX_NODES:,} nodes",
                fix="fewer repeats or a shorter scan",
            )
    known[id(module)] = total
    return total


@dataclass(slots=True)
class Flat:
    """The nodes so far. `params`, `uses`: qualified name -> node."""

    nodes: list[Node] = field(default_factory=list)
    parameters: dict[str, Parameter] = field(default_factory=dict)
    unknowns: dict[str, Unknown] = field(default_factory=dict)
    params: dict[str, int] = field(default_factory=dict)
    uses: dict[str, int] = field(default_factory=dict)

    def graph(self, model: Model) -> Graph:
        """The whole forward graph of a model."""
        ids = self.module(model.top, "", "", ())
        return Graph(
            tuple(self.nodes),
            self.parameters,
            self.unknowns,
            tuple((name, ids[value]) for name, value in model.outputs),
            ids[model.loss],
            model.widths,
            model.depths,
            model.optimizer,
            model.optimizer_options,
            model.top.block,
        )

    def node(self, op: Op, args: tuple[int, ...], axes: tuple[Axis, ...], name: str, span: Span) -> int:
        """Appends a node and returns its number."""
        number = len(self.nodes)
        self.nodes.append(Node(number, op, args, axes, name, span))
        return number

    def rename(self, number: int, name: str) -> None:
        """The name of the outermost variable that holds a block's result wins."""
        old = self.nodes[number]
        self.nodes[number] = Node(number, old.op, old.args, old.axes, name, old.span)

    def module(self, module: Module, path: str, owner: str, args: tuple[int, ...]) -> list[int]:
        """Runs a module on argument nodes; the node of every local value (-1: none yet).

        `path` is put in front of node names, `owner` in front of parameter names (no numbers of shared loops).
        """
        self.declare(module, owner)
        ids = [-1] * len(module.values)
        for formal, argument in zip(module.formals, args, strict=True):
            ids[formal] = argument
        values, nodes = module.values, self.nodes
        for step in module.steps:
            if type(step) is Compute:
                op = step.op
                if type(op) is Param:
                    ids[step.out] = self.param(step, op.name, owner, module)
                    continue
                if type(op) is Scale and op.scalar.unknowns and "@" in op.scalar.unknowns[0]:
                    ids[step.out] = self.use(step, op.scalar.unknowns[0], owner, module, ids)
                    continue
                value = values[step.out]
                number = len(nodes)
                name = path + value.name if value.name else ""
                nodes.append(Node(number, op, tuple([ids[a] for a in step.args]), value.axes, name, step.span))
                ids[step.out] = number
            elif type(step) is Use:
                start = len(nodes)
                inner = self.module(
                    step.module,
                    f"{path}{step.instance}.",
                    f"{owner}{step.instance}.",
                    tuple([ids[a] for a in step.args]),
                )
                number = ids[step.out] = inner[step.module.results[0]]
                if number >= start and values[step.out].name:
                    self.rename(number, path + values[step.out].name)
            elif type(step) is Loop:
                self.loop(step, module, path, owner, ids)
        return ids

    def declare(self, module: Module, owner: str) -> None:
        """The parameters and multipliers of a module, under their qualified names."""
        for p in module.parameters:
            name = owner + p.name
            if name not in self.parameters:
                self.parameters[name] = Parameter(name, p.axes, p.init, p.frozen, p.optimizer, p.fan_in, span=p.span)
        for u in module.unknowns:
            if u.kind == "use":
                name = owner + u.name
                if name not in self.unknowns:
                    self.unknowns[name] = Unknown(name, u.base, u.kind, owner + u.param, u.span)
            elif u.name not in self.unknowns:
                self.unknowns[u.name] = u

    def param(self, step: Compute, name: str, owner: str, module: Module) -> int:
        """The one node of a parameter."""
        full = owner + name
        if full not in self.params:
            self.params[full] = self.node(Param(full), (), module.values[step.out].axes, "", step.span)
        return self.params[full]

    def use(self, step: Compute, unknown: str, owner: str, module: Module, ids: list[int]) -> int:
        """The one node of a use of a parameter in the text."""
        full = owner + unknown
        if full not in self.uses:
            axes = module.values[step.out].axes
            op = Scale(Scalar(unknowns=(full,)))
            self.uses[full] = self.node(op, (ids[step.args[0]],), axes, "", step.span)
        return self.uses[full]

    def loop(self, step: Loop, module: Module, path: str, owner: str, ids: list[int]) -> None:
        """Runs the body `count` times; tensors collected over time are stacked."""
        body, carried = step.body, [ids[value] for value in step.carried]
        captured = [ids[value] for value in step.captured]
        stacks: list[list[int]] = [[] for _ in step.collected]
        for turn in range(step.count):
            sliced = [self.at(ids[value], axis, turn, step.span) for value, axis in step.sliced]
            inner_owner = f"{owner}{step.instance}.{turn}." if step.kind == "repeat" else f"{owner}{step.instance}."
            inner = self.module(body, f"{path}{step.instance}.{turn}.", inner_owner, (*carried, *captured, *sliced))
            results = [inner[value] for value in body.results]
            carried = results[: len(carried)]
            for stack, value in zip(stacks, results[len(carried) :], strict=True):
                stack.append(value)
        for out, value in zip(step.outs, carried, strict=True):
            ids[out] = value
        for (out, axis), stack in zip(step.collected, stacks, strict=True):
            local = module.values[out]
            name = path + local.name if local.name else ""
            ids[out] = self.stack(stack, axis, local.axes, name, step.span)

    def at(self, value: int, axis: int, position: int, span: Span) -> int:
        """The tensor at one position of an axis, which disappears."""
        axes = self.nodes[value].axes
        one = (*axes[:axis], Axis(ONE), *axes[axis + 1 :])
        window = self.node(Window(axis, offset=Dim.of(position)), (value,), one, "", span)
        every = tuple(range(len(axes)))
        op = Contract(every, None, every[:axis] + every[axis + 1 :])
        return self.node(op, (window,), axes[:axis] + axes[axis + 1 :], "", span)

    def stack(self, values: list[int], axis: int, axes: tuple[Axis, ...], name: str, span: Span) -> int:
        """The tensors of all times along a new axis: each is scattered to its position, and all are added."""
        folded = []
        for position, value in enumerate(values):
            one = (*axes[:axis], Axis(ONE), *axes[axis + 1 :])
            thin = self.thin(value, axis, one, span)
            folded.append(self.node(Fold(axis, offset=Dim.of(position)), (thin,), axes, "", span))
        if not folded:
            return self.node(Const(0.0), (), axes, name, span)
        places = tuple(tuple(range(len(axes))) for _ in folded)
        return self.node(Add(places), tuple(folded), axes, name, span)

    def thin(self, value: int, axis: int, axes: tuple[Axis, ...], span: Span) -> int:
        """The tensor with a new axis of size 1."""
        rank = len(axes) - 1
        if rank == 0:
            one = self.node(Const(1.0), (), axes, "", span)
            return self.node(Contract((0,), (), (0,)), (one, value), axes, "", span)
        if axis < rank:
            return self.node(Split(axis, 2), (value,), axes, "", span)
        return self.node(Split(axis - 1, 2), (value,), axes, "", span)
