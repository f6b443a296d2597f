"""NumPy steps that look at a matrix as a whole: Muon and Shampoo, for the matrix [first axis, all others], and SOAP."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from tensorprog.arrays import Array, cosines, inverse_fourth_root, newton_schulz, power_iterated, turned
from tensorprog.stepper import BLOCK, Rule, Stepper, add, average_in, shrink

FIRST_ITERATIONS = 8  # that find SOAP's bases, with the ratio of the KEPT to the finite eigenvalues to that power left


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


def soap(step: Stepper, w: Array, g: Array) -> None:
    """AdamW in an eigenbasis of L and R, the averages of G G^T and G^T G: one matrix, and one basis, for each axis.

    The first step only finds the bases, and each step uses those of earlier gradients: a power iteration and a QR
    decomposition make new ones after every `precondition_frequency` of the others.
    Unlike the authors' code, bases start from cosines, by power iterations (theirs are eigenvectors, which are
    arbitrary where there is no gradient yet), these keep what the matrix lacks as it is (theirs leave it to rounding
    errors), and columns are not sorted by eigenvalues. Weights decay in the first step, too.
    Source: Vyas et al. 2024, algorithm 3, arXiv:2409.11321.
    """
    hyper, count = step.hyper, step.count - 1  # of the steps along a gradient
    axes = [k for k, size in enumerate(w.shape) if 1 < size <= hyper["max_precond_dim"]]
    first, second = step.buffer("first", w), step.buffer("second", w)
    shrink(step, w)
    if count:
        bases = [step.state.get(f"basis {k}") for k in range(w.ndim)]
        inside = turned(g, bases)
        first += (1 - hyper["beta1"]) * (g - first)
        second += (1 - hyper["beta2"]) * (inside * inside - second)
        unit = math.sqrt(1 - hyper["beta2"] ** count) / (1 - hyper["beta1"] ** count)
        update = turned(turned(first, bases) / (np.sqrt(second) + hyper["eps"]), bases, back=True)
        w -= np.asarray(hyper["lr"] * unit * update, w.dtype)
    for k in axes:
        side = np.moveaxis(g, k, 0).reshape(w.shape[k], -1)
        matrix = step.buffer(f"matrix {k}", np.empty((w.shape[k], w.shape[k]), w.dtype))
        matrix += (1 - hyper["beta2"]) * (side @ side.T - matrix)
        if count % int(hyper["precondition_frequency"]) == 0:
            basis = step.state[f"basis {k}"] if count else cosines(w.shape[k]).astype(w.dtype)
            for _ in range(1 if count else FIRST_ITERATIONS):
                basis = power_iterated(matrix, basis)
            step.state[f"basis {k}"] = basis
