"""Where a run starts from: parameters as their initialisers say, and data, each from a random stream of its own."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from functools import cache

import numpy as np
import numpy.typing as npt

from tensorprog.arrays import Array
from tensorprog.dims import BATCH_SYMBOL, Dim
from tensorprog.errors import TensorProgError
from tensorprog.graph import Axis, Graph, Input, Loss
from tensorprog.parameters import Parameter
from tensorprog.parametrization import ParamExponents

_LEVELS = 1 << 16  # values that a normal weight may have
_BLOCK = 1 << 16  # entries drawn at a time


def stream(seed: int, name: str) -> np.random.Generator:
    """A generator that depends on the seed and the name only, not on what else is drawn, or in which order."""
    return np.random.default_rng(np.random.SeedSequence([seed, zlib.crc32(name.encode())]))


def whole(dim: Dim, sizes: Mapping[str, int]) -> int:
    """A size as an integer. Raises TensorProgError if it is none at these widths."""
    value = dim.evaluate(sizes)
    if value.denominator != 1:
        at = ", ".join(f"{s} = {sizes[s]}" for s in sorted(dim.symbols))
        raise TensorProgError(f"the size {dim} is {value} at {at}", fix="widths at which every size is a whole number",
                              why="tensors have whole sizes")  # fmt: skip
    return value.numerator


def shape_of(axes: tuple[Axis, ...], sizes: Mapping[str, int]) -> tuple[int, ...]:
    """The shape of a tensor with these axes."""
    return tuple(whole(a.dim, sizes) for a in axes)


def init_parameter(
    parameter: Parameter,
    exponents: ParamExponents,
    widths: Mapping[str, int],
    base: Mapping[str, int],
    seed: int,
    dtype: npt.DTypeLike,
) -> Array:
    """The raw w at step 0: (spread or value at the base widths) * (widths / base)^init_std; zeros if that is None."""
    shape = shape_of(parameter.axes, widths)
    init = parameter.init
    if exponents.init_std is None or init.kind == "zeros":
        return np.zeros(shape, dtype)
    ratio = exponents.init_std.ratio(widths, base)
    rng = stream(seed, f"parameter {parameter.name}")
    match init.kind:
        case "normal":
            fan_in = 1.0 if parameter.fan_in is None else float(parameter.fan_in.evaluate(base))
            std = fan_in**-0.5 if init.value is None else init.value
            return _normal(rng, shape, std * ratio, dtype)
        case "ones" | "constant":
            value = 1.0 if init.kind == "ones" or init.value is None else init.value
            return np.full(shape, value * ratio, dtype)
        case "orthogonal":
            gain = 1.0 if init.value is None else init.value
            q = _orthogonal(rng, shape)
            # entries of q have the spread max(rows, columns)^-1/2 by themselves: keep only its base value
            longest, base_longest = (max(_rows_columns(shape_of(parameter.axes, s))) for s in (widths, base))
            return (q * (gain * ratio * math.sqrt(longest / base_longest))).astype(dtype, order="C")
        case _:
            raise AssertionError(f"initialiser {init.kind}")


def _normal(rng: np.random.Generator, shape: tuple[int, ...], std: float, dtype: npt.DTypeLike) -> Array:
    """Normals, looked up: that takes a tenth of the time of computing them, which would be most of a short run."""
    w, values = np.empty(shape, dtype), _normals().astype(dtype, copy=False)
    flat = w.reshape(-1)
    for start in range(0, w.size, _BLOCK):
        part = flat[start : start + _BLOCK]
        np.take(values, rng.integers(0, _LEVELS, part.size, np.uint16), out=part, mode="clip")
        part *= std
    return w


@cache
def _normals() -> Array:
    """The values [_LEVELS] of a normal of variance 1, all equally likely: its quantiles in the middle of each level, up
    to 4.3. They are float32, so that weights are the same numbers in every dtype."""
    x = np.linspace(0, 6, 60_001)
    density = np.exp(-np.square(x) / 2)
    area = np.concatenate([[0.0], np.cumsum(density[1:] + density[:-1])])
    half = np.interp((np.arange(_LEVELS // 2) + 0.5) / (_LEVELS // 2), area / area[-1], x)
    values = np.concatenate([-half, half])
    return np.asarray(values / np.sqrt(np.mean(np.square(values))), np.float32)


def _rows_columns(shape: tuple[int, ...]) -> tuple[int, int]:
    rows = shape[0] if shape else 1
    return rows, math.prod(shape[1:])


def _orthogonal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Uniformly distributed with orthonormal rows or columns, as a matrix [first axis, all others]."""
    rows, columns = _rows_columns(shape)
    q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
    q = q * np.sign(np.diagonal(r))
    return np.asarray(q if rows >= columns else q.T).reshape(shape)


def target_classes(graph: Graph, sizes: Mapping[str, int]) -> dict[int, int]:
    """Target input (node) -> the number of classes that its loss chooses from; 0 for reals."""
    classes: dict[int, int] = {}
    for node in graph.nodes:
        if isinstance(node.op, Loss) and len(node.args) > 1:
            target = node.args[1]
            while graph.nodes[target].args:  # a slice of the target, in an unrolled loop
                target = graph.nodes[target].args[0]
            last = graph.nodes[node.args[0]].axes[-1:]
            classes[target] = whole(last[0].dim, sizes) if node.op.kind == "cross_entropy" else 0
    return classes


def make_data(
    graph: Graph,
    widths: Mapping[str, int],
    batch: int = 16,
    seed: int = 0,
    dtype: npt.DTypeLike = "float64",
    number: int = 0,
) -> dict[str, Array]:
    """One batch for every input: standard normals, plus 1 where the input has a growing axis, so that a sum over it is
    as generic as the calculus assumes; uniform tokens, as integers [...] without the vocabulary axis; targets as
    their loss wants them (class indices, or standard normals). `number`: of the batch; each has other examples."""
    sizes = {**widths, BATCH_SYMBOL: batch}
    classes = target_classes(graph, sizes)
    data: dict[str, Array] = {}
    for node in graph.nodes:
        if isinstance(node.op, Input):
            rng = stream(seed, f"input {node.op.name}" + f" {number}" * (number > 0))
            shape = shape_of(node.axes, sizes)
            if node.op.kind == "tokens":
                data[node.op.name] = rng.integers(0, shape[-1], shape[:-1])
            elif node.op.kind == "target" and classes.get(node.id):
                data[node.op.name] = rng.integers(0, classes[node.id], shape)
            else:
                mean = float(node.op.kind != "target" and any(axis.dim.grows for axis in node.axes))
                data[node.op.name] = (mean + rng.standard_normal(shape)).astype(dtype)
    return data
