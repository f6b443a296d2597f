"""Rules that read between the entries of an image: at positions that may depend on activations."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from tensorprog.graph import Scalar
from tensorprog.torch.lower.elementwise import MINUS
from tensorprog.torch.lower.registry import rule
from tensorprog.torch.lower.values import Sizes, Value

if TYPE_CHECKING:
    from tensorprog.torch.lower import Lowering
    from tensorprog.torch.zipped import Call


@rule("grid_sampler_2d", "grid_sampler_3d")
def grid_sampler(low: Lowering, call: Call) -> Value:
    """Along each axis a position p reads max(0, 1 - |p - k|) of entry k: linear interpolation, and zeros outside."""
    if low.constant_int(call["interpolation_mode"]) != 0 or low.constant_int(call["padding_mode"]) > 1:
        low.refuse("a sampling that is not linear, or reflects", 'mode="bilinear", padding_mode="zeros" or "border"')
    image, grid = low.value(call["input"]), low.plain(low.value(call["grid"]))
    sizes = low.shape(call["input"])[2:]
    rank = len(sizes)
    new, old = [f"new{k}" for k in range(rank)], [f"old{k}" for k in range(rank)]
    labels = ["batch", "channel", *old]
    for k, size in enumerate(sizes):  # the last coordinate is that of the first of these axes
        at = low.window(grid, rank + 1, (rank - 1 - k,) * low.points, (1,) * low.points)
        weight = _weights(low, at, size, bool(call["align_corners"]), low.constant_int(call["padding_mode"]) == 1)
        out = ["batch", "channel", *new, *(x for x in labels if x in old and x != old[k])]
        image, labels = low.contract(image, labels, weight, ["batch", *new, old[k]], out), out
    return image


def _weights(low: Lowering, at: Value, size: Sizes, corners: bool, border: bool) -> Value:
    """How much of every entry a position between -1 and 1 reads."""
    count = low.dim(size).constant
    if count is None:
        low.refuse("it reads along an axis that grows")
    assert count is not None
    wide = (count - 1) / 2 if corners else count / 2
    at = low.shift(low.scale(at, Scalar(wide)) if wide else at, Scalar((count - 1) / 2))
    if border:
        beyond = low.map(low.shift(at, Scalar(1 - count)), "relu")
        at = low.add([low.map(at, "relu"), low.scale(beyond, MINUS)])
    away = low.add([at, low.data.real(tuple(-np.arange(s, dtype=float) for s in size), "places")])
    return low.map(low.shift(low.scale(low.map(away, "abs"), MINUS), Scalar(Fraction(1))), "relu")


@rule("affine_grid_generator")
def affine_grid(low: Lowering, call: Call) -> Value:
    """Points of a regular grid from -1 to 1, and a 1, times a matrix."""
    arrays = []
    for sizes in zip(*(low.integer(s) for s in call["size"][2:]), strict=True):
        lines = [np.linspace(-1, 1, s) * (1 if call["align_corners"] else (s - 1) / s) if s > 1 else np.zeros(1)
                 for s in sizes]  # fmt: skip
        places = np.meshgrid(*lines, indexing="ij")[::-1]
        arrays.append(np.stack([*places, np.ones(sizes)], -1))
    axes = [f"x{k}" for k in range(len(call["size"]) - 2)]
    grid = low.data.real(tuple(arrays), "grid")
    return low.contract(low.value(call["theta"]), ["n", "j", "k"], grid, [*axes, "k"], ["n", *axes, "j"])
