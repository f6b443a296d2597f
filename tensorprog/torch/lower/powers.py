"""Rules of powers, exponentials and logarithms."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

from tensorprog.graph import Map, Scalar, Scale, Softmax
from tensorprog.torch.lower.elementwise import MINUS
from tensorprog.torch.lower.losses import log_sum, reduced
from tensorprog.torch.lower.nodes import scalar_of
from tensorprog.torch.lower.registry import rule
from tensorprog.torch.lower.roots import root
from tensorprog.torch.lower.values import Value
from tensorprog.torch.trace import Ref

if TYPE_CHECKING:
    from tensorprog.torch.lower import Lowering
    from tensorprog.torch.zipped import Call

MOST = 8  # the largest power


@rule("pow")
def pow_(low: Lowering, call: Call) -> Value:
    power = low.operand(call["exponent"])
    if not isinstance(call["self"], Ref):  # a number to the power of a tensor
        base = low.number(call["self"])
        if base.powers or base.coefficient <= 0:
            low.refuse("a power of a number that is not positive, or depends on a size", "a fixed positive number")
        return exponential(low, low.value(call["exponent"]), base.coefficient)
    value = low.value(call["self"])
    if isinstance(power, Value):
        return low.map(low.mul(logarithm(low, value), power), "exp")
    assert power is not None
    exponent = power.coefficient
    if power.powers or abs(exponent) > MOST:
        low.refuse(f"the power {exponent}" if not power.powers else "a power that depends on a size", f"up to {MOST}")
    if exponent == Fraction(1, 2) or exponent == Fraction(-1, 2):
        return root(low, value, inverse=exponent < 0)
    if exponent.denominator != 1:
        return low.map(low.scale(logarithm(low, value), Scalar(exponent)), "exp")
    if exponent <= 0:
        return low.reciprocal(_whole(low, value, -int(exponent))) if exponent else low.constant_of(Scalar())
    return _whole(low, value, int(exponent))


def _whole(low: Lowering, value: Value, exponent: int) -> Value:
    names = {2: "square", 3: "cube"}
    if exponent in names:
        return low.map(value, names[exponent])
    result = value
    for _ in range(exponent - 1):
        result = low.mul(result, value)
    return result


@rule("log", "log2", "log10", "log1p", "logit")
def log(low: Lowering, call: Call) -> Value:
    value = low.value(call["self"])
    if call.op == "logit":  # of a probability
        rest = low.shift(low.scale(value, MINUS), Scalar())
        return low.add([logarithm(low, value), low.scale(logarithm(low, rest), MINUS)])
    result = logarithm(low, low.shift(value, Scalar()) if call.op == "log1p" else value)
    base = {"log2": 2.0, "log10": 10.0}.get(call.op)
    return result if base is None else low.scale(result, scalar_of(1 / math.log(base)))


def logarithm(low: Lowering, value: Value) -> Value:
    """Of what an exponential, a sigmoid or a softmax made, or is a product of such: without one; else of a number that
    is taken to be positive and of order 1."""
    value = low.plain(value)
    at = low.nodes[value.node]
    below = replace(value, node=at.args[0]) if at.args else value
    match at.op:
        case Map("exp", 0):
            return below
        case Map("sigmoid", 0):
            return low.scale(low.map(low.scale(below, MINUS), "softplus"), MINUS)
        case Softmax(axis, None):
            dim = next(k for k, g in enumerate(value.dims) if any(a.axis == axis for a in g))
            return low.add([below, low.scale(log_sum(low, below, dim), MINUS)])
        case Scale(scalar) if not scalar.unknowns and not scalar.powers and scalar.coefficient > 0:
            return low.add([logarithm(low, below), low.constant_of(scalar_of(math.log(scalar.coefficient)))])
        case _:
            return low.map(value, "log")


def exponential(low: Lowering, value: Value, base: Fraction) -> Value:
    """base^value."""
    return low.map(low.scale(value, scalar_of(math.log(base))), "exp")


@rule("exp2")
def exp2(low: Lowering, call: Call) -> Value:
    return exponential(low, low.value(call["self"]), Fraction(2))


@rule("binary_cross_entropy")
def binary_cross_entropy(low: Lowering, call: Call) -> Value:
    """-(t log p + (1 - t) log(1 - p))."""
    p, target = low.value(call["self"]), low.value(call["target"])
    if call["weight"] is not None:
        low.refuse("a weighted binary cross entropy of probabilities", "F.binary_cross_entropy_with_logits")
    other, rest = (low.shift(low.scale(v, MINUS), Scalar()) for v in (target, p))
    terms = low.add([low.mul(target, logarithm(low, p)), low.mul(other, logarithm(low, rest))])
    return reduced(low, call, low.scale(terms, MINUS))
