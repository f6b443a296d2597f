"""Expressions without tensors: sizes (`4 n / heads`), scalars (`?scale * d^(-1/2)`), plain numbers."""

from __future__ import annotations

from fractions import Fraction

from tensorprog.dims import ONE, Dim
from tensorprog.elaborate.scope import DimEntity, ScalarEntity, Scope, describe, unknown_name
from tensorprog.errors import ShapeError
from tensorprog.graph import Scalar
from tensorprog.parameters import Unknown
from tensorprog.syntax import Binary, Expr, Name, Negate, Number, Span
from tensorprog.syntax import Unknown as UnknownExpr

MAX_SIZE = 10_000_000
MAX_POWER = 64
MAX_TERMS = 200
MAX_BITS = 2000


def size(expr: Expr, scope: Scope) -> Dim:
    """The value of a size expression: a positive polynomial in the widths."""
    dim = polynomial(expr, scope)
    check_size(dim, expr.span)
    return dim


def check_size(dim: Dim, span: Span) -> None:
    """A size is positive, finite ones are whole and not absurd."""
    value = dim.constant
    if value is not None:
        if value <= 0:
            raise ShapeError(f"this size is {value}", span, why="a size is positive", fix="a number from 1 on")
        if value.denominator != 1:
            raise ShapeError(f"this size is {value}", span, why="a finite size is a whole number",
                             fix="a whole number, or a multiple of a width")  # fmt: skip
        if value > MAX_SIZE:
            raise ShapeError(f"this size is above {MAX_SIZE}", span, fix="a width",
                             why="finite sizes are those of a network that can be run")  # fmt: skip
        return
    degrees = [sum(power for _, power in monomial) for monomial, _ in dim.terms]
    leading = [c for (_, c), degree in zip(dim.terms, degrees, strict=True) if degree == max(degrees)]
    if max(degrees) <= 0 and not dim.grows:
        raise ShapeError(f"the size {dim} shrinks as the widths grow", span, why="a size grows or stays finite",
                         fix="a number, or a multiple of a width")  # fmt: skip
    if all(c < 0 for c in leading):
        raise ShapeError(f"the size {dim} is negative", span, why="a size is positive", fix="a larger first term")


def polynomial(expr: Expr, scope: Scope) -> Dim:
    """The value of an expression in numbers and sizes, not checked to be a size."""
    dim = _polynomial(expr, scope)
    if len(dim.terms) > MAX_TERMS or any(_too_long(coefficient) for _, coefficient in dim.terms):
        raise ShapeError("this size is too large an expression", expr.span,
                         why="sizes are short polynomials in the widths",
                         fix="a `dim` of its own, or fewer terms")  # fmt: skip
    return dim


def _too_long(value: Fraction) -> bool:
    return max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS


def to_float(value: Fraction, span: Span) -> float:
    """The number as a float; an error if it is too large for one."""
    try:
        return float(value)
    except OverflowError:
        raise ShapeError("this number is too large", span, why="it must be a number that a program can hold",
                         fix="a number below 1e300") from None  # fmt: skip


def _polynomial(expr: Expr, scope: Scope) -> Dim:
    match expr:
        case Number(value=value):
            return Dim.of(value)
        case Name(id=name):
            return _named_size(name, scope, expr.span)
        case Negate(operand=operand):
            return -polynomial(operand, scope)
        case Binary(op="+", left=left, right=right):
            return polynomial(left, scope) + polynomial(right, scope)
        case Binary(op="-", left=left, right=right):
            return polynomial(left, scope) - polynomial(right, scope)
        case Binary(op="*", left=left, right=right):
            return polynomial(left, scope) * polynomial(right, scope)
        case Binary(op="/", left=left, right=right):
            try:
                return polynomial(left, scope) / polynomial(right, scope)
            except (ZeroDivisionError, ValueError) as error:
                raise ShapeError(str(error), expr.span, why="sizes are polynomials in the widths",
                                 fix="a division by a number, a dim or a product of widths") from None  # fmt: skip
        case Binary(op="^", left=left, right=right):
            power = number(right, scope)
            if power.denominator != 1 or not 0 <= power <= MAX_POWER:
                raise ShapeError(f"the power of a size is a whole number from 0 to {MAX_POWER}", right.span,
                                 why="sizes are polynomials in the widths",
                                 fix="`n^2`")  # fmt: skip
            result, base = ONE, polynomial(left, scope)
            for _ in range(int(power)):
                result = result * base
                if len(result.terms) > MAX_TERMS:
                    break
            return result
        case _:
            raise ShapeError("this is not a size", expr.span, why="sizes are made of numbers, dims and widths",
                             fix="`64`, `n`, `4 n` or `n / heads`")  # fmt: skip


def _named_size(name: str, scope: Scope, span: Span) -> Dim:
    entity = scope.find(name)
    if isinstance(entity, DimEntity):
        return entity.dim
    if isinstance(entity, ScalarEntity):
        constant = entity.scalar
        if not constant.powers and not constant.unknowns:
            return Dim.of(constant.coefficient)
    if entity is None:
        cell = scope.knows_index(name)
        if cell is not None:
            return cell.size(name, span)
        raise unknown_name(name, scope, span, "size")
    raise ShapeError(f"`{name}` is {describe(entity)}, not a size", span,
                     why="sizes are made of numbers, dims and widths", fix="a `dim`, a width or a number")  # fmt: skip


def whole(expr: Expr, scope: Scope) -> int:
    """A positive whole number (the k of top-k, a stride)."""
    value = number(expr, scope)
    if value.denominator != 1 or value <= 0:
        raise ShapeError(
            f"this is {value}, not a positive whole number", expr.span, why="it counts things", fix="`1`, `2`, .."
        )
    return int(value)


