"""The left-hand side `y[t, (h e), 2 u + a] = ..` : its index names, and how a result is packed into those axes."""

from __future__ import annotations

from dataclasses import replace

from tensorprog.dims import BATCH, ONE, Dim
from tensorprog.elaborate.builder import BATCH_INDEX, Operand
from tensorprog.elaborate.frame import ELLIPSIS, Frame
from tensorprog.elaborate.scope import Scope
from tensorprog.elaborate.windows import window_of
from tensorprog.errors import ShapeError
from tensorprog.graph import Axis, Fold, Merge
from tensorprog.syntax import Index, IndexAffine, IndexEllipsis, IndexGroup, IndexName


def names_on_left(indices: tuple[Index, ...], scope: Scope) -> tuple[str, ...]:
    """The index names on the left, in order; `..` for an ellipsis."""
    names: list[str] = []
    for index in indices:
        match index:
            case IndexName(id=name):
                names.append(name)
            case IndexGroup(ids=ids):
                names.extend(ids)
            case IndexEllipsis():
                names.append(ELLIPSIS)
            case IndexAffine(terms=terms) if terms:
                names.extend(name for _, name in terms)
            case _:
                raise ShapeError("this index cannot stand on the left", index.span, fix="an index name",
                                 why="the left side names the axes of the result")  # fmt: skip
        for name in names:
            if names.count(name) > 1:
                raise ShapeError(f"`{name}` stands twice on the left", index.span,
                                 why="each index stands for one axis of the result",
                                 fix="two indices of the same size")  # fmt: skip
    return tuple(names)


def pack(operand: Operand, indices: tuple[Index, ...], frame: Frame) -> int:
    """The value whose axes are as written on the left: groups are merged, windows are scattered back."""
    builder = frame.builder
    value = operand.value
    at = 1 if operand.indices[:1] == (BATCH_INDEX,) else 0
    for index in indices:
        axes = builder.values[value].axes
        match index:
            case IndexGroup(ids=ids):
                dim = ONE
                for axis in axes[at : at + len(ids)]:
                    dim = dim * axis.dim
                merged = Axis(dim, "_".join(ids))
                new = (*axes[:at], merged, *axes[at + len(ids) :])
                value = builder.compute(Merge(at, len(ids)), (value,), new, index.span)
            case IndexAffine():
                value = _scatter(value, at, index, frame)
            case IndexEllipsis():
                at += sum(name.startswith(ELLIPSIS) for name in operand.indices) - 1
            case _:
                pass
        at += 1
    return value


def _scatter(value: int, at: int, index: IndexAffine, frame: Frame) -> int:
    """`y[2 u + a - 1] = ..` : transposed convolution. A negative offset crops both ends alike."""
    builder = frame.builder
    axes = builder.values[value].axes
    window = window_of(index, at, replace(frame, left=tuple(name for _, name in index.terms)))
    dims = [axis.dim for axis in axes[at : at + len(window.names)]]
    size = Dim.of(window.stride) * (dims[0] - ONE) + ONE + window.offset
    if len(dims) == 2:
        size = size + Dim.of(window.dilation) * (dims[1] - ONE)
    crop = window.offset.constant
    if crop is not None and crop < 0:
        size = size + window.offset
    taps = len(dims) == 2
    op = Fold(at, window.stride, window.dilation, window.offset, taps)
    new = (*axes[:at], Axis(size), *axes[at + len(dims) :])
    return builder.compute(op, (value,), new, index.span)


def written_axes(indices: tuple[Index, ...], scope: Scope) -> tuple[Axis, ...]:
    """The axes that a left-hand side of plain index names describes."""
    axes = []
    for index in indices:
        if not isinstance(index, IndexName):
            raise ShapeError("only plain indices can stand here", index.span,
                             why="this names the axes of a tensor that has no entries yet",
                             fix="index names")  # fmt: skip
        axes.append(Axis(scope.cell(index.id).size(index.id, index.span), index.id))
    return tuple(axes)


BATCH_AXIS = Axis(BATCH, BATCH_INDEX)
