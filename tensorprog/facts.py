"""What the calculus must know of an elementwise function, found from its formula.

The facts are exact Taylor terms from each side of 0; parity, homogeneity and growth are identities of real analytic
pieces, tested to 25 digits at several points.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import mpmath  # type: ignore[import-untyped]
import sympy

from tensorprog.functions import Facts

Z = sympy.Symbol("z", real=True)
_ORDERS = 9  # Taylor terms looked at
_DIGITS = 40
_MOST_BITS = 4096  # before the point, in the argument of an exponential or a sine: a tower of them is not worked out
_ZERO = mpmath.mpf(10) ** -25
_GRID = tuple(mpmath.mpf(k) / 4 for k in range(-64, 65))  # where a user's formula is looked at for poles and holes
_POINTS = tuple(mpmath.mpf(p) / 97 for p in (3, 31, 83, 118, 191, 263, 347, 512))


class BadPointError(Exception):
    """The function has no finite real value there."""


def parse(formula: str) -> sympy.Expr:
    """A formula in z, as `Function.formula` holds it."""
    return sympy.sympify(formula, locals={"z": Z}, rational=True)


def facts_of(formula: sympy.Expr) -> tuple[Facts, Facts]:
    """The facts of f and of f' for f(z) = formula. Raises BadPointError where f is not finite."""
    pieces = formula.rewrite(sympy.Piecewise) if formula.has(sympy.Max, sympy.Min, sympy.Abs) else formula
    right, left = _sided(pieces, 1), _sided(pieces, -1)
    at_zero = (_taylor(right), _taylor(left))
    slopes = tuple([(k + 1) * c for k, c in enumerate(side[1:])] for side in at_zero)
    return _facts(at_zero, pieces), _facts(slopes, sympy.diff(pieces, Z))


def _facts(sides: tuple[Any, ...], pieces: sympy.Expr) -> Facts:
    right, left = sides
    orders = [k for k in range(1, len(right)) if abs(right[k]) > _ZERO or abs(left[k]) > _ZERO]
    with mpmath.workdps(_DIGITS):
        f = _evaluator(pieces)
        return Facts(
            constant=bool(abs(right[0] + left[0]) > _ZERO),
            order=orders[0] if orders else None,
            next_order=orders[1] if len(orders) > 1 else None,
            parity=_parity(f),
            degree=_degree(f),
            tail=_tail(f),
            kink=next((k for k, (a, b) in enumerate(zip(right, left, strict=True)) if abs(a - b) > _ZERO), None),
        )


def _sided(expr: sympy.Expr, side: int) -> sympy.Expr:
    """The analytic expression that agrees with `expr` just to one side of 0."""
    if isinstance(expr, sympy.Piecewise):
        for branch, condition in expr.args:
            if _holds(condition, side):
                return _sided(branch, side)
        raise BadPointError("0")
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
            raise BadPointError("0") from None
        if max(abs(c) for c in terms) > 1 / _ZERO:
            raise BadPointError("0")  # a derivative is infinite there
        return terms


def _real(value: Any, point: Any) -> Any:
    with mpmath.workdps(_DIGITS):
        number = mpmath.mpmathify(value)
        if mpmath.im(number) != 0 or not mpmath.isfinite(number):
            raise BadPointError(mpmath.nstr(mpmath.mpf(point), 4))
        return mpmath.re(number)


def _bounded(name: str) -> Callable[[Any], Any]:
    """A function of mpmath's that needs as many digits as its argument has before the point."""
    function = getattr(mpmath, name)

    def call(x: Any) -> Any:
        if mpmath.isfinite(x) and mpmath.mag(x) > _MOST_BITS:
            raise OverflowError(f"{name} of a number of {mpmath.mag(x)} bits")
        return function(x)

    return call


def _evaluator(pieces: sympy.Expr) -> Callable[[Any], Any]:
    compiled = sympy.lambdify(Z, pieces, [{name: _bounded(name) for name in ("exp", "sin", "cos")}, "mpmath"])

    def f(point: Any) -> Any:
        try:
            return _real(compiled(point), point)
        except (ZeroDivisionError, ValueError):
            raise BadPointError(mpmath.nstr(mpmath.mpf(point), 4)) from None

    return f


def require_finite(formula: sympy.Expr) -> None:
    """Raises BadPointError where a formula is not finite and real on a grid, or divides by what changes sign on it."""
    divisors = {part.base for part in formula.atoms(sympy.Pow) if part.exp.could_extract_minus_sign()}
    with mpmath.workdps(_DIGITS):
        for part in [formula, *sorted(divisors, key=str)]:
            f, before = _evaluator(part), None
            for point in _GRID:
                try:
                    value = f(point)
                except OverflowError:  # of exponentials: large, but finite
                    continue
                if part is not formula and (not value or (before is not None and before * value < 0)):
                    raise BadPointError(mpmath.nstr(point, 4) + (", or just below" if value else ""))
                before = value


def _same(a: Any, b: Any) -> bool:
    return bool(abs(a - b) <= _ZERO * (1 + abs(a) + abs(b)))


def _parity(f: Callable[[Any], Any]) -> str:
    pairs = [(f(p), f(-p)) for p in _POINTS]
    if all(_same(a, b) for a, b in pairs):
        return "even"
    return "odd" if all(_same(a, -b) for a, b in pairs) else "none"


def _degree(f: Callable[[Any], Any]) -> int | None:
    try:
        pairs = [(f(p), f(2 * p)) for q in _POINTS for p in (q, -q)]
    except OverflowError:
        return None
    return next((k for k in range(_ORDERS) if all(_same(2**k * a, b) for a, b in pairs)), None)


def _tail(f: Callable[[Any], Any]) -> int | None:
    """The growth exponent between |x| of about 2^20 and 2^40, rounded up; None if it grows faster than any power, or
    something in its formula is too large there to be worked out."""
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
