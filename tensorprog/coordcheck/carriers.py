"""Whose learning rate brings out what is predicted, where it is not seen.

Base rates are halved together until no narrow network explodes, which may leave one of them far below what the limit
bears. What its parameter moves is then hidden behind parts that vanish with width. No exponent depends on such a
constant: with this one rate raised, the part must show.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from tensorprog.coordcheck.predict import Predictor
from tensorprog.coordcheck.probes import Probe
from tensorprog.derivation import Derivation
from tensorprog.exponents import Power

LITTLE = Fraction(-1, 70)  # less than what tells exponents apart


def carriers(derivation: Derivation, predictor: Predictor, rows: Sequence[tuple[Probe, int]]) -> list[frozenset[str]]:
    """For each row that is smaller than predicted (a probe, and a number of updates), the parameters whose updates
    carry its predicted change, and which move as predicted themselves. Were all learning rates smaller by n^`LITTLE`,
    that change would be, too; by less, if a parameter that it contains kept its own."""
    used, little = predictor.parametrization, Power.of({derivation.widths[0]: LITTLE})
    steps = max((step for _, step in rows), default=0)

    def sizes(kept: str = "", like: Predictor | None = None) -> tuple[Predictor, list[Fraction]]:
        params = {name: replace(e, lr=e.lr * little) if e.lr is not None and name != kept else e
                  for name, e in used.params.items()}  # fmt: skip
        found = Predictor(derivation, replace(used, params=params), steps, like=like)
        exponents = [found.at(probe, step).exponent for probe, step in rows]
        return found, [Fraction(-1000) if e is None else e.degree for e in exponents]

    if not rows:
        return []
    like, least = sizes()
    wrong = {probe.param for probe, _ in rows}
    kept = {name: sizes(name, like)[1] for name in predictor.program.updates if name not in wrong}
    return [frozenset(name for name, found in kept.items() if found[k] > least[k]) for k in range(len(rows))]
