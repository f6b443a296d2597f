"""Rules that work entry by entry."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from tensorprog.graph import Scalar
from tensorprog.torch.lower.data import BIG, MASKED
from tensorprog.torch.lower.positions import divided
from tensorprog.torch.lower.registry import rule
from tensorprog.torch.lower.values import Complex, Value
from tensorprog.torch.trace import Ref

if TYPE_CHECKING:
    from tensorprog.torch.lower import Lowering
    from tensorprog.torch.zipped import Call

MINUS = Scalar(Fraction(-1))


@rule("neg")
def neg(low: Lowering, call: Call) -> Value:
    return low.scale(low.value(call["self"]), MINUS)


def is_minus_infinity(x: Value | Scalar | None) -> bool:
    """A number so far below zero that adding to it changes nothing: what a running maximum starts at."""
    return isinstance(x, Scalar) and not x.powers and x.coefficient <= MASKED


@rule("add", "sub", "rsub")
def add(low: Lowering, call: Call) -> Value | Scalar:
    a, b = low.operand(call["self"]), low.operand(call["other"])
    alpha = low.number(call["alpha"] if call["alpha"] is not None else 1)
    if call.op == "rsub":
        a, b = b, a
        first, second = call["other"], call["self"]
    else:
        first, second = call["self"], call["other"]
    sign = MINUS * alpha if call.op != "add" else alpha
    for x, factor in ((a, Scalar()), (b, sign)):
        if isinstance(x, Scalar) and is_minus_infinity(x * factor):
            return x * factor
    if isinstance(b, Scalar) and isinstance(a, Value):
        return low.shift(a, b * sign) if b.coefficient else a
    if isinstance(a, Scalar) and isinstance(b, Value):
        return low.shift(low.scale(b, sign), a)
    if isinstance(a, Value) and isinstance(b, Value):
        if call.op == "add" and alpha == Scalar():
            for live, data, arg in ((a, b, second), (b, a, first)):
                if isinstance(arg, Ref) and low.zipped.leaf(arg.value) is not None and _is_mask(low, arg.value):
                    return with_mask(low, live, data, causal_mask(tuple(a <= -BIG for a in low.data.at(arg.value))))
        if a == b and sign == MINUS:
            return Scalar(Fraction(0))
        return low.add([a, low.scale(b, sign)])
    return low.refuse("it adds two numbers")


def _is_mask(low: Lowering, value: int) -> bool:
    leaf = low.zipped.leaf(value)
    if leaf is None or leaf[0].kind != "data" or not leaf[0].tensor.is_floating_point():
        return False
    arrays = low.data.at(value)
    return all(((a == 0) | (a <= -BIG)).all() and (a <= -BIG).any() for a in arrays)


def causal_mask(forbidden: tuple[Any, ...]) -> bool:
    """Whether just the keys after the query are forbidden: last axis keys, the one before it queries."""
    wanted = [np.triu(np.ones(a.shape[-2:], dtype=bool), 1) if a.ndim > 1 else None for a in forbidden]
    return all(w is not None and w.shape[0] == w.shape[1] and bool((a == w).all())
               for a, w in zip(forbidden, wanted, strict=True))  # fmt: skip


def with_mask(low: Lowering, value: Value, mask: Value, causal: bool) -> Value:
    if value.mask is not None:
        value, causal = low.plain(value), False
    return replace(low.use(value, "mask"), mask=(mask, causal))


@rule("mul", "multiply")
def mul(low: Lowering, call: Call) -> Value | Scalar:
    a, b = low.operand(call["self"]), low.operand(call["other"])
    return a * b if isinstance(a, Scalar) and isinstance(b, Scalar) else product(low, a, b)


def product(low: Lowering, a: Value | Scalar | None, b: Value | Scalar | None) -> Value:
    if isinstance(a, Scalar) and isinstance(b, Value):
        a, b = b, a
    if isinstance(a, Value) and isinstance(b, Scalar):
        if a.mask is not None and b.coefficient > 0:
            return replace(low.scale(replace(a, mask=None), b), mask=a.mask)
        return low.scale(a, b)
    if isinstance(a, Value) and isinstance(b, Value):
        return low.mul(a, b)
    return low.refuse("it multiplies two numbers")


def inverted(scalar: Scalar) -> Scalar:
    return Scalar(1 / scalar.coefficient, tuple((d, -p) for d, p in scalar.powers))


@rule("div", "true_divide", "divide")
def div(low: Lowering, call: Call) -> Value:
    if call["rounding_mode"] is not None:
        return divided(low, call)
    a, b = low.operand(call["self"]), low.operand(call["other"])
    if isinstance(b, Scalar):
        return product(low, a, inverted(b))
    assert b is not None
    if low.constant[b.node] and not isinstance(b, Complex):
        arrays = _arrays(low, call["other"])
        if arrays is not None:
            return product(low, a, low.data.real(tuple(1.0 / x for x in arrays), "inverse"))
    return product(low, a, low.reciprocal(b))


def _arrays(low: Lowering, arg: Any) -> tuple[Any, ...] | None:
    leaf = low.zipped.leaf(arg.value) if isinstance(arg, Ref) else None
    return low.data.at(arg.value) if leaf is not None and leaf[0].kind == "data" else None


@rule("reciprocal")
def reciprocal(low: Lowering, call: Call) -> Value:
    return low.reciprocal(low.value(call["self"]))


@rule("addcmul")
def addcmul(low: Lowering, call: Call) -> Value:
    inner = low.scale(
        product(low, low.operand(call["tensor1"]), low.operand(call["tensor2"])), low.number(call["value"])
    )
    return low.add([low.value(call["self"]), inner])


@rule("addcdiv")
def addcdiv(low: Lowering, call: Call) -> Value:
    inner = product(low, low.operand(call["tensor1"]), low.reciprocal(low.value(call["tensor2"])))
    return low.add([low.value(call["self"]), low.scale(inner, low.number(call["value"]))])


@rule("lerp")
def lerp(low: Lowering, call: Call) -> Value:
    start, end = low.value(call["self"]), low.value(call["end"])
    difference = low.add([end, low.scale(start, MINUS)])
    return low.add([start, product(low, difference, low.operand(call["weight"]))])


@rule("maximum", "minimum")
def maximum(low: Lowering, call: Call) -> Value:
    if call.op == "maximum" and any(is_minus_infinity(low.operand(call[k])) for k in ("self", "other")):
        return low.value(call["self" if is_minus_infinity(low.operand(call["other"])) else "other"])
    a, b = low.value(call["self"]), low.value(call["other"])
    if call.op == "minimum":
        a, b = low.scale(a, MINUS), low.scale(b, MINUS)
    result = low.add([b, low.map(low.add([a, low.scale(b, MINUS)]), "relu")])
    return low.scale(result, MINUS) if call.op == "minimum" else result


@rule("glu")
def glu(low: Lowering, call: Call) -> Value:
    value = low.value(call["self"])
    dim = low.axis_of(call["dim"], len(value.dims))
    half = low.out_shape(call)[dim]
    gate = low.window(value, dim, half, half)
    return low.mul(low.window(value, dim, (0,) * low.points, half), low.map(gate, "sigmoid"))


@rule("_softmax", "_safe_softmax", "softmax")
def softmax(low: Lowering, call: Call) -> Value:
    value = low.value(call["self"])
    return low.softmax(value, low.axis_of(call["dim"], len(value.dims)))


@rule("native_dropout", "dropout")
def dropout(low: Lowering, call: Call) -> Any:
    low.refuse("a dropout of its own kind", "nn.Dropout")
