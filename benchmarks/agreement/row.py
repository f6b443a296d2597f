"""The verdict on one tensor at one step, as one look has seen it: see rows.py."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import partial

import numpy as np
import numpy.typing as npt

from benchmarks.agreement import evidence
from benchmarks.agreement.family import Look
from tensorprog.coordcheck.predict import Prediction
from tensorprog.coordcheck.probes import Probe

CANCELS, ZERO, OVERFLOWS = "it cancels exactly", "exactly zero", "overflows"
FEW = 1 / 3  # of the seeds may be left out for an exact zero
ROUNDING = 64.0  # roundings of the initial value: no change
VANISHES = 1e-4  # what is so much smaller in double precision did

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Row:
    """A row that is not settled, or disagrees. `predicted`: an exponent, or "zero". `wider`: the slope between larger
    widths with its 95% interval, where it was looked at there."""

    tensor: str
    kind: str
    step: int
    predicted: str
    slope: float
    low: float
    high: float
    verdict: str
    reason: str
    sizes: tuple[float, ...]  # root mean square over the seeds, per width
    wider: tuple[float, float, float] | None = None

    @property
    def target(self) -> float:
        """The predicted exponent, as a number; nan for an exact zero."""
        return float("nan") if self.predicted == "zero" else float(Fraction(self.predicted))


def row_of(
    probe: Probe, t: int, prediction: Prediction, sizes: Floats, start: Floats, look: Look, grows: int,
    level: float, dtype: str, single: Floats | None,
) -> Row | None:  # fmt: skip
    """The verdict on one tensor at one step; None where nothing is measured."""
    if np.isnan(sizes).any():
        return None
    pooled = _pooled(sizes)
    text = "zero" if prediction.exponent is None else str(prediction.exponent.degree)

    def found(verdict: str, reason: str = "") -> Row:
        return Row(probe.name, probe.kind, t, text, float("nan"), 0.0, 0.0, verdict, reason, pooled)

    if t > grows:
        return found("left out", "something grew at an earlier step")
    astray = ~np.isfinite(sizes).all(axis=0)
    if t < grows and 0 < np.mean(astray) <= FEW:
        sizes, pooled = sizes[:, ~astray], _pooled(sizes[:, ~astray])
    finite = np.all(np.isfinite(sizes), axis=1)
    if not finite.all():
        verdict = "left out" if t >= grows else "inconclusive" if finite[-1] else "disagrees"
        return found(verdict, "diverges at small widths" if finite[-1] else OVERFLOWS)
    if not sizes.any():
        return found("agrees" if prediction.exponent is None else "disagrees", ZERO)
    rounding = ROUNDING * float(np.finfo(dtype).eps) * max(float(start.max()), 1e-30)
    nothing = t > 0 and probe.kind == "value" and sizes.max() < rounding
    if single is not None:
        both = list(zip(pooled, _pooled(single), strict=True))
        nothing |= all(now < VANISHES * before < np.inf for now, before in both)
    if prediction.exponent is None:
        return found("agrees" if nothing else "disagrees", "should be exactly zero")
    if nothing and prediction.bound_only:
        return found("agrees", evidence.BELOW)
    if nothing:
        return found("disagrees" if dtype == "float64" else "inconclusive", CANCELS)
    alive = np.all(sizes > 0, axis=0)
    if np.mean(alive) < 1 - FEW:
        return found("inconclusive", "exactly zero for some widths or seeds")
    judge = evidence.judge_wider if look.wider else partial(evidence.judge, level=level)
    e = judge(np.array(look.widths, dtype=np.float64), sizes[:, alive], float(prediction.exponent.degree),
              bound=prediction.bound_only)  # fmt: skip
    slope, low, high = (round(x, 3) for x in (e.slope, e.low, e.high))
    return Row(probe.name, probe.kind, t, text, slope, low, high, e.verdict, e.reason, pooled)


def _pooled(sizes: Floats) -> tuple[float, ...]:
    """The root mean square over the seeds, per width."""
    return tuple(float(f"{x:.4g}") for x in np.sqrt(np.mean(sizes**2, axis=1)))


def alike(single: Floats, double: Floats) -> bool:
    """Whether sizes are the same but for a few per cent in both precisions."""
    return bool(np.allclose(_pooled(single), _pooled(double), rtol=0.05, atol=0.0))
