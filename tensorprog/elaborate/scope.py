"""What an identifier can stand for, and the names visible at one place."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tensorprog.dims import Dim
from tensorprog.elaborate.library import standard_block
from tensorprog.elaborate.sizes import Cell
from tensorprog.errors import ShapeError
from tensorprog.functions import BUILTIN
from tensorprog.graph import Scalar
from tensorprog.statements import Block
from tensorprog.suggest import nearest
from tensorprog.syntax import Span

if TYPE_CHECKING:
    from tensorprog.elaborate.builder import Builder, ParamRecord


@dataclass(frozen=True, slots=True)
class TensorEntity:
    """A value of `builder`. `time`: inside a scan, the position among the written indices of the time index
    (of a tensor that is collected over time)."""

    builder: Builder
    value: int
    time: int | None = None


@dataclass(frozen=True, slots=True)
class ParamEntity:
    builder: Builder
    param: ParamRecord


@dataclass(frozen=True, slots=True)
class DimEntity:
    dim: Dim


@dataclass(frozen=True, slots=True)
class ScalarEntity:
    scalar: Scalar


@dataclass(frozen=True, slots=True)
class FunctionEntity:
    name: str


@dataclass(frozen=True, slots=True)
class FlagEntity:
    value: bool


@dataclass(frozen=True, slots=True)
class BlockEntity:
    name: str
    home: Scope
    written: Block | None  # None: a standard block, which is parsed when it is first used

    @property
    def block(self) -> Block:
        return standard_block(self.name) if self.written is None else self.written


Entity = TensorEntity | ParamEntity | DimEntity | ScalarEntity | FunctionEntity | FlagEntity | BlockEntity

_KINDS = {
    "TensorEntity": "a tensor",
    "ParamEntity": "a parameter",
    "DimEntity": "a size",
    "ScalarEntity": "a scalar",
    "FunctionEntity": "a function",
    "FlagEntity": "a flag",
    "BlockEntity": "a block",
}


# What an unknown name was meant to be -> the kinds of names to show instead, and how to define one.
_INDICES = ("axes have names, and the left side says which remain", "`y[j] = W[j,i] x[i]`")
_SHAPES = ("axes have names: one can be seen as several, or several as one", "`y[(h e)] = x[h,e]`, `y[h,e] = x[(h e)]`")
_FOREIGN = {
    "dropout": ("it changes no exponent, and is left out", "its argument alone"),
    **dict.fromkeys(("matmul", "einsum", "dot", "mm", "bmm"), _INDICES),
    **dict.fromkeys(("reshape", "view", "flatten", "transpose", "permute", "rearrange"), _SHAPES),
}  # what users of other languages write -> why not, and what instead
_WANTED = {
    "name": (("a tensor", "a parameter"), "a line `{} = ..` above"),
    "size": (("a size",), "`width {0}`, or `dim {0} = 64`"),
    "flag": (("a flag",), "`{}: flag` among the arguments of a block"),
    "function": ((), "`fn {}(z) = ..`"),
    "function or block": ((), "`fn {0}(z) = ..`, or `block {0}(x[..,i]) {{ .. }}`"),
}


def describe(entity: Entity | None) -> str:
    """`a tensor`, `a parameter`, ..: for messages."""
    return _KINDS.get(type(entity).__name__, "")


@dataclass(slots=True)
class Scope:
    """The names visible at one place. A loop body has a parent in the same block (`inside` True); a block body sees
    only sizes, functions and blocks of the file it is defined in."""

    builder: Builder
    parent: Scope | None = None
    inside: bool = False
    names: dict[str, Entity] = field(default_factory=dict)
    indices: dict[str, Cell] = field(default_factory=dict)
    declared: dict[str, Span] = field(default_factory=dict)
    later: dict[str, Span] = field(default_factory=dict)
    ended: dict[str, Span] = field(default_factory=dict)
    scan: str | None = None
    collected: dict[str, tuple[int, int]] = field(default_factory=dict)

    def find(self, name: str) -> Entity | None:
        """What the name stands for here, or None."""
        scope: Scope | None = self
        outside = False
        while scope is not None:
            entity = scope.names.get(name)
            if entity is not None and not (
                outside and isinstance(entity, TensorEntity | ParamEntity | ScalarEntity | FlagEntity)
            ):
                return entity
            outside = outside or not scope.inside
            scope = scope.parent
        return None

    def own(self, name: str) -> Entity | None:
        """What the name stands for in this file or block, not in the file around a block."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.names:
                return scope.names[name]
            scope = scope.parent if scope.inside else None
        return None

    def cell(self, index: str) -> Cell:
        """The size of an index; one table for a whole file or block."""
        scope = self
        while scope.inside and scope.parent is not None:
            scope = scope.parent
        if index not in scope.indices:
            context = scope.builder.context
            scope.indices[index] = Cell(f"{scope.builder.path}:{index}", context.ledger)
        return scope.indices[index]

    def knows_index(self, index: str) -> Cell | None:
        scope = self
        while scope.inside and scope.parent is not None:
            scope = scope.parent
        return scope.indices.get(index)

    def declare(self, name: str, entity: Entity, span: Span) -> None:
        """Adds a declaration; declaring twice in one place is an error."""
        if name in self.declared:
            line = self.declared[name].line
            raise ShapeError(f"`{name}` is declared twice", span, why=f"it was declared in line {line}",
                             fix="another name, or one of the two")  # fmt: skip
        self.declared[name] = span
        self.names[name] = entity

    def visible(self) -> Iterable[str]:
        scope: Scope | None = self
        while scope is not None:
            yield from scope.names
            scope = scope.parent


