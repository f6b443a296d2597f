"""Expressions and indices to canonical text, with no more parentheses than their parser needs."""

from __future__ import annotations

from fractions import Fraction
from typing import assert_never

from tensorprog import syntax as s
from tensorprog.limits import MAX_NUMBER_LENGTH

_SUM, _PRODUCT, _UNARY, _POWER, _ATOM = 1, 2, 3, 4, 5  # how tightly a form binds


def text(expr: s.Expr, dims: frozenset[str] = frozenset(), level: int = _SUM) -> str:
    """An expression, in parentheses if it binds less tightly than `level`."""
    own, out = _expression(expr, dims)
    return out if own >= level else f"({out})"


def _expression(expr: s.Expr, dims: frozenset[str]) -> tuple[int, str]:
    match expr:
        case s.Number(value=value):
            return _number(value)
        case s.Name(id=name):
            return _ATOM, name
        case s.Unknown(id=name, value=value):
            return _ATOM, f"?{name or ''}" + ("" if value is None else f"{{{text(value, dims)}}}")
        case s.Indexed(id=name, indices=indices):
            return _ATOM, name + brackets(indices, dims)
        case s.Call(id=name, arguments=arguments, over=over, condition=condition):
            where = f" | {condition.left} {condition.op} {condition.right}" if condition else ""
            bracket = f"[{','.join(over)}{where}]" if over else ""
            inside = ", ".join((f"{a.keyword} = " if a.keyword else "") + text(a.value, dims) for a in arguments)
            return _ATOM, f"{name}{bracket}({inside})"
        case s.Negate(operand=operand):
            return _UNARY, "-" + text(operand, dims, _UNARY)
        case s.Binary(op="+" | "-" as op, left=left, right=right):
            return _SUM, f"{text(left, dims, _SUM)} {op} {text(right, dims, _PRODUCT)}"
        case s.Binary(op="^", left=left, right=right):
            return _POWER, f"{text(left, dims, _ATOM)}^{_exponent(right, dims)}"
        case s.Binary(op=op, left=left, right=right):
            sign = " " if op == "*" and _side_by_side(left, right) else f" {op} "
            return _PRODUCT, f"{text(left, dims, _PRODUCT)}{sign}{text(right, dims, _UNARY)}"
        case _:
            assert_never(expr)


def _exponent(expr: s.Expr, dims: frozenset[str]) -> str:
    match expr:
        case s.Number(value=value) if value == 1:
            return "(1)"  # because `n^1/2` is refused as ambiguous
        case s.Binary(op="/", left=s.Number() | s.Negate(operand=s.Number()) as left, right=s.Number() as right):
            return f"({text(left)}/{text(right, level=_ATOM)})"
        case _:
            return text(expr, dims, _ATOM)


def _side_by_side(left: s.Expr, right: s.Expr) -> bool:
    """Whether a product is written without `*`: `W[j,i] x[i]`, `4 n`."""
    factor = right.left if isinstance(right, s.Binary) and right.op == "^" else right
    if isinstance(left, s.Binary) and left.op == "*":
        left = left.right
    match left, factor:
        case s.Number(value=value), s.Name() | s.Indexed():
            return value >= 0
        case s.Indexed(), s.Indexed():
            return True
        case _:
            return False


def _number(value: Fraction) -> tuple[int, str]:
    if value < 0:
        return _UNARY, "-" + _number(-value)[1]
    places = 0
    while places < 400 and (value * 10**places).denominator != 1:
        places += 1
    scaled = value * 10**places
    if scaled.denominator != 1:
        return _PRODUCT, f"{value.numerator} / {value.denominator}"
    digits = str(scaled.numerator).rjust(places + 1, "0")
    plain = digits if not places else f"{digits[:-places]}.{digits[-places:]}"
    significant = digits.strip("0")
    power = len(digits.lstrip("0")) - 1 - places
    point = f".{significant[1:]}" if significant[1:] else ""
    short = f"{significant[:1] or '0'}{point}e{power}"
    usual = value == 0 or (Fraction(1, 10_000) <= value and (len(plain) <= 8 or len(significant) > 6))
    if (usual and len(plain) <= MAX_NUMBER_LENGTH) or len(short) > MAX_NUMBER_LENGTH:
        return _ATOM, plain.removeprefix("0") if len(plain) > MAX_NUMBER_LENGTH else plain
    return _ATOM, short


# --- indices ----------------------------------------------------------------------------------------


def brackets(indices: tuple[s.Index, ...] | None, dims: frozenset[str]) -> str:
    """`[t, (h e), 2 u + a]`; nothing where there are no indices."""
    if indices is None:
        return ""
    wide = any(isinstance(i, s.IndexGather) or (isinstance(i, s.IndexAffine) and i.terms) for i in indices)
    return f"[{(', ' if wide else ',').join(_index(index, dims) for index in indices)}]"


def _index(index: s.Index, dims: frozenset[str]) -> str:
    match index:
        case s.IndexName(id=name):
            return name
        case s.IndexGroup(ids=names):
            return f"({' '.join(names)})"
        case s.IndexEllipsis():
            return ".."
        case s.IndexGather(tokens=tokens):
            return text(tokens, dims)
        case s.IndexAffine(terms=terms, offset=offset):
            parts = [_term(coefficient, name) for coefficient, name in terms]
            plain = [coefficient for coefficient, _ in terms] == [1]  # `u + 0` reads a part of an axis, `u` all of it
            if offset != s.Number(Fraction(0)) or not parts or plain:
                parts += _offset(offset, dims, alone=not parts)
            out = " ".join(parts)
            return out[2:] if out.startswith("+ ") else "-" + out[2:]
        case _:
            assert_never(index)


def _term(coefficient: int | str, name: str) -> str:
    if isinstance(coefficient, str):
        return f"+ {coefficient} {name}"
    sign, size = ("-" if coefficient < 0 else "+"), abs(coefficient)
    return f"{sign} {name}" if size == 1 else f"{sign} {size} {name}"


def _offset(offset: s.Expr, dims: frozenset[str], alone: bool) -> list[str]:
    """A sign and a dim expression: a number, a known dim, or anything in parentheses."""
    match offset:
        case s.Number(value=value):
            return [f"{'-' if value < 0 else '+'} {text(s.Number(abs(value)))}"]
        case s.Name(id=name) if name in dims:
            return [f"+ {name}"]
        case s.Negate(operand=s.Name(id=name)) if name in dims:
            return [f"- {name}"]
        case s.Negate(operand=operand) if not isinstance(operand, s.Number):
            return [f"- ({text(operand, dims)})"]
        case s.Binary(op="*") if alone:  # `(n m)` alone would be a group
            return [f"+ 0 + ({text(offset, dims)})"]
        case _:
            return [f"+ ({text(offset, dims)})"]
