"""Rules of pools, patches and resizing: what is done along positions."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from tensorprog.graph import Map, Scalar
from tensorprog.torch.lower.joins import low_index
from tensorprog.torch.lower.reductions import largest
from tensorprog.torch.lower.registry import rule
from tensorprog.torch.lower.values import Atom, Value, divide, is_one
from tensorprog.torch.zipped import Varying

if TYPE_CHECKING:
    from tensorprog.torch.lower import Lowering
    from tensorprog.torch.zipped import Call


@rule("_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "adaptive_avg_pool1d", "mkldnn_adaptive_avg_pool2d",
      "adaptive_max_pool2d", "adaptive_max_pool3d", "adaptive_max_pool1d")  # fmt: skip
def adaptive_pool(low: Lowering, call: Call) -> Any:
    mean = "avg" in call.op
    value, out = low.value(call["self"]), low.out_shape(call)
    shape = low.shape(call["self"])
    rank = len(shape)
    spatial = range(2 if rank > 3 else rank - 2, rank) if rank != 3 else range(1, rank)
    for dim in spatial:
        if is_one(out[dim]):
            value = low.sum(value, (dim,), True, mean=True) if mean else largest(low, value, [dim], True)
        elif all(size % target == 0 for size, target in zip(shape[dim], out[dim], strict=True)):
            size, target = low.constant_int(shape[dim][0]), low.constant_int(out[dim][0])
            value = low.taps(value, dim, size // target, out[dim], size // target, 1, 0)
            last = len(value.dims) - 1
            value = low.sum(value, (last,), False, mean=True) if mean else largest(low, value, [last], False)
        elif mean:
            value = _mapped(low, value, dim, out, _averaged)
        else:
            low.refuse("the largest of windows that differ in size", "a size that divides")
    return value if mean else (value, None)


def _averaged(rows: Any, size: int, point: int) -> Any:
    import torch

    return torch.nn.functional.adaptive_avg_pool1d(rows, size)


def _mapped(low: Lowering, value: Value, dim: int, out: Any, function: Callable[[Any, int, int], Any]) -> Value:
    """A linear map along one axis, found by applying it to unit vectors: `function` of (rows [size, 1, size], their
    new length, the point) gives [size, 1, new length]."""
    import torch

    value = low.plain(value)
    sizes = value.sizes(dim, low.points)
    matrices = [function(torch.eye(size, dtype=torch.float64)[:, None], out[dim][k], k).reshape(size, -1).numpy()
                for k, size in enumerate(sizes)]  # fmt: skip
    matrix = low.data.real(tuple(matrices), "resize")
    labels = [f"x{j}" for j in range(len(value.dims))]
    return low.contract(value, labels, matrix, [labels[dim], "new"], [*labels[:dim], "new", *labels[dim + 1 :]])


@rule("avg_pool2d", "avg_pool1d", "avg_pool3d")
def avg_pool(low: Lowering, call: Call) -> Value:
    """The mean over whole windows, zero outside, times (entries of the window / entries that are counted)."""
    kernel, stride, padding, _ = _geometry(low, call)
    value = _windows(low, call, low.plain(low.value(call["self"])), padding)
    count = len(kernel)
    first = len(value.dims) - 2 * count
    value = low.sum(value, tuple(range(first + count, first + 2 * count)), False, mean=True)
    if call["divisor_override"] is not None:
        return low.scale(value, Scalar(Fraction(math.prod(kernel), low.constant_int(call["divisor_override"]))))
    shape, out = low.shape(call["self"]), low.out_shape(call)
    for k in range(count):
        outside = 0 if call["count_include_pad"] is False else padding[k]
        shares = []
        for size, places in zip(shape[first + k], out[first + k], strict=True):
            start = np.arange(places) * stride[k] - padding[k]
            counted = np.minimum(start + kernel[k], size + outside) - np.maximum(start, -outside)
            shares.append((kernel[k] / counted).reshape(-1, *(1,) * (count - k - 1)))
        if any((share != 1).any() for share in shares):
            value = low.mul(value, low.data.real(tuple(shares), "share"))
    return value


@rule("max_pool2d_with_indices", "max_pool3d_with_indices", "max_pool2d")
def max_pool(low: Lowering, call: Call) -> tuple[Value, None]:
    """What lies outside never is the largest: behind a relu it may read as zero, else as the entry at the edge, which
    is in the window too."""
    value = low.plain(low.value(call["self"]))
    kernel, stride, padding, dilation = _geometry(low, call)
    op, first = low.nodes[value.node].op, len(low.shape(call["self"])) - len(kernel)
    if not (isinstance(op, Map) and op.fn == "relu"):
        for k, size in enumerate(kernel):
            places, along = [], first + k
            for entries, windows in zip(low.shape(call["self"])[along], low.out_shape(call)[along], strict=True):
                reached = np.arange(stride[k] * (windows - 1) + dilation[k] * (size - 1) + 1) - padding[k]
                places.append(np.clip(reached, 0, entries - 1))
            outside = any((np.diff(p) == 0).any() for p in places)
            if outside and dilation[k] > 1:
                low.refuse("a maximum over a dilated window that reaches over the edge", "a relu before it")
            if outside:
                value = low_index(low, value, along, tuple(places))
                padding[k] = 0
    value = _windows(low, call, value, padding)
    taps = list(range(len(value.dims) - len(kernel), len(value.dims)))
    return largest(low, value, taps, False), None


def _windows(low: Lowering, call: Call, value: Value, padding: list[int]) -> Value:
    """The windows of a pool: the taps become the last axes."""
    kernel, stride, _, dilation = _geometry(low, call)
    first, out = len(value.dims) - len(kernel), low.out_shape(call)
    for k in range(len(kernel)):
        value = low.taps(value, first + k, kernel[k], out[first + k], stride[k], dilation[k], -padding[k])
    return value


def _geometry(low: Lowering, call: Call) -> list[list[int]]:
    """A pool's kernel, stride, padding and dilation along every spatial axis."""
    kernel = [low.constant_int(k) for k in call["kernel_size"]]
    given = [call[n] or default for n, default in (("stride", kernel), ("padding", [0]), ("dilation", [1]))]
    rest = ([low.constant_int(g[k % len(g)]) for k in range(len(kernel))] for g in given)
    return [kernel, *rest]


