"""What measured sizes are evidence for: does a tensor follow the exponent that was predicted?

A seed fixes the data and the random streams at every width, so the sizes r [width, seed] of one tensor are first
centred: log r minus its mean over the widths. The profile is the trimmed mean over the seeds at each width, which no
single training run that went astray can rule. Every estimate below is also made without each seed in turn
(jackknife), which gives its standard error and a Student's t.

- The plain slope: least squares of the profile on log n.
- The lasting part: y = r^2 n^(-2p), p the prediction, is fitted by A + B n^(-1/2). A power that is too small leaves
  A > 0 as it grows; one that is too large leaves nothing, A <= 0. Slower transients than n^(-1/2) do not occur.
- The next power: exponents are multiples of 1/2 here, and independent contributions add up, so a tensor whose power is
  a half less than predicted falls at least that fast. What falls distinctly more slowly has the predicted power.
- Ahead: the plain slope; where it differs significantly at the top of the ladder, moved on by twice that difference.
  And the slope at the top; where it differs significantly from the one before it, moved on by twice that difference:
  a large part that vanishes much faster than what it hides bends late.

What misses is judged once more at larger widths (`judge_wider`): by the same rules between the largest three, at the
level of an interval. Where it falls short there too, y = A + B / n is fitted on all widths, the law of a part that
lasts beside an independent one that is larger so far and falls by a power of 1/2 more. If A is there, the row is not
said to disagree (`MOVES`). It may be seen by mistake where a power that is too large has transients of its own: this
rule errs on the side of the prediction.

Many rows are judged, so to disagree in the end asks for much more than the 95% of an interval: the two-sided quantile
of Student's t at 1 / 100 over the number of rows of a campaign. What misses by less is counted apart (`MISSES`).

How often each rule is wrong is measured twice: on synthetic laws (tests), and by the campaign's own control, which
holds the networks with wrong exponents against the predictions for the right ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

TOLERANCE = 0.2
NEXT = 0.5  # to the next smaller exponent
CAMPAIGN = 500_000  # rows, of all campaigns one is likely to run
STRICT = 0.01 / CAMPAIGN
SHARE = 0.05  # of the mean square at the largest width: a lasting part below it is not there yet
FASTER, SLOWER = "grows faster", "grows more slowly"
BELOW = "below its bound"
LASTS = "once what vanishes faster is taken off"
BETWEEN = "it falls more slowly than the next power would"
MISSES = "it misses, by less than some row of so many may"
MOVES = "it moves to the prediction at larger widths"
NOISE, TRANSIENT = "the error is too large", "a transient"


@dataclass(frozen=True, slots=True)
class Evidence:
    """`verdict`: agrees | disagrees | inconclusive. `slope`: the plain one, with its 95% interval."""

    verdict: str
    reason: str
    slope: float
    low: float
    high: float


def student(p: float, degrees: int) -> float:
    """The two-sided quantile of Student's t: |t| exceeds it with probability p (Hill 1970, algorithm 396)."""
    if degrees == 1:
        return 1 / math.tan(p * math.pi / 2)
    if degrees == 2:
        return math.sqrt(2 / (p * (2 - p)) - 2)
    n = degrees
    a = 1 / (n - 0.5)
    b = 48 / (a * a)
    c = ((20700 * a / b - 98) * a - 16) * a + 96.36
    d = ((94.5 / (b + c) - 3) / b + 1) * math.sqrt(a * math.pi / 2) * n
    x = d * p
    y = x ** (2 / n)
    if y > 0.05 + a:
        x = NormalDist().inv_cdf(p / 2)
        y = x * x
        if n < 5:
            c += 0.3 * (n - 4.5) * (x + 0.6)
        c = (((0.05 * d * x - 5) * x - 7) * x - 2) * x + b + c
        y = (((((0.4 * y + 6.3) * y + 36) * y + 94.5) / c - y - 3) / b + 1) * x
        y = math.expm1(a * y * y)
    else:
        y = ((1 / (((n + 6) / (n * y) - 0.089 * d - 0.822) * (n + 2) * 3) + 0.5 / (n + 4)) * y - 1) * (n + 1) / (
            n + 2
        ) + 1 / y
    return math.sqrt(n * y)


