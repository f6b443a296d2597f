"""The rules' view of a recording: what calls read as values, numbers and integers, and what they give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, NoReturn

from tensorprog.errors import TensorProgError
from tensorprog.exponents import Power
from tensorprog.graph import Axis, Param, Scalar
from tensorprog.parameters import Init, Parameter
from tensorprog.suggest import nearest
from tensorprog.torch.lower.builder import Builder
from tensorprog.torch.lower.data import Data
from tensorprog.torch.lower.nodes import scalar_of
from tensorprog.torch.lower.positions import KEEPING, Positions, numbers
from tensorprog.torch.lower.registry import RULES
from tensorprog.torch.lower.values import Atom, Complex, Sizes, Value, is_one
from tensorprog.torch.trace import Ref
from tensorprog.torch.zipped import Call, Varying, Zipped


@dataclass(frozen=True, slots=True)
class Site:
    """Where in the graph a recorded result is: `node` holds the same numbers, its axes in another order."""

    place: int
    output: int
    module: str
    op: str
    node: int


class Lowering(Builder):
    """The rules' view of the work: operands of calls as values, numbers and integers."""

    def __init__(self, zipped: Zipped, inits: Mapping[str, Init], frozen: frozenset[str],
                 given: Mapping[str, Power | None]) -> None:  # fmt: skip
        super().__init__(zipped.laws)
        self.zipped, self.inits, self.frozen, self.given = zipped, inits, frozen, given
        self.values: dict[int, Value | Scalar] = {}
        self.logits: dict[int, tuple[Value, int]] = {}  # recorded log-softmax -> what it was taken of, and the axis
        self.stopped: set[int] = set()  # results through which no gradient passes
        self.gradient = True  # whether one passes through the call that is being lowered
        self.data = Data(self)

    # --- operands -------------------------------------------------------------------------------------

    def operand(self, arg: Any) -> Value | Scalar | None:
        """A tensor, or a number (also one in a tensor all of whose entries are equal)."""
        if arg is None:
            return None
        if isinstance(arg, Ref):
            known = self.values.get(arg.value)
            if isinstance(known, Positions) and self.op not in KEEPING:
                known = numbers(self, known)
            if isinstance(known, Value) and self.gradient and arg.value in self.stopped:
                return self.stop_gradient(known)
            if known is not None:
                return known
            leaf = self.zipped.leaf(arg.value)
            if leaf is None:
                if arg.value in self.logits:
                    from tensorprog.torch.lower.losses import log_softmax_of

                    value = self.values[arg.value] = log_softmax_of(self, arg.value)
                    return value
                maker = next(c for c in self.zipped.calls if arg.value in c.outputs)
                place = f" in `{maker.module}`" if maker.module != self.module else ""
                self.refuse(f"it reads what `aten.{maker.op}`{place} gives, which is rounded, counted or compared")
            if leaf[0].kind == "param":
                value = self.values[arg.value] = self._parameter(leaf[0].name, arg.value)
                return value
            uniform = self.data.uniform(arg.value)
            return uniform if uniform is not None else self.data.value(arg.value)
        if isinstance(arg, complex):
            from tensorprog.torch.lower.complexes import number

            return number(self, arg)
        return self.number(arg)

    def value(self, arg: Any) -> Value:
        """A tensor operand; a number is one without axes."""
        found = self.operand(arg)
        if found is None:
            self.refuse("an operand is missing")
        if isinstance(found, Scalar):
            shape = self.shape(arg) if isinstance(arg, Ref) else ()
            constant = self.constant_of(found)
            return constant.with_dims(tuple(() if is_one(s) else (Atom(s, None),) for s in shape))
        return found

    def optional(self, arg: Any) -> Value | None:
        return None if arg is None else self.value(arg)

    def number(self, arg: Any) -> Scalar:
        """A number, with its law. Raises TensorProgError where it has none."""
        if isinstance(arg, bool | int | float):
            return (
                scalar_of(float(arg)) if abs(float(arg)) < 1e300 else Scalar(Fraction(int(1e30 if arg > 0 else -1e30)))
            )
        if isinstance(arg, Varying):
            law = self.laws.number([float(v) for v in arg.values], 1e-9)
            if law is None:
                self.refuse(f"a number follows no law: {', '.join(map(str, arg.values))} at the widths traced",
                            "a number that is a constant times powers of the sizes")  # fmt: skip
            return scalar_of(*law)
        return self.refuse(f"the operand {arg!r} is neither a tensor nor a number")

    def integer(self, arg: Any) -> Sizes:
        """A whole number at every point."""
        if isinstance(arg, Varying):
            return tuple(int(v) for v in arg.values)
        return (int(arg),) * self.points

    def constant_int(self, arg: Any) -> int:
        """A whole number that may not vary."""
        if isinstance(arg, Varying):
            self.refuse(f"a number that must be fixed varies: {', '.join(map(str, arg.values))}")
        return int(arg)

    def shape(self, arg: Any) -> tuple[Sizes, ...]:
        """The sizes of a tensor operand."""
        assert isinstance(arg, Ref)
        return self.zipped.shapes[arg.value]

    def out_shape(self, call: Call, output: int = 0) -> tuple[Sizes, ...]:
        """The sizes of a result."""
        return self.zipped.shapes[call.outputs[output]]

    def axis_of(self, arg: Any, rank: int) -> int:
        """An axis number, counted from the front."""
        k = self.constant_int(arg)
        return k + rank if k < 0 else k

    # --- leaves ---------------------------------------------------------------------------------------

    def _parameter(self, name: str, number: int) -> Value:
        sizes = self.zipped.shapes[number]
        pairs = self.zipped.first.dtypes[number].startswith("complex")
        sizes = (*sizes, (2,) * self.points) if pairs else sizes
        axes = tuple(Axis(self.dim(s)) for s in sizes if not is_one(s))
        if name not in self.parameters:
            self.parameters[name] = Parameter(name, axes, self.inits.get(name, Init()), name in self.frozen,
                                              start=self.given.get(name))  # fmt: skip
        value = replace(self.fresh(self.emit(Param(name), (), axes), sizes), weight=name)
        return Complex(value.node, value.dims, value.weight) if pairs else value

    # --- all calls ------------------------------------------------------------------------------------

    def run(self) -> list[Site]:
        """Every call in order; what each result became."""
        from tensorprog.torch.lower.complexes import PAIRS

        sites: list[Site] = []
        for call in _needed(self.zipped):
            self.module, self.op, self.place = call.module, call.op, call.place
            self.gradient = call.gradient
            before = len(self.nodes)
            function = RULES.get(f"{call.op}.{call.overload}") or RULES.get(call.op)
            if function is None:
                self._unknown(call)
            if call.op not in PAIRS and any(isinstance(self.values.get(r.value), Complex) for r in _refs(call.args)):
                self.refuse("complex numbers", "real ones (torch.view_as_real)")
            result = function(self, call)
            if call.by:
                result = self._passed_by(self.value(call["self"]), result)
            results = result if isinstance(result, tuple) else (result,)
            for k, (number, value) in enumerate(zip(call.outputs, results, strict=False)):
                if number < 0 or value is None:
                    continue
                value = self._spread(value, self.out_shape(call, k))
                self.values[number] = value
                if not call.gradient and not call.by:
                    self.stopped.add(number)
                if isinstance(value, Value) and value.mask is None:
                    sites.append(Site(call.place, k, call.module, call.op, value.node))
                    if value.node >= before:
                        self.name(value.node, f"{call.module}.{call.op}" if call.module else call.op)
        return sites

    @staticmethod
    def _spread(value: Value | Scalar, shape: tuple[Sizes, ...]) -> Value | Scalar:
        """A result as long as it was recorded: an operand that is one number everywhere has no axes to make it so."""
        if type(value) is not Value or value.mask is not None or len(value.dims) > len(shape):
            return value
        dims = ((),) * (len(shape) - len(value.dims)) + value.dims
        return value.with_dims(
            tuple(g or (() if is_one(s) else (Atom(s, None),)) for g, s in zip(dims, shape, strict=True))
        )

    def _passed_by(self, before: Value, after: Value) -> Value:
        """The values of `after`, the gradient of `before`."""
        if after.node == before.node:
            return before
        return self.add([before, self.stop_gradient(self.add([after, self.scale(before, Scalar(Fraction(-1)))]))])

    def _unknown(self, call: Call) -> NoReturn:
        where = f"`{call.module}` ({self.zipped.first.modules.get(call.module, '')})" if call.module else "the model"
        close = nearest(call.op, RULES)
        raise TensorProgError(
            f"there is no rule for the operation `aten.{call.op}` in {where}",
            why="every operation must be known" + (f" (the nearest one known: {close})" if close else ""),
            fix=f'a rule: `@tensorprog.torch.rule("aten.{call.op}")` on a function of (low, call)',
        )  # fmt: skip


def _needed(zipped: Zipped) -> list[Call]:
    """The calls that the outputs and the loss depend on."""
    wanted = {number for _, number in zipped.first.outputs}
    if zipped.first.loss is not None:
        wanted.add(zipped.first.loss)
    kept: list[Call] = []
    for call in reversed(zipped.calls):
        if wanted.intersection(call.outputs):
            kept.append(call)
            wanted.update(ref.value for ref in _refs(call.args))
    return kept[::-1]


def _refs(arg: Any) -> list[Ref]:
    if isinstance(arg, Ref):
        return [arg]
    arg = list(arg.values()) if isinstance(arg, Mapping) else arg
    return [ref for inner in arg for ref in _refs(inner)] if isinstance(arg, list | tuple) else []
