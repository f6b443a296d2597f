"""NumPy steps with a preconditioner per axis of a matrix."""

from __future__ import annotations

from typing import Any

import numpy as np

from tensorprog.contraction import Array


def shampoo(step: Any, w: Array, g: Array) -> None:
    """L += G G^T, R += G^T G; w -= lr * (L + eps)^(-1/4) G (R + eps)^(-1/4), for the matrix [first axis, all others].

    Without eps the first step is U V^T for G = U S V^T: every direction of the gradient is lifted to singular value 1;
    later ones are at most that, since L and R contain the current gradient.
    Source: Gupta, Koren & Singer 2018, algorithm 1, arXiv:1802.09568.
    """
    hyper = step.hyper
    matrix = g.reshape(g.shape[0] if g.ndim else 1, -1)
    rows, columns = matrix.shape
    left = step.buffer("left", np.zeros((rows, rows), g.dtype))
    right = step.buffer("right", np.zeros((columns, columns), g.dtype))
    left += matrix @ matrix.T
    right += matrix.T @ matrix
    update = inverse_fourth_root(left, hyper["eps"]) @ matrix @ inverse_fourth_root(right, hyper["eps"])
    w *= 1 - hyper["lr"] * hyper["weight_decay"]
    w -= np.asarray(hyper["lr"] * update, w.dtype).reshape(w.shape)


def inverse_fourth_root(matrix: Array, eps: float) -> Array:
    """(matrix + eps)^(-1/4) of a symmetric positive matrix; rounding errors do not make an eigenvalue smaller."""
    values, vectors = np.linalg.eigh(matrix)
    result: Array = (vectors * (np.maximum(values, 0) + eps) ** -0.25) @ vectors.T
    return result
