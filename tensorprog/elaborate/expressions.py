"""Expressions with tensors: sums of products, each summed over the indices that nothing around it needs."""

from __future__ import annotations

from fractions import Fraction

from tensorprog.elaborate import calls
from tensorprog.elaborate.ambiguous import require_one_sum
from tensorprog.elaborate.builder import BATCH_INDEX, Operand
from tensorprog.elaborate.frame import BARE, ELLIPSIS, LOOKUP, Frame
from tensorprog.elaborate.indices import expand, lower, read, tensor, tokens_misused
from tensorprog.elaborate.products import add, contract
from tensorprog.elaborate.scalars import power, static_scalar
from tensorprog.elaborate.scope import ParamEntity, TensorEntity
from tensorprog.errors import ShapeError
from tensorprog.graph import Scalar
from tensorprog.syntax import (
    Binary,
    Call,
    Expr,
    IndexAffine,
    Indexed,
    IndexGather,
    IndexGroup,
    IndexName,
    Name,
    Negate,
    Unknown,
)

MAX_TENSOR_POWER = 4
Result = Operand | Scalar


def evaluate(expr: Expr, frame: Frame, needed: frozenset[str]) -> Result:
    """The value of an expression. `needed`: indices that what stands around it uses; the others are summed, each in
    the outermost product that holds all its occurrences."""
    scalar = static_scalar(expr, frame.scope)
    if scalar is not None:
        return scalar
    terms = summands(expr, 1)
    results = [product(term, sign, frame, needed) for sign, term in terms]
    if len(results) == 1:
        return results[0]
    return add(results, frame, expr.span)


def evaluate_tensor(expr: Expr, frame: Frame, needed: frozenset[str]) -> Operand:
    """Like `evaluate`, for a place where a plain number makes no sense."""
    result = evaluate(expr, frame, needed)
    if isinstance(result, Scalar):
        raise ShapeError("a tensor is needed here", expr.span, why="this is a plain number",
                         fix="a tensor; `h[i] = 0` makes one of zeros")  # fmt: skip
    return result


def summands(expr: Expr, sign: int) -> list[tuple[int, Expr]]:
    """The signed terms of a sum."""
    match expr:
        case Binary(op="+" | "-", left=left, right=right):
            return summands(left, sign) + summands(right, sign if expr.op == "+" else -sign)
        case Negate(operand=operand):
            return summands(operand, -sign)
        case _:
            return [(sign, expr)]


def product(
    expr: Expr, sign: int, frame: Frame, needed: frozenset[str], dropped: frozenset[str] = frozenset()
) -> Result:
    """One term: its scalars are collected into one Scale, its tensors contracted. `dropped`: indices summed in this
    very product, whatever surrounds it (those of `sum[..]`)."""
    scalar, factors = factorize(expr, frame)
    scalar = Scalar(Fraction(sign)) * scalar
    if not factors:
        return scalar
    free = [free_indices(factor, frame) for factor in factors]
    operands: list[Operand] = []
    for k, factor in enumerate(factors):
        around = (needed | dropped).union(*(free[other] for other in range(len(factors)) if other != k))
        operands += evaluate_factor(factor, frame, around)
    if frame.left is None and len(operands) > 1:
        _check_bare_product(operands, expr, needed | dropped)
    present = {index for operand in operands for index in operand.indices} - dropped
    kept = {index for index in present if index in needed or frame.keeps(index, expr.span)}
    require_one_sum(expr, operands, present - kept, frame)
    total = contract(operands, kept, frame, expr.span)
    return Operand(frame.builder.scale(total.value, scalar, expr.span), total.indices)


def _check_bare_product(operands: list[Operand], expr: Expr, around: frozenset[str]) -> None:
    """Without indices on the left, products are elementwise and of whole tensors. An index of two factors would
    elsewhere be summed. `around`: indices that what surrounds it asks for, as `mean[j](..)` does for j."""
    looked_up = (
        all(i.startswith(LOOKUP) for operand in operands[1:] for i in operand.indices[-1:]) and len(operands) == 2
    )
    shapes = [tuple(i for i in operand.indices if i != BATCH_INDEX) for operand in operands]
    shapes = [shape for shape in shapes if shape]
    if len(set(shapes)) > 1 and not looked_up:
        raise ShapeError("a product of tensors with different axes needs indices on the left", expr.span,
                         fix="`y[j] = W[j,i] x[i]`",
                         why="without them nothing says which indices are summed")  # fmt: skip
    if len(set(shapes)) == 1 < len(shapes) and (
        named := [i for i in shapes[0] if i not in around and i[0] not in (BARE, LOOKUP)]
    ):
        raise ShapeError(f"is `{named[0]}` summed here?", expr.span,
                         why="what is repeated and not on the left is summed, but the left has no indices at all",
                         fix=f"`s[] = a[{named[0]}] b[{named[0]}]` for a sum, `z = a * b` entry by entry")  # fmt: skip


def factorize(expr: Expr, frame: Frame) -> tuple[Scalar, list[Expr]]:
    """The scalar in front of a product and its factors, brackets around products opened."""
    scalar = static_scalar(expr, frame.scope)
    if scalar is not None:
        return scalar, []
    match expr:
        case Binary(op="*", left=left, right=right):
            a, b = factorize(left, frame), factorize(right, frame)
            return a[0] * b[0], a[1] + b[1]
        case Binary(op="/", left=left, right=right):
            a, divisor = factorize(left, frame), static_scalar(right, frame.scope)
            if divisor is None:
                return a[0], [*a[1], calls.reciprocal(right, frame)]
            return a[0] * power(divisor, Fraction(-1), right.span), a[1]
        case Negate(operand=operand):
            inner, factors = factorize(operand, frame)
            return Scalar(Fraction(-1)) * inner, factors
        case _:
            return Scalar(), [expr]


