"""Statements in order: declarations first (they hold everywhere in their braces), then what is computed."""

from __future__ import annotations

from tensorprog.elaborate import loops
from tensorprog.elaborate.builder import BATCH_INDEX, Operand
from tensorprog.elaborate.declarations import declare
from tensorprog.elaborate.expressions import evaluate
from tensorprog.elaborate.frame import ELLIPSIS, Frame
from tensorprog.elaborate.left import names_on_left, pack, written_axes
from tensorprog.elaborate.products import constant, filled
from tensorprog.elaborate.scope import (
    BlockEntity,
    FunctionEntity,
    Scope,
    TensorEntity,
    describe,
)
from tensorprog.errors import ShapeError
from tensorprog.graph import Axis, Scalar
from tensorprog.statements import (
    Block,
    DepthDecl,
    FixDecl,
    InputDecl,
    Let,
    Loss,
    OptimizerDecl,
    OptimizerDef,
    RegimeDecl,
    Repeat,
    Return,
    Scan,
    Statement,
    WidthDecl,
)
from tensorprog.syntax import Expr, IndexName, Span


def run(statements: tuple[Statement, ...], scope: Scope, block: Block | None) -> int | None:
    """Runs the body of a block or loop; the value of its `return`, if any."""
    flat = loops.flatten(statements, scope)
    declare(flat, scope)
    result: int | None = None
    for position, statement in enumerate(flat):
        if result is not None:
            raise ShapeError("nothing is computed after `return`", statement.span, why="a block ends with its `return`",
                             fix="`return` as the last line")  # fmt: skip
        scope.later = later(flat[position:])
        match statement:
            case Let(output=True):
                raise ShapeError("an output stands at the top of the file", statement.span, fix="`return` in a block",
                                 why="what a block or a loop computes, it hands on")  # fmt: skip
            case Let():
                let(statement, scope)
            case Repeat():
                loops.repeat(statement, scope)
            case Scan():
                loops.scan(statement, scope)
            case Return(value=value):
                if block is None:
                    raise ShapeError("`return` stands outside of a block", statement.span,
                                     fix="`x = ..`, with a name that is there before the loop",
                                     why="a loop hands on the names that were assigned before it")  # fmt: skip
                result = _returned(value, scope)
            case (
                FixDecl()
                | Loss()
                | OptimizerDecl()
                | OptimizerDef()
                | RegimeDecl()
                | WidthDecl()
                | DepthDecl()
                | InputDecl()
            ):
                raise ShapeError("this stands at the top of the file only", statement.span,
                                 why="it speaks of the whole network",
                                 fix="this line outside of all braces")  # fmt: skip
            case _:
                pass
    scope.later = {}
    return result


def later(statements: list[Statement]) -> dict[str, Span]:
    return {s.name: s.span for s in reversed(statements) if isinstance(s, Let)}


def _returned(expr: Expr, scope: Scope) -> int:
    result = evaluate(expr, Frame(scope, None), frozenset())
    if isinstance(result, Scalar):
        raise ShapeError("a block returns a tensor", expr.span, why="this is a plain number",
                         fix="a tensor: `h[i] = 0` makes one of zeros")  # fmt: skip
    return result.value


# --- assignments --------------------------------------------------------------------------------------


def let(statement: Let, scope: Scope) -> int:
    """`x = ..` or `h[t,j] = ..` ; the value."""
    entity = scope.own(statement.name)
    if entity is not None and not isinstance(entity, TensorEntity | BlockEntity | FunctionEntity):
        what = f"`{statement.name}` is {describe(entity)} and cannot be assigned"
        raise ShapeError(
            what, statement.span, fix="another name", why="names of tensors and functions can be given again, no others"
        )
    time: int | None = None
    if statement.indices is None:
        result = evaluate(statement.value, Frame(scope, None), frozenset())
        operand = constant(result, Frame(scope, None), statement.span) if isinstance(result, Scalar) else result
        value = operand.value
    else:
        places = [k for k, i in enumerate(statement.indices) if isinstance(i, IndexName) and i.id == scope.scan]
        time = places[0] if scope.scan is not None and places else None
        value = _indexed(statement, scope, time)
    builder = scope.builder
    builder.bind(value, statement.name)
    if time is not None:
        scope.collected[statement.name] = (value, time)
    scope.names[statement.name] = TensorEntity(builder, value, time)
    return value


def _indexed(statement: Let, scope: Scope, time: int | None) -> int:
    indices = statement.indices or ()
    if time is not None:
        indices = indices[:time] + indices[time + 1 :]
    left = names_on_left(indices, scope)
    if BATCH_INDEX in left:
        raise ShapeError("the batch axis is implicit", statement.span, why="it is never written on the left",
                         fix="the other indices only")  # fmt: skip
    frame = Frame(scope, left)
    result = evaluate(statement.value, frame, frozenset(left))
    if isinstance(result, Scalar):
        return filled(result, left, written_axes(indices, scope), frame, statement.span).value
    for name in left:
        if name not in result.indices and name != ELLIPSIS:
            raise ShapeError(
                f"the index `{name}` stands on the left, but nowhere on the right",
                _span_of(name, statement),
                why="nothing says how the result depends on it",
                fix=f"`{statement.name}` without `{name}`: in a sum it is repeated along the axes that it lacks",
            )
    order = frame.ordered(list(result.indices))
    result = scope.builder.permute(result, order, statement.span)
    labelled = _relabel(result, scope)
    return pack(labelled, indices, frame)


def _relabel(result: Operand, scope: Scope) -> Operand:
    """Axes are labelled with the indices of the left, for people."""
    record = scope.builder.values[result.value]
    if not record.name and record.source is None and not scope.builder.is_formal(result.value):
        record.axes = tuple(
            axis if name.startswith(ELLIPSIS) else Axis(axis.dim, name)
            for name, axis in zip(result.indices, record.axes, strict=True)
        )
    return result


def _span_of(name: str, statement: Let) -> Span:
    for index in statement.indices or ():
        if isinstance(index, IndexName) and index.id == name:
            return index.span
    return statement.span
