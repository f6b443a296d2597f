"""`loss cross_entropy(f) + 0.1 * mean(g)` : a weighted sum of losses, each a node with its target."""

from __future__ import annotations

from fractions import Fraction

from tensorprog.elaborate.calls import REMOVES
from tensorprog.elaborate.expressions import evaluate_tensor, summands
from tensorprog.elaborate.frame import Frame
from tensorprog.elaborate.scalars import static_scalar
from tensorprog.elaborate.scope import Scope
from tensorprog.errors import ShapeError
from tensorprog.functions import BUILTIN
from tensorprog.graph import Add, Axis, Input, Scalar
from tensorprog.graph import Loss as LossOp
from tensorprog.model import Compute
from tensorprog.suggest import nearest
from tensorprog.syntax import Binary, Call, Expr, Name, Negate, Span

KINDS = ("cross_entropy", "mse", "mean")


def loss(expr: Expr, scope: Scope) -> int:
    """The scalar that is minimised."""
    builder = scope.builder
    terms = [_term(term, Scalar(Fraction(sign)), scope) for sign, term in summands(expr, 1)]
    value = terms[0]
    if len(terms) > 1:
        value = builder.compute(Add(((),) * len(terms)), tuple(terms), (), expr.span)
    builder.bind(value, "loss")
    return value


def _term(expr: Expr, weight: Scalar, scope: Scope) -> int:
    """One loss times its weight."""
    match expr:
        case Binary(op="*", left=left, right=right):
            for number, rest in ((left, right), (right, left)):
                scalar = static_scalar(number, scope)
                if scalar is not None:
                    return _term(rest, weight * scalar, scope)
        case Binary(op="/", left=left, right=right):
            scalar = static_scalar(right, scope)
            if scalar is not None and not scalar.powers and not scalar.unknowns and scalar.coefficient:
                return _term(left, weight * Scalar(1 / scalar.coefficient), scope)
        case Negate(operand=operand):
            return _term(operand, Scalar(Fraction(-1)) * weight, scope)
        case Call(id=kind) if kind in KINDS and not expr.over:
            return scope.builder.scale(_one(expr, scope), weight, expr.span)
        case Call(id=kind) if scope.find(kind) is None and kind not in (*BUILTIN, *REMOVES):
            why, fix = "a loss is cross_entropy, mse, or any single number", "`mean(..)` of a tensor of your own"
            raise ShapeError(f"unknown loss `{kind}`", expr.span, why=why, fix=nearest(kind, KINDS) or fix)
        case _:
            pass
    value = evaluate_tensor(expr, Frame(scope, None), frozenset()).value
    if axes := scope.builder.values[value].axes:
        alone = len(axes) == 1 and scope.builder.values[value].has_batch
        raise ShapeError("a loss is a single number", expr.span, fix="`mean(..)` or `mse(..)`",
                         why="this is one for each example of the batch" if alone else "this has axes")  # fmt: skip
    return scope.builder.scale(value, weight, expr.span)


def _one(call: Call, scope: Scope) -> int:
    builder, most = scope.builder, 2 if call.id == "mse" else 1
    if not 1 <= len(call.arguments) <= most or any(argument.keyword for argument in call.arguments):
        raise ShapeError(f"`{call.id}` takes one tensor", call.span, why="its target is an input of its own",
                         fix=f"`{call.id}(f)`" + ", or `mse(f, y)` with an input `y`" * (call.id == "mse"))  # fmt: skip
    expr = call.arguments[0].value
    value = evaluate_tensor(expr, Frame(scope, None), frozenset()).value
    axes = builder.values[value].axes
    if call.id == "mean":
        return builder.compute(LossOp("mean"), (value,), (), call.span)
    if not builder.values[value].has_batch:
        raise ShapeError(f"`{call.id}` of a tensor that depends on no input", expr.span,
                         why="there is one target for each example of the batch",
                         fix="a tensor that is computed from an input")  # fmt: skip
    if len(call.arguments) == 2:
        target = _given_target(call.arguments[1].value, axes, scope)
    elif call.id == "cross_entropy":
        if len(axes) < 2:
            raise ShapeError("cross_entropy needs an axis of classes", expr.span, fix="`mse(..)`",
                             why="it chooses one of the entries of the last axis")  # fmt: skip
        target = _target(expr, axes[:-1], call.span, scope)
    else:
        target = _target(expr, axes, call.span, scope)
    return builder.compute(LossOp(call.id), (value, target), (), call.span)


def _target(expr: Expr, axes: tuple[Axis, ...], span: Span, scope: Scope) -> int:
    """A fresh input `f_target`."""
    builder = scope.builder
    stem = f"{expr.id}_target" if isinstance(expr, Name) else "target"
    taken = {step.op.name for step in builder.steps if isinstance(step, Compute) and isinstance(step.op, Input)}
    name, number = stem, 1
    while name in taken:
        number += 1
        name = f"{stem}_{number}"
    value = builder.compute(Input(name, "target"), (), axes, span)
    builder.bind(value, name)
    return value


def _given_target(expr: Expr, axes: tuple[Axis, ...], scope: Scope) -> int:
    """`mse(f, x)` : the target is an input of the file."""
    builder = scope.builder
    value = evaluate_tensor(expr, Frame(scope, None), frozenset()).value
    inputs = {step.out for step in builder.steps if isinstance(step, Compute) and isinstance(step.op, Input)}
    if value not in inputs:
        raise ShapeError("a target is an input", expr.span, fix="an input, or `mean(e^2)` of a difference e",
                         why="what is compared with is data, and has no gradient")  # fmt: skip
    given = builder.values[value].axes
    if len(given) != len(axes) or not all(builder.agree(a.dim, b.dim) for a, b in zip(given, axes, strict=True)):
        raise ShapeError("the target has another shape", expr.span, why="entries are compared one by one",
                         fix="an input with the axes of the result")  # fmt: skip
    return value
