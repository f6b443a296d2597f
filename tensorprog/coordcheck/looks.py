"""Second looks at what disagrees, each of which the calculus must pass as well: typical entries, other rates, wider.

An exponent is a statement about the limit, at any fixed learning rates, and of all but a few entries; a ladder shows
the sizes of a few widths at one choice of the rates. So what disagrees must do so

- without the epsilon of norms, if it takes over in one: exponents are those of a norm that divides by its argument;
- in the typical entries of typical networks. A root mean square tells the size of an entry only if no few entries rule
  it. Products of many Gaussian factors, as a trained gate or scan makes, have such tails that the mean of their squares
  has not settled at any width that can be trained, though nine entries in ten follow their law. So may, at the narrow
  end, a few of the networks;
- at a quarter of the learning rates: how wide a network must be to follow its limit depends on them, the limit's
  exponents do not;
- one rung further up, without the lowest, where the widths were not asked for;
- if a change is smaller than predicted: with the one learning rate raised that carries it (carriers.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import replace
from fractions import Fraction
from functools import partial

import numpy as np

from tensorprog.coordcheck import epsilon, judge
from tensorprog.coordcheck.carriers import carriers
from tensorprog.coordcheck.predict import Predictor
from tensorprog.coordcheck.runs import Measurement, Rows, Runs

ASTRAY = 4  # of that many networks of a rung, the largest is cut down to the next
SLOWER = 4  # the learning rates are divided by that
RAISES = (8.0, 64.0)  # times one learning rate
MOST_RAISED = 3  # so many parameters are tried, those first that carry most of what is left
EPSILON = f"eps takes over in {{}}: with {epsilon.TINY:g} in its place it does not disagree"
FEW = "a few large entries or networks rule its mean square: without them it does not disagree"
RATES = "only at these learning rates: at a quarter of them it does not disagree"
WIDER = "only on this ladder: without its lowest rung, and with one more at its top, it does not disagree"
HIDDEN = "what carries it is hidden at these learning rates: with that of one parameter raised it agrees"

Look = Callable[[Runs, Rows, Measurement, Predictor, Predictor | None], Rows]


def second_looks(
    runs: Runs, rows: Rows, values: Measurement, demanded: Predictor, own: Predictor | None, *, climb: bool
) -> Rows:
    """The rows (by positions of probe and step), where those that disagree with the calculus and do not so in one of
    the looks are inconclusive (where another parametrization than the derived one is trained, against what the calculus
    predicts for that one only: a blow-up stays one). Each look trains networks with the seeds of `values` once more, if
    there are such rows; `climb`: whether wider (or deeper) networks may be trained."""
    looks: dict[str, Look] = {}
    if runs.backend == "numpy":
        norms = {} if runs.networks else epsilon.taken_over(runs, values, demanded)
        if norms:
            looks[EPSILON.format(", ".join(norms.values()))] = partial(_without_epsilon, norms)
        looks[FEW] = _typical
    looks[RATES] = _slower
    if climb:
        looks[WIDER] = _wider
    if own is None and not runs.networks:
        looks[HIDDEN] = _raised
    for reason, look in looks.items():
        found = {at: row for at, row in rows.items()
                 if row.verdict == row.calculus_verdict == "disagrees" and row.measured is not None}  # fmt: skip
        if not found:
            break
        seen = look(replace(runs, progress=None), found, values, demanded, own)
        rows = dict(rows)
        for at, row in found.items():
            other = seen.get(at)
            if other is None or other.measured is None:  # nothing, or rounding errors only, is left to be judged
                continue
            verdicts = [v if v == "disagrees" else "inconclusive" for v in (other.verdict, other.calculus_verdict)]
            if own:  # what is trained is not the derived one: it is held against that at its own rates
                verdicts[0] = row.verdict
            if "inconclusive" in verdicts:
                rows[at] = replace(row, verdict=verdicts[0], calculus_verdict=verdicts[1], reason=reason)
    return rows


def _without_epsilon(
    norms: Collection[int], runs: Runs, found: Rows, values: Measurement, demanded: Predictor, own: Predictor | None
) -> Rows:
    """Rows of networks with the same seeds, with next to no epsilon in these norms."""
    clean = epsilon.without(runs, norms)
    return clean.rows(clean.measure(range(values.shape[3])), demanded, own)


def _typical(runs: Runs, found: Rows, values: Measurement, demanded: Predictor, own: Predictor | None) -> Rows:
    """Rows of the same networks without the largest entries, and without what is large in the largest networks."""
    seeds = values.shape[3]
    wanted = sorted({k for k, _ in found if runs.probes[k].kind in ("value", "gradient")})
    if not wanted:
        return {}
    typical = replace(runs, probes=tuple(runs.probes[k] for k in wanted), typical=True)
    again = typical.measure(range(seeds))
    rows: Rows = {}
    for k, t in found:
        if k not in wanted:
            continue
        sizes, probe = again[wanted.index(k), t], runs.probes[k]
        if not np.all(sizes > 0):  # nearly all entries are zero
            continue
        cut = np.sort(sizes, axis=1)[:, -1 - seeds // ASTRAY, None]
        theirs = own.judged(probe, t) if own else None
        rows[k, t] = judge.row(probe, t, demanded.at(probe, t), theirs, np.minimum(sizes, cut), runs.ladder,
                               judge.Limits())  # fmt: skip
    return rows


def _slower(runs: Runs, found: Rows, values: Measurement, demanded: Predictor, own: Predictor | None) -> Rows:
    """Rows of networks with the same seeds, at smaller learning rates. Nothing is said of initial values."""
    slower = runs.slower(SLOWER)
    rows = slower.rows(slower.measure(range(values.shape[3])), demanded, own)
    return {at: rows[at] for at in found.keys() & rows.keys() if rows[at].part != "init"}


def _wider(runs: Runs, found: Rows, values: Measurement, demanded: Predictor, own: Predictor | None) -> Rows:
    """Rows of the ladder without its lowest rung, with one more at its top."""
    ladder, networks = runs.ladder.further(), runs.networks
    if runs.network is not None:
        networks = (*networks[1:], runs.network(ladder.rungs[-1]))
    top = replace(runs, ladder=replace(ladder, rungs=ladder.rungs[-1:]), networks=networks[-1:])
    wider = replace(runs, ladder=ladder, networks=networks)
    sizes = np.concatenate([values[:, :, 1:], top.measure(range(values.shape[3]))], axis=2)
    return wider.rows(sizes, demanded, own)


def _raised(runs: Runs, found: Rows, values: Measurement, demanded: Predictor, own: Predictor | None) -> Rows:
    """Of the changes that are smaller than predicted, the rows that agree in the same networks with one learning rate
    raised, that of a parameter which carries them."""
    small = [at for at, row in found.items() if row.part == "change" and row.predicted is not None
             and row.measured is not None and row.measured < Fraction(row.predicted)]  # fmt: skip
    carried_by = carriers(runs.derivation, demanded, [(runs.probes[k], t) for k, t in small])
    carrying = dict(zip(small, carried_by, strict=True))
    rows: Rows = {}
    tried: set[str] = set()
    for _ in range(MOST_RAISED):
        left = Counter(name for at, names in carrying.items() if at not in rows for name in names - tried)
        name = max(sorted(left), key=lambda name: left[name], default="")
        tried.add(name)
        for louder in filter(None, (runs.louder(name, factor) for factor in RAISES)):
            wanted = {at for at, names in carrying.items() if name in names} - rows.keys()
            if wanted:
                again = louder.rows(louder.measure(range(values.shape[3])), demanded, own)
                rows.update({at: again[at] for at in wanted & again.keys() if again[at].verdict == "agrees"})
    return rows
