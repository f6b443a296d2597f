"""Elementwise functions given by a formula: their facts by SymPy, their NumPy and PyTorch forms from the syntax tree.

The facts are exact Taylor terms from each side of 0; parity, homogeneity and growth are identities of real analytic
pieces, tested to 25 digits at several points.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import partial
from typing import Any

import mpmath  # type: ignore[import-untyped]
import numpy as np
import numpy.typing as npt
import sympy

from tensorprog.constants import OPERATORS, exact_value
from tensorprog.errors import TensorProgError
from tensorprog.functions import Facts, Function
from tensorprog.syntax import NOWHERE, Binary, Call, Expr, Name, Negate, Number, Span

Array = npt.NDArray[Any]

Z = sympy.Symbol("z", real=True)
HIGHEST_POWER = 1000  # of a number, that is worked out exactly
_ORDERS = 9  # Taylor terms looked at
_DIGITS = 40
_ZERO = mpmath.mpf(10) ** -25
_POINTS = tuple(mpmath.mpf(p) / 97 for p in (3, 31, 83, 118, 191, 263, 347, 512))
_FIX = "a formula of its argument with + - * / ^, numbers, and the built-in functions"


def define(name: str, argument: str, body: Expr, known: Mapping[str, Function]) -> Function:
    """See `functions.user_function`."""
    _check(body, argument, known)
    span = getattr(body, "span", NOWHERE)
    try:
        formula = _symbolic(body, known)
        facts = facts_of(formula)
    except TensorProgError:
        raise
    except _BadPointError as error:
        raise TensorProgError(
            f"function {name} is not a finite real number at {argument} = {error}",
            span,
            why="activations take all values, and the calculus expands the function around 0",
            fix=f"a formula that is finite for every {argument}",
        ) from None
    except (ArithmeticError, ValueError, TypeError, NotImplementedError, AttributeError, NameError) as error:
        raise TensorProgError(f"function {name} could not be analysed: {error}", span, fix=_FIX) from error
    value = partial(_array, body, known, slope=False)
    slope = partial(_array, body, known, slope=True)
    torch = f"({_torch(body, known)})" if formula.has(Z) else f"torch.full_like({{x}}, {float(formula)!r})"
    return Function(name, str(formula), facts, (value, slope), torch)


# --- the syntax tree --------------------------------------------------------------------------------


def _fail(message: str, span: Span, why: str = "") -> TensorProgError:
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
            if op not in OPERATORS:
                raise _fail(f"operator {op} in the formula of a function", span)
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


# --- facts ------------------------------------------------------------------------------------------


class _BadPointError(Exception):
    """The function has no finite real value there."""


def parse(formula: str) -> sympy.Expr:
    """A formula in z, as `Function.formula` holds it."""
    return sympy.sympify(formula, locals={"z": Z}, rational=True)


def facts_of(formula: sympy.Expr) -> tuple[Facts, Facts]:
    """The facts of f and of f' for f(z) = formula. Raises _BadPointError where f is not finite."""
    pieces = formula.rewrite(sympy.Piecewise) if formula.has(sympy.Max, sympy.Min, sympy.Abs) else formula
    right, left = _sided(pieces, 1), _sided(pieces, -1)
    at_zero = (_taylor(right), _taylor(left))
    slopes = tuple([(k + 1) * c for k, c in enumerate(side[1:])] for side in at_zero)
    return _facts(at_zero, pieces), _facts(slopes, sympy.diff(pieces, Z))


def _facts(sides: tuple[Any, ...], pieces: sympy.Expr) -> Facts:
    right, left = sides
    kink = any(abs(a - b) > _ZERO for a, b in zip(right, left, strict=True))
    orders = [k for k in range(1, len(right)) if abs(right[k]) > _ZERO or abs(left[k]) > _ZERO]
    with mpmath.workdps(_DIGITS):
        f = _evaluator(pieces)
        return Facts(
            constant=bool(abs(right[0] + left[0]) > _ZERO),
            order=orders[0] if orders else None,
            next_order=orders[1] if len(orders) > 1 and not kink else None,
            parity=_parity(f),
            degree=_degree(f),
            tail=_tail(f),
        )