def unknown_name(name: str, scope: Scope, span: Span, what: str = "name", more: Iterable[str] = ()) -> ShapeError:
    """`name` is not defined: says so, with the nearest name that is, or that it is defined only further down."""
    if (later := _defined_later(name, scope)) is not None:
        return ShapeError(
            f"`{name}` is used before it is defined",
            span,
            why=f"it is defined in line {later.line}; statements are computed in order, so there are no cycles",
            fix=f"the statement that defines `{name}` above this one",
        )
    if name in scope.ended:
        return ShapeError(f"`{name}` is only known inside the loop of line {scope.ended[name].line}", span,
                          why="a loop hands on the names that were assigned before it",
                          fix=f"a value for `{name}` before the loop")  # fmt: skip
    if name in BUILTIN or isinstance(scope.find(name), FunctionEntity | BlockEntity):
        return ShapeError(f"`{name}` is a function, not a {'tensor' if what == 'name' else what}", span,
                          why="it is applied to what stands in parentheses",
                          fix=f"`{name}(..)`")  # fmt: skip
    seen = [other for other in scope.visible() if scope.find(other) is not None]
    if name not in seen and name in scope.visible():
        return ShapeError(f"`{name}` is not known inside of a block", span, fix="an argument of the block",
                          why="a block sees sizes, functions and blocks of the file, but no tensors")  # fmt: skip
    if what == "function or block" and name in _FOREIGN:
        why, fix = _FOREIGN[name]
        return ShapeError(f"unknown {what} `{name}`", span, why=why, fix=fix)
    near = nearest(name, {*seen, *more}, 0.6)
    kinds, define = _WANTED[what]
    known = ", ".join([f"`{other}`" for other in seen if describe(scope.find(other)) in kinds][:8])
    return ShapeError(f"unknown {what} `{name}`", span, why=f"nothing above this line defines `{name}`",
                      fix=f"`{near}`" if near else f"{known}; or " * bool(known) + define.format(name))  # fmt: skip


def _defined_later(name: str, scope: Scope) -> Span | None:
    current: Scope | None = scope
    while current is not None:
        if name in current.later:
            return current.later[name]
        current = current.parent if current.inside else None
    return None