@rule("upsample_nearest2d", "upsample_nearest1d", "upsample_nearest3d", "_upsample_nearest_exact1d",
      "_upsample_nearest_exact2d", "upsample_bilinear2d", "upsample_bicubic2d", "upsample_linear1d",
      "upsample_trilinear3d", "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa")  # fmt: skip
def upsample(low: Lowering, call: Call) -> Value:
    """A linear map along every spatial axis. Where all entries are repeated alike, an axis is added."""
    value, out, shape = low.plain(low.value(call["self"])), low.out_shape(call), low.shape(call["self"])
    names = ("scales_d", "scales_h", "scales_w")[5 - len(shape) :] if len(shape) > 3 else ("scales",)
    for dim, name in enumerate(names, start=2):
        factor = divide(out[dim], shape[dim]) if "nearest" in call.op else None
        if factor is None:
            value = _mapped(low, value, dim, out, _resize(call, name))
        elif not is_one(factor):
            dims = list(value.dims)
            dims[dim] = (*dims[dim], Atom(factor, None))
            value = value.with_dims(tuple(dims))
    return value


def _resize(call: Call, name: str) -> Callable[[Any, int, int], Any]:
    """The operation itself along one axis: `name` of its scale, the others of size 1."""
    import torch

    def resized(rows: Any, size: int, point: int) -> Any:
        scale, others = call[name], len(call["output_size"]) - 1
        scale = scale.values[point] if isinstance(scale, Varying) else scale
        corners = () if call["align_corners"] is None else (bool(call["align_corners"]),)
        operation = getattr(torch.ops.aten, call.op).default
        return operation(rows.reshape(len(rows), *(1,) * (others + 1), -1), [*(1,) * others, size], *corners,
                         *(None,) * others, scale)  # fmt: skip

    return resized


@rule("im2col")
def patches(low: Lowering, call: Call) -> Value:
    """F.unfold: (b, c, h, w) to (b, (c taps), positions)."""
    value, out = low.plain(low.value(call["self"])), low.out_shape(call)
    single = len(low.shape(call["self"])) == 3
    value = value.with_dims(((), *value.dims)) if single else value
    kernel, dilation, padding, stride = (
        [low.constant_int(k) for k in call[name]] for name in ("kernel_size", "dilation", "padding", "stride")
    )
    for k in (0, 1):
        size = low.constant_int(value.sizes(2 + k, low.points)[0])
        count = (size + 2 * padding[k] - dilation[k] * (kernel[k] - 1) - 1) // stride[k] + 1
        value = low.taps(value, 2 + k, kernel[k], (count,) * low.points, stride[k], dilation[k], -padding[k])
    b, c, rows, columns, tall, wide = value.dims
    merged = value.with_dims((b, c + tall + wide, rows + columns))
    return low.view(merged.with_dims(merged.dims[1:]) if single else merged, list(out))


@rule("col2im")
def pasted(low: Lowering, call: Call) -> Value:
    """F.fold, the adjoint of `patches`: (b, (c taps), positions) to (b, c, h, w), what overlaps added."""
    value, out = low.plain(low.value(call["self"])), low.out_shape(call)
    single = len(out) == 3
    value, (b, c, *sides) = (value.with_dims(((), *value.dims)), ((1,) * low.points, *out)) if single else (value, out)
    kernel, dilation, padding, stride = (
        [low.constant_int(k) for k in call[name]] for name in ("kernel_size", "dilation", "padding", "stride")
    )
    counts = [(low.constant_int(sides[k][0]) + 2 * padding[k] - dilation[k] * (kernel[k] - 1) - 1) // stride[k] + 1
              for k in (0, 1)]  # fmt: skip
    value = low.view(value, [b, c, *((k,) * low.points for k in (*kernel, *counts))])
    value = value.with_dims(tuple(value.dims[k] for k in (0, 1, 4, 5, 2, 3)))
    for k in (1, 0):
        value = low.untap(value, 2 + k, sides[k], stride[k], dilation[k], -padding[k])
    return value.with_dims(value.dims[1:]) if single else value
