"""`repeat` and `scan`: the body becomes a Module, values from outside its formals, reassigned names are carried."""

from __future__ import annotations

from tensorprog.dims import BATCH, Dim
from tensorprog.elaborate.builder import Builder, Record
from tensorprog.elaborate.indices import read
from tensorprog.elaborate.left import BATCH_AXIS
from tensorprog.elaborate.marks import Mark
from tensorprog.elaborate.scalars import polynomial
from tensorprog.elaborate.scope import FlagEntity, ParamEntity, Scope, TensorEntity, unknown_name
from tensorprog.elaborate.sizes import PLACEHOLDER, size_unknown
from tensorprog.errors import ShapeError
from tensorprog.graph import Axis, Const, Contract
from tensorprog.model import Compute, Loop
from tensorprog.statements import If, Let, Repeat, Scan, Statement
from tensorprog.syntax import Expr, IndexName, Name, Span

MAX_LOOPS = 8
MAX_COUNT = 1024
MAX_STEPS = 4096


def flatten(statements: tuple[Statement, ...], scope: Scope) -> list[Statement]:
    """The statements with every `if` decided."""
    flat: list[Statement] = []
    for statement in statements:
        if not isinstance(statement, If):
            flat.append(statement)
            continue
        entity = scope.find(statement.flag)
        if entity is None:
            raise unknown_name(statement.flag, scope, statement.span, "flag")
        if not isinstance(entity, FlagEntity):
            raise ShapeError(f"`{statement.flag}` is not a flag", statement.span, fix="`name: flag` in the block",
                             why="`if` chooses when a block is used, not when the network runs")  # fmt: skip
        flat += flatten(statement.then if entity.value else statement.otherwise, scope)
    return flat


def assigned(statements: tuple[Statement, ...], scope: Scope, time: str | None) -> list[str]:
    """The names a loop body assigns, in order; not those collected over `time`."""
    names: dict[str, None] = {}
    for statement in flatten(statements, scope):
        match statement:
            case Let(name=name, indices=indices):
                if not any(isinstance(index, IndexName) and index.id == time for index in indices or ()):
                    names[name] = None
            case Repeat(body=body) | Scan(body=body):
                names.update(dict.fromkeys(assigned(body, scope, time)))
            case _:
                pass
    return list(names)


def repeat(statement: Repeat, scope: Scope) -> None:
    """`repeat L { .. }` : the body once, as a Module; run `count` times by whoever reads the Loop."""
    count, symbol, length = _count(statement.count, scope)
    kind = "shared" if statement.shared else "repeat"
    _loop(statement, scope, kind, "layers", count, symbol, None, length)


def scan(statement: Scan, scope: Scope) -> None:
    """`scan t { .. }` : one step of the body per position of the finite axis t."""
    dim = scope.cell(statement.index).known()
    if dim is None:
        raise ShapeError(f"the length of the scan over `{statement.index}` is not known", statement.span,
                         fix=f"`axis {statement.index}: ..` with a finite dim",
                         why="it takes as many steps as the axis has places")  # fmt: skip
    length = dim.constant
    if any(symbol.startswith(PLACEHOLDER) for symbol in dim.symbols):
        told = (scope.builder.context.ledger.open[s] for s in sorted(dim.symbols) if s.startswith(PLACEHOLDER))
        raise size_unknown(*next(told))  # the index of the user, where a block's own stands for it
    if length is None:
        raise ShapeError(f"a scan over an axis of size {dim}", statement.span, why="a scan has finitely many steps",
                         fix=f"`axis {statement.index}: 16`, or another finite size")  # fmt: skip
    if length > MAX_STEPS:
        raise ShapeError(f"a scan over {length} steps", statement.span, why=f"at most {MAX_STEPS}",
                         fix="a shorter one: exponents of the width are the same for every length")  # fmt: skip
    _loop(statement, scope, "scan", "scan", int(length), None, statement.index)


