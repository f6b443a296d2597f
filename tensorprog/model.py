"""The typed, structured program: what `elaborate` makes of the tree, what `emit` prints, what `inline` flattens.

A Module is a straight-line list of steps over local values (numbered); blocks are uses of other modules,
`repeat` and `scan` are loops over a body module. Ops are those of graph.py. All sizes are concrete (in the
width symbols); `dims` remembers how they were named and written locally.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

from tensorprog.dims import Dim
from tensorprog.graph import Axis, Op
from tensorprog.parameters import Parameter, Unknown
from tensorprog.syntax import NOWHERE, Expr, Span


@dataclass(frozen=True, slots=True)
class LocalDim:
    """A size with a local name. `formula` is its declaration in terms of earlier local names; None for an
    argument (a `dim` formal, or an axis of a tensor formal) and for a width."""

    name: str
    dim: Dim
    formula: Expr | None = None


@dataclass(frozen=True, slots=True)
class Value:
    """A local tensor. `name` as written ("" for an intermediate result of one line)."""

    id: int
    axes: tuple[Axis, ...]
    name: str = ""


@dataclass(frozen=True, slots=True)
class Compute:
    """out = op(args). A Param op names a parameter of this module by its local name."""

    out: int
    op: Op
    args: tuple[int, ...]
    span: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Use:
    """out = block instance `instance` applied to args (one per formal tensor)."""

    out: int
    instance: str
    module: Module
    args: tuple[int, ...]
    span: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Loop:
    """A body run several times.

    kind: "repeat" (fresh parameters each time), "shared" (the same ones), "scan" (the same; over an axis).
    The body's formals are: the carried values, then the captured ones (same order as `carried`, `captured`),
    then for a scan one formal per `sliced` (an outer value and the axis that the time index removes).
    The body's results are the new carried values, then the collected ones. `carried`: outer initial values.
    `outs`: outer ids of the final carried values. `collected`: (outer id, axis) of tensors stacked over time.
    `count`: how many times; `symbol`: the depth symbol it came from, if any; `length`: its size in depth symbols,
    where those are kept (then `count` means nothing).
    """

    kind: str
    instance: str
    body: Module
    count: int
    symbol: str | None
    carried: tuple[int, ...]
    captured: tuple[int, ...]
    sliced: tuple[tuple[int, int], ...]
    outs: tuple[int, ...]
    collected: tuple[tuple[int, int], ...]
    span: Span = field(default=NOWHERE, compare=False)
    length: Dim | None = None


Step = Compute | Use | Loop


@dataclass(frozen=True, slots=True)
class Module:
    """One block use (or the whole model, or the body of a loop). `block` is the name of its definition."""

    block: str
    formals: tuple[int, ...]
    results: tuple[int, ...]
    values: tuple[Value, ...]
    steps: tuple[Step, ...]
    parameters: tuple[Parameter, ...]
    unknowns: tuple[Unknown, ...]
    dims: tuple[LocalDim, ...]


@dataclass(frozen=True, slots=True)
class Model:
    """The whole file: the top module, and what holds for all of it. `functions`: user-defined `fn`s, name ->
    (argument, body)."""

    top: Module
    widths: tuple[str, ...]
    depths: tuple[tuple[str, int], ...]
    functions: tuple[tuple[str, str, Expr], ...]
    outputs: tuple[tuple[str, int], ...]
    loss: int
    optimizer: str | None
    optimizer_options: tuple[tuple[str, Fraction], ...]
    regime: tuple[tuple[str, ...], str] | None = None
