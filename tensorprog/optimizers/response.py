"""How a step answers to a hyperparameter that is much too large, or much too small: measured on its NumPy step."""

from __future__ import annotations

from fractions import Fraction
from functools import cache

import numpy as np

from tensorprog.optimizers.data import Optimizer

FAR = 1e4  # beyond what the hyperparameter is compared with, on a gradient of size 1


@cache
def response(optimizer: Optimizer, name: str, larger: bool) -> Fraction:
    """The exponent p such that a step is proportional to hyper^p there, to the nearest half."""
    near, far = (FAR, FAR**2) if larger else (1 / FAR, 1 / FAR**2)
    sizes = [_step(optimizer, name, value) for value in (near, far)]
    if not all(sizes):
        return Fraction(0)
    return Fraction(round(2 * np.log(sizes[1] / sizes[0]) / np.log(far / near)), 2)


def _step(optimizer: Optimizer, name: str, value: float) -> float:
    from tensorprog.steps import make_step, rms

    hyper = {name: value} | ({"weight_decay": 0.0} if optimizer.decay != "none" else {})
    stepper = make_step(optimizer, hyper)
    rng = np.random.default_rng(0)
    w, g = rng.standard_normal((2, 8, 8))
    stepper.numbers["global_norm"] = float(np.linalg.norm(g))
    stepper.state["sampled"] = rng.standard_normal(g.shape)
    before = w.copy()
    for _ in range(1 + optimizer.delay):
        stepper(w, g)
    return rms(w - before)
