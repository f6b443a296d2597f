"""Expressions of numbers only, exactly: what formulas of functions and of optimizers read as one number."""

from __future__ import annotations

from fractions import Fraction

from tensorprog.syntax import Binary, Expr, Negate, Number


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
            match op:
                case "+":
                    return a + b
                case "-":
                    return a - b
                case "*":
                    return a * b
                case "/" if b:
                    return a / b
                case "^" if b.denominator == 1 and (a or b > 0) and abs(b) < highest:
                    return a**b.numerator
    return None
