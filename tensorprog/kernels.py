"""What each node kind computes, in NumPy: `kernel` turns a node into a function of its operands' arrays, once.

Kernels never write into their operands and may return views of them. Axis sizes are fixed when the kernel is made.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, assert_never

import numpy as np
import numpy.typing as npt

from tensorprog.arrays import Array
from tensorprog.contraction import expand_plan, one_hot, one_hot_plan, product_plan, reduce_plan
from tensorprog.functions import Function
from tensorprog.graph import (
    Accumulate,
    Add,
    Const,
    Contract,
    Fold,
    Input,
    InvRms,
    Loss,
    LossGrad,
    Map,
    Merge,
    Node,
    Param,
    Scalar,
    Scale,
    Softmax,
    SoftmaxGrad,
    Split,
    StopGrad,
    TopK,
    Update,
    Window,
)
from tensorprog.losses import LOSSES

Kernel = Callable[..., Array]
Shape = tuple[int, ...]

_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "<=": operator.le,
    "<": operator.lt,
    ">=": operator.ge,
    ">": operator.gt,
}


@dataclass(frozen=True, slots=True)
class Context:
    """What a kernel may depend on besides its node: numbers are known, arrays are not.

    `compact`: whether a node's value is kept as integers although its last axis is a one-hot one.
    """

    shape: Callable[[int], Shape]  # of the value of a node, one-hot axes included
    integer: Callable[[Any], int]  # a Dim at the current widths
    scalar: Callable[[Scalar], float]
    function: Callable[[str], Function]
    compact: Callable[[int], bool]
    dtype: npt.DTypeLike


def kernel(node: Node, context: Context) -> Kernel:
    """The function from the operands' values to the node's value. Input, Param and Update have none."""
    shape = context.shape(node.id)
    match node.op:
        case Contract() as op:
            return _contract(op, node, context)
        case Loss("cross_entropy") | LossGrad("cross_entropy"):  # takes integer targets as they are
            return LOSSES["cross_entropy"][isinstance(node.op, LossGrad)]
        case Const(value):
            filled = np.broadcast_to(np.asarray(value, context.dtype), shape)
            return lambda: filled
        case Add(places):
            run = _add(places, shape)
        case Scale(scalar):
            run = _scale(context.scalar(scalar))
        case Map(fn, derivative):
            run = _map(context.function(fn), derivative)
        case InvRms(axes, eps):
            run = _inv_rms(axes, eps)
        case Softmax(axis, mask):
            run = _softmax(axis, None if mask is None else _mask(mask, shape))
        case SoftmaxGrad(axis):
            run = _softmax_grad(axis)
        case TopK(axis, k):
            run = _top_k(axis, k)
        case Split() | Merge():
            run = _reshape(shape)
        case Window() as op:
            run = _window(op, context.integer(op.offset), context.shape(node.args[0]), shape)
        case Fold() as op:
            run = _fold(op, context.integer(op.offset), context.shape(node.args[0]), shape)
        case StopGrad():
            run = _identity
        case Loss(kind):
            run = LOSSES[kind][0]
        case LossGrad(kind):
            run = LOSSES[kind][1]
        case Input() | Param() | Update() | Accumulate():
            raise AssertionError(f"{node.op} is the interpreter's own business, or needs its loop unrolled")
        case _:
            assert_never(node.op)
    return _densely(run, node, context)


def _densely(run: Kernel, node: Node, context: Context) -> Kernel:
    """`run` on operands whose one-hot axes are written out."""
    sizes = [context.shape(a)[-1] if context.compact(a) else 0 for a in node.args]
    if not any(sizes):
        return run
    dtype = context.dtype
    return lambda *xs: run(*(one_hot(x, size, dtype) if size else x for x, size in zip(xs, sizes, strict=True)))


def _contract(op: Contract, node: Node, context: Context) -> Kernel:
    if op.right is None:
        return _densely(reduce_plan(op.left, op.out), node, context)
    a, b = node.args
    sizes: Mapping[int, int] = dict(
        zip(op.left + op.right, context.shape(a) + context.shape(b), strict=True),
    )
    if context.compact(a) and not context.compact(b):
        plan = one_hot_plan(op.left, op.right, op.out, sizes)
        if plan is not None:
            return plan
    if context.compact(b) and not context.compact(a):
        plan = one_hot_plan(op.right, op.left, op.out, sizes)
        if plan is not None:
            lookup = plan
            return lambda x, tokens: lookup(tokens, x)
    return _densely(product_plan(op.left, op.right, op.out, sizes), node, context)


def _add(places: tuple[tuple[int, ...], ...], shape: Shape) -> Kernel:
    spread = [expand_plan(p, range(len(shape))) for p in places]

    def run(*xs: Array) -> Array:
        total = spread[0](xs[0])
        if len(xs) > 1:
            total = np.asarray(total + spread[1](xs[1]))
        for k in range(2, len(xs)):
            term = spread[k](xs[k])
            total = np.asarray(total + term) if total.shape != shape else np.add(total, term, out=total)
        return total if total.shape == shape else np.broadcast_to(total, shape)

    return run


def _scale(value: float) -> Kernel:
    if value == 1.0:
        return _identity
    return lambda x: np.asarray(x * value, dtype=x.dtype)


def _identity(x: Array) -> Array:
    return x


def _map(function: Function, derivative: int) -> Kernel:
    if derivative > 1:
        raise ValueError(f"the second derivative of {function.name} is not available")
    f = function.numpy[derivative]
    return lambda x: np.asarray(f(x), dtype=x.dtype)


def _inv_rms(axes: tuple[int, ...], eps: float) -> Kernel:
    def run(x: Array) -> Array:
        mean = np.asarray(np.square(x).mean(axis=axes))
        return np.asarray(1.0 / np.sqrt(mean + eps), dtype=x.dtype)

    return run


def _mask(mask: tuple[int, str, int], shape: Shape) -> Array:
    key_axis, op, query_axis = mask
    key, query = (
        np.arange(shape[axis]).reshape([-1 if k == axis else 1 for k in range(len(shape))])
        for axis in (key_axis, query_axis)
    )
    return np.asarray(_COMPARE[op](key, query))


def _softmax(axis: int, allowed: Array | None) -> Kernel:
    """A row with nothing allowed is all zeros."""

    def run(x: Array) -> Array:
        if allowed is None:
            y = x - x.max(axis=axis, keepdims=True)
        else:
            y = np.where(allowed, x, -np.inf).astype(x.dtype, copy=False)
            top = y.max(axis=axis, keepdims=True)
            y -= np.where(np.isneginf(top), 0, top).astype(x.dtype, copy=False)
        np.exp(y, out=y)
        total = y.sum(axis=axis, keepdims=True)
        if allowed is not None:
            total[total == 0] = 1
        y /= total
        return np.asarray(y)

    return run


def _softmax_grad(axis: int) -> Kernel:
    def run(y: Array, dy: Array) -> Array:
        result = y * dy
        result -= y * result.sum(axis=axis, keepdims=True)
        return np.asarray(result)

    return run


def _top_k(axis: int, k: int) -> Kernel:
    def run(x: Array) -> Array:
        chosen = np.argsort(-x, axis=axis, kind="stable").take(range(min(k, x.shape[axis])), axis=axis)
        mask = np.zeros_like(x)
        np.put_along_axis(mask, chosen, 1, axis=axis)
        return mask

    return run


def _reshape(shape: Shape) -> Kernel:
    return lambda x: x.reshape(shape)


def _window(op: Window, offset: int, before: Shape, after: Shape) -> Kernel:
    """A strided view of x, extended by zeros where the window looks outside."""
    axis, size = op.axis, before[op.axis]
    positions = after[axis]
    taps = after[axis + 1] if op.taps else 1
    ends = [offset + op.stride * u + op.dilation * a for u in (0, positions - 1) for a in (0, taps - 1)]
    low, high = min(ends), max(ends)  # the stretch of x that is looked at, both ends included
    first, last = max(low, 0), min(high, size - 1)

    def run(x: Array) -> Array:
        if first > last:
            return np.zeros(after, x.dtype)
        x = x[(slice(None),) * axis + (slice(first, last + 1),)]
        if first > low or last < high:
            border = [(0, 0)] * x.ndim
            border[axis] = (first - low, high - last)
            x = np.pad(x, border)
        step = x.strides[axis]
        inner = (op.stride * step, op.dilation * step) if op.taps else (op.stride * step,)
        strides = (*x.strides[:axis], *inner, *x.strides[axis + 1 :])
        start = x[(slice(None),) * axis + (slice(offset - low, None),)]
        return np.lib.stride_tricks.as_strided(start, after, strides, writeable=False)

    return run


def _fold(op: Fold, offset: int, before: Shape, after: Shape) -> Kernel:
    """The adjoint of _window: one strided addition per tap (or per position, if there are fewer of those)."""
    axis, size = op.axis, after[op.axis]
    steps = [(before[axis], op.stride)] + ([(before[axis + 1], op.dilation)] if op.taps else [])
    loop = min(range(len(steps)), key=lambda k: (steps[1 - k][1] == 0 if op.taps else False, steps[k][0]))
    if op.taps:
        (count, jump), (inner, step) = steps[loop], steps[1 - loop]
    else:
        (count, jump), (inner, step) = (1, 0), steps[0]

    def run(y: Array) -> Array:
        x = np.zeros(after, y.dtype)
        for k in range(count):
            start = offset + jump * k
            valid = [u for u in range(inner) if 0 <= start + step * u < size]
            if not valid:
                continue
            part = y.take(k, axis=axis + loop) if op.taps else y
            span = part[(slice(None),) * axis + (slice(valid[0], valid[-1] + 1),)]
            here = start + step * valid[0]
            if step == 0:
                x[(slice(None),) * axis + (here,)] += span.sum(axis=axis)
                continue
            end = start + step * valid[-1] + (1 if step > 0 else -1)
            x[(slice(None),) * axis + (slice(here, end if end >= 0 else None, step),)] += span
        return x

    return run
