"""The syntax tree of a .tp file, up to a line: positions, expressions and indices. Statements: see statements.py.

Plain frozen data, compared without positions. Nothing here knows what a program means; `elaborate` does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class Span:
    """Where something stands in its source: 1-based lines and columns, end exclusive."""

    line: int
    column: int
    end_line: int
    end_column: int
    file: str = ""


NOWHERE = Span(0, 0, 0, 0)


def span_field() -> Span:
    """A field for where a part of the tree stands: not compared, not printed."""
    return field(default=NOWHERE, compare=False, repr=False)


# --- expressions ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Number:
    """A literal, exact: `2`, `0.02`, `1e-5` are kept as fractions."""

    value: Fraction
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class Name:
    """A bare name: a whole tensor, a dim, a width, a function or a flag; which one is decided later."""

    id: str
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class Unknown:
    """`?name` or `?` : a multiplier whose exponent the derivation solves for. `?name{value}` also states
    its value at the base width (an expression in dims and numbers; default 1)."""

    id: str | None
    value: Expr | None = None
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class Indexed:
    """`x[t, (h e), 2 u + a - 1, ..]` : a tensor with one index expression per axis."""

    id: str
    indices: tuple[Index, ...]
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class Binary:
    """`a op b` with op one of `+ - * / ^`; juxtaposition is `*`. The right side of `^` is a scalar."""

    op: str
    left: Expr
    right: Expr
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class Negate:
    operand: Expr
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a call: positional when `keyword` is None. A bare flag (`causal`) is positional."""

    keyword: str | None
    value: Expr
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class Condition:
    """`left <= right` between two index names, in `softmax[s | s <= t](..)`: where it fails, the weight is 0.
    op is one of `<= < >= >`."""

    left: str
    op: str
    right: str
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class Call:
    """`f(x, k = 3)` or `softmax[s | s <= t](x[t,s])`; `over` holds the bracketed indices."""

    id: str
    arguments: tuple[Argument, ...]
    over: tuple[str, ...] = ()
    condition: Condition | None = None
    span: Span = span_field()


Expr = Number | Name | Unknown | Indexed | Binary | Negate | Call


# --- indices ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class IndexName:
    id: str
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class IndexGroup:
    """`(h e)` : one axis seen as several, the first varying slowest."""

    ids: tuple[str, ...]
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class IndexAffine:
    """`2 u + a - 1` : a sum of (coefficient, index name) terms and an offset (a dim expression).
    A coefficient is a whole number or the name of a finite dim (`stride u + a`).
    With no terms it selects one position: `h[0, i]`. Positions outside the axis read as zero."""

    terms: tuple[tuple[int | str, str], ...]
    offset: Expr
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class IndexEllipsis:
    """`..` : all axes that the other indices do not name (leading ones, batch-like)."""

    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class IndexGather:
    """`E[tokens[t], i]` : the axis is looked up with integer tokens."""

    tokens: Indexed
    span: Span = span_field()


Index = IndexName | IndexGroup | IndexAffine | IndexEllipsis | IndexGather
