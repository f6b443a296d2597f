"""Optima and their drift, with errors. Coordinates are octaves: log2 of the swept value, log2 of the size.

Losses enter as log2(min(loss, loss at the start)): a run that diverged, or ended worse than it began, has learnt
nothing, and how far off it went says nothing about where the optimum is. Seeds are replicates: every seed is left out
once, everything is estimated anew, and the spread gives the error (jackknife, Student's quantile). Curves are no
parabolas: where the seeds show it, the error of the fit is added.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from tensorprog.coordcheck.statistics import Slope, interval

Floats = npt.NDArray[np.float64]
REACH = 2  # steps of the grid on either side of the best value: what the parabola is fitted to
STEEP = 4.0  # a parabola with its vertex within half a step of the best value has (2.5 / 1.5)^2 < 3
LOOSE = 0.2  # steps: how far a vertex is moved by where the grid's values happen to lie on a curve that is no parabola
CLIFF = 0.45  # the same where the curve jumps up beside the best value: the optimum is anywhere between the two
TOLERANCE = 0.2  # octaves per doubling; a drift surely smaller than this counts as none
ALIKE = 1e-9  # octaves


@dataclass(frozen=True, slots=True)
class Vertex:
    """The optimum of one curve. `status`: "found" | "below" or "above" (the best value is the first or the last one
    tried: the optimum lies beyond) | "no minimum" (the curve bends the wrong way there, or begins level). `octaves`,
    `loss` (log2): estimates from all seeds, then without each; empty unless found. `curvature`: log2 loss per octave
    squared. `wide`: as `octaves`, from all values that are near: what is compared from size to size. `loose`: its
    error, in octaves, beside other curves of that shape; 0 if the parabola fits. `between`: the neighbours of the best
    value, where no more is known of the optimum than that it lies there."""

    status: str
    octaves: Floats = field(default_factory=lambda: np.zeros(0))
    loss: Floats = field(default_factory=lambda: np.zeros(0))
    curvature: float = 0.0
    wide: Floats = field(default_factory=lambda: np.zeros(0))
    loose: float = 0.0
    between: tuple[float, float] = (np.inf, -np.inf)

    @property
    def bars(self) -> Slope:
        """The optimum with its 95% interval."""
        found = widened(error_bars(self.octaves), self.loose)
        return Slope(found.value, min(found.low, self.between[0]), max(found.high, self.between[1]))


def log_loss(loss: float | None, initial: float) -> float:
    """log2 of the loss that counts: a diverged run (None), or one above its start, has its start's. It is finite."""
    counted, numbers = initial if loss is None else min(loss, initial), np.finfo(np.float64)
    return float(np.log2(min(max(counted, numbers.tiny), numbers.max)))


def without_each(losses: Floats) -> Floats:
    """[.., seed] -> [.., 1 + seed]: the mean over all seeds, then the means without each."""
    count, total = losses.shape[-1], losses.sum(axis=-1, keepdims=True)
    if count == 1:
        return np.asarray(total)
    return np.asarray(np.concatenate([total / count, (total - losses) / (count - 1)], axis=-1))


def wanted(octaves: Floats, losses: Floats, step: float) -> list[float]:
    """The values that are missing for a fit: the next REACH steps on either side of the best value."""
    if _level(losses):
        return []
    best = float(octaves[int(np.argmin(losses.mean(axis=1)))])
    around = (best + k * step for k in range(-REACH, REACH + 1))
    low, high = float(octaves.min()) - ALIKE, float(octaves.max()) + ALIKE
    return [x for x in around if not low <= x <= high]


def vertex(octaves: Floats, losses: Floats, step: float) -> Vertex:
    """The optimum of log2 losses [value, seed] at increasing `octaves`: the vertex of a least-squares parabola through
    the values within REACH steps of the best one, up to a cliff. Where it misses a value, and the parabola through the
    best value and its neighbours alone has another vertex, the latter counts."""
    means = without_each(losses)
    at = int(np.argmin(means[:, 0]))
    if _level(losses):
        return Vertex("no minimum")
    if at in (0, len(octaves) - 1):
        return Vertex("below" if at == 0 else "above")
    near = np.abs(octaves - octaves[at]) <= REACH * step + ALIKE
    x, heights = _basin(octaves[near] - octaves[at], means[near])
    wide = np.polyfit(x, heights, 2)
    if np.any(wide[0] <= 0) or _fits(x, heights, wide):
        return _found(octaves[at], x, wide)
    jumps = len(x) < np.sum(near) or _jumps(means[near, 0] - means[at, 0], at - int(np.argmax(near)))
    compared = octaves[at] + np.clip(-wide[1] / (2 * wide[0]), x[0], x[-1])
    loose = step * (CLIFF if jumps else LOOSE)
    here = int(np.argmin(np.abs(x)))
    around = slice(here - 1, here + 2)
    found = _found(octaves[at], x[around], np.polyfit(x[around], heights[around], 2))
    alike = len(x) > 3 and not jumps and found.status == "found" and 4 * abs(found.octaves[0] - compared[0]) <= loose
    if alike or found.status != "found":
        found = _found(octaves[at], x, wide)
    between = (np.inf, -np.inf) if alike else (float(octaves[at - 1]), float(octaves[at + 1]))
    return replace(found, wide=compared, loose=loose, between=between)


