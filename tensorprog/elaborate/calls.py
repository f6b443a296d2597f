"""Calls: elementwise functions, reductions over bracketed indices, and the way to block uses."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

from tensorprog.dims import ONE, Dim
from tensorprog.elaborate.arguments import argument_of, dims_of, only, reduced, require_brackets, require_indices
from tensorprog.elaborate.builder import BATCH_INDEX, Operand
from tensorprog.elaborate.frame import Frame
from tensorprog.elaborate.scalars import number, to_float, whole
from tensorprog.elaborate.scope import BlockEntity, FunctionEntity, describe, unknown_name
from tensorprog.errors import ShapeError
from tensorprog.functions import BUILTIN
from tensorprog.graph import Axis, Contract, Fold, InvRms, Map, Merge, Scalar, Softmax, StopGrad, TopK
from tensorprog.syntax import Argument, Call, Expr, Indexed, IndexName, Span

REMOVES = ("sum", "mean", "max", "rms_scale")  # their indices disappear
KEEPS = ("softmax", "topk")
LOSSES = ("cross_entropy", "mse")


def call(expr: Call, frame: Frame, needed: frozenset[str]) -> Operand:
    """The value of a call; its indices are those of its argument (a block's: those of the left)."""
    match expr.id:
        case "sum" | "mean":
            return _sum(expr, frame, needed)
        case "max":
            return _max(expr, frame, needed)
        case "rms_scale":
            return _rms_scale(expr, frame, needed)
        case "softmax":
            return _softmax(expr, frame, needed)
        case "topk":
            return _topk(expr, frame, needed)
        case "concat":
            return _concat(expr, frame, needed)
        case "stop_gradient":
            operand = argument_of(expr, frame, needed)
            axes = frame.builder.values[operand.value].axes
            return Operand(frame.builder.compute(StopGrad(), (operand.value,), axes, expr.span), operand.indices)
        case _:
            pass
    entity = frame.scope.find(expr.id)
    if isinstance(entity, BlockEntity):
        from tensorprog.elaborate.blocks import use
        from tensorprog.elaborate.expressions import positional

        return positional(use(expr, entity, frame), frame, expr)
    op = Map(function(expr.id, frame, expr.span))
    operand = argument_of(expr, frame, needed)
    axes = frame.builder.values[operand.value].axes
    return Operand(frame.builder.compute(op, (operand.value,), axes, expr.span), operand.indices)


def function(name: str, frame: Frame, span: Span) -> str:
    """The elementwise function that a name stands for."""
    entity = frame.scope.find(name)
    if isinstance(entity, FunctionEntity):
        return entity.name
    if entity is None and name in BUILTIN:
        return name
    if name in LOSSES:
        raise ShapeError(
            f"`{name}` is a loss", span, fix=f"`loss {name}(..)`", why="it compares with the targets, at the end"
        )
    if entity is None:
        more = (*BUILTIN, *REMOVES, *KEEPS, "concat", "stop_gradient")
        raise unknown_name(name, frame.scope, span, "function or block", more)
    fix = f"`{name} * (..)` for a product" if describe(entity) != "a flag" else "the name of a function"
    raise ShapeError(f"`{name}` is {describe(entity)} and cannot be called", span, fix=fix,
                     why="a name directly before `(` is a call")  # fmt: skip


def reciprocal(expr: Expr, frame: Frame) -> Expr:
    """1 / tensor: only where the library has such a function."""
    if "reciprocal" in BUILTIN:
        return Call("reciprocal", (Argument(None, expr, expr.span),), span=expr.span)
    raise ShapeError("division by a tensor", expr.span, why="only numbers, sizes and scalars can divide",
                     fix="`rms_scale[i](x[i])` for 1 / rms")  # fmt: skip


def _sum(expr: Call, frame: Frame, needed: frozenset[str]) -> Operand:
    """sum and mean: the indices leave in the product itself if the argument is one."""
    from tensorprog.elaborate.expressions import free_indices, product, summands

    require_brackets(expr)
    value, over = only(expr), frozenset(expr.over)
    terms = summands(value, 1)
    if len(terms) == 1 and over <= free_indices(value, frame):
        total = product(terms[0][1], terms[0][0], frame, needed, over)
        assert isinstance(total, Operand)
        dims = [frame.scope.cell(name).size(name, expr.span) for name in expr.over]
    else:
        operand = reduced(expr, frame, needed)
        dims = dims_of(operand, expr.over, frame)
        rest = tuple(index for index in operand.indices if index not in over)
        total = frame.builder.permute(operand, rest, expr.span)
    if expr.id == "sum":
        return total
    return Operand(frame.builder.scale(total.value, _inverse(dims), expr.span), total.indices)


def _inverse(dims: Iterable[Dim]) -> Scalar:
    """1 / the product of these sizes."""
    scalar = Scalar()
    for dim in dims:
        scalar *= Scalar.size(dim, Fraction(-1))
    return scalar


def _max(expr: Call, frame: Frame, needed: frozenset[str]) -> Operand:
    """The largest entry: x times the 0/1 mask of its place, summed."""
    builder = frame.builder
    operand = reduced(expr, frame, needed)
    over = [name for name in expr.over if name in operand.indices]
    rest = tuple(index for index in operand.indices if index not in over)
    if not over:
        return operand
    value = builder.permute(operand, (*rest, *over), expr.span).value
    axes, last = builder.values[value].axes, len(rest)
    if len(over) > 1:
        dim = ONE
        for axis in axes[last:]:
            dim = dim * axis.dim
        axes = (*axes[:last], Axis(dim, "_".join(over)))
        value = builder.compute(Merge(last, len(over)), (value,), axes, expr.span)
    mask = builder.compute(TopK(last, 1), (value,), axes, expr.span)
    every = tuple(range(last + 1))
    op = Contract(every, every, every[:-1])
    return Operand(builder.compute(op, (value, mask), axes[:-1], expr.span), rest)


def _rms_scale(expr: Call, frame: Frame, needed: frozenset[str]) -> Operand:
    operand = reduced(expr, frame, needed, ("eps",))
    eps = next((number(a.value, frame.scope) for a in expr.arguments if a.keyword == "eps"), None)
    if eps is not None and eps < 0:
        raise ShapeError("eps is negative", expr.span,
                         why="it is added to a mean of squares, so that nothing is divided by zero",
                         fix="`eps = 1e-5`")  # fmt: skip
    axes = frame.builder.values[operand.value].axes
    places = tuple(k for k, index in enumerate(operand.indices) if index in expr.over)
    rest = [k for k in range(len(axes)) if k not in places]
    op = InvRms(places) if eps is None else InvRms(places, to_float(eps, expr.span))
    value = frame.builder.compute(op, (operand.value,), [axes[k] for k in rest], expr.span)
    return Operand(value, tuple(operand.indices[k] for k in rest))


def _softmax(expr: Call, frame: Frame, needed: frozenset[str]) -> Operand:
    require_brackets(expr, 1)
    condition = expr.condition
    queried = () if condition is None else (condition.left, condition.right)
    operand = argument_of(expr, frame, needed | {*expr.over, *queried})
    require_indices(expr, operand)
    mask = None
    if condition is not None:
        for name in queried:
            if name not in operand.indices:
                raise ShapeError(f"the index `{name}` of the condition is not in the argument", condition.span,
                                 why="it compares the places of two indices of the tensor that is masked",
                                 fix=f"an argument with it, such as `x[..,{name},{expr.over[0]}]`")  # fmt: skip
        key, op, query = condition.left, condition.op, condition.right
        if key != expr.over[0]:
            key, op, query = query, {"<=": ">=", "<": ">", ">=": "<=", ">": "<"}[op], key
        if key != expr.over[0] or key == query:
            raise ShapeError(f"the condition does not compare `{expr.over[0]}` with another index", condition.span,
                             fix="`softmax[s | s <= t](..)`",
                             why="a mask says what is seen from each place of another axis")  # fmt: skip
        mask = (operand.indices.index(key), op, operand.indices.index(query))
    axes = frame.builder.values[operand.value].axes
    op_ = Softmax(operand.indices.index(expr.over[0]), mask)
    return Operand(frame.builder.compute(op_, (operand.value,), axes, expr.span), operand.indices)


def _topk(expr: Call, frame: Frame, needed: frozenset[str]) -> Operand:
    from tensorprog.elaborate.expressions import evaluate_tensor

    require_brackets(expr, 1)
    value = only(expr, (), 2)
    operand = evaluate_tensor(value, frame, needed | {expr.over[0]})
    require_indices(expr, operand)
    count = expr.arguments[1].value
    k = whole(count, frame.scope)
    size = dims_of(operand, expr.over, frame)[0].constant
    if size is not None and k > size:
        raise ShapeError(
            f"the {k} largest of {size} entries", count.span, why="there are not so many", fix=f"a number up to {size}"
        )
    axes = frame.builder.values[operand.value].axes
    op = TopK(operand.indices.index(expr.over[0]), k)
    return Operand(frame.builder.compute(op, (operand.value,), axes, expr.span), operand.indices)


# --- concatenation ------------------------------------------------------------------------------------


def joined_index(expr: Call, position: int) -> str:
    """The index of one argument of a concat that the new axis continues: one that the other arguments lack, else the
    last."""
    names = [_index_names(argument.value) for argument in expr.arguments]
    others = {name for k, more in enumerate(names) if k != position for name in more}
    own = [name for name in names[position] if name not in others]
    if len(own) == 1:
        return own[0]
    if not names[position]:
        raise ShapeError("each part of a concat is one indexed tensor", expr.arguments[position].span,
                         why="the index that is continued must be named",
                         fix="`a[..,p]`, with a name for the result of a longer formula")  # fmt: skip
    return names[position][-1]


def _index_names(expr: Expr) -> list[str]:
    return [i.id for i in expr.indices if isinstance(i, IndexName)] if isinstance(expr, Indexed) else []


def _concat(expr: Call, frame: Frame, needed: frozenset[str]) -> Operand:
    """Every part is scattered into a longer axis of zeros; their sum is the concatenation."""
    from tensorprog.elaborate.expressions import evaluate_tensor

    require_brackets(expr, 1)
    if len(expr.arguments) < 2 or any(argument.keyword for argument in expr.arguments):
        raise ShapeError("`concat` takes two or more tensors", expr.span, fix="`concat[j](a[p], b[q])`",
                         why="it puts one behind the other")  # fmt: skip
    builder, new = frame.builder, expr.over[0]
    parts: list[tuple[Operand, str]] = []
    for k, argument in enumerate(expr.arguments):
        old = joined_index(expr, k)
        inner = frozenset(_index_names(argument.value))
        parts.append((evaluate_tensor(argument.value, frame, needed | inner), old))
    total = Dim(())
    for operand, old in parts:
        total = total + dims_of(operand, (old,), frame)[0]
    frame.scope.cell(new).bind(total, new, expr.span)
    offset, folded = Dim(()), []
    for operand, old in parts:
        at = operand.indices.index(old)
        axes = builder.values[operand.value].axes
        longer = (*axes[:at], Axis(total, new), *axes[at + 1 :])
        value = builder.compute(Fold(at, offset=offset), (operand.value,), longer, expr.span)
        folded.append(Operand(value, (*operand.indices[:at], new, *operand.indices[at + 1 :])))
        offset = offset + axes[at].dim
    return _add_parts(folded, frame, expr)


def _add_parts(parts: list[Operand], frame: Frame, expr: Call) -> Operand:
    shapes = {frozenset(part.indices) - {BATCH_INDEX} for part in parts}
    if len(shapes) > 1:
        raise ShapeError("the parts of a concat have different axes", expr.span,
                         why="beside the axis along which they are joined, they have the same",
                         fix="the same other indices in every part")  # fmt: skip
    from tensorprog.elaborate.products import add

    return add(list(parts), frame, expr.span)


def free_in_call(expr: Call, frame: Frame) -> frozenset[str]:
    """The indices of a call's value."""
    from tensorprog.elaborate.expressions import free_indices

    if isinstance(frame.scope.find(expr.id), BlockEntity):
        return frozenset(frame.left or ())
    inner: frozenset[str] = frozenset()
    for k, argument in enumerate(expr.arguments):
        if argument.keyword is not None or (expr.id == "topk" and k > 0):
            continue
        found = free_indices(argument.value, frame)
        if expr.id == "concat":
            found = found - {joined_index(expr, k)} | set(expr.over)
        inner |= found
    return inner - frozenset(expr.over) if expr.id in REMOVES else inner
