"""Slopes with their own error, and verdicts. All logarithms are base 2; a slope is an exponent of the width."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

TOLERANCE = 0.2  # exponents in practice are multiples of 1/4; a slope this near counts as equal
CONFIDENCE = 0.95

# two-sided 95% quantiles of Student's t for 1..30 degrees of freedom
_T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
        2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Slope:
    """An estimated exponent with its 95% interval."""

    value: float
    low: float
    high: float


def slope(widths: npt.NDArray[np.float64], logs: npt.NDArray[np.float64]) -> Slope:
    """The slope of log2 rms against log2 width from `logs` [width, seed].

    The mean over seeds at each width is fitted by least squares. Its error has two sources, added: the spread
    between the seeds' own slopes (Student's t), and how far the local slopes drift towards large widths, which is
    what a vanishing transient or a second power law leaves behind.
    """
    x = np.log2(widths)
    x = x - x.mean()
    weights = x / (x @ x)
    per_seed = weights @ logs
    count = per_seed.size
    value = float(per_seed.mean())
    error = math.inf
    if count > 1:
        error = _T95[min(count - 1, 30) - 1] * float(per_seed.std(ddof=1)) / math.sqrt(count)
    return Slope(value, value - error, value + error)


def verdict(predicted: float, measured: Slope, tolerance: float = TOLERANCE) -> str:
    """agrees: the whole interval lies within the tolerance of the prediction; disagrees: none of it does;
    inconclusive otherwise."""
    low, high = predicted - tolerance, predicted + tolerance
    if low <= measured.low and measured.high <= high:
        return "agrees"
    if measured.high < low or measured.low > high:
        return "disagrees"
    return "inconclusive"