def _found(best: float, x: Floats, parabola: Floats) -> Vertex:
    """The vertex of a parabola fitted to values at `x` from the best one."""
    curvature, slope, constant = parabola
    if np.any(curvature <= 0):
        return Vertex("no minimum")
    moved = -slope / (2 * curvature)
    if moved[0] < x[0] or moved[0] > x[-1]:  # a vertex outside of what was fitted
        return Vertex("no minimum")
    at = best + moved
    return Vertex("found", at, constant - slope**2 / (4 * curvature), float(curvature[0]), wide=at)


def _fits(x: Floats, heights: Floats, parabola: Floats) -> bool:
    """Whether it passes by all values within their 95% errors, and all of them are there: beside a cliff, whose height
    is set by the other side, there is nothing to see."""
    missed = heights - sum(c * x[:, None] ** k for k, c in zip((2, 1, 0), parabola, strict=True))
    bars = [error_bars(row) for row in missed]
    return len(x) > 2 * REACH and all(b.low - ALIKE <= 0 <= b.high + ALIKE for b in bars)


def _level(losses: Floats) -> bool:
    """Whether the first value is the best, and trains as the next one does, seed by seed, but not as all do (as where
    all diverge): it is so small that it is rounded away, and nothing better lies below."""
    at = int(np.argmin(losses.mean(axis=1)))
    if at > 0 or len(losses) < 2 or bool(np.all(losses == losses[0])):
        return False
    return bool(np.array_equal(losses[0], losses[1]))


def _jumps(rise: Floats, at: int) -> bool:
    """Whether a side rises less than half as much in the second step from the best value as in the first."""
    sides = (rise[at:], rise[at::-1])
    return any(len(side) > 2 and side[2] - side[1] < side[1] / 2 for side in sides)


def _basin(x: Floats, losses: Floats) -> tuple[Floats, Floats]:
    """The coordinates x around the best value, at 0, and their losses [value, 1 + seed], without a cliff: what rises
    above the best more than STEEP times as far as the curve does on its lower side. Of a cliff the nearest value stays,
    at that height, since the curve turns upwards before it."""
    best = losses[x == 0]
    rise = losses[:, 0] - best[0, 0]
    limit = STEEP * min(rise[x < 0].max(), rise[x > 0].max())
    off = rise > limit
    keep = np.ones(len(x), dtype=bool)
    for side in (x < 0, x > 0):
        cliff = np.flatnonzero(off & side)
        keep[cliff] = False
        if len(cliff):
            keep[cliff[np.argmin(np.abs(x[cliff]))]] = True
    heights = np.where(off[:, None], np.minimum(losses, best + limit), losses)
    return x[keep], heights[keep]


def error_bars(estimates: Floats) -> Slope:
    """The estimate with its 95% interval (infinite for a single seed)."""
    if len(estimates) < 3:
        return Slope(float(estimates[0]), -np.inf, np.inf)
    return interval(estimates)


def widened(found: Slope, error: float) -> Slope:
    """With another error, independent of its own."""
    half = float(np.hypot(found.high - found.value, error))
    return Slope(found.value, found.value - half, found.value + half)


def drift(sizes: Floats, optima: Sequence[Vertex]) -> Slope:
    """Octaves per doubling: the slope of a least-squares line through the optima at log2 `sizes`. Seeds are left out at
    all sizes at once, since one seed's runs share their data. Where the optimum lies on the grid moves steadily with
    the size, and the errors of the fits with it: they are added as if all of them tilted the line the same way."""
    slope = np.polyfit(sizes, np.array([vertex.wide for vertex in optima]), 1)[0]
    from_mean = sizes - sizes.mean()
    loose = np.array([vertex.loose for vertex in optima])
    return widened(error_bars(slope), float(np.abs(from_mean) @ loose / np.sum(from_mean**2)))


def verdict(measured: Slope) -> str:
    """transfers: the drift's whole interval lies within TOLERANCE of zero; drifts: none of it does; else
    inconclusive."""
    if measured.low >= -TOLERANCE and measured.high <= TOLERANCE:
        return "transfers"
    if measured.high < -TOLERANCE or measured.low > TOLERANCE:
        return "drifts"
    return "inconclusive"


def interpolated(octaves: Floats, losses: Floats, at: float) -> float | None:
    """The mean log2 loss at a value between two that were tried; None outside."""
    if not octaves[0] - ALIKE <= at <= octaves[-1] + ALIKE:
        return None
    return float(np.interp(at, octaves, losses.mean(axis=1)))
