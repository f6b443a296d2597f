"""Second looks at what disagrees in a model, as in coordcheck/looks.py: at smaller learning rates, and further up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from tensorprog.coordcheck.ladder import Ladder
from tensorprog.coordcheck.looks import RATES, SLOWER, WIDER
from tensorprog.coordcheck.report import Row
from tensorprog.torch.measure import Rates
from tensorprog.torch.training import Floats

Rows = Mapping[tuple[int, int], Row]  # by positions of spot and step
Measure = Callable[[Ladder, Rates], Floats]  # with the seeds of the first look
Judge = Callable[[Floats, Ladder], Rows]


def second_looks(
    rows: Rows, values: Floats, ladder: Ladder, rates: Rates, measure: Measure, judged: Judge, *, climb: bool
) -> Rows:
    """The rows, where those that disagree and do not so in one of the looks are inconclusive. `climb`: whether wider
    networks may be trained."""
    looks: dict[str, Callable[[], Rows]] = {RATES: lambda: _slower(ladder, rates, measure, judged)}
    if climb:
        looks[WIDER] = lambda: _wider(values, ladder, rates, measure, judged)
    for reason, look in looks.items():
        found = {at for at, row in rows.items() if row.verdict == "disagrees" and row.measured is not None}
        if not found:
            break
        seen = look()
        rows = {at: replace(row, verdict="inconclusive", calculus_verdict="inconclusive", reason=reason)
                if at in found and at in seen and seen[at].verdict != "disagrees" and seen[at].measured is not None
                else row for at, row in rows.items()}  # fmt: skip
    return rows


def _slower(ladder: Ladder, rates: Rates, measure: Measure, judged: Judge) -> Rows:
    """Rows of networks with the same seeds, at smaller learning rates. Nothing is said of initial values."""
    rows = judged(measure(ladder, lambda name, weight: rates(name, weight) / SLOWER), ladder)
    return {at: row for at, row in rows.items() if row.part != "init"}


def _wider(values: Floats, ladder: Ladder, rates: Rates, measure: Measure, judged: Judge) -> Rows:
    """Rows of the ladder without its lowest rung, with one more at its top."""
    further = ladder.further()
    top = measure(replace(further, rungs=further.rungs[-1:]), rates)
    return judged(np.concatenate([values[:, :, :, 1:], top], axis=3), further)
