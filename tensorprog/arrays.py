"""What optimizers and checks work out of one array: its size, the orthogonal matrix near it, a root."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

NS_STEPS = 5
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
SKETCH = 64  # random vectors that find the range of a matrix of lower rank than this
LONG = 4  # a matrix at least so many times as long as wide is orthogonalised by way of its Gram matrix
KEPT = 1e-4  # of a basis in each power iteration, times the trace: directions that the matrix lacks stay as they are
SMALLEST_NORM = 1e-7  # of the matrix that Muon orthogonalises, as in torch.optim.Muon


def rms(x: Array) -> float:
    """Root mean square of all entries (inf if it overflows)."""
    if not x.size:
        return 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        square = float(np.vdot(x, x)) / x.size
    return math.sqrt(square) if math.isfinite(square) else math.inf


def newton_schulz(g: Array, steps: int) -> Array:
    """About U V^T for g = U S V^T, [rows, cols]: singular values in about [0.7, 1.2], by a quintic iteration.

    It only acts on singular values, so that a g of low rank, as gradients of a small batch are, is iterated on in the
    coordinates of its range, and a long g by what it does to the eigenvalues of its small Gram matrix.
    """
    found = _range(g)
    if found is not None:
        basis, inside = found
        return np.asarray(basis @ newton_schulz(inside, steps))
    a, b, c = NEWTON_SCHULZ
    x = g.T if g.shape[0] > g.shape[1] else g
    x = x / max(math.sqrt(float(np.vdot(g, g))), SMALLEST_NORM)
    if LONG * x.shape[0] <= x.shape[1] and np.all(np.isfinite(x)):
        squares, vectors = np.linalg.eigh((x @ x.T).astype(np.float64))
        squares, factors = np.maximum(squares, 0), np.ones_like(squares)
        for _ in range(steps):
            once = a + (b + c * squares) * squares
            factors *= once
            squares *= once * once
        x = ((vectors * factors) @ vectors.T).astype(x.dtype) @ x
        return np.asarray(x.T if g.shape[0] > g.shape[1] else x)
    for _ in range(steps):
        gram = x @ x.T
        mixed = gram @ gram
        mixed *= c
        mixed += b * gram
        x = a * x + mixed @ x
    return x.T if g.shape[0] > g.shape[1] else x


def _range(g: Array) -> tuple[Array, Array] | None:
    """Orthonormal columns whose span holds all of g but rounding errors, and g in their coordinates; None if g is small
    or of high rank. Few columns are tried first."""
    if min(g.shape) < 2 * SKETCH or not np.all(np.isfinite(g)):
        return None
    size, exact = rms(g), 64 * float(np.finfo(g.dtype).eps)
    for columns in (SKETCH // 4, SKETCH // 2, SKETCH):
        probes = np.random.default_rng(0).standard_normal((g.shape[1], columns)).astype(g.dtype)
        basis, _ = np.linalg.qr(g @ probes)
        inside = basis.T @ g
        # by Pythagoras what is outside has the square size^2 - |inside|^2; rounding makes the difference this inexact
        near = size - rms(inside) * math.sqrt(columns / g.shape[0]) <= exact * size
        if near and rms(g - basis @ inside) <= exact * size:
            return basis, inside
    return None


def inverse_fourth_root(matrix: Array, eps: float) -> Array:
    """(matrix + eps)^(-1/4) of a symmetric positive matrix; rounding errors do not make an eigenvalue smaller.
    Not a number where the matrix is not finite, which LAPACK takes for a failure of its own."""
    if not np.isfinite(matrix).all():
        return np.full_like(matrix, np.nan)
    values, vectors = np.linalg.eigh(matrix)
    result: Array = (vectors * (np.maximum(values, 0) + eps) ** -0.25) @ vectors.T
    return result


def turned(x: Array, bases: Sequence[Array | None], *, back: bool = False) -> Array:
    """The coordinates of a tensor in an orthonormal basis (columns) along each axis that has one; `back`: the tensor
    of these coordinates."""
    for axis, basis in enumerate(bases):
        if basis is not None:
            x = np.moveaxis(np.tensordot(x, basis, axes=(axis, int(back))), -1, axis)
    return x


def cosines(size: int) -> Array:
    """A fixed orthogonal matrix without a column along an axis, or along a sum: a discrete cosine transform (IV)."""
    halves = np.arange(size) + 0.5
    result: Array = np.cos(np.pi / size * np.outer(halves, halves)) * math.sqrt(2 / size)
    return result


def power_iterated(matrix: Array, basis: Array) -> Array:
    """An orthonormal basis nearer to the eigenvectors of a positive matrix, the largest eigenvalues first."""
    if not np.isfinite(matrix).all():
        return np.full_like(basis, np.nan)
    result: Array = np.linalg.qr(matrix @ basis + KEPT * np.trace(matrix) * basis)[0]
    return result
