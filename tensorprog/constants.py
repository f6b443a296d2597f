"""The arithmetic of formulas: what the operators do, and expressions of numbers only, exactly."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from tensorprog.syntax import Binary, Expr, Negate, Number

OPERATORS: Mapping[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "^": operator.pow,
}


def exact_value(expr: Expr, highest: int) -> Fraction | None:
    """The value of an expression of numbers only, with whole powers below `highest`; else None."""
    match expr:
        case Number(value=value):
            return value
        case Negate(operand=operand):
            inner = exact_value(operand, highest)
            return None if inner is None else -inner
        case Binary(op=op, left=left, right=right):
            a, b = exact_value(left, highest), exact_value(right, highest)
            if a is None or b is None:
                return None
            if op == "^":
                return a**b.numerator if b.denominator == 1 and (a or b > 0) and abs(b) < highest else None
            return None if op == "/" and not b else Fraction(OPERATORS[op](a, b))
    return None
