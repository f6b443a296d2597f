"""Elementwise functions given by a formula: their SymPy, NumPy and PyTorch forms from the syntax tree (their facts:
facts.py)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import sympy

from tensorprog.arrays import Array
from tensorprog.constants import OPERATORS, exact_value
from tensorprog.errors import TensorProgError
from tensorprog.facts import BadPointError, Z, facts_of, parse, require_finite
from tensorprog.functions import Function
from tensorprog.syntax import NOWHERE, Binary, Call, Expr, Name, Negate, Number, Span

HIGHEST_POWER = 1000  # of a number, that is worked out exactly
_FIX = "a formula of its argument with + - * / ^, numbers, and the built-in functions"


def define(name: str, argument: str, body: Expr, known: Mapping[str, Function]) -> Function:
    """See `functions.user_function`."""
    _check(body, argument, known)
    span = getattr(body, "span", NOWHERE)
    try:
        formula = _symbolic(body, known)
        if formula.has(sympy.zoo, sympy.oo, sympy.nan):
            raise BadPointError("0")
        if not formula.has(Z):
            raise TensorProgError(f"function {name} does not depend on {argument}", span,
                                  fix=f"a formula with {argument}",
                                  why="nothing in front of it would learn")  # fmt: skip
        facts = facts_of(formula)
        require_finite(formula)
    except TensorProgError:
        raise
    except BadPointError as error:
        raise TensorProgError(f"function {name} is not a finite real number at {argument} = {error}", span,
                              why="activations take all values, and the calculus expands the function around 0",
                              fix=f"a formula that is finite for every {argument}") from None  # fmt: skip
    except (ArithmeticError, ValueError, TypeError, NotImplementedError, AttributeError, NameError) as error:
        raise TensorProgError(f"function {name} could not be analysed: {error}", span, fix=_FIX,
                              why="its value, slope and symmetry at 0 must be known") from error  # fmt: skip
    value = partial(_array, body, known, slope=False)
    slope = partial(_array, body, known, slope=True)
    return Function(name, str(formula), facts, (value, slope), f"({_torch(body, known)})")


def _fail(message: str, span: Span, why: str = "its derivative must be known, too") -> TensorProgError:
    return TensorProgError(message, span, why=why, fix=_FIX)


def _check(body: Expr, argument: str, known: Mapping[str, Function]) -> None:
    match body:
        case Number():
            pass
        case Name(id=name, span=span):
            if name != argument:
                raise _fail(f"unknown name {name} in the formula of a function of {argument}", span)
        case Negate(operand=operand):
            _check(operand, argument, known)
        case Binary(op=op, left=left, right=right, span=span):
            _check(left, argument, known)
            _check(right, argument, known)
            if op == "^" and _constant(right) is None:
                raise _fail("the exponent in a formula must be a number", getattr(right, "span", span))
        case Call(id=name, arguments=arguments, over=over, condition=condition, span=span):
            if name not in known and name not in _PLAIN:
                raise _fail(f"unknown function {name}", span, f"known: {', '.join(sorted({*known, *_PLAIN}))}")
            if len(arguments) != 1 or arguments[0].keyword is not None or over or condition is not None:
                raise _fail(f"{name} takes exactly one argument here", span)
            _check(arguments[0].value, argument, known)
        case _:
            raise _fail("the formula of a function is elementwise in one argument", getattr(body, "span", NOWHERE))


def _constant(body: Expr) -> Fraction | None:
    """The exact value of an expression of numbers only."""
    return exact_value(body, HIGHEST_POWER)


def _symbolic(body: Expr, known: Mapping[str, Function]) -> sympy.Expr:
    match body:
        case Number(value=value):
            return sympy.Rational(value.numerator, value.denominator)
        case Name():
            return Z
        case Negate(operand=operand):
            return -_symbolic(operand, known)
        case Binary(op=op, left=left, right=right):
            return OPERATORS[op](_symbolic(left, known), _symbolic(right, known))
        case Call(id=name, arguments=arguments):
            inner = _symbolic(arguments[0].value, known)
            if name in known:
                return parse(known[name].formula).subs(Z, inner)
            return getattr(sympy, name)(inner)
    raise AssertionError("checked before")


def _torch(body: Expr, known: Mapping[str, Function]) -> str:
    match body:
        case Number(value=value):
            return str(value.numerator) if value.denominator == 1 else repr(float(value))
        case Name():
            return "{x}"
        case Negate(operand=operand):
            return f"(-{_torch(operand, known)})"
        case Binary(op=op, left=left, right=right):
            symbol = "**" if op == "^" else op
            return f"({_torch(left, known)} {symbol} {_torch(right, known)})"
        case Call(id=name, arguments=arguments):
            inner = _torch(arguments[0].value, known)
            return known[name].torch.replace("{x}", inner) if name in known else f"torch.{name}({inner})"
    raise AssertionError("checked before")


_PLAIN: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "sqrt": (np.sqrt, lambda x: 0.5 / np.sqrt(x)),
    "log": (np.log, lambda x: 1.0 / x),
}

_Dual = tuple[Any, Any]  # value and derivative; a float and None where the argument does not occur


def _array(body: Expr, known: Mapping[str, Function], x: Array, *, slope: bool) -> Array:
    value, derivative = _dual(body, known, x, slope)
    chosen = derivative if slope else value
    if chosen is None:
        chosen = 0.0
    if isinstance(chosen, float):
        return np.full_like(x, chosen)
    result: Array = np.asarray(chosen, dtype=x.dtype)
    return result


def _dual(body: Expr, known: Mapping[str, Function], x: Array, slope: bool) -> _Dual:
    """Value and, if `slope`, derivative at x, by forward-mode differentiation."""
    if (constant := _constant(body)) is not None:
        return float(constant), None
    match body:
        case Name():
            return x, 1.0 if slope else None
        case Negate(operand=operand):
            a, da = _dual(operand, known, x, slope)
            return -a, None if da is None else -da
        case Call(id=name, arguments=arguments):
            a, da = _dual(arguments[0].value, known, x, slope)
            f, df = known[name].numpy if name in known else _PLAIN[name]
            if isinstance(a, float):
                return float(f(np.asarray(a))), None
            return f(a), None if da is None else df(a) * da
        case Binary(op="^", left=left, right=right):
            a, da = _dual(left, known, x, slope)
            power = _constant(right)
            assert power is not None  # checked before
            if da is None or not power:
                return a ** _plain(power), None
            return a ** _plain(power), float(power) * a ** _plain(power - 1) * da
        case Binary(op=op, left=left, right=right):
            (a, da), (b, db) = _dual(left, known, x, slope), _dual(right, known, x, slope)
            match op:
                case "+":
                    return a + b, _plus(da, db)
                case "-":
                    return a - b, _plus(da, None if db is None else -db)
                case "*":
                    return a * b, _plus(None if da is None else da * b, None if db is None else db * a)
                case _:
                    quotient = a / b
                    return quotient, _plus(
                        None if da is None else da / b, None if db is None else -(quotient * (db / b))
                    )
    raise AssertionError("checked before")


def _plain(power: Fraction) -> int | float:
    return power.numerator if power.denominator == 1 else float(power)


def _plus(a: Any, b: Any) -> Any:
    if a is None:
        return b
    return a if b is None else a + b
