"""Rules of comparisons, signs and choices between two tensors."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from tensorprog.graph import Map, Scalar
from tensorprog.torch.lower.data import BIG, MASKED
from tensorprog.torch.lower.elementwise import MINUS, causal_mask, product, with_mask
from tensorprog.torch.lower.nodes import scalar_of
from tensorprog.torch.lower.reductions import largest
from tensorprog.torch.lower.registry import rule
from tensorprog.torch.lower.values import Value
from tensorprog.torch.trace import Ref

if TYPE_CHECKING:
    from tensorprog.torch.lower import Lowering
    from tensorprog.torch.zipped import Call


def slope(low: Lowering, value: Value, fn: str) -> Value:
    """The slope of a piecewise linear function, through which no gradient passes: a step of relu, a sign of abs."""
    value = low.use(low.plain(value), fn)
    return low.stop_gradient(replace(value, node=low.emit(Map(fn, 1), (value.node,), low.axes(value))))


@rule("gt", "ge", "lt", "le", "greater", "less")
def compared(low: Lowering, call: Call) -> Value:
    """1 where the first is larger, else 0; where it is smaller, for lt and le, or not smaller (larger): 1 less that."""
    a, b = (low.value(call[k]) for k in ("self", "other"))
    if call.op in ("lt", "less", "ge"):
        a, b = b, a
    larger = slope(low, low.add([a, low.scale(b, MINUS)]), "relu")
    return low.shift(low.scale(larger, MINUS), Scalar()) if call.op in ("ge", "le") else larger


@rule("sign", "sgn")
def sign(low: Lowering, call: Call) -> Value:
    return slope(low, low.value(call["self"]), "abs")


@rule("hardshrink")
def hardshrink(low: Lowering, call: Call) -> Value:
    """x where |x| is larger than a number, else 0."""
    value, least = low.value(call["self"]), MINUS * low.number(call["lambd"])
    sides = [slope(low, low.shift(v, least), "relu") for v in (value, low.scale(value, MINUS))]
    return low.mul(value, low.add(sides))


@rule("threshold")
def threshold(low: Lowering, call: Call) -> Value:
    """x where it is larger than a number, else another number."""
    value, other = low.value(call["self"]), low.number(call["value"])
    hit = slope(low, low.shift(value, MINUS * low.number(call["threshold"])), "relu")
    kept = low.mul(value, hit)
    if not other.coefficient:
        return kept
    return low.add([kept, low.scale(low.shift(low.scale(hit, MINUS), Scalar()), other)])


@rule("logical_not", "bitwise_not")
def negated(low: Lowering, call: Call) -> Value | None:
    value = _condition(low, call["self"])
    return None if value is None else low.shift(low.scale(value, MINUS), Scalar())


@rule("logical_and", "bitwise_and", "logical_or", "bitwise_or")
def both(low: Lowering, call: Call) -> Value | None:
    a, b = (_condition(low, call[k]) for k in ("self", "other"))
    if a is None or b is None:
        return None
    together = low.mul(a, b)
    return together if call.op.endswith("and") else low.add([a, b, low.scale(together, MINUS)])


def _condition(low: Lowering, arg: Any) -> Value | None:
    """A yes or no as 1 or 0; None for one that has no value."""
    known = isinstance(arg, Ref) and (arg.value in low.values or low.zipped.leaf(arg.value) is not None)
    return low.value(arg) if known else None


@rule("masked_fill", "where")
def where(low: Lowering, call: Call) -> Value:
    """A mask before a softmax, or both sides times zeros and ones, which are data or depend on activations."""
    if call.op == "where":
        condition, yes, no = call["condition"], call["self"], call["other"]
    else:
        condition, yes, no = call["mask"], call["value"], call["self"]
    fixed = isinstance(condition, Ref) and low.zipped.leaf(condition.value) is not None
    arrays = low.data.at(condition.value) if fixed else ()
    for live, fill, chosen in ((no, yes, True), (yes, no, False)):
        number = low.operand(fill)
        if isinstance(number, Scalar) and number.coefficient <= -BIG:
            value = low.value(live)
            if not fixed:
                hit = low.value(condition)
                hit = hit if chosen else low.shift(low.scale(hit, MINUS), Scalar())
                return with_mask(low, value, low.scale(hit, scalar_of(MASKED)), False)
            masked = arrays if chosen else tuple(~a.astype(bool) for a in arrays)
            if not any(a.any() for a in masked):
                return value
            filled = tuple(np.where(a, MASKED, 0.0) for a in masked)
            return with_mask(low, value, low.data.real(filled, "mask"), causal_mask(masked))
    if not fixed:
        hit = low.value(condition)
        return _sum(low, [(hit, yes), (low.shift(low.scale(hit, MINUS), Scalar()), no)])
    others = tuple(~a.astype(bool) for a in arrays)
    if all(a.all() for a in arrays):
        return low.value(yes)
    if not any(a.any() for a in arrays):
        return low.value(no)
    return _sum(low, [(low.data.real(tuple(a.astype(float) for a in side), "mask"), part)
                      for side, part in ((arrays, yes), (others, no))])  # fmt: skip


def _sum(low: Lowering, sides: list[tuple[Value, Any]]) -> Value:
    """Each side times where it is taken, added."""
    parts = []
    for chosen, part in sides:
        operand = low.operand(part)
        if not isinstance(operand, Scalar) or operand.coefficient != Fraction(0):
            parts.append(product(low, chosen, operand))
    return parts[0] if len(parts) == 1 else low.add(parts)


@rule("any", "all")
def some(low: Lowering, call: Call) -> Value | None:
    """Whether one of the entries, or each, is 1: the largest, or the smallest; none where they have no value."""
    value = _condition(low, call["self"])
    if value is None or call["dim"] is None or low.zipped.first.dtypes[call["self"].value] != "bool":
        return None
    dims = call["dim"] if isinstance(call["dim"], list) else [call["dim"]]
    at = [low.axis_of(k, len(value.dims)) for k in dims]
    sign = Scalar() if call.op == "any" else MINUS
    return low.scale(largest(low, low.scale(value, sign), at, bool(call["keepdim"])), sign)


@rule("isnan", "isinf", "_local_scalar_dense", "is_nonzero", "equal", "isfinite",
      "_assert_async", "_assert_scalar", "round", "floor", "ceil", "_is_all_true")  # fmt: skip
def decision(low: Lowering, call: Call) -> Any:
    """Nothing differentiable; an error only if something covered reads it."""
    return (None,) * len(call.outputs)


@rule("nonzero", "_unique2", "unique_dim", "unique_consecutive", "bincount")
def counted(low: Lowering, call: Call) -> Any:
    """As long as the data happen to be."""
    low.refuse("the size of its result depends on the data", "every expert on all tokens, times its weight, which is 0 "
               "where it is not chosen")  # fmt: skip
