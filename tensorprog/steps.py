"""The NumPy step of every optimizer: exactly torch.optim's arithmetic where PyTorch has the optimizer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from tensorprog.errors import TensorProgError
from tensorprog.optimizers import Optimizer
from tensorprog.optimizers.choice import find
from tensorprog.preconditioned import shampoo

Array = npt.NDArray[Any]

SMALLEST_SCALE = 1e-3  # a relative update is proportional to max(rms of the parameter, this): zeros can start to move
NS_STEPS = 5
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
_BLOCK = 1 << 16  # entries
SKETCH = 64  # random vectors that find the range of a matrix of lower rank than this
LONG = 4  # a matrix at least so many times as long as wide is orthogonalised by way of its Gram matrix
SMALLEST_NORM = 1e-7  # of the matrix that Muon orthogonalises, as in torch.optim.Muon


@dataclass(slots=True)
class Stepper:
    """The optimizer of one parameter, with its state: `stepper(w, g)` updates w in place (and leaves g alone)."""

    rule: Callable[[Stepper, Array, Array], None]
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


def make_step(optimizer: str | Optimizer, hyper: Mapping[str, float] | None = None) -> Stepper:
    """A fresh stepper of an optimizer (or of the one with that name); `hyper` overrides the optimizer's defaults.

    Takes any array shape; sending vectors to another optimizer (`optimizer_for`) is the caller's business.
    Raises TensorProgError for an unknown optimizer or one without a step, ValueError for a hyperparameter it does not
    have.
    """
    row = find(optimizer)
    values = dict(row.defaults)
    for key, value in (hyper or {}).items():
        if key not in values:
            raise ValueError(f"optimizer {row.name} has no option {key}; it has {', '.join(values)}")
        values[key] = float(value)
    return Stepper(rule_of(row), values)


def rule_of(row: Optimizer) -> Rule:
    """What a step of an optimizer does: its own `step`, else the one written here."""
    rule = row.step or _RULES.get(row.name)
    if rule is None:
        raise TensorProgError(f"the optimizer `{row.name}` has no NumPy step", why="nothing can be trained without one",
                              fix="Optimizer(.., step=rule), or its formula in the language")  # fmt: skip
    return rule


def rms(x: Array) -> float:
    """Root mean square of all entries (inf if it overflows)."""
    if not x.size:
        return 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        square = float(np.vdot(x, x)) / x.size
    return math.sqrt(square) if math.isfinite(square) else math.inf


def _scale(w: Array) -> float:
    return max(rms(w), SMALLEST_SCALE)


def _add(w: Array, factor: float, update: Array, scratch: Array) -> None:
    """w += factor * update; scratch may be update itself."""
    np.multiply(update, factor, out=scratch)
    w += scratch


def _average(average: Array, value: Array, weight: float, scratch: Array) -> None:
    """average += weight * (value - average); scratch may be value itself."""
    np.subtract(value, average, out=scratch)
    scratch *= weight
    average += scratch


def _coupled(step: Stepper, w: Array, g: Array) -> Array:
    decay = step.hyper["weight_decay"]
    return g + decay * w if decay else g


def _decoupled(step: Stepper, w: Array) -> None:
    decay = step.hyper["weight_decay"]
    if decay:
        w *= 1 - step.hyper["lr"] * decay


# --- linear in the gradient -------------------------------------------------------------------------


def _sgd(step: Stepper, w: Array, g: Array) -> None:
    hyper = step.hyper
    g = _coupled(step, w, g)
    scratch = step.buffer("scratch", w)
    if momentum := hyper["momentum"]:
        velocity = step.buffer("velocity", w)
        velocity *= momentum
        velocity += g if step.count == 1 else (1 - hyper["dampening"]) * g
        g = g + momentum * velocity if hyper["nesterov"] else velocity
    _add(w, -hyper["lr"], g, scratch)


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
    _average(first, g, 1 - beta1, scratch)
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
        _decoupled(step, w)
    else:
        g = _coupled(step, w, g)
    # the moments are kept without their factors 1 - beta, which are put where they cost nothing
    beta1, beta2 = hyper["beta1"], hyper["beta2"]
    unit = math.sqrt((1 - beta2**count) / (1 - beta2))
    factor = -hyper["lr"] * unit * (1 - beta1) / (1 - beta1**count)
    first, second = step.buffer("first", g), step.buffer("second", g)
    flat = [np.reshape(x, -1) for x in (w, g, first, second)]
    assert np.shares_memory(flat[0], w), "parameters are contiguous"
    for start in range(0, w.size, _BLOCK):  # so that all passes over an entry find it in the cache
        w_, g_, first_, second_ = (x[start : start + _BLOCK] for x in flat)
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
        _add(w_, factor, scratch, scratch)


def _adamw(step: Stepper, w: Array, g: Array) -> None:
    _adam(step, w, g, decoupled=True)


def _nadam(step: Stepper, w: Array, g: Array) -> None:
    hyper, count = step.hyper, step.count
    g = _coupled(step, w, g)
    scratch = step.buffer("scratch", w)
    mu, mu_next = (hyper["beta1"] * (1 - 0.5 * 0.96 ** (k * hyper["momentum_decay"])) for k in (count, count + 1))
    product = step.numbers["product"] = step.numbers.get("product", 1.0) * mu
    first, second = _moments(step, g, scratch)
    root = _root(second, math.sqrt(1 - hyper["beta2"] ** count), hyper["eps"], scratch)
    w += (-hyper["lr"] * (1 - mu) / (1 - product)) * (g / root)
    np.divide(first, root, out=scratch)
    _add(w, -hyper["lr"] * mu_next / (1 - product * mu_next), scratch, scratch)


def _adamax(step: Stepper, w: Array, g: Array) -> None:
    hyper = step.hyper
    g = _coupled(step, w, g)
    scratch = step.buffer("scratch", w)
    first, largest = step.buffer("first", w), step.buffer("largest", w)
    _average(first, g, 1 - hyper["beta1"], scratch)
    largest *= hyper["beta2"]
    np.abs(g, out=scratch)
    scratch += hyper["eps"]
    np.maximum(largest, scratch, out=largest)
    np.divide(first, largest, out=scratch)
    _add(w, -hyper["lr"] / (1 - hyper["beta1"] ** step.count), scratch, scratch)


def _rmsprop(step: Stepper, w: Array, g: Array) -> None:
    hyper = step.hyper
    g = _coupled(step, w, g)
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
    _add(w, -hyper["lr"], update, scratch)


def _adagrad(step: Stepper, w: Array, g: Array) -> None:
    hyper = step.hyper
    g = _coupled(step, w, g)
    scratch = step.buffer("scratch", w)
    total = step.buffer("total", w, hyper["initial_accumulator_value"])
    np.multiply(g, g, out=scratch)
    total += scratch
    np.divide(g, _root(total, 1.0, hyper["eps"], scratch), out=scratch)
    _add(w, -hyper["lr"] / (1 + (step.count - 1) * hyper["lr_decay"]), scratch, scratch)


def _lion(step: Stepper, w: Array, g: Array) -> None:
    hyper = step.hyper
    _decoupled(step, w)
    first, scratch = step.buffer("first", w), step.buffer("scratch", w)
    np.subtract(g, first, out=scratch)
    scratch *= 1 - hyper["beta1"]
    scratch += first
    np.sign(scratch, out=scratch)
    _add(w, -hyper["lr"], scratch, scratch)
    _average(first, g, 1 - hyper["beta2"], scratch)


def _signsgd(step: Stepper, w: Array, g: Array) -> None:
    hyper = step.hyper
    _decoupled(step, w)
    scratch = step.buffer("scratch", w)
    if hyper["momentum"]:
        first = step.buffer("first", w)
        _average(first, g, 1 - hyper["momentum"], scratch)
        g = first
    np.sign(g, out=scratch)
    _add(w, -hyper["lr"], scratch, scratch)


# --- relative to the size of the parameter ----------------------------------------------------------


def _adafactor(step: Stepper, w: Array, g: Array) -> None:
    """As torch.optim.Adafactor: the step is min(lr, count^-1/2) * max(eps2, rms(w)) times an update of rms <= d."""
    hyper, count = step.hyper, step.count
    tiny = float(np.finfo(w.dtype).eps)
    weight = count ** hyper["beta2_decay"]
    factor = max(hyper["eps2"], rms(w)) * min(hyper["lr"], count**-0.5)
    _decoupled(step, w)
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
    _add(w, -factor / max(1.0, rms(update) / hyper["d"]), update, update)


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
    _decoupled(step, w)
    _add(w, -factor, update, scratch)


def _lars(step: Stepper, w: Array, g: Array) -> None:
    """v <- momentum v + lr * trust * |w| / (|g| + decay |w|) * (g + decay w), |w| = max(rms(w), 1e-3); w -= v."""
    hyper = step.hyper
    decay, scale = hyper["weight_decay"], _scale(w)
    size = rms(g) + decay * scale
    velocity = step.buffer("velocity", w)
    velocity *= hyper["momentum"]
    if size:
        velocity += (hyper["lr"] * hyper["trust"] * scale / size) * _coupled(step, w, g)
    w -= velocity


# --- orthogonalised ---------------------------------------------------------------------------------


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


def _muon_with(factor: Callable[[int, int], float]) -> Callable[[Stepper, Array, Array], None]:
    def rule(step: Stepper, w: Array, g: Array) -> None:
        hyper, momentum = step.hyper, step.hyper["momentum"]
        rows = w.shape[0] if w.ndim else 1
        columns = w.size // rows
        first, scratch = step.buffer("first", w), step.buffer("scratch", w)
        flat = [np.reshape(x, -1) for x in (g, first, scratch)]
        for start in range(0, w.size, _BLOCK):  # so that all passes over an entry find it in the cache
            g_, first_, blend = (x[start : start + _BLOCK] for x in flat)
            _average(first_, g_, 1 - momentum, blend)
            np.subtract(first_, g_, out=blend)
            blend *= momentum
            blend += g_
        blend = (scratch if hyper["nesterov"] else first).reshape(rows, columns)
        update = newton_schulz(blend, int(hyper["ns_steps"])).reshape(w.shape)
        _decoupled(step, w)
        _add(w, -hyper["lr"] * factor(rows, columns), update, scratch)

    return rule


Rule = Callable[[Stepper, Array, Array], None]

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
    "muon": _muon_with(lambda rows, columns: 1.0),
    "muon_original": _muon_with(lambda rows, columns: math.sqrt(max(1.0, rows / columns))),
    "muon_match_rms": _muon_with(lambda rows, columns: 0.2 * math.sqrt(max(rows, columns))),
    "muon_spectral": _muon_with(lambda rows, columns: math.sqrt(rows / columns)),
}
