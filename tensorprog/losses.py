"""The losses and their gradients, in NumPy: means over all examples and positions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tensorprog.arrays import Array

Loss = Callable[..., Array]


def _log_softmax(x: Array) -> Array:
    y = x - x.max(axis=-1, keepdims=True)
    y -= np.log(np.exp(y).sum(axis=-1, keepdims=True))
    return np.asarray(y)


def cross_entropy(x: Array, target: Array) -> Array:
    picked = np.take_along_axis(_log_softmax(x), target[..., None], axis=-1)
    return np.asarray(-picked.mean(), dtype=x.dtype)


def cross_entropy_grad(x: Array, target: Array) -> Array:
    grad = np.exp(_log_softmax(x))
    index = target[..., None]
    np.put_along_axis(grad, index, np.take_along_axis(grad, index, axis=-1) - 1, axis=-1)
    grad /= float(max(target.size, 1))
    return np.asarray(grad)


def mse(x: Array, target: Array) -> Array:
    return np.asarray(0.5 * np.square(x - target).mean(), dtype=x.dtype)


def mse_grad(x: Array, target: Array) -> Array:
    return np.asarray((x - target) / float(x.size), dtype=x.dtype)


def mean(x: Array) -> Array:
    return np.asarray(x.mean(), dtype=x.dtype)


def mean_grad(x: Array) -> Array:
    return np.broadcast_to(np.asarray(1.0 / x.size, x.dtype), x.shape)


LOSSES: dict[str, tuple[Loss, Loss]] = {  # the value and its gradient
    "cross_entropy": (cross_entropy, cross_entropy_grad),
    "mse": (mse, mse_grad),
    "mean": (mean, mean_grad),
}
