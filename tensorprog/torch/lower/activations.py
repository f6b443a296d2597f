"""Rules of nonlinearities, entry by entry."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from tensorprog.graph import Map, Scalar
from tensorprog.torch.lower.complexes import exponential, magnitude
from tensorprog.torch.lower.elementwise import MINUS, inverted, is_minus_infinity, product
from tensorprog.torch.lower.registry import rule
from tensorprog.torch.lower.values import Complex, Value

if TYPE_CHECKING:
    from tensorprog.torch.lower import Lowering
    from tensorprog.torch.zipped import Call

SAME = {
    "relu": "relu", "tanh": "tanh", "sigmoid": "sigmoid", "exp": "exp", "erf": "erf", "sin": "sin", "cos": "cos",
    "silu": "silu", "mish": "mish", "abs": "abs", "square": "square", "selu": "selu",
}  # fmt: skip


@rule(*SAME)
def function(low: Lowering, call: Call) -> Value | Scalar:
    if call.op == "exp" and is_minus_infinity(low.operand(call["self"])):
        return Scalar(Fraction(0))
    value = low.value(call["self"])
    if isinstance(value, Complex):
        return magnitude(low, value) if call.op == "abs" else exponential(low, value)
    return low.map(value, SAME[call.op])


@rule("expm1")
def expm1(low: Lowering, call: Call) -> Value:
    return low.shift(low.map(low.value(call["self"]), "exp"), MINUS)


@rule("gelu")
def gelu(low: Lowering, call: Call) -> Value:
    return low.map(low.value(call["self"]), "gelu_tanh" if call["approximate"] == "tanh" else "gelu")


@rule("elu", "celu")
def elu(low: Lowering, call: Call) -> Value:
    """scale (relu(x) + alpha (exp(-relu(-c x)) - 1)), where c is 1 / alpha for celu."""
    value, alpha = low.value(call["self"]), low.number(call["alpha"])
    inner = inverted(alpha) if call.op == "celu" else low.number(call["input_scale"])
    outer = Scalar() if call.op == "celu" else low.number(call["scale"])
    if alpha == inner == outer == Scalar():
        return low.map(value, "elu")
    below = low.map(low.scale(low.map(low.scale(value, MINUS * inner), "relu"), MINUS), "exp")
    return low.scale(low.add([low.map(value, "relu"), low.scale(low.shift(below, MINUS), alpha)]), outer)


@rule("_prelu_kernel")
def prelu(low: Lowering, call: Call) -> Value:
    value, slope = low.value(call["self"]), low.operand(call["weight"])
    below = low.scale(low.map(low.scale(value, MINUS), "relu"), MINUS)
    return low.add([low.map(value, "relu"), product(low, below, slope)])


@rule("softshrink")
def softshrink(low: Lowering, call: Call) -> Value:
    value, least = low.value(call["self"]), MINUS * low.number(call["lambd"])
    up, down = (low.map(low.shift(v, least), "relu") for v in (value, low.scale(value, MINUS)))
    return low.add([up, low.scale(down, MINUS)])


@rule("softplus")
def softplus(low: Lowering, call: Call) -> Value:
    beta = low.number(call["beta"])
    if beta == Scalar():
        return low.map(low.value(call["self"]), "softplus")
    inverse = Scalar(1 / beta.coefficient, tuple((d, -p) for d, p in beta.powers))
    return low.scale(low.map(low.scale(low.value(call["self"]), beta), "softplus"), inverse)


@rule("log_sigmoid_forward", "log_sigmoid")
def log_sigmoid(low: Lowering, call: Call) -> Any:
    value = low.scale(low.map(low.scale(low.value(call["self"]), MINUS), "softplus"), MINUS)
    return (value, None) if call.op == "log_sigmoid_forward" else value


@rule("leaky_relu")
def leaky_relu(low: Lowering, call: Call) -> Value:
    value, slope = low.value(call["self"]), low.number(call["negative_slope"]).coefficient
    if slope == Fraction(1, 100):
        return low.map(value, "leaky_relu")
    return low.add([low.scale(value, Scalar(slope)), low.scale(low.map(value, "relu"), Scalar(1 - slope))])


INFINITE = 10**20  # a bound from here on is none


def clipped(low: Lowering, value: Value, least: Fraction | None, most: Fraction | None) -> Value:
    """min(max(value, least), most), from relu."""
    if least == 0 and most is None:
        return low.map(value, "relu")
    if least == -1 and most == 1:
        return low.map(value, "hardtanh")
    if least is not None:
        value = low.shift(low.map(low.shift(value, Scalar(-least)), "relu"), Scalar(least))
    if most is not None:
        down = low.map(low.add([low.constant_of(Scalar(most)), low.scale(value, MINUS)]), "relu")
        value = low.add([low.constant_of(Scalar(most)), low.scale(down, MINUS)])
    return value


def _bound(low: Lowering, arg: Any) -> Fraction | None:
    """A number, also one that fills a tensor."""
    found = low.operand(arg)
    if isinstance(found, Value):
        low.refuse("it clamps by a tensor", "a number")
    return None if found is None else found.coefficient


@rule("hardtanh", "clamp", "clip", "clamp_min", "clamp_max", "relu6")
def clamp(low: Lowering, call: Call) -> Value:
    value = low.value(call["self"])
    least, most = (call[k] if call[k] is not None else call[o] for k, o in (("min", "min_val"), ("max", "max_val")))
    low_, high = (_bound(low, b) for b in (least, most))
    low_, high = (None if b is None or abs(b) >= INFINITE else b for b in (low_, high))
    if value.node in low.inverse and high is None and low_ is not None and 0 <= low_ < Fraction(1, 1000):
        low.notes.append("a norm that is kept from zero by a small number is taken as it is")
        return value
    if high is not None and abs(high) >= 10**4 and low_ is not None and abs(low_) >= 10**4:
        return value  # a guard against infinities
    return clipped(low, value, low_, high)


@rule("hardswish", "hardsigmoid")
def hardswish(low: Lowering, call: Call) -> Value:
    value = low.value(call["self"])
    gate = clipped(low, low.shift(value, Scalar(Fraction(3))), Fraction(0), None)
    top = low.map(low.shift(value, Scalar(Fraction(-3))), "relu")
    gate = low.scale(low.add([gate, low.scale(top, MINUS)]), Scalar(Fraction(1, 6)))
    return gate if call.op == "hardsigmoid" else low.mul(value, gate)


# --- gradients inside of the model, such as those of a physics-informed loss ------------------------------


@rule("tanh_backward", "sigmoid_backward")
def backward_from_result(low: Lowering, call: Call) -> Value:
    """The slope from the result: 1 - y^2, y (1 - y)."""
    result = low.value(call["output"])
    minus = low.scale(low.map(result, "square"), MINUS)
    rest = low.shift(minus, Scalar()) if call.op == "tanh_backward" else low.add([result, minus])
    return low.mul(low.value(call["grad_output"]), rest)


@rule("silu_backward", "gelu_backward", "threshold_backward", "softplus_backward")
def backward_from_argument(low: Lowering, call: Call) -> Value:
    """The slope of a function of one argument."""
    value = low.plain(low.value(call["self"]))
    fn = call.op.removesuffix("_backward").replace("threshold", "relu")
    given = {"beta": call["beta"], "threshold": call["threshold"] if fn == "relu" else None}
    if any(x is not None and x != usual for x, usual in zip(given.values(), (1, 0), strict=True)):
        low.refuse("the gradient of a function with numbers of its own", "the function without them")
    fn = "gelu_tanh" if call["approximate"] == "tanh" else fn
    found = low.use(value, fn)
    slope = replace(found, node=low.emit(Map(fn, 1), (found.node,), low.axes(found)))
    return low.mul(low.value(call["grad_output"]), low.stop_gradient(slope) if fn == "relu" else slope)


@rule("leaky_relu_backward")
def backward_of_leaky_relu(low: Lowering, call: Call) -> Value:
    """s g below zero, g above: s g + (1 - s) g relu'."""
    slope, g = low.number(call["negative_slope"]).coefficient, low.value(call["grad_output"])
    return low.add([low.scale(g, Scalar(slope)), low.scale(_where_positive(low, call["self"], g), Scalar(1 - slope))])


