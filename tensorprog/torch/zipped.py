"""The runs at several widths as one: the same operations, with sizes and numbers that have laws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tensorprog.dims import Dim
from tensorprog.errors import TensorProgError
from tensorprog.torch.laws import Laws
from tensorprog.torch.trace import Leaf, Ref, Trace

Sizes = tuple[int, ...]  # one size at every point


@dataclass(frozen=True, slots=True)
class Varying:
    """A number among the operands, with its value at every point."""

    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """One operation at all points. `args`, `gradient`, `by`: as in `Operation`; a number that differs is `Varying`.
    `place`: its number in the recording."""

    place: int
    op: str
    overload: str
    args: Mapping[str, Any]
    outputs: tuple[int, ...]
    module: str
    gradient: bool = True
    by: bool = False

    def __getitem__(self, name: str) -> Any:
        return self.args.get(name)


@dataclass(frozen=True)
class Zipped:
    """All runs together. `shape(value)`: per axis its size at every point."""

    laws: Laws
    traces: tuple[Trace, ...]
    calls: tuple[Call, ...]
    shapes: tuple[tuple[Sizes, ...], ...] = field(default=())

    @property
    def first(self) -> Trace:
        return self.traces[0]

    def leaf(self, value: int) -> tuple[Leaf, ...] | None:
        """The leaf at every point, or None if an operation made the value."""
        if value not in self.first.leaves:
            return None
        return tuple(trace.leaves[value] for trace in self.traces)

    def dim(self, sizes: Sizes, what: str, module: str) -> Dim:
        """The law of a size. Raises TensorProgError where there is none."""
        dim = self.laws.dim(sizes)
        if dim is None:
            points = ", ".join(str(dict(p)) for p in self.laws.points)
            where = f"{what} of `{module or 'the model'}`"
            raise TensorProgError(
                f"a size in {where} follows no law: {', '.join(map(str, sizes))} at {points}",
                why="sizes must be constant, proportional to products of the builder's integers, or sums of few such",
                fix="larger `widths`, at which nothing is rounded (multiples of 64, say)",
            )
        return dim


def zip_traces(laws: Laws, traces: Sequence[Trace]) -> Zipped:
    """The runs as one. Raises TensorProgError at the first operation that differs."""
    first = traces[0]
    for k, trace in enumerate(traces[1:], 1):
        for a, b in zip(first.operations, trace.operations, strict=False):
            if (a.op, a.module, a.outputs) != (b.op, b.module, b.outputs):
                here, there = (f"`{o.op}` in {f'`{o.module}`' if o.module else 'the model itself'}" for o in (a, b))
                raise _differs(laws, k, here, there)
        if len(first.operations) != len(trace.operations):
            raise _differs(laws, k, f"{len(first.operations)} operations", f"{len(trace.operations)}")
        same = first.leaves.keys() == trace.leaves.keys() and all(
            (a.kind, a.name) == (b.kind, b.name)
            for a, b in zip(first.leaves.values(), trace.leaves.values(), strict=True)
        )
        if not same or len(first.shapes) != len(trace.shapes):
            raise _differs(laws, k, "some operands", "others")
        if trace.outputs != first.outputs or trace.loss != first.loss:
            raise _differs(laws, k, "some results", "others")
    calls = []
    for place, together in enumerate(zip(*(t.operations for t in traces), strict=True)):
        op = together[0]
        args = {name: _merge([o.args[name] for o in together]) for name in op.args}
        calls.append(Call(place, op.op, op.overload, args, op.outputs, op.module, op.gradient, op.by))
    shapes = []
    for value, together_shapes in enumerate(zip(*(t.shapes for t in traces), strict=True)):
        if len({len(s) for s in together_shapes}) != 1:
            raise _differs(laws, 0, f"value {value} with {len(together_shapes[0])} axes", "another number of axes")
        shapes.append(tuple(zip(*together_shapes, strict=True)))
    return Zipped(laws, tuple(traces), tuple(calls), tuple(shapes))


def _differs(laws: Laws, point: int, here: str, there: str) -> TensorProgError:
    return TensorProgError(
        f"the model does not do the same at all sizes: {here} at {laws.points[0]}, {there} at {laws.points[point]}",
        why="the operations at several widths are compared one by one",
        fix="a builder in which only sizes vary: no control flow, and no list of modules whose length grows "
        "(let the head dim grow instead of a list of heads), or other `widths`",
    )


def _merge(values: list[Any]) -> Any:
    """One operand at all points: itself where it is the same, `Varying` where a number differs."""
    first = values[0]
    if isinstance(first, Ref):
        if any(v != first for v in values):
            raise TensorProgError("the model does not read the same tensors at all sizes",
                                  why="the operations at several widths are compared one by one",
                                  fix="a builder in which only sizes vary, or other `widths`")  # fmt: skip
        return first
    if isinstance(first, list | tuple):
        if any(len(v) != len(first) for v in values):
            return Varying(tuple(values))
        return [_merge([v[k] for v in values]) for k in range(len(first))]
    return first if all(v == first and type(v) is type(first) for v in values) else Varying(tuple(values))