def number(expr: Expr, scope: Scope) -> Fraction:
    """The value of a constant expression; an error if it depends on a width."""
    scalar = static_scalar(expr, scope)
    if scalar is None or scalar.powers or scalar.unknowns:
        raise ShapeError("a plain number is needed here", expr.span, why="it may not depend on widths or unknowns",
                         fix="a number, such as `0.5`")  # fmt: skip
    return scalar.coefficient


def static_scalar(expr: Expr, scope: Scope) -> Scalar | None:
    """The value of an expression that holds no tensor; None if it does."""
    match expr:
        case Number(value=value):
            return Scalar(value)
        case Name(id=name):
            return _named_scalar(name, scope, expr.span)
        case UnknownExpr():
            return named_unknown(expr, scope)
        case Negate(operand=operand):
            inner = static_scalar(operand, scope)
            return None if inner is None else Scalar(Fraction(-1)) * inner
        case Binary(op="+" | "-"):
            return _static_sum(expr, scope)
        case Binary(op=op, left=left, right=right):
            a, b = static_scalar(left, scope), static_scalar(right, scope)
            if a is None or b is None:
                return None
            if op == "*":
                return a * b
            return a * power(b, Fraction(-1), right.span) if op == "/" else power(a, number(right, scope), expr.span)
        case _:
            return None


def _static_sum(expr: Binary, scope: Scope) -> Scalar | None:
    a, b = static_scalar(expr.left, scope), static_scalar(expr.right, scope)
    if a is None or b is None:
        return None
    if a.unknowns or b.unknowns:
        raise ShapeError("an unknown multiplier stands alone in a product, not in a sum", expr.span,
                         why="its exponent says how the whole product grows; beside something else it says nothing",
                         fix="`?a * x + ?b * y`")  # fmt: skip
    if not a.powers and not b.powers:
        sign = 1 if expr.op == "+" else -1
        return Scalar(a.coefficient + sign * b.coefficient)
    return Scalar.size(polynomial(expr, scope))


def _named_scalar(name: str, scope: Scope, span: Span) -> Scalar | None:
    match scope.find(name):
        case DimEntity(dim=dim):
            return Scalar.size(dim)
        case ScalarEntity(scalar=scalar):
            return scalar
        case None:
            cell = scope.knows_index(name)
            return None if cell is None else Scalar.size(cell.size(name, span))
        case _:
            return None


def power(scalar: Scalar, exponent: Fraction, span: Span) -> Scalar:
    """scalar ^ exponent; roots of numbers stay symbolic, as powers of a constant size."""
    if scalar.unknowns:
        raise ShapeError("an unknown multiplier cannot be raised to a power or divided by", span,
                         why="it stands for one factor, whose exponent is derived",
                         fix="`?name` alone: its exponent takes the power into account")  # fmt: skip
    if abs(exponent) > MAX_POWER or _too_long(scalar.coefficient):
        raise ShapeError(
            "this power is too large", span, why="powers of sizes are small", fix=f"a power up to {MAX_POWER}"
        )
    powers = tuple((dim, p * exponent) for dim, p in scalar.powers if exponent)
    coefficient = scalar.coefficient
    if exponent.denominator == 1:
        if not coefficient and exponent < 0:
            raise ShapeError("division by zero", span, why="this is zero", fix="a number that is not")
        return Scalar(coefficient ** int(exponent), powers)
    if coefficient <= 0:
        raise ShapeError(
            f"a root of {coefficient}", span, why="only positive numbers have roots", fix="a positive number"
        )
    if coefficient == 1:
        return Scalar(powers=powers)
    return Scalar(powers=((Dim.of(coefficient), exponent), *powers))


# --- unknown multipliers ----------------------------------------------------------------------------


def base_value(expr: UnknownExpr, scope: Scope) -> Scalar | None:
    """The stated value at the base width, if any."""
    if expr.value is None:
        return None
    value = static_scalar(expr.value, scope)
    if value is None or value.unknowns or not value.coefficient:
        raise ShapeError("the value of an unknown multiplier is made of numbers and sizes, not zero",
                         expr.value.span,
                         why="its value is that at the base width",
                         fix="`?name{0.5}` or `?name{d^(-1/2)}`")  # fmt: skip
    return value


def named_unknown(expr: UnknownExpr, scope: Scope, default: Scalar | None = None) -> Scalar:
    """`?name` : the one of this name in the file, or in this block."""
    if expr.id is None:
        raise ShapeError("this unknown multiplier has no name", expr.span,
                         why="only as an argument `scale = ?` does it take the name of the argument",
                         fix="`?name`")  # fmt: skip
    path = scope.builder.unknown_path
    return register(f"{path}.{expr.id}" if path else expr.id, expr, scope, default)


def register(name: str, expr: UnknownExpr, scope: Scope, default: Scalar | None = None) -> Scalar:
    """The multiplier as a scalar: the number that is given, or an unknown. Its base value is the stated one, else
    `default`, else 1."""
    context = scope.builder.context
    given = context.given.of(name, expr.span) if context.given is not None else None
    if given is not None:
        return given
    stated = base_value(expr, scope)
    known = context.unknowns.get(name)
    if stated is not None and name in context.stated and known is not None and known.base != stated:
        raise ShapeError(f"`?{name}` has another value elsewhere", expr.span, fix="one value, at one of the places",
                         why="one name stands for one multiplier")  # fmt: skip
    if known is None or (stated is not None and name not in context.stated):
        base = stated if stated is not None else default
        span = scope.builder.place(expr.span)
        context.unknowns[name] = Unknown(name, base or Scalar(), span=span, stated=base is not None)
    if stated is not None:
        context.stated.add(name)
    return Scalar(unknowns=(name,))
