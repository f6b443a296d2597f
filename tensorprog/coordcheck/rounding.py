"""Exact zeros and rounding errors: a sum that cancels exactly is zero but for the precision it is computed in."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tensorprog.coordcheck.probes import HIDDEN

if TYPE_CHECKING:
    from tensorprog.coordcheck.predict import Predictor
    from tensorprog.coordcheck.runs import Measurement, Runs

SHRINKS = 1e-5  # from float32 to float64, or by more: the units of rounding differ by 2e-9


def only_rounding(runs: Runs, values: Measurement, demanded: Predictor) -> set[tuple[int, int]]:
    """What is predicted to be exactly zero, is not, and is nothing but rounding errors, as (probe, step): the first
    network of the ladder, trained once more in the other precision, tells."""
    zeros = [(k, t) for k, probe in enumerate(runs.probes) if probe.kind not in HIDDEN for t in range(runs.steps + 1)
             if values[k, t, 0, 0] > 0 and demanded.at(probe, t).exponent is None]  # fmt: skip
    if not zeros:
        return set()
    other = "float32" if runs.dtype == "float64" else "float64"
    again = replace(runs, dtype=other, ladder=runs.ladder.lowest(1), progress=None).measure(range(1))
    single, double = (values, again) if other == "float64" else (again, values)
    return {(k, t) for k, t in zeros if double[k, t, 0, 0] <= SHRINKS * single[k, t, 0, 0]}
