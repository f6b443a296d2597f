"""The names of one block, or of the file: for its lines, parameters, arguments and indices.

Names come from the paths of the modules, relative to the block's own module, so that the bodies of two modules that
compute the same are the same text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from tensorprog.dims import BATCH, BATCH_SYMBOL, Dim
from tensorprog.elaborate import standard_names
from tensorprog.functions import BUILTIN
from tensorprog.graph import Axis, Input, Node
from tensorprog.parameters import Parameter
from tensorprog.torch.emit_tp.plan import Key, Plan
from tensorprog.torch.emit_tp.text import init_text, refuse
from tensorprog.torch.positive import SHIFTED

GROWING, FINITE = "ijklpqr", "tsuvwyabcdgho"
LONGEST = 60
WORDS = frozenset(
    "width depth dim axis regime input in param block repeat shared scan if else output loss optimizer frozen normal "
    "zeros ones constant orthogonal return fn sum mean max rms_scale softmax topk concat stop_gradient sqrt log "
    "cross_entropy mse true false True False fix proportional batch scalar flag".split()
)


def is_reserved(name: str) -> bool:
    """Whether the language means something else by a name."""
    functions = {written for written, _ in SHIFTED.values()}
    return name in WORDS or name in BUILTIN or name in standard_names() or name in functions


def seen(dim: Dim) -> Dim | None:
    """The size of an axis as the file writes it: the batch is left out; None if nothing is left."""
    if dim == BATCH:
        return None
    if BATCH_SYMBOL in dim.symbols:
        try:
            return dim / BATCH
        except ValueError:
            raise refuse("an axis that is partly the batch") from None
    return dim


def visible(axes: Iterable[Axis]) -> list[Dim]:
    """The sizes of the axes that are written."""
    return [d for axis in axes if (d := seen(axis.dim)) is not None]


class Scope:
    """Hands out names, each once; the same thing always has the same."""

    def __init__(self, plan: Plan, path: str, lines: Iterable[int], own: frozenset[str], taken: Iterable[str]) -> None:
        """`path`: of the module; "" for the file. `lines`: those named here; `own`: the parameters declared here. What
        else is read is an argument; the file has none."""
        self.plan, self.path, self.own, self.lines = plan, path, own, frozenset(lines)
        self.is_file = not path
        self.taken: set[str] = {*plan.graph.widths, *taken}
        self.names: dict[Key, str] = {}
        self.arguments: list[tuple[Key, str]] = []  # with the pattern
        self.parameters: dict[str, str] = {}  # parameter -> its declaration
        self.inputs: dict[str, str] = {}
        self.unknowns: dict[str, str] = {}
        self.indices: dict[tuple[Dim, int], str] = {}
        self.bound: set[str] = set()  # the indices that patterns of arguments declare

    # --- words --------------------------------------------------------------------------------------------

    def fresh(self, *wishes: str) -> str:
        """A free name: the first of the wishes that is free, else the last with a number."""
        names = [_word(wish) for wish in wishes]
        for name in names:
            if name not in self.taken and not is_reserved(name):
                break
        else:
            base, count = name, 1
            while name in self.taken or is_reserved(name):
                count += 1
                name = f"{base}_{count}"
        self.taken.add(name)
        return name

    def wishes(self, path: str, least: int = 1) -> list[str]:
        """The ends of a path below the module, the shortest first; a number never stands alone."""
        parts = path.removeprefix(f"{self.path}.").split(".") if path else []
        ends = range(len(parts) - least, -1, -1)
        return ["_".join(parts[k:]) for k in ends if not parts[k].isdigit()] or ["_".join(parts) or "z"]

    # --- things -------------------------------------------------------------------------------------------

    def of_line(self, number: int, wishes: Iterable[str] = ()) -> str:
        """The name of a line's tensor; an argument, if the line is not of this block."""
        key = ("node", number)
        if key not in self.names:
            node = self.plan.graph.nodes[number]
            if number not in self.lines:
                return self._argument(key, self._pattern(node.axes))
            owner, _, op = node.name.rpartition(".")
            least = 1 if owner == self.path or not node.name else 2
            self.names[key] = self.fresh(*(wishes or self.wishes(f"{owner}.{op.strip('_')}" if op else "", least)))
        return self.names[key]

    def of_param(self, parameter: Parameter) -> str:
        key = ("param", parameter.name)
        if key not in self.names:
            pattern = self._pattern(parameter.axes)
            if parameter.name not in self.own:
                return self._argument(key, pattern)
            whole = parameter.name.split("[")[0]
            name = self.names[key] = self.fresh(*self.wishes(whole, least=2))
            frozen = " frozen" if parameter.frozen else ""
            self.parameters[parameter.name] = f"{name}[{pattern}]{init_text(parameter.init)}{frozen}"
        return self.names[key]

    def of_input(self, node: Node) -> str:
        op = node.op
        assert isinstance(op, Input)
        key = ("input", op.name)
        if key not in self.names:
            tokens = op.kind == "tokens"
            pattern = self._pattern(node.axes[:-1] if tokens else node.axes)
            if not self.is_file:
                return self._argument(key, pattern, " in vocab" if tokens else "")
            name = self.names[key] = self.fresh("x" if op.name == "input" else op.name)
            self.inputs[op.name] = f"input {name}[{pattern}]" + (f" in {node.axes[-1].dim}" if tokens else "")
        return self.names[key]

    def of_key(self, key: Key) -> str:
        """The name of anything that a line can read."""
        kind, what = key
        if kind == "node":
            return self.of_line(int(what))
        if kind == "param":
            return self.of_param(self.plan.graph.parameters[str(what)])
        return self.of_input(self.input_node(str(what)))

    def input_node(self, name: str) -> Node:
        """The input of this name."""
        return next(n for n in self.plan.graph.nodes if isinstance(n.op, Input) and n.op.name == name)

    def of_unknown(self, name: str) -> str:
        if name not in self.unknowns:
            self.unknowns[name] = self.fresh(*self.wishes(f"{name}_scale"))
        return self.unknowns[name]

    def _argument(self, key: Key, pattern: str, kind: str = "") -> str:
        name = self.names[key] = self.fresh("x", "y", "z")
        self.bound.update(i for i in pattern.split(",") if i)
        self.arguments.append((key, f"{name}[{pattern}]{kind}"))
        return name

    # --- indices ------------------------------------------------------------------------------------------

    def _pattern(self, axes: Iterable[Axis]) -> str:
        count: dict[Dim, int] = {}
        names = []
        for dim in visible(axes):
            names.append(self.index(dim, count.get(dim, 0)))
            count[dim] = count.get(dim, 0) + 1
        return ",".join(names)

    def index(self, dim: Dim, number: int) -> str:
        """The `number`-th index of a statement that runs over this size."""
        if (dim, number) not in self.indices:
            self.indices[dim, number] = self.fresh(*(GROWING if dim.grows else FINITE))
        return self.indices[dim, number]

    @property
    def axes(self) -> list[str]:
        """The declarations of the indices that no argument declares."""
        return [f"{name}: {dim}" for (dim, _), name in self.indices.items() if name not in self.bound]


def _word(wish: str) -> str:
    name = re.sub(r"\W+", "_", wish, flags=re.ASCII).strip("_") or "z"
    return (f"x{name}" if name[0].isdigit() else name)[:LONGEST]
