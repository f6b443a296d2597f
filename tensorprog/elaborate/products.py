"""Products and sums of operands: in which order factors are contracted, where terms are broadcast."""

from __future__ import annotations

from collections.abc import Iterable

from tensorprog.dims import Dim
from tensorprog.elaborate.builder import BATCH_INDEX, Operand
from tensorprog.elaborate.frame import ELLIPSIS, LOOKUP, Frame, sizes
from tensorprog.elaborate.scalars import to_float
from tensorprog.errors import ShapeError
from tensorprog.graph import Add, Axis, Const, Contract, Scalar
from tensorprog.syntax import Span


def contract(operands: list[Operand], kept: set[str], frame: Frame, span: Span) -> Operand:
    """The product of all operands, summed over every index not in `kept`.

    Binary contractions are associated from the right, avoiding outer products that grow: a factor that keeps the
    number of growing axes first, then matrices (`W2[k,j] W1[j,i] x[i]` = W2 (W1 x)), then whatever is left. A tensor
    that two vectors meet along different axes, `T[c,j,k] x[j] y[k]`, meets their product: the whole is one use of it.
    An index is summed as soon as no other factor needs it. Before all that, a tensor meets its own inverse norm: their
    product is of order 1 whatever becomes of the tensor, which `x * (rms_scale(x) * g)` would hide.
    """
    dims = sizes(frame, operands, span)
    rest = list(enumerate(operands))
    if len(rest) > 2 and (norm := _norm(operands, frame)):
        first, second = sorted(norm)
        needed = kept.union(*(other.indices for at, other in rest if at not in norm))
        whole = _binary(operands[first], operands[second], needed, frame, span)
        rest = [(at, whole if at == first else other) for at, other in rest if at != second]
    position, total = rest.pop(_first(rest, kept, frame))
    while rest:
        chosen = max(range(len(rest)), key=lambda k: (_rank(rest[k][1], total, rest, kept, dims, frame), k))
        at, factor = rest.pop(chosen)
        needed = kept.union(*(other.indices for _, other in rest))
        pair = (factor, total) if at < position else (total, factor)
        total, position = _binary(*pair, needed, frame, span), min(at, position)
    order = frame.ordered([index for index in total.indices if index in kept])
    return frame.builder.permute(total, order, span)


def _norm(factors: list[Operand], frame: Frame) -> tuple[int, int] | None:
    """The places of x and of `rms_scale(x)`, if both are among the factors."""
    places = {factor.value: place for place, factor in enumerate(factors)}
    norms = frame.builder.norms
    return next(((places[norms[v]], place) for v, place in places.items() if norms.get(v) in places), None)


def _first(factors: list[tuple[int, Operand]], kept: set[str], frame: Frame) -> int:
    """The rightmost factor that is no matrix parameter, if possible one with an index to be summed; else the
    rightmost. (`W[j,i] x[i] g[j]` begins with x: a gain times a matrix would be a matrix again.)"""
    plain = [k for k, (_, factor) in enumerate(factors) if not _is_matrix(factor, frame)]
    summed = [k for k in plain if not kept.issuperset(factors[k][1].indices)]
    return (summed or plain or range(len(factors)))[-1]


def _is_matrix(operand: Operand, frame: Frame) -> bool:
    record = frame.builder.values[operand.value]
    return record.source is not None and sum(axis.dim.grows for axis in record.axes) >= 2


def _rank(
    factor: Operand,
    total: Operand,
    rest: list[tuple[int, Operand]],
    kept: set[str],
    dims: dict[str, Dim],
    frame: Frame,
) -> int:
    """How good it is to multiply with this factor next."""
    matrix = _is_matrix(factor, frame)
    needed = kept.union(*(other.indices for _, other in rest if other is not factor))
    result = {*factor.indices, *total.indices} & needed

    def growing(indices: Iterable[str]) -> int:
        return sum(dims[index].grows for index in indices)

    shared = {i for i in factor.indices if i in total.indices and i != BATCH_INDEX and not i.startswith(ELLIPSIS)}
    plain_growth = growing(result) <= max(growing(factor.indices), growing(total.indices))
    if not matrix and plain_growth and (shared or not growing(factor.indices)):
        return 3
    if matrix and any(dims[index].grows for index in shared):
        return 0 if any(_partners(factor, total, other, kept, dims, frame) for _, other in rest) else 2
    return 0 if matrix else 1