@rule("hardtanh_backward")
def backward_of_hardtanh(low: Lowering, call: Call) -> Value:
    """g between the bounds: relu' behind the lower one, less relu' behind the upper one."""
    value, g = low.value(call["self"]), low.value(call["grad_output"])
    above, beyond = (
        _where_positive(low, low.shift(value, MINUS * low.number(call[k])), g) for k in ("min_val", "max_val")
    )
    return low.add([above, low.scale(beyond, MINUS)])


@rule("elu_backward")
def backward_of_elu(low: Lowering, call: Call) -> Value:
    """scale g (relu'(x) + alpha c exp(-relu(-c x)) (1 - relu'(x)))."""
    if call["is_result"]:
        low.refuse("the gradient of an `elu` in place", "`inplace=False`")
    g, value = low.value(call["grad_output"]), low.value(call["self_or_result"])
    alpha, outer, inner = (low.number(call[k]) for k in ("alpha", "scale", "input_scale"))
    upper = _where_positive(low, value, g)
    below = low.map(low.scale(low.map(low.scale(value, MINUS * inner), "relu"), MINUS), "exp")
    lower = low.scale(low.mul(low.add([g, low.scale(upper, MINUS)]), below), alpha * inner)
    return low.scale(low.add([upper, lower]), outer)


def _where_positive(low: Lowering, arg: Any, g: Value) -> Value:
    """g where a value is positive, else 0."""
    found = low.use(low.plain(arg if isinstance(arg, Value) else low.value(arg)), "relu")
    slope = replace(found, node=low.emit(Map("relu", 1), (found.node,), low.axes(found)))
    return low.mul(g, low.stop_gradient(slope))


@rule("_softmax_backward_data", "_log_softmax_backward_data")
def backward_of_softmax(low: Lowering, call: Call) -> Value:
    """y (g - sum of y g), or g - y (sum of g) behind the logarithm, with y the softmax."""
    g = low.value(call["grad_output"])
    dim = low.axis_of(call["dim"], len(g.dims))
    if call.op == "_softmax_backward_data":
        y = low.value(call["output"])
        g = low.mul(y, g)
    else:
        y = low.softmax(*low.logits[call["output"].value])
    return low.add([g, low.scale(low.mul(y, low.sum(g, (dim,), True)), MINUS)])
