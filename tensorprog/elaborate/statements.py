"""Statements in order: declarations first (they hold everywhere in their braces), then what is computed."""

from __future__ import annotations

from tensorprog.elaborate import loops
from tensorprog.elaborate.builder import BATCH_INDEX, Operand, ParamRecord
from tensorprog.elaborate.expressions import evaluate
from tensorprog.elaborate.frame import ELLIPSIS, Frame
from tensorprog.elaborate.indices import BATCH_AXIS, names_on_left, pack, written_axes
from tensorprog.elaborate.products import constant, filled
from tensorprog.elaborate.scalars import MAX_SIZE, number, polynomial, size
from tensorprog.elaborate.scope import (
    BlockEntity,
    DimEntity,
    FunctionEntity,
    ParamEntity,
    Scope,
    TensorEntity,
    unknown_name,
)
from tensorprog.dims import Dim
from tensorprog.errors import ShapeError
from tensorprog.functions import BUILTIN
from tensorprog.graph import Axis, Init, Input, Scalar
from tensorprog.model import LocalDim
from tensorprog.syntax import (
    AxisDecl,
    Block,
    Call,
    DepthDecl,
    DimDecl,
    Expr,
    FnDecl,
    IndexName,
    InputDecl,
    Let,
    Loss,
    Name,
    OptimizerDecl,
    ParamDecl,
    ParamItem,
    RegimeDecl,
    Repeat,
    Return,
    Scan,
    Span,
    Statement,
    WidthDecl,
)

DEFAULT_DEPTH = 2
RESERVED = ("batch",)
BUILTIN_CALLS = ("sum", "mean", "max", "rms_scale", "softmax", "topk", "concat", "stop_gradient", "cross_entropy", "mse")
INITS = ("normal", "zeros", "ones", "constant", "orthogonal")


def run(statements: tuple[Statement, ...], scope: Scope, block: Block | None) -> int | None:
    """Runs the body of a block or loop; the value of its `return`, if any."""
    flat = loops.flatten(statements, scope)
    declare(flat, scope)
    result: int | None = None
    for position, statement in enumerate(flat):
        if result is not None:
            raise ShapeError("nothing is computed after `return`", statement.span)
        scope.later = later(flat[position:])
        match statement:
            case Let(output=True):
                raise ShapeError("an output stands at the top of the file", statement.span, fix="`return` in a block")
            case Let():
                let(statement, scope)
            case Repeat():
                loops.repeat(statement, scope)
            case Scan():
                loops.scan(statement, scope)
            case Return(value=value):
                if block is None:
                    raise ShapeError("`return` stands outside of a block", statement.span, fix="`output y = ..`")
                result = _returned(value, scope)
            case Loss() | OptimizerDecl() | RegimeDecl() | WidthDecl() | DepthDecl() | InputDecl():
                raise ShapeError("this stands at the top of the file only", statement.span)
            case _:
                pass
    scope.later = {}
    return result


def later(statements: list[Statement]) -> dict[str, Span]:
    return {s.name: s.span for s in reversed(statements) if isinstance(s, Let)}


def _returned(expr: Expr, scope: Scope) -> int:
    result = evaluate(expr, Frame(scope, None), frozenset())
    if isinstance(result, Scalar):
        raise ShapeError("a block returns a tensor", expr.span, why="this is a plain number")
    return result.value


# --- declarations -------------------------------------------------------------------------------------


def declare(statements: list[Statement], scope: Scope) -> None:
    """Sizes, indices, functions, blocks and parameters."""
    for statement in statements:
        match statement:
            case DimDecl(items=items):
                for item in items:
                    dim = size(item.value, scope)
                    scope.declare(item.name, DimEntity(dim), item.span)
                    scope.builder.dims.append(LocalDim(item.name, dim, item.value))
            case FnDecl():
                _declare_function(statement, scope)
            case Block(name=name):
                if name in BUILTIN or name in BUILTIN_CALLS:
                    raise ShapeError(f"`{name}` is a built-in function", statement.span, fix="another name")
                scope.declare(name, BlockEntity(statement, scope, False), statement.span)
            case _:
                pass
    for statement in statements:
        if isinstance(statement, AxisDecl):
            for item in statement.items:
                _declare_axis(item.name, size(item.value, scope), item.span, scope)
    for statement in statements:
        if isinstance(statement, ParamDecl):
            for param in statement.items:
                _declare_param(param, scope)


def _declare_axis(name: str, dim: Dim, span: Span, scope: Scope) -> None:
    if name in RESERVED:
        raise ShapeError(f"the index `{name}` is reserved", span, why="the batch axis is implicit")
    scope.cell(name).bind(dim, name, span)


def _declare_function(statement: FnDecl, scope: Scope) -> None:
    name, functions = statement.name, scope.builder.context.functions
    if name in BUILTIN or name in BUILTIN_CALLS:
        raise ShapeError(f"`{name}` is a built-in function", statement.span, fix="another name")
    if functions.get(name, (statement.argument, statement.body)) != (statement.argument, statement.body):
        raise ShapeError(f"there is another function `{name}`", statement.span, fix="another name")
    _check_formula(statement.body, statement, scope)
    functions[name] = (statement.argument, statement.body)
    scope.declare(name, FunctionEntity(name), statement.span)


