"""A module under construction: values, steps, parameters; what an operand of an indexed product is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tensorprog.dims import BATCH, ONE, Dim
from tensorprog.elaborate.sizes import Cell, Ledger
from tensorprog.graph import Axis, Contract, InvRms, Op, Param, Scalar, Scale
from tensorprog.model import Compute, LocalDim, Module, Step, Value
from tensorprog.parameters import Init, Parameter, Unknown
from tensorprog.syntax import Expr, Span

if TYPE_CHECKING:
    from tensorprog.elaborate.given import Given

BATCH_INDEX = "batch"


@dataclass(slots=True)
class ParamRecord:
    """A declared parameter; `axes` may still wait for sizes, `fan_in` for its first contraction."""

    name: str
    axes: tuple[tuple[str, Cell], ...]
    init: Init
    frozen: bool
    optimizer: str | None
    span: Span
    reads: int = 0
    fan_in: Dim | None = None
    contracted: bool = False

    def finished(self) -> Parameter:
        axes = tuple(Axis(cell.size(label, self.span), label) for label, cell in self.axes)
        return Parameter(self.name, axes, self.init, self.frozen, self.optimizer, self.fan_in, span=self.span)


@dataclass(slots=True)
class Record:
    """A value: its axes and name, the parameter it is a view of, and whether it is one-hot tokens."""

    axes: tuple[Axis, ...]
    name: str = ""
    source: ParamRecord | None = None
    tokens: bool = False

    @property
    def has_batch(self) -> bool:
        return bool(self.axes) and self.axes[0].dim == BATCH


@dataclass(frozen=True, slots=True)
class Operand:
    """A value of the current builder with an index name for each axis (`batch` first where it has one)."""

    value: int
    indices: tuple[str, ...]


@dataclass(slots=True)
class Context:
    """What one elaboration shares: unknown multipliers, the blocks being expanded, how much was built. `symbolic`: a
    depth stays a symbol, and its loops are not counted."""

    depths: dict[str, int]
    symbolic: bool = False
    ledger: Ledger = field(default_factory=Ledger)
    used_depths: dict[str, int] = field(default_factory=dict)
    unknowns: dict[str, Unknown] = field(default_factory=dict)
    stated: set[str] = field(default_factory=set)
    functions: dict[str, tuple[str, Expr]] = field(default_factory=dict)
    active: list[str] = field(default_factory=list)
    modules: int = 0
    given: Given | None = None


@dataclass(slots=True)
class Builder:
    """Collects the steps of one Module. `path`: its instance path without loop numbers; `unknown_path`: that of
    the enclosing block use, in front of the names of its unknowns; `site`: where a standard block is used."""

    context: Context
    block: str
    path: str = ""
    unknown_path: str = ""
    parent: Builder | None = None
    site: Span | None = None
    loops: int = 0
    values: list[Record] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    params: list[ParamRecord] = field(default_factory=list)
    uses: list[Unknown] = field(default_factory=list)
    dims: list[LocalDim] = field(default_factory=list)
    instances: set[str] = field(default_factory=set)
    names: dict[str, int] = field(default_factory=dict)
    captured: dict[int, int] = field(default_factory=dict)
    sliced: dict[tuple[int, int], int] = field(default_factory=dict)
    norms: dict[int, int] = field(default_factory=dict)  # an inverse norm -> what it is of

    def new(self, record: Record) -> int:
        """A value without a step: a formal argument or a result of a block or loop."""
        self.values.append(record)
        return len(self.values) - 1

    def agree(self, a: Dim, b: Dim) -> bool:
        """Whether two sizes are the same; one that was not known yet is learned."""
        return self.context.ledger.agree(a, b)

    def is_formal(self, value: int) -> bool:
        """Whether no step of this module computes the value."""
        return not any(step.out == value for step in reversed(self.steps) if isinstance(step, Compute))

    def place(self, span: Span) -> Span:
        """Where to report a node: in the user's text, even if a standard block made it."""
        return self.site or span

    def compute(
        self, op: Op, args: tuple[int, ...], axes: Iterable[Axis], span: Span, source: ParamRecord | None = None
    ) -> int:
        """Appends one step and returns its value."""
        out = self.new(Record(tuple(axes), "", source))
        self.steps.append(Compute(out, op, args, self.place(span)))
        if isinstance(op, InvRms):
            self.norms[out] = args[0]
        return out

    def scale(self, value: int, scalar: Scalar, span: Span) -> int:
        """value * scalar; nothing for 1. Two multiplications in a row are one."""
        last = self.steps[-1] if self.steps else None
        if isinstance(last, Compute) and isinstance(last.op, Scale) and last.out == value == len(self.values) - 1:
            record = self.values[value]
            if not record.name and record.source is None:
                self.steps.pop()
                self.values.pop()
                value, scalar = last.args[0], last.op.scalar * scalar
        if scalar == Scalar():
            return value
        return self.compute(Scale(scalar), (value,), self.values[value].axes, span)

    def read(self, param: ParamRecord, span: Span) -> int:
        """One use of a parameter in the text: its raw value times the use's own implicit multiplier."""
        axes = tuple(Axis(cell.size(label, span), label) for label, cell in param.axes)
        raw = self.compute(Param(param.name), (), axes, span, param)
        param.reads += 1
        unknown = Unknown(f"{param.name}@{param.reads}", kind="use", param=param.name, span=self.place(span))
        self.uses.append(unknown)
        return self.compute(Scale(Scalar(unknowns=(unknown.name,))), (raw,), axes, span, param)

    def capture(self, owner: Builder, value: int) -> int:
        """The value as seen from here: itself, or a formal of this loop body (and of the bodies in between)."""
        if owner is self:
            return value
        if self.parent is None:
            raise AssertionError("a value was read from outside of its block")
        outer = self.parent.capture(owner, value)
        if outer not in self.captured:
            record = self.parent.values[outer]
            self.captured[outer] = self.new(Record(record.axes, "", record.source, record.tokens))
        return self.captured[outer]

    def slice(self, owner: Builder, value: int, axis: int) -> int:
        """In the body of a scan: the outer value without `axis`, at the current time."""
        assert self.parent is not None
        outer = self.parent.capture(owner, value)
        if (outer, axis) not in self.sliced:
            record = self.parent.values[outer]
            axes = record.axes[:axis] + record.axes[axis + 1 :]
            self.sliced[outer, axis] = self.new(Record(axes, "", record.source, record.tokens))
        return self.sliced[outer, axis]

    def instance(self, name: str) -> str:
        """A fresh name for a use of a block or a loop: `linear`, then `linear_2`, .."""
        chosen, number = name, 1
        while chosen in self.instances:
            number += 1
            chosen = f"{name}_{number}"
        self.instances.add(chosen)
        return chosen

    def child_path(self, instance: str) -> str:
        return f"{self.path}.{instance}" if self.path else instance

    def bind(self, value: int, name: str) -> None:
        """Names a value after the variable it is assigned to (`x`, then `x#2`); a second name is dropped."""
        count = self.names[name] = self.names.get(name, 0) + 1
        if not self.values[value].name:
            self.values[value].name = name if count == 1 else f"{name}#{count}"

    def permute(self, operand: Operand, order: tuple[str, ...], span: Span) -> Operand:
        """The operand with its axes in `order`, summed over the indices not in it; itself if nothing changes."""
        if operand.indices == order:
            return operand
        record = self.values[operand.value]
        number = {name: position for position, name in enumerate(operand.indices)}
        op = Contract(tuple(range(len(operand.indices))), None, tuple(number[name] for name in order))
        summed = [record.axes[number[name]].dim for name in operand.indices if name not in order]
        if summed and record.source is not None:
            self.first_contraction(record.source, summed)
        axes = [record.axes[number[name]] for name in order]
        source = None if summed else record.source
        return Operand(self.compute(op, (operand.value,), axes, span, source), order)

    def first_contraction(self, param: ParamRecord, summed: Iterable[Dim] | None) -> None:
        """Fixes the fan-in of a parameter when it is first contracted (None: a look-up, nothing is summed)."""
        if param.contracted:
            return
        param.contracted = True
        sizes = tuple(summed or ())
        if sizes:
            param.fan_in = ONE
            for size in sizes:
                param.fan_in = param.fan_in * size

    def finish(self, formals: tuple[int, ...], results: tuple[int, ...]) -> Module:
        """The frozen module."""
        unknowns = list(self.uses)
        seen: set[str] = {unknown.name for unknown in unknowns}
        for step in self.steps:
            if isinstance(step, Compute) and isinstance(step.op, Scale):
                for name in step.op.scalar.unknowns:
                    if name not in seen:
                        seen.add(name)
                        unknowns.append(self.context.unknowns[name])
        return Module(
            self.block,
            formals,
            results,
            tuple(Value(k, record.axes, record.name) for k, record in enumerate(self.values)),
            tuple(self.steps),
            tuple(param.finished() for param in self.params),
            tuple(unknowns),
            tuple(self.dims),
        )
