"""`(h e)` and `2 u + a - 1` : the sizes of the parts of an axis, and which index of a window is the position."""

from __future__ import annotations

from dataclasses import dataclass

from tensorprog.dims import ONE, Dim
from tensorprog.elaborate.frame import Frame
from tensorprog.elaborate.scalars import polynomial, whole
from tensorprog.elaborate.scope import Scope
from tensorprog.errors import ShapeError
from tensorprog.syntax import Expr, IndexAffine, IndexGroup, Name, Number, Span


def group_sizes(index: IndexGroup, total: Dim, scope: Scope) -> list[Dim]:
    """The sizes of the members of `(h e)`; one unknown size is told by the others."""
    cells = [scope.cell(name) for name in index.ids]
    missing = [k for k, cell in enumerate(cells) if cell.known() is None]
    product = ONE
    for cell in cells:
        product = product * (cell.known() or ONE)
    if len(missing) == 1:
        try:
            rest = total / product
        except ValueError:
            rest = Dim(())
        value = rest.constant
        if not rest.terms or (value is not None and value.denominator != 1):
            raise ShapeError(f"an axis of size {total} cannot be divided by {product}", index.span,
                             why="every part has as many places as every other",
                             fix="a size that divides it")  # fmt: skip
        cells[missing[0]].bind(rest, index.ids[missing[0]], index.span)
    elif not missing and not scope.builder.agree(product, total):
        raise ShapeError(f"the axis has size {total}, but its parts make {product}", index.span,
                         why="together the parts have as many places as the axis",
                         fix=f"sizes of `{', '.join(index.ids)}` whose product is {total}")  # fmt: skip
    return [cell.size(name, index.span) for name, cell in zip(index.ids, cells, strict=True)]


@dataclass(frozen=True, slots=True)
class WindowSpec:
    """stride * names[0] + dilation * names[1] + offset."""

    names: tuple[str, ...]
    stride: int
    dilation: int
    offset: Dim

    @property
    def plain(self) -> bool:
        """Whether it is only a shift."""
        return len(self.names) == 1 and self.stride == 1


def window_of(index: IndexAffine, axis: int, frame: Frame) -> WindowSpec:
    """Which index is the position and which the tap: the position is the one on the left of the statement."""
    terms = [(_coefficient(c, frame.scope, index.span), name) for c, name in index.terms]
    if len(terms) > 2:
        raise ShapeError("an axis is indexed by more than two indices", index.span, fix="two statements",
                         why="a window has a position and a tap")  # fmt: skip
    for coefficient, name in terms:
        if coefficient <= 0:
            raise ShapeError(f"the index `{name}` runs backwards", index.span, why="coefficients are positive",
                             fix=f"`{name}`, with the entries numbered the other way round")  # fmt: skip
    left = frame.left or ()
    if len(terms) == 2 and terms[0][1] not in left and terms[1][1] in left:
        terms.reverse()
    dilation = terms[1][0] if len(terms) == 2 else 1
    names = tuple(name for _, name in terms)
    return WindowSpec(names, terms[0][0], dilation, polynomial(index.offset, frame.scope))


def _coefficient(value: int | str, scope: Scope, span: Span) -> int:
    expr: Expr = Number(value, span) if isinstance(value, int) else Name(value, span)  # type: ignore[arg-type]
    return value if isinstance(value, int) else whole(expr, scope)


def check_window(window: WindowSpec, dims: list[Dim], axis: Dim, span: Span) -> None:
    """Taps are finite, and a slice touches its axis."""
    if len(dims) == 2 and dims[1].grows:
        raise ShapeError(f"the window's taps `{window.names[1]}` run over the growing size {dims[1]}", span,
                         why="a window has finitely many taps",
                         fix="a finite size; a sum over a growing axis is a product: `W[j,i] x[i]`")  # fmt: skip
    past = (window.offset - axis).constant
    last = Dim.of(window.stride) * (dims[0] - ONE) + window.offset
    if len(dims) == 2:
        last = last + Dim.of(window.dilation) * (dims[1] - ONE)
    end = last.constant
    if (past is not None and past >= 0) or (end is not None and end < 0):
        raise ShapeError(f"this slice lies outside of an axis of size {axis}", span, why="it would hold zeros alone",
                         fix=f"positions from 0 to {axis - ONE}")  # fmt: skip