def _count(expr: Expr, scope: Scope) -> tuple[int, str | None, Dim | None]:
    """The number of repeats and the depth symbol it is written with; or, where depths are symbols, its size."""
    context = scope.builder.context
    if isinstance(expr, Name) and scope.find(expr.id) is None:
        raise ShapeError(f"unknown depth `{expr.id}`", expr.span, fix=f"`depth {expr.id}` above",
                         why="the number of layers is a `depth` symbol or a whole number")  # fmt: skip
    size = polynomial(expr, scope)
    if context.symbolic and size.symbols and size.symbols <= context.used_depths.keys():
        return 0, None, size
    value = size.constant
    if value is None:
        raise ShapeError("the number of repeats grows with a width", expr.span, fix="`depth L`",
                         why="how a network behaves when depth and width grow together is not derived")  # fmt: skip
    if value.denominator != 1 or value < 0:
        raise ShapeError(
            f"{value} repeats", expr.span, why="the number of repeats is a whole number", fix="`repeat 4 { .. }`"
        )
    if value > MAX_COUNT:
        named = isinstance(expr, Name) and expr.id in context.used_depths
        raise ShapeError(f"{value} repeats", expr.span, why=f"at most {MAX_COUNT} are unrolled",
                         fix=f"a smaller value of the `depth` symbol `{expr.id}`" if named and isinstance(expr, Name)
                         else "`depth L` and `repeat L { .. }`, which need not be unrolled")  # fmt: skip
    symbol = expr.id if isinstance(expr, Name) and expr.id in context.used_depths else None
    return int(value), symbol, None


def _loop(
    statement: Repeat | Scan,
    scope: Scope,
    kind: str,
    label: str,
    count: int,
    symbol: str | None,
    time: str | None,
    length: Dim | None = None,
) -> None:
    """Elaborates the body; again with a batch axis on carried values that only get one inside."""
    builder = scope.builder
    if builder.loops >= MAX_LOOPS:
        raise ShapeError(f"loops are nested more than {MAX_LOOPS} deep", statement.span, why="their bodies multiply",
                         fix="one loop of all the steps, or a `block` for the inner ones")  # fmt: skip
    names = _carried(statement, scope, time)
    instance = builder.instance(label)
    for name in names:
        entity = scope.find(name)
        assert isinstance(entity, TensorEntity)
        scope.names[name] = TensorEntity(builder, builder.capture(entity.builder, entity.value))
    batched: set[str] = set()
    while True:
        mark, entities = Mark.of(builder), dict(scope.names)
        attempt = _Attempt(statement, scope, kind, instance, names, time)
        new = attempt.run(batched)
        if not new:
            break
        mark.restore()
        scope.names = entities
        batched |= new
    attempt.emit(kind, count, symbol, length)
    scope.ended.update({name: statement.span for name in attempt.scope.names if name not in scope.names})


def _carried(statement: Repeat | Scan, scope: Scope, time: str | None) -> list[str]:
    names = []
    for name in assigned(statement.body, scope, time):
        entity = scope.find(name)
        if isinstance(entity, ParamEntity):
            raise ShapeError(f"`{name}` is a parameter and cannot be assigned", statement.span,
                             why="a parameter changes by training only",
                             fix="another name for what is computed from it")  # fmt: skip
        if isinstance(entity, TensorEntity):
            names.append(name)
    return names


