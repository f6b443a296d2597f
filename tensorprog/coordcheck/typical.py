"""A second look at what disagrees: the typical entries of typical networks.

A root mean square tells the size of an entry only if no few entries rule it. Products of many Gaussian factors, as a
trained gate or scan makes, have such tails that the mean of their squares has not settled at any width that can be
trained, though nine entries in ten follow their law. So may, at the narrow end, a few of the networks. What disagrees
must therefore disagree as well once the largest entries are left out and the largest networks are cut down.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from tensorprog.coordcheck import judge
from tensorprog.coordcheck.predict import Predictor
from tensorprog.coordcheck.report import Row

if TYPE_CHECKING:
    from tensorprog.coordcheck.run import Runs

ASTRAY = 4  # of that many networks of a rung, the largest is cut down to the next
FEW = "a few large entries or networks rule its mean square: without them it does not disagree"


def second_look(
    runs: Runs, rows: dict[tuple[int, int], Row], seeds: int, demanded: Predictor, own: Predictor | None
) -> dict[tuple[int, int], Row]:
    """The rows (by positions of probe and step), where those that disagree with the calculus and do not so for typical
    entries of typical networks are inconclusive. Trains the networks of these seeds once more, if there are such rows
    and the backend is NumPy's."""
    found = [(k, t) for (k, t), row in rows.items()
             if row.verdict == row.calculus_verdict == "disagrees" and row.measured is not None
             and runs.probes[k].kind in ("value", "gradient")]  # fmt: skip
    if not found or runs.backend != "numpy":
        return rows
    wanted = sorted({k for k, _ in found})
    typical = replace(runs, probes=tuple(runs.probes[k] for k in wanted), typical=True, progress=None)
    values = typical.measure(range(seeds))
    result = dict(rows)
    for k, t in found:
        sizes, probe = values[wanted.index(k), t], runs.probes[k]
        if not np.all(sizes > 0):  # nearly all entries are zero
            continue
        cut = np.sort(sizes, axis=1)[:, -1 - seeds // ASTRAY, None]
        theirs = own.at(probe, t) if own else None
        row = judge.row(probe, t, demanded.at(probe, t), theirs, np.minimum(sizes, cut), runs.ladder, judge.Limits())
        verdicts = [v if v == "disagrees" else "inconclusive" for v in (row.verdict, row.calculus_verdict)]
        if "inconclusive" in verdicts:
            result[k, t] = replace(rows[k, t], verdict=verdicts[0], calculus_verdict=verdicts[1], reason=FEW)
    return result
