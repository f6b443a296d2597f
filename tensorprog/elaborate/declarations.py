"""Declarations: sizes, indices, functions, blocks, parameters, data. They hold everywhere in their braces."""

from __future__ import annotations

from tensorprog.dims import Dim
from tensorprog.elaborate.builder import ParamRecord
from tensorprog.elaborate.left import BATCH_AXIS, written_axes
from tensorprog.elaborate.scalars import MAX_SIZE, number, polynomial, size, to_float
from tensorprog.elaborate.scope import (
    BlockEntity,
    DimEntity,
    FunctionEntity,
    ParamEntity,
    Scope,
    TensorEntity,
    unknown_name,
)
from tensorprog.errors import ShapeError
from tensorprog.functions import BUILTIN
from tensorprog.graph import Axis, Input
from tensorprog.model import LocalDim
from tensorprog.parameters import Init
from tensorprog.statements import (
    AxisDecl,
    Block,
    DepthDecl,
    DimDecl,
    FnDecl,
    InputItem,
    ParamDecl,
    ParamItem,
    Statement,
    WidthDecl,
)
from tensorprog.syntax import Call, Expr, IndexName, Name, Span

DEFAULT_DEPTH = 2
RESERVED = ("batch",)
BUILTIN_CALLS = (
    "sum",
    "mean",
    "max",
    "rms_scale",
    "softmax",
    "topk",
    "concat",
    "stop_gradient",
    "cross_entropy",
    "mse",
)
_TAKES = {
    "normal": "its mean is 0, and the number its standard deviation",
    "orthogonal": "the number is its gain",
    "constant": "the number is the value of all entries",
    "zeros": "all entries are 0",
    "ones": "all entries are 1",
}
INITS = ("normal", "zeros", "ones", "constant", "orthogonal")


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
                    raise ShapeError(f"`{name}` is a built-in function", statement.span, fix="another name",
                                     why="a word of the language means the same in every file")  # fmt: skip
                scope.declare(name, BlockEntity(name, scope, statement), statement.span)
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
        raise ShapeError(f"the index `{name}` is reserved", span, why="the batch axis is implicit",
                         fix=f"another name, such as `{name}_`")  # fmt: skip
    scope.cell(name).bind(dim, name, span)


def _declare_function(statement: FnDecl, scope: Scope) -> None:
    name, functions = statement.name, scope.builder.context.functions
    if name in BUILTIN or name in BUILTIN_CALLS:
        raise ShapeError(f"`{name}` is a built-in function", statement.span, fix="another name",
                         why="a word of the language means the same in every file")  # fmt: skip
    if functions.get(name, (statement.argument, statement.body)) != (statement.argument, statement.body):
        raise ShapeError(f"there is another function `{name}`", statement.span, fix="another name",
                         why="one name stands for one formula")  # fmt: skip
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
                raise ShapeError(f"unknown name `{name}` in the formula of `{fn.name}`", expr.span,
                                 fix=f"`{fn.argument}`, or a number",
                                 why=f"it is a function of `{fn.argument}` alone")  # fmt: skip
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
            raise ShapeError("this cannot stand in a formula", expr.span,
                             why=f"it is made of `{fn.argument}` and numbers",
                             fix="numbers, `+ - * / ^` and functions by name")  # fmt: skip


def _declare_param(item: ParamItem, scope: Scope) -> None:
    if scope.scan is not None:
        raise ShapeError("a parameter inside a scan", item.span, why="a scan uses the same parameters at every step",
                         fix="the `param` line before the scan")  # fmt: skip
    _check_pattern(item.indices)
    axes = tuple((index.id, scope.cell(index.id)) for index in item.indices)
    builder = scope.builder
    init = _init(item.init, scope)
    record = ParamRecord(item.name, axes, init, item.frozen, item.optimizer, builder.place(item.span))
    scope.declare(item.name, ParamEntity(builder, record), item.span)
    builder.params.append(record)


def _check_pattern(indices: tuple[IndexName, ...]) -> None:
    names = [index.id for index in indices]
    for index in indices:
        if names.count(index.id) > 1:
            raise ShapeError(f"the index `{index.id}` stands twice", index.span, fix="two indices of the same size",
                             why="each index stands for one axis")  # fmt: skip
        if index.id in RESERVED:
            raise ShapeError("the batch axis is implicit", index.span, fix="the other indices alone, such as `x[i]`",
                             why="inputs have it without saying, parameters have none")  # fmt: skip


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
                raise ShapeError(
                    f"`{kind}` takes {'one number' if kind not in ('zeros', 'ones') else 'nothing'}",
                    expr.span,
                    why=_TAKES[kind],
                    fix="`normal(0.02)`"
                    if kind == "normal"
                    else "`orthogonal(2)`"
                    if kind == "orthogonal"
                    else f"`{kind}(0.5)`"
                    if kind == "constant"
                    else f"`{kind}`",
                )
            value = number(arguments[0].value, scope)
            if kind in ("normal", "orthogonal") and value < 0:
                raise ShapeError("the spread is negative", expr.span, why="it is a standard deviation",
                                 fix=f"`{kind}({to_float(-value, expr.span):g})`")  # fmt: skip
            return Init(kind, to_float(value, expr.span))
        case _:
            why = f"an initialiser is one of {', '.join(INITS)}"
            raise ShapeError("this is not an initialiser", expr.span, why=why,
                             fix="`normal`, of standard deviation fan-in^(-1/2), or `normal(0.02)`")  # fmt: skip


def declare_input(item: InputItem, scope: Scope) -> None:
    """Data: the batch axis, the written ones, and for integers that of the vocabulary."""
    _check_pattern(item.indices)
    axes = [BATCH_AXIS, *written_axes(item.indices, scope)]
    tokens = item.vocab is not None
    if item.vocab is not None:
        axes.append(Axis(size(item.vocab, scope), ""))
    builder = scope.builder
    value = builder.compute(Input(item.name, "tokens" if tokens else "real"), (), axes, item.span)
    builder.values[value].tokens = tokens
    builder.bind(value, item.name)
    scope.declare(item.name, TensorEntity(builder, value), item.span)


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
                        raise ShapeError(f"`{name}` is reserved", statement.span,
                                         why="this index is the batch axis, or a name that programs need",
                                         fix=f"another name, such as `{name}_`")  # fmt: skip
                widths += names
            case DepthDecl(items=items):
                for item in items:
                    depth = context.depths.get(item.name)
                    if depth is None:
                        depth = DEFAULT_DEPTH if item.value is None else _depth(item.value, scope)
                    scope.declare(item.name, DimEntity(Dim.of(item.name if context.symbolic else depth)), item.span)
                    context.used_depths[item.name] = depth
            case _:
                pass
    return tuple(widths)


def _depth(expr: Expr, scope: Scope) -> int:
    value = polynomial(expr, scope).constant
    if value is None or value.denominator != 1 or not 0 <= value <= MAX_SIZE:
        raise ShapeError("a depth is a whole number", expr.span, why="layers are counted", fix="`depth L = 4`")
    return int(value)
