"""NumPy steps that look at a matrix as a whole: Muon and Shampoo, for the matrix [first axis, all others]."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tensorprog.arrays import Array, inverse_fourth_root, newton_schulz
from tensorprog.stepper import BLOCK, Rule, Stepper, add, average_in, shrink


def muon_with(factor: Callable[[int, int], float]) -> Rule:
    """Muon's rule; `factor`: of (rows, columns), what a convention multiplies the orthogonal update with."""

    def rule(step: Stepper, w: Array, g: Array) -> None:
        hyper, momentum = step.hyper, step.hyper["momentum"]
        rows = w.shape[0] if w.ndim else 1
        columns = w.size // rows
        first, scratch = step.buffer("first", w), step.buffer("scratch", w)
        flat = [np.reshape(x, -1) for x in (g, first, scratch)]
        for start in range(0, w.size, BLOCK):  # so that all passes over an entry find it in the cache
            g_, first_, blend = (x[start : start + BLOCK] for x in flat)
            average_in(first_, g_, 1 - momentum, blend)
            np.subtract(first_, g_, out=blend)
            blend *= momentum
            blend += g_
        blend = (scratch if hyper["nesterov"] else first).reshape(rows, columns)
        update = newton_schulz(blend, int(hyper["ns_steps"])).reshape(w.shape)
        shrink(step, w)
        add(w, -hyper["lr"] * factor(rows, columns), update, scratch)

    return rule


def shampoo(step: Stepper, w: Array, g: Array) -> None:
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
