"""Matrices that are too narrow for the law of an orthogonalised step, which has as many directions as its gradient.

A step of spectral norm 1 and rank r has entries (r / p q)^(1/2). The calculus takes r as finite. The gradient of a
convolution sums an outer product for every example and every place, so on narrow networks it is of full rank,
r = min(p, q), and what is measured grows by up to n^(1/2) more, until the width exceeds the number of places.
The change after t steps is the sum of t such steps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

from tensorprog.calculus.rank import outer_products
from tensorprog.coordcheck.ladder import Ladder
from tensorprog.coordcheck.probes import Probe
from tensorprog.coordcheck.report import Row
from tensorprog.coordcheck.statistics import TOLERANCE
from tensorprog.derivation import Derivation
from tensorprog.dims import BATCH_SYMBOL

FULL = 0.5 + TOLERANCE  # by how much a slope may exceed the prediction where the rank grows with the width


def crowded(
    derivation: Derivation, ladder: Ladder, batch: int, probes: Sequence[Probe], rows: Mapping[tuple[int, int], Row]
) -> dict[tuple[int, int], Row]:
    """The rows (by positions of probe and step), where the change of a matrix with orthogonalised steps that may be of
    full rank at the foot of the ladder, and grows by less than n^1/2 more than predicted, is inconclusive."""
    result = dict(rows)
    for (k, t), row in rows.items():
        name = probes[k].param
        if not t or name is None or probes[k].kind not in ("value", "update") or row.measured is None:
            continue
        if derivation.solution.solver.optimizers[name].normalisation != "spectral":
            continue
        if "disagrees" not in (row.verdict, row.calculus_verdict):
            continue
        rank = t * outer_products(derivation.architecture.program, name, {**ladder.rungs[0], BATCH_SYMBOL: batch})
        if rank <= _side(derivation, name, ladder.rungs[0]):
            continue
        verdicts = [_excused(verdict, row.measured, predicted) for verdict, predicted in
                    ((row.verdict, row.predicted), (row.calculus_verdict, row.calculus))]  # fmt: skip
        if (row.verdict, row.calculus_verdict) != tuple(verdicts):
            why = f"its rank is up to {rank}, or full below that width: its law is that of wider networks"
            result[k, t] = replace(row, verdict=verdicts[0], calculus_verdict=verdicts[1], reason=why)
    return result


def _side(derivation: Derivation, name: str, sizes: Mapping[str, int]) -> int:
    """The smaller side of a parameter seen as a matrix [first axis, rest]."""
    first, *rest = (int(axis.dim.evaluate(sizes)) for axis in derivation.architecture.graph.parameters[name].axes)
    return min(first, math.prod(rest))


def _excused(verdict: str, measured: float, predicted: str | None) -> str:
    if verdict != "disagrees" or predicted is None or not 0 < measured - float(Fraction(predicted)) < FULL:
        return verdict
    return "inconclusive"
