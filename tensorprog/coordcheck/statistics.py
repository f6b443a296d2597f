"""Slopes with their own error, and verdicts. All logarithms are base 2; a slope is an exponent of the width."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

TOLERANCE = 0.2  # exponents in practice are multiples of 1/4; a slope this near counts as equal
FINITE = 0.05  # in log2: what a finite width does to a constant, however small the noise

# two-sided 95% quantiles of Student's t for 1..30 degrees of freedom
# fmt: off
_T95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)
# fmt: on


Floats = npt.NDArray[np.float64]
_RATIOS = tuple(0.05 * 1.25**k for k in range(30))  # 0.05 to 32: vanishing part over lasting part, first width


@dataclass(frozen=True, slots=True)
class Slope:
    """An estimated exponent with its 95% interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Fit:
    """`line`: the slope of a plain power law. `rest`: the slope that remains for large widths when a second, vanishing
    power is fitted too (None: not fitted). `beyond`: the same, None unless that changes the slope significantly (by
    twice its 95% error). `drift`: by how much the slope between the two largest widths differs from `line`; 0 unless
    significantly."""

    line: Slope
    rest: Slope | None = None
    beyond: Slope | None = None
    drift: float = 0.0


def fit(widths: Floats, rms: Floats, predicted: float | None = None) -> Fit:
    """The slope of log2 rms against log2 width, from `rms` [width, seed], all positive.

    The mean squares of all seeds are pooled at each width (a mean of logarithms would be ruled by chance zeros).
    Errors are the jackknife's: every seed is left out once, and the spread of the estimates tells the error. Where the
    line agrees with `predicted`, nothing more is fitted.
    """
    logs = _pooled_logs(rms)
    design = _design(tuple(widths.tolist()))
    line = design.slope @ logs
    if rms.shape[1] < 2:
        return Fit(Slope(float(line[0]), -math.inf, math.inf))
    rest_slope, beyond, drift = None, None, 0.0
    settled = predicted is not None and verdict(predicted, interval(line)) == "agrees"
    if len(widths) > 3 and not settled:
        rest = _beyond_transient(design, logs)
        rest_slope = interval(rest)
        if _significant(rest - line):
            beyond = rest_slope
        last = (logs[-1] - logs[-2]) / np.log2(widths[-1] / widths[-2])
        if _significant(last - line):
            drift = float(last[0] - line[0])
    return Fit(interval(line), rest_slope, beyond, drift)


def lines(widths: Floats, rms: Floats) -> tuple[Floats, Floats]:
    """Slopes of plain power laws and half their 95% intervals, for many `rms` [.., width, seed] at once."""
    estimates = np.einsum("w,...ws->...s", _design(tuple(widths.tolist())).slope, _pooled_logs(rms))
    return estimates[..., 0], np.asarray(_error(estimates[..., 1:]))


def _pooled_logs(rms: Floats) -> Floats:
    """log2 of the root of the sum of squares of all seeds, then without each: one entry more than `rms` [.., seed]."""
    squares = rms**2
    total = squares.sum(axis=-1, keepdims=True)
    left_out = np.maximum(total - squares, np.finfo(np.float64).tiny)
    return np.asarray(np.log2(np.concatenate([total, left_out], axis=-1)) / 2)


def _significant(estimates: Floats) -> bool:
    """Whether a difference (first of all seeds, then without each) exceeds twice its 95% error."""
    return bool(abs(estimates[0]) > 2 * _error(estimates[1:]))


@dataclass(frozen=True, slots=True)
class _Design:
    """Least squares with weights sqrt(width), as linear maps of the logarithms: `slope` [width]; weighted `residual`
    [width, width]; the same two of every transient, `transient_slopes` [transient], `transient_residuals`
    [transient, width, 1]."""

    slope: Floats
    residual: Floats
    transient_slopes: Floats
    transient_residuals: Floats


