"""Slopes with their own error, and verdicts. All logarithms are base 2; a slope is an exponent of the width."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

TOLERANCE = 0.2  # exponents in practice are multiples of 1/4; a slope this near counts as equal
CONFIDENCE = 0.95

# two-sided 95% quantiles of Student's t for 1..30 degrees of freedom
# fmt: off
_T95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)
# fmt: on


@dataclass(frozen=True, slots=True)
class Slope:
    """An estimated exponent with its 95% interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Fit:
    """`line`: the slope of a plain power law. `beyond`: the slope that remains for large widths when a term that
    dies out like n^-1/2 is fitted too; only where that term is significant (twice its 95% error), else None."""

    line: Slope
    beyond: Slope | None


def fit(widths: npt.NDArray[np.float64], rms: npt.NDArray[np.float64]) -> Fit:
    """The slope of log2 rms against log2 width, from `rms` [width, seed], all positive.

    The mean squares of all seeds are pooled at each width (a mean of logarithms would be ruled by chance zeros).
    Errors are the jackknife's: every seed is left out once, and the spread of the estimates tells the error.
    """
    squares = rms**2
    total = squares.sum(axis=1)
    left_out = np.maximum(total[:, None] - squares, np.finfo(np.float64).tiny)
    logs = np.asarray(
        np.log2(np.column_stack([total, left_out])) / 2, dtype=np.float64
    )  # first all seeds, then without each
    x: npt.NDArray[np.float64] = np.log2(widths)
    line = _fit(np.column_stack([np.ones_like(x), x]), widths, logs)[1]
    if rms.shape[1] < 2:
        return Fit(Slope(float(line[0]), -math.inf, math.inf), None)
    beyond = None
    if len(widths) > 3:
        bent = _fit(np.column_stack([np.ones_like(x), x, np.sqrt(widths[0] / widths)]), widths, logs)
        if abs(bent[2][0]) > 2 * _error(bent[2][1:]):
            beyond = _interval(bent[1])
    return Fit(_interval(line), beyond)


def _fit(
    basis: npt.NDArray[np.float64], widths: npt.NDArray[np.float64], logs: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Least squares with weights sqrt(width): coefficients [basis, data set]."""
    weights = np.sqrt(np.sqrt(widths))[:, None]
    return np.asarray(np.linalg.lstsq(basis * weights, logs * weights, rcond=None)[0], dtype=np.float64)


def _error(left_out: npt.NDArray[np.float64]) -> float:
    """Half the 95% interval, from the estimates without each seed."""
    count = left_out.size
    spread = math.sqrt((count - 1) / count * float(np.sum((left_out - left_out.mean()) ** 2)))
    return _T95[min(count - 1, 30) - 1] * spread


def _interval(estimates: npt.NDArray[np.float64]) -> Slope:
    error = _error(estimates[1:])
    return Slope(float(estimates[0]), float(estimates[0]) - error, float(estimates[0]) + error)


def verdict(predicted: float, measured: Slope, tolerance: float = TOLERANCE) -> str:
    """agrees: the whole interval lies within the tolerance of the prediction; disagrees: none of it does;
    inconclusive otherwise."""
    low, high = predicted - tolerance, predicted + tolerance
    if low <= measured.low and measured.high <= high:
        return "agrees"
    if measured.high < low or measured.low > high:
        return "disagrees"
    return "inconclusive"