def judge(
    widths: Floats, sizes: Floats, predicted: float, *, bound: bool, level: float = STRICT, fades: bool | None = None
) -> Evidence:
    """The evidence of `sizes` [width, seed], all positive and finite, for the exponent `predicted`.

    `bound`: the prediction is only an upper bound. `level`: the chance at which a true prediction may disagree.
    `fades`: whether nothing lasts of what is predicted, where that is known from more than these widths.
    """
    seeds = sizes.shape[1]
    logs = _left_out(sizes)
    usual, strict = student(0.05, seeds - 1), student(level, seeds - 1)

    def interval(estimates: Floats, quantile: float = usual) -> tuple[float, float]:
        error = quantile * _error(estimates[1:])
        return float(estimates[0]) - error, float(estimates[0]) + error

    slopes = _line(widths, logs)
    tops = (logs[-1] - logs[-2]) / np.log2(widths[-1] / widths[-2])
    low, high = interval(slopes)
    surely_low, surely_high = interval(slopes, strict)
    least, most = predicted - TOLERANCE, predicted + TOLERANCE

    def found(verdict: str, reason: str = "") -> Evidence:
        return Evidence(verdict, reason, float(slopes[0]), low, high)

    if least <= low and high <= most:
        return found("agrees")
    if bound and high <= most:
        return found("agrees", BELOW)
    lasting_low, lasting_high = interval(_lasting(widths, logs, predicted))
    drift_low, drift_high = interval(tops - slopes)
    drift = float(tops[0] - slopes[0]) if drift_low > 0 or drift_high < 0 else 0.0
    ahead = [float(slopes[0]) + 2 * drift]  # if it drifted once more as far as from the line to the top
    if len(widths) > 2:
        bends = tops - (logs[-2] - logs[-3]) / np.log2(widths[-2] / widths[-3])
        bend_low, bend_high = interval(bends)
        ahead += [float(tops[0] + 2 * bends[0])] if bend_low > 0 or bend_high < 0 else []
    if surely_low > most and min(ahead) > most:
        return found("disagrees", FASTER)
    if high <= most and lasting_low > SHARE:
        return found("agrees", LASTS)
    if surely_high < least and max(ahead) < least and (lasting_high < SHARE if fades is None else fades):
        return found("disagrees", SLOWER)
    if high <= most and low > predicted - NEXT + TOLERANCE / 2 and drift_high > 0:
        return found("agrees", BETWEEN)
    if high < least or low > most:
        return found("inconclusive", MISSES)
    return found("inconclusive", NOISE if high - low > TOLERANCE else TRANSIENT)


def judge_wider(widths: Floats, sizes: Floats, predicted: float, *, bound: bool) -> Evidence:
    """The evidence of the largest three widths. What falls short there, but lasts (see above), is inconclusive."""
    estimates = _lasting(widths, _left_out(sizes), predicted, 1.0)
    lasts = float(estimates[0]) - student(0.05, sizes.shape[1] - 1) * _error(estimates[1:]) > 0
    found = judge(widths[-3:], sizes[-3:], predicted, bound=bound, level=0.05, fades=not lasts)
    if found.verdict == "inconclusive" and found.slope < predicted and lasts:
        return replace(found, reason=MOVES)
    return found


def _left_out(sizes: Floats) -> Floats:
    """Profiles of log size [width, 1 + seed]: of all seeds, and without each in turn."""
    raw = np.log2(sizes)
    centred = raw - raw.mean(axis=0)
    rest = (np.delete(centred, k, axis=1) for k in range(sizes.shape[1]))
    return np.column_stack([_profile(x) for x in (centred, *rest)])


def _profile(centred: Floats) -> Floats:
    """The mean over the seeds at each width, without the outer fifths."""
    count = centred.shape[1]
    cut = count // 5
    return np.asarray(np.sort(centred, axis=1)[:, cut : count - cut].mean(axis=1))


def _line(widths: Floats, logs: Floats) -> Floats:
    """Least squares with weights sqrt(width): the slope of every column."""
    x = np.log2(widths)
    weights = np.sqrt(widths)
    x = x - np.average(x, weights=weights)
    return np.asarray((weights * x) @ logs / ((weights * x) @ x))


def _lasting(widths: Floats, logs: Floats, predicted: float, power: float = 0.5) -> Floats:
    """A / (A + B n^-power) at the largest width, for r^2 n^(-2 p) = A + B n^-power, errors relative; every column."""
    y = np.exp2(2 * (logs - predicted * np.log2(widths)[:, None]))
    y = y / y[-1]
    u = (widths[-1] / widths) ** power
    weights = (widths**0.25)[:, None] / y  # relative errors, larger widths count more
    ones, us = weights, weights * u[:, None]
    target = weights * y
    a11, a12, a22 = (ones * ones).sum(0), (ones * us).sum(0), (us * us).sum(0)
    b1, b2 = (ones * target).sum(0), (us * target).sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):  # nan, which shows nothing, where one width outweighs the rest
        det = a11 * a22 - a12 * a12
        a, b = (a22 * b1 - a12 * b2) / det, (a11 * b2 - a12 * b1) / det
        return np.asarray(a / np.where(np.abs(a + b) > 1e-12, a + b, 1e-12))


def _error(left_out: Floats) -> float:
    """The jackknife's standard error."""
    count = left_out.size
    with np.errstate(invalid="ignore"):
        return math.sqrt((count - 1) / count * float(np.sum((left_out - left_out.mean()) ** 2)))
