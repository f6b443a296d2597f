"""`x[t, (h e), 2 u + a - 1, ..]` : one tensor with its indices becomes an operand, through Split and Window."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tensorprog.dims import ONE, Dim
from tensorprog.elaborate.builder import BATCH_INDEX, Builder, Operand
from tensorprog.elaborate.frame import ELLIPSIS, LOOKUP, Frame
from tensorprog.elaborate.scalars import polynomial
from tensorprog.elaborate.scope import ParamEntity, Scope, TensorEntity, describe, unknown_name
from tensorprog.elaborate.windows import check_window, group_sizes, window_of
from tensorprog.errors import ShapeError
from tensorprog.graph import Axis, Split, Window
from tensorprog.syntax import Index, IndexAffine, Indexed, IndexEllipsis, IndexGather, IndexGroup, IndexName, Span


def tensor(name: str, scope: Scope, span: Span) -> TensorEntity | ParamEntity:
    """The tensor or parameter of this name."""
    entity = scope.find(name)
    if isinstance(entity, TensorEntity | ParamEntity):
        return entity
    if entity is None:
        raise unknown_name(name, scope, span)
    raise ShapeError(f"`{name}` is {describe(entity)}, not a tensor", span,
                     why="only tensors and parameters have entries",
                     fix="a tensor; a size or a number stands in a product without brackets")  # fmt: skip


def read(entity: TensorEntity | ParamEntity, builder: Builder, span: Span) -> int:
    """The whole tensor as a value of this builder."""
    if isinstance(entity, ParamEntity):
        return builder.capture(entity.builder, entity.builder.read(entity.param, span))
    return builder.capture(entity.builder, entity.value)


# --- reading ----------------------------------------------------------------------------------------


def lower(expr: Indexed, frame: Frame, looked_up: bool = False) -> list[Operand]:
    """The tensor with its indices, and the tokens of every look-up in them."""
    scope, builder = frame.scope, frame.builder
    entity = tensor(expr.id, scope, expr.span)
    if isinstance(entity, TensorEntity):
        value, indices = at_time(entity, expr, frame)
    else:
        value, indices = read(entity, builder, expr.span), expr.indices
    record = builder.values[value]
    if record.tokens and not looked_up:
        raise tokens_misused(expr.id, expr.span)
    rank = len(record.axes) - record.has_batch - record.tokens
    reader = _Reader(frame, value, [BATCH_INDEX] if record.has_batch else [], [])
    for index in expand(indices, rank, expr):
        reader.take(index)
    if record.tokens:
        reader.names.append(f"{LOOKUP}{value}")
    _check_distinct(reader.names, expr)
    return [Operand(reader.value, tuple(reader.names)), *reader.looked_up]


def at_time(entity: TensorEntity, expr: Indexed, frame: Frame) -> tuple[int, tuple[Index, ...]]:
    """The value; in a scan, at the current time where an index is the time index."""
    builder, scope = frame.builder, frame.scope
    indices = expr.indices
    if entity.time is not None:
        place = entity.time
        index = indices[place] if place < len(indices) else None
        if not isinstance(index, IndexName) or index.id != _scan_of(scope, entity.builder):
            raise ShapeError(
                f"`{expr.id}` is read at another time than it is computed",
                expr.span,
                why="inside a scan only the current step of a collected tensor is known",
                fix="a state that is assigned in every step: `s[j] = 0` before the scan, `s[j] = ..` in it",
            )
        return builder.capture(entity.builder, entity.value), indices[:place] + indices[place + 1 :]
    for home in _scans_around(scope):
        if home.builder is entity.builder or _within(entity.builder, home.builder):
            continue
        places = [k for k, index in enumerate(indices) if isinstance(index, IndexName) and index.id == home.scan]
        if not places:
            continue
        place = places[0]
        record = entity.builder.values[entity.value]
        axis = place + record.has_batch
        if any(isinstance(index, IndexEllipsis) for index in indices[:place]):
            axis = len(record.axes) - record.tokens - (len(indices) - place)
        if axis >= len(record.axes) - record.tokens:
            raise _wrong_count(expr, len(record.axes) - record.has_batch - record.tokens)
        scope.cell(home.scan or "").bind(record.axes[axis].dim, home.scan or "", expr.span)
        value = home.builder.slice(entity.builder, entity.value, axis)
        inner = TensorEntity(home.builder, value)
        rest = replace(expr, indices=indices[:place] + indices[place + 1 :])
        return at_time(inner, rest, frame)
    return builder.capture(entity.builder, entity.value), indices


def _scans_around(scope: Scope) -> list[Scope]:
    found: list[Scope] = []
    current: Scope | None = scope
    while current is not None and current.inside:
        if current.scan is not None:
            found.append(current)
        current = current.parent
    return found


def _scan_of(scope: Scope, builder: Builder) -> str | None:
    return next((home.scan for home in _scans_around(scope) if home.builder is builder), None)


def _within(builder: Builder, ancestor: Builder) -> bool:
    """Whether `builder` is a loop body inside `ancestor`."""
    current: Builder | None = builder
    while current is not None:
        if current is ancestor:
            return True
        current = current.parent
    return False


def expand(indices: tuple[Index, ...], rank: int, expr: Indexed) -> list[Index | str]:
    """One entry per axis, the ellipsis replaced by names `..2`, `..1` counted from the right."""
    dots = [k for k, index in enumerate(indices) if isinstance(index, IndexEllipsis)]
    if len(dots) > 1:
        raise ShapeError("`..` stands twice", indices[dots[1]].span, why="it stands for all axes that are not named",
                         fix="one `..`, and names for the other axes")  # fmt: skip
    hidden = rank - (len(indices) - len(dots))
    if hidden < 0 or (hidden > 0 and not dots):
        raise _wrong_count(expr, rank)
    if not dots:
        return list(indices)
    names = [f"{ELLIPSIS}{k}" for k in range(hidden, 0, -1)]
    return [*indices[: dots[0]], *names, *indices[dots[0] + 1 :]]


def _wrong_count(expr: Indexed, rank: int) -> ShapeError:
    given = len([index for index in expr.indices if not isinstance(index, IndexEllipsis)])
    return ShapeError(
        f"`{expr.id}` has {rank} ax{'is' if rank == 1 else 'es'}, but {given} "
        f"ind{'ex is' if given == 1 else 'ices are'} given",
        expr.span,
        why="the batch axis is implicit and is not counted",
        fix="one index for each axis; `..` stands for all that are not named",
    )


def tokens_misused(name: str, span: Span) -> ShapeError:
    return ShapeError(f"`{name}` holds integers", span, why="integers are only looked up in a table",
                      fix=f"`E[{name}[t], i]`, or `embedding({name}, n)`")  # fmt: skip


def _check_distinct(names: list[str], expr: Indexed) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ShapeError(f"the index `{name}` stands twice on `{expr.id}`", expr.span, why="there are no diagonals",
                             fix="two indices, each with its own `axis`")  # fmt: skip


@dataclass(slots=True)
class _Reader:
    """Walks over the axes of one tensor; `names` are the index names of the axes done so far."""

    frame: Frame
    value: int
    names: list[str]
    looked_up: list[Operand]

    @property
    def axis(self) -> Axis:
        return self.frame.builder.values[self.value].axes[len(self.names)]

    def cell_bind(self, name: str, dim: Dim, span: Span) -> None:
        self.frame.scope.cell(name).bind(dim, name, span)

    def take(self, index: Index | str) -> None:
        match index:
            case str():
                self.names.append(index)
            case IndexName(id=name, span=span):
                self.cell_bind(name, self.axis.dim, span)
                self.names.append(name)
            case IndexGroup():
                self.group(index)
            case IndexAffine():
                self.affine(index)
            case IndexGather(tokens=tokens):
                self.gather(tokens)
            case IndexEllipsis():
                raise AssertionError("ellipses are expanded before")

    def replace_axis(self, axes: list[Axis], op: Split | Window, span: Span) -> None:
        builder = self.frame.builder
        record = builder.values[self.value]
        at = len(self.names)
        new = (*record.axes[:at], *axes, *record.axes[at + 1 :])
        source = record.source if isinstance(op, Split) else None
        self.value = builder.compute(op, (self.value,), new, span, source)

    def group(self, index: IndexGroup) -> None:
        """`(h e)` on the right: one axis becomes several."""
        dims = group_sizes(index, self.axis.dim, self.frame.scope)
        axes = [Axis(dim, name) for dim, name in zip(dims, index.ids, strict=True)]
        self.replace_axis(axes, Split(len(self.names), len(axes)), index.span)
        self.names.extend(index.ids)

    def gather(self, tokens: Indexed) -> None:
        """`E[tokens[t], i]` : a contraction with the one-hot rows of the tokens."""
        entity = tensor(tokens.id, self.frame.scope, tokens.span)
        integers = isinstance(entity, TensorEntity) and entity.builder.values[entity.value].tokens
        if integers and not all(isinstance(index, IndexName | IndexEllipsis) for index in tokens.indices):
            raise ShapeError(f"a look-up of `{tokens.id}` at computed positions", tokens.span,
                             fix=f"`e[..,i] = E[{tokens.id}[..],i]`, then the positions of `e`",
                             why="tokens have one plain index per axis; what was looked up may be sliced and shifted"
                             )  # fmt: skip
        operand, *more = lower(tokens, self.frame, looked_up=True)
        record = self.frame.builder.values[operand.value]
        if not record.tokens:
            raise ShapeError(f"`{tokens.id}` holds no integers", tokens.span, fix="`input tokens[t] in vocab`",
                             why="rows of a table are looked up by integers")  # fmt: skip
        vocab = record.axes[-1].dim
        if not self.frame.builder.agree(vocab, self.axis.dim):
            raise ShapeError(f"tokens below {vocab} are looked up in an axis of size {self.axis.dim}", tokens.span,
                             why="every token must have its row",
                             fix=f"a table of {vocab} rows, or `in {self.axis.dim}` at the input")  # fmt: skip
        self.names.append(operand.indices[-1])
        self.looked_up += [operand, *more]

    def affine(self, index: IndexAffine) -> None:
        """`2 u + a - 1` : a window; with no terms, one position."""
        if not index.terms:
            self.select(index)
            return
        window = window_of(index, len(self.names), self.frame)
        names = window.names
        scope, axis = self.frame.scope, self.axis.dim
        if window.plain and scope.cell(names[0]).known() is None:
            scope.cell(names[0]).bind(axis, names[0], index.span)
        dims = [scope.cell(name).size(name, index.span) for name in names]
        check_window(window, dims, axis, index.span)
        op = Window(len(self.names), window.stride, window.dilation, window.offset, len(names) == 2)
        self.replace_axis([Axis(d, n) for d, n in zip(dims, names, strict=True)], op, index.span)
        self.names.extend(names)

    def select(self, index: IndexAffine) -> None:
        """`h[0, i]` : one position; the axis disappears."""
        offset = polynomial(index.offset, self.frame.scope)
        room, low = (self.axis.dim - offset).constant, offset.constant
        if (room is not None and room <= 0) or (low is not None and low < 0):
            raise ShapeError(f"position {offset} is outside of an axis of size {self.axis.dim}", index.span,
                             why="positions are counted from 0", fix=f"`0` to `{self.axis.dim - ONE}`")  # fmt: skip
        at = len(self.names)
        self.replace_axis([Axis(ONE)], Window(at, 1, 1, offset), index.span)
        record = self.frame.builder.values[self.value]
        names = tuple(str(k) for k in range(len(record.axes)))
        dropped = names[:at] + names[at + 1 :]
        self.value = self.frame.builder.permute(Operand(self.value, names), dropped, index.span).value
