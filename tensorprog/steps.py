"""The NumPy step of every optimizer: exactly torch.optim's arithmetic where PyTorch has the optimizer."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from tensorprog.arrays import Array, rms
from tensorprog.errors import TensorProgError
from tensorprog.optimizers import Optimizer
from tensorprog.optimizers.choice import find
from tensorprog.preconditioned import muon_with, shampoo, soap
from tensorprog.stepper import BLOCK, Rule, Stepper, add, average_in, penalised, shrink

SMALLEST_SCALE = 1e-3  # a relative update is proportional to max(rms of the parameter, this): zeros can start to move


def make_step(optimizer: str | Optimizer, hyper: Mapping[str, float] | None = None) -> Stepper:
    """A fresh stepper of an optimizer (or of the one with that name); `hyper` overrides the optimizer's defaults.

    Takes any array shape; sending vectors to another optimizer (`optimizer_for`) is the caller's business.
    Raises TensorProgError for an unknown optimizer, one without a step, or a hyperparameter it does not have.
    """
    row = find(optimizer)
    return Stepper(rule_of(row), row.hyperparameters(hyper or {}))


def rule_of(row: Optimizer) -> Rule:
    """What a step of an optimizer does: its own `step`, else the one written here."""
    rule = row.step or _RULES.get(row.name)
    if rule is None:
        raise TensorProgError(f"the optimizer `{row.name}` has no NumPy step", why="nothing can be trained without one",
                              fix="Optimizer(.., step=rule), or its formula in the language")  # fmt: skip
    return rule


def _scale(w: Array) -> float:
    return max(rms(w), SMALLEST_SCALE)


# --- linear in the gradient -------------------------------------------------------------------------


def _sgd(step: Stepper, w: Array, g: Array) -> None:
    hyper = step.hyper
    g = penalised(step, w, g)
    scratch = step.buffer("scratch", w)
    if momentum := hyper["momentum"]:
        velocity = step.buffer("velocity", w)
        velocity *= momentum
        velocity += g if step.count == 1 else (1 - hyper["dampening"]) * g
        g = g + momentum * velocity if hyper["nesterov"] else velocity
    add(w, -hyper["lr"], g, scratch)


# --- normalised entry by entry ----------------------------------------------------------------------


def _moments(step: Stepper, g: Array, scratch: Array) -> tuple[Array, Array]:
    first, second = step.buffer("first", g), step.buffer("second", g)
    _update_moments(step, first, second, g, scratch)
    return first, second


def _update_moments(step: Stepper, first: Array, second: Array, g: Array, scratch: Array) -> None:
    beta1, beta2 = step.hyper["beta1"], step.hyper["beta2"]
    if step.count == 1:  # from zero: the same numbers, with fewer passes
        np.multiply(g, 1 - beta1, out=first)
        np.multiply(g, g, out=second)
        second *= 1 - beta2
        return
    average_in(first, g, 1 - beta1, scratch)
    second *= beta2
    np.multiply(g, g, out=scratch)
    scratch *= 1 - beta2
    second += scratch


def _root(second: Array, correction: float, eps: float, scratch: Array) -> Array:
    """sqrt(second) / correction + eps, in scratch."""
    np.sqrt(second, out=scratch)
    scratch /= correction
    scratch += eps
    return scratch


def _adam(step: Stepper, w: Array, g: Array, decoupled: bool = False) -> None:
    hyper, count = step.hyper, step.count
    if decoupled:
        shrink(step, w)
    else:
        g = penalised(step, w, g)
    # the moments are kept without their factors 1 - beta, which are put where they cost nothing
    beta1, beta2 = hyper["beta1"], hyper["beta2"]
    unit = math.sqrt((1 - beta2**count) / (1 - beta2))
    factor = -hyper["lr"] * unit * (1 - beta1) / (1 - beta1**count)
    first, second = step.buffer("first", g), step.buffer("second", g)
    flat = [np.reshape(x, -1) for x in (w, g, first, second)]
    assert np.shares_memory(flat[0], w), "parameters are contiguous"
    for start in range(0, w.size, BLOCK):  # so that all passes over an entry find it in the cache
        w_, g_, first_, second_ = (x[start : start + BLOCK] for x in flat)
        scratch = step.buffer("scratch", w_)[: w_.size]
        if count == 1:
            np.copyto(first_, g_)
            np.multiply(g_, g_, out=second_)
        else:
            first_ *= beta1
            first_ += g_
            second_ *= beta2
            np.multiply(g_, g_, out=scratch)
            second_ += scratch
        np.sqrt(second_, out=scratch)
        scratch += hyper["eps"] * unit
        np.divide(first_, scratch, out=scratch)
        add(w_, factor, scratch, scratch)


def _adamw(step: Stepper, w: Array, g: Array) -> None:
    _adam(step, w, g, decoupled=True)


def _nadam(step: Stepper, w: Array, g: Array) -> None:
    hyper, count = step.hyper, step.count
    g = penalised(step, w, g)
    scratch = step.buffer("scratch", w)
    mu, mu_next = (hyper["beta1"] * (1 - 0.5 * 0.96 ** (k * hyper["momentum_decay"])) for k in (count, count + 1))
    product = step.numbers["product"] = step.numbers.get("product", 1.0) * mu
    first, second = _moments(step, g, scratch)
    root = _root(second, math.sqrt(1 - hyper["beta2"] ** count), hyper["eps"], scratch)
    w += (-hyper["lr"] * (1 - mu) / (1 - product)) * (g / root)
    np.divide(first, root, out=scratch)
    add(w, -hyper["lr"] * mu_next / (1 - product * mu_next), scratch, scratch)


def _adamax(step: Stepper, w: Array, g: Array) -> None:
    hyper = step.hyper
    g = penalised(step, w, g)
    scratch = step.buffer("scratch", w)
    first, largest = step.buffer("first", w), step.buffer("largest", w)
    average_in(first, g, 1 - hyper["beta1"], scratch)
    largest *= hyper["beta2"]
    np.abs(g, out=scratch)
    scratch += hyper["eps"]
    np.maximum(largest, scratch, out=largest)
    np.divide(first, largest, out=scratch)
    add(w, -hyper["lr"] / (1 - hyper["beta1"] ** step.count), scratch, scratch)


def _rmsprop(step: Stepper, w: Array, g: Array) -> None:
    hyper = step.hyper
    g = penalised(step, w, g)
    scratch = step.buffer("scratch", w)
    second = step.buffer("second", w)
    second *= hyper["alpha"]
    np.multiply(g, g, out=scratch)
    scratch *= 1 - hyper["alpha"]
    second += scratch
    update = np.divide(g, _root(second, 1.0, hyper["eps"], scratch), out=scratch)
    if hyper["momentum"] > 0:
        velocity = step.buffer("velocity", w)
        velocity *= hyper["momentum"]
        velocity += update
        update = velocity
    add(w, -hyper["lr"], update, scratch)


def _adagrad(step: Stepper, w: Array, g: Array) -> None:
    hyper = step.hyper
    g = penalised(step, w, g)
    scratch = step.buffer("scratch", w)
    total = step.buffer("total", w, hyper["initial_accumulator_value"])
    np.multiply(g, g, out=scratch)
    total += scratch
    np.divide(g, _root(total, 1.0, hyper["eps"], scratch), out=scratch)
    add(w, -hyper["lr"] / (1 + (step.count - 1) * hyper["lr_decay"]), scratch, scratch)


def _lion(step: Stepper, w: Array, g: Array) -> None:
    hyper = step.hyper
    shrink(step, w)
    first, scratch = step.buffer("first", w), step.buffer("scratch", w)
    np.subtract(g, first, out=scratch)
    scratch *= 1 - hyper["beta1"]
    scratch += first
    np.sign(scratch, out=scratch)
    add(w, -hyper["lr"], scratch, scratch)
    average_in(first, g, 1 - hyper["beta2"], scratch)


def _signsgd(step: Stepper, w: Array, g: Array) -> None:
    hyper = step.hyper
    shrink(step, w)
    scratch = step.buffer("scratch", w)
    if hyper["momentum"]:
        first = step.buffer("first", w)
        average_in(first, g, 1 - hyper["momentum"], scratch)
        g = first
    np.sign(g, out=scratch)
    add(w, -hyper["lr"], scratch, scratch)


# --- relative to the size of the parameter ----------------------------------------------------------


def _adafactor(step: Stepper, w: Array, g: Array) -> None:
    """As torch.optim.Adafactor: the step is min(lr, count^-1/2) * max(eps2, rms(w)) times an update of rms <= d."""
    hyper, count = step.hyper, step.count
    tiny = float(np.finfo(w.dtype).eps)
    weight = count ** hyper["beta2_decay"]
    factor = max(hyper["eps2"], rms(w)) * min(hyper["lr"], count**-0.5)
    shrink(step, w)
    if g.ndim > 1:
        squared = g * g
        rows = step.buffer("rows", squared[..., :1])
        columns = step.buffer("columns", squared[..., :1, :])
        rows += weight * (squared.mean(-1, keepdims=True) - rows)
        columns += weight * (squared.mean(-2, keepdims=True) - columns)
        update = np.multiply(rows, columns, out=squared)
        update /= np.maximum(rows.mean(-2, keepdims=True), tiny)
    else:
        second = step.buffer("second", w)
        second += weight * (g * g - second)
        update = second.copy()
    np.maximum(update, tiny * tiny, out=update)
    np.sqrt(update, out=update)
    np.divide(g, update, out=update)
    add(w, -factor / max(1.0, rms(update) / hyper["d"]), update, update)


def _lamb(step: Stepper, w: Array, g: Array) -> None:
    """Adam's update r rescaled to the parameter's size: w -= lr * max(rms(w), 1e-3) / rms(r) * r.

    The decay is applied outside the trust ratio (the paper adds it to r), so that it is decoupled.
    """
    hyper, count = step.hyper, step.count
    scratch = step.buffer("scratch", w)
    first, second = _moments(step, g, scratch)
    root = _root(second, math.sqrt(1 - hyper["beta2"] ** count), hyper["eps"], scratch)
    update = np.divide(first, root, out=scratch)
    size = rms(update)
    factor = hyper["lr"] * _scale(w) / size if size else 0.0
    shrink(step, w)
    add(w, -factor, update, scratch)


def _lars(step: Stepper, w: Array, g: Array) -> None:
    """v <- momentum v + lr * trust * |w| / (|g| + decay |w|) * (g + decay w), |w| = max(rms(w), 1e-3); w -= v."""
    hyper = step.hyper
    decay, scale = hyper["weight_decay"], _scale(w)
    size = rms(g) + decay * scale
    velocity = step.buffer("velocity", w)
    velocity *= hyper["momentum"]
    if size:
        velocity += (hyper["lr"] * hyper["trust"] * scale / size) * penalised(step, w, g)
    w -= velocity


_RULES: dict[str, Rule] = {
    "sgd": _sgd,
    "momentum": _sgd,
    "nesterov": _sgd,
    "adam": _adam,
    "adamw": _adamw,
    "nadam": _nadam,
    "adamax": _adamax,
    "rmsprop": _rmsprop,
    "adagrad": _adagrad,
    "lion": _lion,
    "signsgd": _signsgd,
    "adafactor": _adafactor,
    "lamb": _lamb,
    "lars": _lars,
    "shampoo": shampoo,
    "soap": soap,
    "muon": muon_with(lambda rows, columns: 1.0),
    "muon_original": muon_with(lambda rows, columns: math.sqrt(max(1.0, rows / columns))),
    "muon_match_rms": muon_with(lambda rows, columns: 0.2 * math.sqrt(max(rows, columns))),
    "muon_spectral": muon_with(lambda rows, columns: math.sqrt(rows / columns)),
}
