"""Verdicts: a measured tensor against what was predicted of it, and the reason where a verdict needs a word."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from tensorprog.arrays import rms
from tensorprog.coordcheck.ladder import Ladder
from tensorprog.coordcheck.predict import Prediction
from tensorprog.coordcheck.probes import Probe
from tensorprog.coordcheck.report import Row
from tensorprog.coordcheck.statistics import TOLERANCE, Slope, fit, fits_two_powers, verdict

NEAR = 2 * TOLERANCE  # a miss by less is a near one
CANCELS = 0.1  # of what independent terms would give: below this, a sum's terms cancel
ENOUGH_SEEDS = 6  # with fewer, the error of the error is large: a disagreement asks for more, no transient is believed
HIDES = 3.0  # times what independent terms would give: up to here, the aligned part of a sum may be hidden
WIDE = "part of the interval is outside of the tolerance"
TRANSIENT = "a part that vanishes with width cannot be excluded: larger widths would tell"
BOUND = "below a saturated nonlinearity: the prediction is only a bound"
UNBOUNDED = "what an inverse norm reads may be smaller than predicted: no bound is known of this"
SECOND = "its aligned part is of a higher order in the learning rates, and is still hidden behind the random one"

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Limits:
    """Below which sizes a number means nothing. `rounding`: what rounding errors alone can make. `independent`: how
    large a plain sum would be, at the top of the ladder, if its terms were independent (0: it is no such sum).
    `hidden`: the same for an aligned sum whose operands were measured."""

    rounding: float = 0.0
    independent: float = 0.0
    hidden: float = 0.0


def row(
    probe: Probe,
    step: int,
    demanded: Prediction,
    own: Prediction | None,
    values: Floats,
    ladder: Ladder,
    limits: Limits,
) -> Row:
    """The row of one tensor at one step, from its `values` [rung, seed]. `demanded`: by the derived parametrization;
    `own`: by the calculus for the one that was trained, None if that is the derived one."""
    measured, low, high, result, reason = _compare(demanded, values, ladder, limits)
    expected, own_result = demanded, result
    if own is not None:
        expected = own
        *_, own_result, why = _compare(own, values, ladder, limits)
        if not reason and why in (BOUND, UNBOUNDED):
            reason = f"calculus: {why}"
    wanted, calculus = (_text(p, ladder) for p in (demanded, expected))
    return Row(probe.name, step, probe.part(step), wanted, measured, low, high, result, reason, calculus, own_result,
               _digits(values))  # fmt: skip


def _text(prediction: Prediction, ladder: Ladder) -> str | None:
    return None if prediction.exponent is None else str(ladder.exponent(prediction.exponent))


def _digits(values: Floats) -> tuple[tuple[float | None, ...], ...]:
    return tuple(tuple(float(f"{x:.5g}") if math.isfinite(x) else None for x in row) for row in values.tolist())


def wants_seeds(row: Row, seeds: int) -> bool:
    """Whether more seeds could change a verdict: a wide interval, a near miss, or a disagreement of few seeds."""
    if row.verdict == "disagrees" and row.measured is not None and row.predicted is not None:
        return seeds < ENOUGH_SEEDS or abs(row.measured - float(Fraction(row.predicted))) < NEAR
    return row.reason in (WIDE, TRANSIENT) or (row.reason == SECOND and seeds < ENOUGH_SEEDS)


def _compare(
    prediction: Prediction, values: Floats, ladder: Ladder, limits: Limits
) -> tuple[float | None, float | None, float | None, str, str]:
    """(measured, low, high, verdict, reason) of `values` [rung, seed]."""
    if not np.all(np.isfinite(values)):
        finite = np.all(np.isfinite(values), axis=1)
        where = f"{ladder.axis[0]} = {ladder.sizes[int(np.argmin(finite))]}"
        return None, None, None, "disagrees", f"overflows at {where}"
    if not values.any():
        if prediction.exponent is None:
            return None, None, None, "agrees", "exactly zero, as predicted"
        return None, None, None, "disagrees", "exactly zero"
    if limits.rounding and values.max() < limits.rounding:
        if prediction.exponent is None:
            return None, None, None, "agrees", "zero but for rounding errors, as predicted"
        return None, None, None, "inconclusive", "it cancels exactly: only rounding errors are left"
    if prediction.exponent is None:
        return None, None, None, "disagrees", f"should be exactly zero, is {values.max():.1e}"
    if not np.all(values > 0):
        return None, None, None, "inconclusive", "exactly zero for some widths or seeds"
    predicted = float(ladder.exponent(prediction.exponent))
    found = fit(ladder.points, values, predicted)
    if prediction.unbounded or prediction.bound_only:
        return *_shown(found.line), "inconclusive", UNBOUNDED if prediction.unbounded else BOUND
    result = verdict(predicted, found.line)
    missing = predicted - found.line.value
    near = abs(missing) < NEAR  # a vanishing part that is the smaller one at the top bends no line by more
    enough = values.shape[1] >= ENOUGH_SEEDS
    if result != "agrees" and near and enough and found.beyond and verdict(predicted, found.beyond) == "agrees":
        return *_shown(found.beyond), "agrees", "once a part that vanishes with width is accounted for"
    top = rms(values[-1])
    if result != "agrees" and top < CANCELS * limits.independent:
        why = "the terms of this sum nearly cancel: what is left is not yet its law"
        return *_shown(found.line), "inconclusive", why
    if result != "agrees" and missing > 0 and top < HIDES * limits.hidden:
        why = "what lasts of it is still hidden behind a part that vanishes with width"
        return *_shown(found.line), "inconclusive", why
    if result == "disagrees" and found.drift * missing > 0 and abs(missing) <= 2 * abs(found.drift) + TOLERANCE:
        why = "its local slope drifts towards the prediction, and is near it: larger widths would tell"
        return *_shown(found.line), "inconclusive", why
    if result == "disagrees" and near and found.rest and _overlaps(predicted, found.rest):
        return *_shown(found.line), "inconclusive", TRANSIENT
    if result == "disagrees" and missing > 0 and prediction.first is not None:
        lower = float(ladder.exponent(prediction.first))
        if lower < predicted and fits_two_powers(ladder.points, values, lower, predicted):
            return *_shown(found.line), "inconclusive", SECOND
    reason = ""
    if result == "inconclusive":
        reason = "one seed gives no interval" if values.shape[1] == 1 else WIDE
    return *_shown(found.line), result, reason


def _overlaps(predicted: float, slope: Slope) -> bool:
    """Whether an interval has a point within the tolerance of the prediction."""
    return slope.low <= predicted + TOLERANCE and slope.high >= predicted - TOLERANCE


def _shown(slope: Slope) -> tuple[float | None, float | None, float | None]:
    value, low, high = (round(x, 4) if math.isfinite(x) else None for x in (slope.value, slope.low, slope.high))
    return value, low, high