def _sided(expr: sympy.Expr, side: int) -> sympy.Expr:
    """The analytic expression that agrees with `expr` just to one side of 0."""
    if isinstance(expr, sympy.Piecewise):
        for branch, condition in expr.args:
            if _holds(condition, side):
                return _sided(branch, side)
        raise _BadPointError("0")
    if not expr.args:
        return expr
    return expr.func(*(_sided(a, side) for a in expr.args))


def _holds(condition: Any, side: int) -> bool:
    if condition in (sympy.true, sympy.false):
        return bool(condition)
    if isinstance(condition, sympy.And):
        return all(_holds(c, side) for c in condition.args)
    if isinstance(condition, sympy.Or):
        return any(_holds(c, side) for c in condition.args)
    if isinstance(condition, sympy.Not):
        return not _holds(condition.args[0], side)
    if isinstance(condition, sympy.ITE):
        test, then, otherwise = condition.args
        return _holds(then if _holds(test, side) else otherwise, side)
    terms = _taylor(_sided(condition.lhs - condition.rhs, side))
    sign = next((math.copysign(1, c) * side**k for k, c in enumerate(terms) if abs(c) > _ZERO), 0)
    return bool(condition.func(sympy.Integer(int(sign)), 0))


def _taylor(expr: sympy.Expr) -> list[Any]:
    """Its Taylor coefficients at 0, as 40-digit numbers (by differences at a precision raised accordingly)."""
    f = sympy.lambdify(Z, expr, "mpmath")
    with mpmath.workdps(_DIGITS):
        try:
            terms = [_real(c, 0) for c in mpmath.taylor(f, 0, _ORDERS - 1)]
        except (ZeroDivisionError, ValueError):
            raise _BadPointError("0") from None
        if max(abs(c) for c in terms) > 1 / _ZERO:
            raise _BadPointError("0")  # a derivative is infinite there
        return terms


def _real(value: Any, point: Any) -> Any:
    with mpmath.workdps(_DIGITS):
        number = mpmath.mpmathify(value)
        if mpmath.im(number) != 0 or not mpmath.isfinite(number):
            raise _BadPointError(mpmath.nstr(mpmath.mpf(point), 4))
        return mpmath.re(number)


def _evaluator(pieces: sympy.Expr) -> Callable[[Any], Any]:
    compiled = sympy.lambdify(Z, pieces, "mpmath")

    def f(point: Any) -> Any:
        try:
            return _real(compiled(point), point)
        except (ZeroDivisionError, ValueError):
            raise _BadPointError(mpmath.nstr(mpmath.mpf(point), 4)) from None

    return f


def _same(a: Any, b: Any) -> bool:
    return bool(abs(a - b) <= _ZERO * (1 + abs(a) + abs(b)))


def _parity(f: Callable[[Any], Any]) -> str:
    pairs = [(f(p), f(-p)) for p in _POINTS]
    if all(_same(a, b) for a, b in pairs):
        return "even"
    return "odd" if all(_same(a, -b) for a, b in pairs) else "none"


def _degree(f: Callable[[Any], Any]) -> int | None:
    pairs = [(f(p), f(2 * p)) for q in _POINTS for p in (q, -q)]
    return next((k for k in range(_ORDERS) if all(_same(2**k * a, b) for a, b in pairs)), None)


def _tail(f: Callable[[Any], Any]) -> int | None:
    """The growth exponent between |x| of about 2^20 and 2^40, rounded up."""
    try:
        near, far = (
            max(abs(f(sign * scale * (1 + p))) for p in _POINTS for sign in (1, -1))
            for scale in (mpmath.mpf(2) ** 20, mpmath.mpf(2) ** 40)
        )
    except OverflowError:
        return None
    if far <= _ZERO or near <= _ZERO:
        return 0
    exponent = float(mpmath.log(far / near, 2) / 20)
    return None if exponent > 20 else max(0, math.ceil(exponent - 0.02))