def evaluate_factor(expr: Expr, frame: Frame, needed: frozenset[str]) -> list[Operand]:
    """One factor: a tensor (with the tokens it looks up), a call, a sum in brackets, a power."""
    match expr:
        case Indexed():
            return lower(expr, frame)
        case Name():
            return [bare(expr, frame)]
        case Call():
            return [calls.call(expr, frame, needed)]
        case Binary(op="^"):
            return raised(expr, frame, needed)
        case Unknown():
            raise AssertionError("unknown multipliers are scalars")
        case _:
            return [evaluate_tensor(expr, frame, needed)]


def bare(expr: Name, frame: Frame) -> Operand:
    """A tensor written without indices takes those of the left, in order."""
    entity = tensor(expr.id, frame.scope, expr.span)
    value = read(entity, frame.builder, expr.span)
    if frame.builder.values[value].tokens:
        raise tokens_misused(expr.id, expr.span)
    return positional(value, frame, expr)


def positional(value: int, frame: Frame, expr: Expr) -> Operand:
    """A whole value with the indices of the left in order (`%0`, `%1`, .. in a statement without indices)."""
    record = frame.builder.values[value]
    batch = (BATCH_INDEX,) if record.has_batch else ()
    rank = len(record.axes) - len(batch)
    if frame.left is None:
        return Operand(value, batch + tuple(f"{BARE}{k}" for k in range(rank)))
    if rank == 0:
        return Operand(value, batch)
    left = frame.left
    if ELLIPSIS in left:
        at, hidden = left.index(ELLIPSIS), rank - len(left) + 1
        left = (*left[:at], *(f"{ELLIPSIS}{k}" for k in range(hidden, 0, -1)), *left[at + 1 :])
    if len(left) != rank:
        what = f"`{expr.id}`" if isinstance(expr, Name | Call) else "this"
        raise ShapeError(
            f"{what} has {rank} ax{'is' if rank == 1 else 'es'}, the left has {len(left)}",
            expr.span,
            why="without indices a tensor takes all of those on the left",
            fix=f"indices: `{expr.id}[..]` with one per axis" if isinstance(expr, Name) else "a statement of its own",
        )
    for name, axis in zip(left, record.axes[len(batch) :], strict=True):
        if not name.startswith(ELLIPSIS):
            frame.scope.cell(name).bind(axis.dim, name, expr.span)
    return Operand(value, batch + left)


def raised(expr: Binary, frame: Frame, needed: frozenset[str]) -> list[Operand]:
    """x^k for a small whole k is a product; any other power an elementwise function."""
    exponent = static_scalar(expr.right, frame.scope)
    if exponent is None or exponent.powers or exponent.unknowns:
        raise ShapeError("the power of a tensor is a plain number", expr.right.span,
                         why="another power is a function, which needs a name", fix="`x^2`, or `exp(..)`")  # fmt: skip
    value = exponent.coefficient
    if value.denominator == 1 and 1 <= value <= MAX_TENSOR_POWER:
        inner = evaluate_factor(expr.left, frame, needed.union(free_indices(expr.left, frame)))
        return inner * int(value)
    raise ShapeError(f"the power {value} of a tensor is not defined here", expr.span,
                     why=f"tensors are raised to the whole powers 1 .. {MAX_TENSOR_POWER}",
                     fix="a function: `fn f(z) = ..`")  # fmt: skip


# --- which indices an expression has ------------------------------------------------------------------


def free_indices(expr: Expr, frame: Frame) -> frozenset[str]:
    """The indices of an expression that a product around it sees (not the batch)."""
    match expr:
        case Indexed():
            return frozenset(_indexed_names(expr, frame))
        case Name(id=name):
            entity = frame.scope.find(name)
            if isinstance(entity, TensorEntity | ParamEntity):
                return frozenset(frame.left or ())
            return frozenset()
        case Negate(operand=operand):
            return free_indices(operand, frame)
        case Binary(left=left, right=right):
            return free_indices(left, frame) | free_indices(right, frame)
        case Call():
            return calls.free_in_call(expr, frame)
        case _:
            return frozenset()


def _indexed_names(expr: Indexed, frame: Frame) -> list[str]:
    entity = tensor(expr.id, frame.scope, expr.span)
    names: list[str] = []
    for index in expr.indices:
        match index:
            case IndexName(id=name):
                names.append(name)
            case IndexGroup(ids=ids):
                names.extend(ids)
            case IndexAffine(terms=terms):
                names.extend(name for _, name in terms)
            case IndexGather(tokens=tokens):
                names.extend(_indexed_names(tokens, frame))
            case _:
                if isinstance(entity, TensorEntity):
                    record = entity.builder.values[entity.value]
                    rank = len(record.axes) - record.has_batch - record.tokens
                else:
                    rank = len(entity.param.axes)
                if rank >= len(expr.indices) - 1:
                    names.extend(n for n in expand(expr.indices, rank, expr) if isinstance(n, str))
    return names
