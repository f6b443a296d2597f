"""What stands between brackets, `x[t, (h e), 2 u + a - 1, ..]`: an expression read as an index."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction

from tensorprog import syntax as s
from tensorprog.errors import ParseError


def read_index(expr: s.Expr, dims: frozenset[str], bracketed: Callable[[s.Expr], bool]) -> s.Index:
    """The index that `expr` means: `dims` are the names that are sizes, `bracketed` tells what had parentheses."""
    group = _factors(expr)
    match expr:
        case s.Indexed() if not bracketed(expr):
            return s.IndexGather(expr, expr.span)
        case s.Name(id=name) if not bracketed(expr) and name not in dims:
            return s.IndexName(name, expr.span)
        case s.Binary() if len(group) > 1 and bracketed(expr):
            return s.IndexGroup(group, expr.span)
        case _:
            return _affine(expr, dims, bracketed)


def _factors(expr: s.Expr) -> tuple[str, ...]:
    """The names of a product of names, else ()."""
    match expr:
        case s.Name(id=name):
            return (name,)
        case s.Binary(op="*", left=left, right=s.Name(id=name)):
            names = _factors(left)
            return (*names, name) if names else ()
        case _:
            return ()


def _affine(expr: s.Expr, dims: frozenset[str], bracketed: Callable[[s.Expr], bool]) -> s.IndexAffine:
    terms: list[tuple[int | str, str]] = []
    constant = 0
    offset: s.Expr | None = None
    for sign, part in _summands(expr, 1, bracketed):
        match part:
            case s.Number(value=value):
                if value.denominator != 1:
                    raise ParseError("a position is a whole number", part.span,
                                     why="the places along an axis are counted", fix="a whole number")  # fmt: skip
                constant += sign * value.numerator
                continue
            case s.Name(id=name) if name not in dims and not bracketed(part):
                terms.append((sign, name))
                continue
            case s.Binary(op="*", left=a, right=b) if not bracketed(part):
                term = _term(a, b, dims) or _term(b, a, dims)
                if term is not None:
                    coefficient, name = term
                    if isinstance(coefficient, str) and sign < 0:
                        raise ParseError("a coefficient with a minus sign is a number", part.span,
                                         why="which way the window runs must be known",
                                         fix="a number, such as `- 2 u`")  # fmt: skip
                    terms.append((coefficient if isinstance(coefficient, str) else sign * coefficient, name))
                    continue
                if len(_factors(part)) > 1 and not dims.intersection(_factors(part)):
                    names = " ".join(_factors(part))
                    raise ParseError(f"`{names}` is not an index", part.span, why="one axis seen as several is a group",
                                     fix=f"`({names})`")  # fmt: skip
            case _:
                pass
        if offset is None:
            offset = part if sign > 0 else s.Negate(part, part.span)
        else:
            offset = s.Binary("+" if sign > 0 else "-", offset, part, expr.span)
    names_used = [name for _, name in terms]
    for coefficient, name in terms:
        if names_used.count(name) > 1 or coefficient == 0:
            what = "stands in one position twice" if coefficient else "has the coefficient zero"
            raise ParseError(f"the index `{name}` {what}", expr.span,
                             why="a position runs with every one of its indices, in its own stride",
                             fix="each index once, such as `2 u + a`")  # fmt: skip
    number = s.Number(Fraction(abs(constant)), expr.span)
    if offset is None:
        offset = s.Number(Fraction(constant), expr.span)
    elif constant:
        offset = s.Binary("+" if constant > 0 else "-", offset, number, expr.span)
    return s.IndexAffine(tuple(terms), offset, expr.span)


def _term(a: s.Expr, b: s.Expr, dims: frozenset[str]) -> tuple[int | str, str] | None:
    """`2 u` or `stride u` as (coefficient, index name)."""
    match a, b:
        case s.Number(value=value), s.Name(id=name) if name not in dims and value.denominator == 1:
            return value.numerator, name
        case s.Name(id=size), s.Name(id=name) if size in dims and name not in dims:
            return size, name
        case _:
            return None


def _summands(expr: s.Expr, sign: int, bracketed: Callable[[s.Expr], bool]) -> Iterator[tuple[int, s.Expr]]:
    """The signed parts of a sum; what is in parentheses is one part."""
    match expr:
        case s.Binary(op="+" | "-", left=left, right=right) if not bracketed(expr):
            yield from _summands(left, sign, bracketed)
            yield from _summands(right, sign if expr.op == "+" else -sign, bracketed)
        case s.Negate(operand=operand) if not bracketed(expr):
            yield from _summands(operand, -sign, bracketed)
        case s.Binary(op="*", left=s.Negate(operand=operand) as left, right=right) if not (
            bracketed(expr) or bracketed(left)
        ):
            yield -sign, s.Binary("*", operand, right, expr.span)  # `-2 u`
        case _:
            yield sign, expr
