"""How a step answers to a hyperparameter that is much too large, or much too small: measured on its NumPy step."""

from __future__ import annotations

from fractions import Fraction
from functools import cache

import numpy as np

from tensorprog.optimizers.data import Optimizer

NEAR, FAR = 1e3, 1e5  # beyond what the hyperparameter is compared with, on a gradient of size 1
SIDE = 400  # of the matrix: a step may be ruled by its few largest entries


@cache
def response(optimizer: Optimizer, name: str, larger: bool) -> Fraction:
    """The exponent p such that the rms of a step is proportional to hyper^p there, to the nearest quarter.

    (Sophia with a large gamma: -1/4, not -1. Its largest entries are where the sampled gradient happens to be small,
    and those stay clipped at 1, only ever fewer of them.)
    """
    near, far = (NEAR, FAR) if larger else (1 / NEAR, 1 / FAR)
    sizes = [_step(optimizer, name, value) for value in (near, far)]
    if not all(sizes):
        return Fraction(0)
    return Fraction(round(4 * np.log(sizes[1] / sizes[0]) / np.log(far / near)), 4)


def _step(optimizer: Optimizer, name: str, value: float) -> float:
    from tensorprog.arrays import rms
    from tensorprog.steps import make_step

    hyper = {name: value} | ({"weight_decay": 0.0} if optimizer.decay != "none" else {})
    stepper = make_step(optimizer, hyper)
    rng = np.random.default_rng(0)
    w, g = rng.standard_normal((2, SIDE, SIDE))
    stepper.numbers["global_norm"] = float(np.linalg.norm(g))
    stepper.state["sampled"] = rng.standard_normal(g.shape)
    before = w.copy()
    for _ in range(1 + optimizer.delay):
        stepper(w, g)
    return rms(w - before)
