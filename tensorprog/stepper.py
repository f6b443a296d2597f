"""The optimizer of one parameter with its state, and the parts that many steps have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from tensorprog.arrays import Array

BLOCK = 1 << 16  # entries that are passed over several times while they are in the cache


@dataclass(slots=True)
class Stepper:
    """The optimizer of one parameter, with its state: `stepper(w, g)` updates w in place (and leaves g alone)."""

    rule: Rule
    hyper: dict[str, float]
    count: int = 0  # steps taken, the current one included
    state: dict[str, Array] = field(default_factory=dict)
    numbers: dict[str, float] = field(default_factory=dict)

    def __call__(self, w: Array, g: Array) -> None:
        self.count += 1
        self.rule(self, w, g)

    def buffer(self, name: str, like: Array, fill: float = 0.0) -> Array:
        """The state array `name`, made at its first use. "scratch" holds nothing from one step to the next."""
        if name not in self.state:
            self.state[name] = np.full(like.shape, fill, like.dtype) if fill else np.zeros(like.shape, like.dtype)
        return self.state[name]


Rule = Callable[[Stepper, Array, Array], None]


def add(w: Array, factor: float, update: Array, scratch: Array) -> None:
    """w += factor * update; scratch may be update itself."""
    np.multiply(update, factor, out=scratch)
    w += scratch


def average_in(average: Array, value: Array, weight: float, scratch: Array) -> None:
    """average += weight * (value - average); scratch may be value itself."""
    np.subtract(value, average, out=scratch)
    scratch *= weight
    average += scratch


def penalised(step: Stepper, w: Array, g: Array) -> Array:
    """The gradient with that of the weight decay's penalty."""
    decay = step.hyper["weight_decay"]
    return g + decay * w if decay else g


def shrink(step: Stepper, w: Array) -> None:
    """Lets w decay by itself, in place."""
    decay = step.hyper["weight_decay"]
    if decay:
        w *= 1 - step.hyper["lr"] * decay