def _partners(
    matrix: Operand, total: Operand, other: Operand, kept: set[str], dims: dict[str, Dim], frame: Frame
) -> bool:
    """Whether a parameter sums `other` along a growing axis, as it does `total` along another, and nothing else tells
    the two apart (a position that only one of them has would make their product large)."""
    if other is matrix or _is_matrix(other, frame):
        return False
    own, outside = set(other.indices) & set(matrix.indices), set(other.indices) - set(matrix.indices)
    summed = own - kept - set(total.indices)
    return any(dims[index].grows for index in summed) and outside == set(total.indices) - set(matrix.indices)


def _binary(left: Operand, right: Operand, needed: set[str], frame: Frame, span: Span) -> Operand:
    builder = frame.builder
    names = list(dict.fromkeys((*left.indices, *right.indices)))
    number = {name: k for k, name in enumerate(names)}
    out = frame.ordered([name for name in names if name in needed])
    records = builder.values[left.value], builder.values[right.value]
    axes = {
        name: axis
        for operand, record in ((right, records[1]), (left, records[0]))
        for name, axis in zip(operand.indices, record.axes, strict=True)
    }
    for operand, record in zip((left, right), records, strict=True):
        if record.source is not None:
            summed = [axes[i].dim for i in operand.indices if i not in out and not i.startswith(LOOKUP)]
            builder.first_contraction(record.source, summed)
    op = Contract(
        tuple(number[i] for i in left.indices), tuple(number[i] for i in right.indices), tuple(number[i] for i in out)
    )
    return Operand(builder.compute(op, (left.value, right.value), [axes[i] for i in out], span), out)


def add(terms: list[Operand | Scalar], frame: Frame, span: Span) -> Operand:
    """The sum of the terms, each broadcast over the indices it lacks."""
    builder = frame.builder
    operands = [term if isinstance(term, Operand) else constant(term, frame, span) for term in terms]
    indices = frame.ordered([index for operand in operands for index in operand.indices])
    if frame.left is None:
        _check_alike(operands, span)
    sizes(frame, operands, span)
    axes: dict[str, Axis] = {}
    for operand in operands:
        for index, axis in zip(operand.indices, builder.values[operand.value].axes, strict=True):
            axes.setdefault(index, axis)
    places = tuple(tuple(indices.index(index) for index in operand.indices) for operand in operands)
    args = tuple(operand.value for operand in operands)
    return Operand(builder.compute(Add(places), args, [axes[i] for i in indices], span), indices)


def _check_alike(operands: list[Operand], span: Span) -> None:
    """Whole tensors are only added to tensors with the same axes (or to single numbers)."""
    shapes = {tuple(i for i in operand.indices if i != BATCH_INDEX) for operand in operands} - {()}
    if len(shapes) > 1:
        raise ShapeError(
            "tensors with different axes are added without indices",
            span,
            why="without indices only tensors of the same shape are combined",
            fix="indices on both sides: `y[t,i] = x[t,i] + b[i]`",
        )


def constant(scalar: Scalar, frame: Frame, span: Span) -> Operand:
    """A number as a tensor without axes."""
    return filled(scalar, (), (), frame, span)


def filled(scalar: Scalar, indices: tuple[str, ...], axes: tuple[Axis, ...], frame: Frame, span: Span) -> Operand:
    """A tensor filled with one number."""
    plain = not scalar.powers and not scalar.unknowns
    value = frame.builder.compute(Const(to_float(scalar.coefficient, span) if plain else 1.0), (), axes, span)
    return Operand(value if plain else frame.builder.scale(value, scalar, span), indices)