@lru_cache(maxsize=64)
def _design(widths: tuple[float, ...]) -> _Design:
    n = np.array(widths)
    weights = np.sqrt(np.sqrt(n))
    basis = np.column_stack([np.ones_like(n), np.log2(n)])
    coefficients = np.linalg.pinv(basis * weights[:, None]) * weights
    residual = (np.eye(len(n)) - basis @ coefficients) * weights[:, None]
    transients = np.array([
        np.log2(1 + ratio * (n[0] / n) ** decay) / 2
        for decay in (0.5, 1.0)
        for ratio in _RATIOS
        if ratio * (n[0] / n[-1]) ** decay <= 1  # at the largest width what lasts is at least what vanishes
    ])  # fmt: skip
    return _Design(coefficients[1], residual, transients @ coefficients[1], (transients @ residual.T)[:, :, None])


def _beyond_transient(design: _Design, logs: Floats) -> Floats:
    """The slope s of mean square = n^(2s) (A + B n^-q), q = 1/2 (a correlation dies out) or 1 (a variance does),
    by least squares over a grid of B / A; one for every column of `logs`."""
    plain = design.residual @ logs
    squares = np.sum((plain - design.transient_residuals) ** 2, axis=1)  # [transient, column]
    best = np.argmin(squares, axis=0)
    better = np.take_along_axis(squares, best[None], axis=0)[0] < np.sum(plain**2, axis=0)
    return np.asarray(design.slope @ logs - np.where(better, design.transient_slopes[best], 0.0))


def _error(left_out: Floats) -> Floats:
    """Half the 95% interval, from the estimates without each seed (the last axis)."""
    count = left_out.shape[-1]
    squares = np.sum((left_out - left_out.mean(axis=-1, keepdims=True)) ** 2, axis=-1)
    return np.asarray(_T95[min(count - 1, 30) - 1] * np.sqrt((count - 1) / count * squares))


def interval(estimates: Floats) -> Slope:
    """The first estimate, from all seeds, with the jackknife's 95% interval from the others, without each seed."""
    error = float(_error(estimates[1:]))
    return Slope(float(estimates[0]), float(estimates[0]) - error, float(estimates[0]) + error)


def pooled(rms: Floats) -> tuple[Floats, Floats]:
    """log2 of the root mean square over all seeds, at each width, and half its 95% interval (infinite for one seed);
    `rms` [width, seed]."""
    squares = rms**2
    total = squares.sum(axis=1, keepdims=True)
    count = rms.shape[1]
    value = np.log2(total[:, 0] / count) / 2
    if count < 2:
        return value, np.full(len(rms), math.inf)
    left_out = np.log2(np.maximum(total - squares, np.finfo(np.float64).tiny)) / 2
    return value, _error(left_out)


def fits_two_powers(widths: Floats, rms: Floats, lower: float, upper: float) -> bool:
    """Whether a n^(2 lower) + b n^(2 upper) with a, b >= 0 is a law of the mean squares of `rms` [width, seed]: passes
    by every width's within twice its 95% error."""
    logs, errors = pooled(rms)
    errors = np.maximum(errors, FINITE)
    share = np.linspace(0, 1, 101)[:, None]  # of the upper power, at the largest width
    x = np.log2(widths / widths[-1])
    residual = logs - lower * x - np.log2(1 - share + share * 4 ** ((upper - lower) * x)) / 2  # [share, width]
    offset = np.average(residual, axis=1, weights=errors**-2)[:, None]
    return bool(np.any(np.all(np.abs(residual - offset) <= 2 * errors, axis=1)))


def verdict(predicted: float, measured: Slope, tolerance: float = TOLERANCE) -> str:
    """agrees: the whole interval lies within the tolerance of the prediction; disagrees: none of it does;
    inconclusive otherwise."""
    low, high = predicted - tolerance, predicted + tolerance
    if low <= measured.low and measured.high <= high:
        return "agrees"
    if measured.high < low or measured.low > high:
        return "disagrees"
    return "inconclusive"
