"""Sums that may not be meant: over an index that occurs once, or in brackets that seem to close it."""

from __future__ import annotations

from collections.abc import Iterable

from tensorprog.elaborate.builder import Operand
from tensorprog.elaborate.frame import Frame
from tensorprog.errors import ShapeError
from tensorprog.syntax import Binary, Call, Expr, Indexed, Name, Negate


def require_one_sum(expr: Expr, operands: list[Operand], summed: Iterable[str], frame: Frame) -> None:
    """Raises ShapeError where a product of `operands` sums over an index that only one of them has (a slip of the pen:
    `b[j]` for `b[k]`), or where one of the `summed` indices reads as several sums: `(W[k,j] x[j]) * relu(V[k,j] x[j])`
    would be one sum over `j`, of four factors. Brackets (round a function's argument, a sum, a product, a power) that
    hold a sum over the index, as they stand, want to be the only such place."""
    parts = _parts(expr)
    for index in sorted(summed):
        if sum(index in operand.indices for operand in operands) == 1:
            raise ShapeError(
                f"the index `{index}` is neither on the left nor repeated",
                expr.span,
                why="a product sums over the indices that it repeats; another sum is written out",
                fix=f"`sum[{index}](..)`, or an index of the left",
            )
        closed = sum(_closes(part, index, frame) for part in parts)
        single = sum(index in _free(part, frame) for part in parts) - closed
        squared = any(_is_power(part) and _sums(part, index, frame) for part in parts)
        if squared or closed > 1 or (closed and single > 1):
            raise ShapeError(
                f"is `{index}` summed once here, or in each bracket?",
                expr.span,
                why="an index that is summed stands for one sum over the whole product, whatever the brackets",
                fix="a line of its own for each sum, such as `a[k] = W[k,j] x[j]`",
            )


def _parts(expr: Expr) -> list[Expr]:
    """The factors of a product as they stand: a bracket is one factor (but for the first, which needs none)."""
    match expr:
        case Binary(op="*" | "/", left=left, right=right):
            return [*_parts(left), right]
        case Negate(operand=operand):
            return _parts(operand)
        case _:
            return [expr]


def _closes(part: Expr, index: str, frame: Frame) -> bool:
    return not isinstance(part, Indexed | Name) and _sums(part, index, frame)


def _sums(expr: Expr, index: str, frame: Frame) -> bool:
    """Whether an expression by itself would sum over the index."""
    if index not in _free(expr, frame):
        return False
    match expr:
        case Binary(op="*" | "/"):
            parts = _parts(expr)
            return sum(index in _free(part, frame) for part in parts) > 1 or any(_sums(p, index, frame) for p in parts)
        case Binary(op="^", left=left):
            return _sums(left, index, frame)
        case Binary(left=left, right=right):
            return _sums(left, index, frame) or _sums(right, index, frame)
        case Negate(operand=operand):
            return _sums(operand, index, frame)
        case Call(arguments=arguments):
            return any(_sums(argument.value, index, frame) for argument in arguments)
        case _:
            return False


def _is_power(part: Expr) -> bool:
    return isinstance(part, Binary) and part.op == "^"


def _free(expr: Expr, frame: Frame) -> frozenset[str]:
    from tensorprog.elaborate.expressions import free_indices

    return free_indices(expr, frame)