class _Attempt:
    """One elaboration of a loop body."""

    def __init__(
        self, statement: Repeat | Scan, scope: Scope, kind: str, instance: str, names: list[str], time: str | None
    ) -> None:
        outer = scope.builder
        path = outer.child_path(instance)
        self.statement, self.outer_scope, self.outer, self.instance = statement, scope, outer, instance
        self.names = names
        body = Builder(outer.context, kind, path, outer.unknown_path, outer, outer.site, outer.loops + 1)
        self.body, self.scope = body, Scope(body, scope, inside=True, scan=time)
        self.initial: list[int] = []
        self.formals: list[int] = []

    def run(self, batched: set[str]) -> set[str]:
        """Elaborates; the names of carried values that turn out to need a batch axis."""
        from tensorprog.elaborate.statements import run

        for name in self.names:
            entity = self.outer_scope.find(name)
            assert isinstance(entity, TensorEntity)
            value = self.outer.capture(entity.builder, entity.value)
            if name in batched:
                value = with_batch(value, self.outer, self.statement.span)
            self.initial.append(value)
            formal = self.body.new(Record(self.outer.values[value].axes))
            self.formals.append(formal)
            self.scope.names[name] = TensorEntity(self.body, formal)
        run(self.statement.body, self.scope, None)
        self.results = [self._final(name) for name in self.names]
        return self._missing_batch()

    def _final(self, name: str) -> int:
        entity = self.scope.names[name]
        assert isinstance(entity, TensorEntity | ParamEntity)
        return read(entity, self.body, self.statement.span)

    def _missing_batch(self) -> set[str]:
        missing = set()
        for position, name in enumerate(self.names):
            before = self.body.values[self.formals[position]].axes
            after = self.body.values[self.results[position]].axes
            if self._alike(before, after):
                continue
            if after[:1] == (BATCH_AXIS,) and self._alike((BATCH_AXIS, *before), after):
                missing.add(name)
            elif before[:1] == (BATCH_AXIS,) and self._alike(before, (BATCH_AXIS, *after)):
                self.results[position] = with_batch(self.results[position], self.body, self.statement.span)
            else:
                raise ShapeError(
                    f"`{name}` changes its shape in the loop: {_shape(before)} before, {_shape(after)} after",
                    self.statement.span,
                    why="every pass of a loop has the same shapes",
                    fix="the same sizes, or another name for the result",
                )
        return missing

    def emit(self, kind: str, count: int, symbol: str | None, length: Dim | None) -> None:
        """The Loop step and the names that live on after it."""
        collected = list(self.scope.collected.items())
        captured = list(self.body.captured.items())
        sliced = list(self.body.sliced.items())
        formals = (*self.formals, *(inner for _, inner in captured), *(inner for _, inner in sliced))
        module = self.body.finish(formals, (*self.results, *(value for _, (value, _) in collected)))
        outs = tuple(self.outer.new(Record(self.body.values[value].axes, name))
                     for name, value in zip(self.names, self.results, strict=True))  # fmt: skip
        stacks = [self._stack(value, place, count) for _, (value, place) in collected]
        self.outer.steps.append(
            Loop(
                kind,
                self.instance,
                module,
                count,
                symbol,
                tuple(self.initial),
                tuple(outer for outer, _ in captured),
                tuple(key for key, _ in sliced),
                outs,
                tuple(stacks),
                self.outer.place(self.statement.span),
                length,
            )
        )
        for name, value in zip(self.names, outs, strict=True):
            self.outer_scope.names[name] = TensorEntity(self.outer, value)
        for (name, _), (value, _) in zip(collected, stacks, strict=True):
            self.outer_scope.names[name] = TensorEntity(self.outer, value)
            self.outer.bind(value, name)

    def _alike(self, before: tuple[Axis, ...], after: tuple[Axis, ...]) -> bool:
        pairs = zip(before, after, strict=False)
        return len(before) == len(after) and all(self.body.agree(a.dim, b.dim) for a, b in pairs)

    def _stack(self, value: int, place: int, count: int) -> tuple[int, int]:
        """The outer value and axis of a tensor collected over time."""
        record = self.body.values[value]
        axis = place + record.has_batch
        time = self.scope.scan or ""
        axes = (*record.axes[:axis], Axis(self.scope.cell(time).size(time), time), *record.axes[axis:])
        return self.outer.new(Record(axes)), axis


def _shape(axes: tuple[Axis, ...]) -> str:
    return "[" + ", ".join(str(axis.dim) for axis in axes if axis.dim != BATCH) + "]"


def with_batch(value: int, builder: Builder, span: Span) -> int:
    """The same for every example of the batch."""
    record = builder.values[value]
    axes = (BATCH_AXIS, *record.axes)
    for step in builder.steps:
        if isinstance(step, Compute) and step.out == value and isinstance(step.op, Const):
            return builder.compute(step.op, (), axes, span)
    ones = builder.compute(Const(1.0), (), (BATCH_AXIS,), span)
    rank = len(record.axes)
    inner = tuple(range(1, rank + 1))
    return builder.compute(Contract((0,), inner, (0, *inner)), (ones, value), axes, span)