def _check_formula(expr: Expr, fn: FnDecl, scope: Scope) -> None:
    """Names in a formula are its argument and known functions."""
    from tensorprog.syntax import Binary, Negate, Number

    match expr:
        case Number():
            pass
        case Name(id=name):
            if name != fn.argument:
                raise ShapeError(
                    f"unknown name `{name}` in the formula of `{fn.name}`", expr.span, fix=f"`{fn.argument}`, or a number"
                )
        case Negate(operand=operand):
            _check_formula(operand, fn, scope)
        case Binary(left=left, right=right):
            _check_formula(left, fn, scope)
            _check_formula(right, fn, scope)
        case Call(id=name, arguments=arguments) if not expr.over:
            known = isinstance(scope.find(name), FunctionEntity) or name in BUILTIN or name in ("sqrt", "log")
            if not known:
                raise unknown_name(name, scope, expr.span, "function", (*BUILTIN, "sqrt", "log"))
            for argument in arguments:
                _check_formula(argument.value, fn, scope)
        case _:
            raise ShapeError("this cannot stand in a formula", expr.span, why=f"it is made of `{fn.argument}` and numbers")


def _declare_param(item: ParamItem, scope: Scope) -> None:
    if scope.scan is not None:
        raise ShapeError(
            "a parameter inside a scan",
            item.span,
            why="a scan uses the same parameters at every step",
            fix="the `param` line before the scan",
        )
    _check_pattern(item.indices)
    axes = tuple((index.id, scope.cell(index.id)) for index in item.indices)
    builder = scope.builder
    init = _init(item.init, scope)
    record = ParamRecord(
        item.name, axes, init, item.frozen, item.optimizer, builder.place(item.span)
    )
    scope.declare(item.name, ParamEntity(builder, record), item.span)
    builder.params.append(record)


def _check_pattern(indices: tuple[IndexName, ...]) -> None:
    names = [index.id for index in indices]
    for index in indices:
        if names.count(index.id) > 1:
            raise ShapeError(f"the index `{index.id}` stands twice", index.span, fix="two indices of the same size")
        if index.id in RESERVED:
            raise ShapeError("the batch axis is implicit", index.span, fix="nothing")


def _init(expr: Expr | None, scope: Scope) -> Init:
    """`zeros`, `normal(0.02)`, .."""
    match expr:
        case None:
            return Init()
        case Name(id=kind) if kind in INITS and kind != "constant":
            return Init(kind)
        case Call(id=kind, arguments=arguments) if kind in INITS and not expr.over:
            if len(arguments) != 1 or arguments[0].keyword is not None or kind in ("zeros", "ones"):
                if not arguments and kind != "constant":
                    return Init(kind)
                raise ShapeError(f"`{kind}` takes {'one number' if kind not in ('zeros', 'ones') else 'nothing'}", expr.span)
            value = number(arguments[0].value, scope)
            if kind in ("normal", "orthogonal") and value < 0:
                raise ShapeError(f"the spread {float(value):g} is negative", expr.span)
            return Init(kind, float(value))
        case _:
            near = unknown_name(expr.id, Scope(scope.builder), expr.span, "initialiser", INITS) if isinstance(
                expr, Name | Call
            ) else None  # fmt: skip
            fix = near.fix if near is not None and near.fix else "`normal(0.02)`, `zeros`, `ones`, `constant(2)` or `orthogonal`"
            raise ShapeError("this is not an initialiser", expr.span, fix=fix)


def declare_input(statement: InputDecl, scope: Scope) -> None:
    """Data: the batch axis, the written ones, and for integers that of the vocabulary."""
    _check_pattern(statement.indices)
    axes = [BATCH_AXIS, *written_axes(statement.indices, scope)]
    tokens = statement.vocab is not None
    if statement.vocab is not None:
        axes.append(Axis(size(statement.vocab, scope), ""))
    builder = scope.builder
    value = builder.compute(Input(statement.name, "tokens" if tokens else "real"), (), axes, statement.span)
    builder.values[value].tokens = tokens
    builder.bind(value, statement.name)
    scope.declare(statement.name, TensorEntity(builder, value), statement.span)


def declare_widths(statements: tuple[Statement, ...], scope: Scope) -> tuple[str, ...]:
    """Widths and depths, before everything else."""
    widths: list[str] = []
    context = scope.builder.context
    for statement in statements:
        match statement:
            case WidthDecl(names=names):
                for name in names:
                    scope.declare(name, DimEntity(Dim.of(name)), statement.span)
                    scope.builder.dims.append(LocalDim(name, Dim.of(name)))
                    if name in RESERVED:
                        raise ShapeError(f"`{name}` is reserved", statement.span)
                widths += names
            case DepthDecl(name=name, value=value):
                depth = context.depths.get(name)
                if depth is None:
                    depth = DEFAULT_DEPTH if value is None else _depth(value, scope)
                scope.declare(name, DimEntity(Dim.of(depth)), statement.span)
                context.used_depths[name] = depth
            case _:
                pass
    return tuple(widths)


def _depth(expr: Expr, scope: Scope) -> int:
    value = polynomial(expr, scope).constant
    if value is None or value.denominator != 1 or not 0 <= value <= MAX_SIZE:
        raise ShapeError("a depth is a whole number", expr.span)
    return int(value)


# --- assignments --------------------------------------------------------------------------------------


def let(statement: Let, scope: Scope) -> int:
    """`x = ..` or `h[t,j] = ..` ; the value."""
    entity = scope.find(statement.name)
    if entity is not None and not isinstance(entity, TensorEntity | BlockEntity | FunctionEntity):
        what = "a parameter" if isinstance(entity, ParamEntity) else "declared otherwise"
        raise ShapeError(f"`{statement.name}` is {what} and cannot be assigned", statement.span, fix="another name")
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
        raise ShapeError("the batch axis is implicit", statement.span, why="it is never written on the left")
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
