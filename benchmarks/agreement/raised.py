"""Which learning rate brings out what is predicted, where it is not seen.

Base rates are halved together until no narrow network explodes, which may leave one of them at a thousandth of what
the limit bears. What its parameter moves is then hidden behind parts that vanish with width. No exponent depends on
such a constant. So what still grows more slowly than predicted is looked at once more with this one rate raised: what
follows its prediction there agrees (`RAISED`).
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from benchmarks.agreement import evidence
from benchmarks.agreement.family import Key
from benchmarks.agreement.rows import Case
from tensorprog.coordcheck.predict import Predictor
from tensorprog.derivation import Derivation
from tensorprog.exponents import Power

RAISES = (8.0, 64.0, 512.0, 4096.0)  # times one learning rate
LITTLE = Fraction(-1, 70)  # less than what tells exponents apart


def carriers(derivation: Derivation, case: Case) -> dict[Key, frozenset[str]]:
    """Row that disagrees since its change is too small -> the parameters whose updates carry the predicted part. Were
    all learning rates smaller by n^`LITTLE`, that part would be, too; by less, if a parameter that it contains kept
    its own."""
    keys = [key for key in case.disagreeing(evidence.SLOWER) if key[1]]
    if not keys:
        return {}
    used, little = case.predictor.parametrization, Power.of({derivation.widths[0]: LITTLE})
    steps = max(t for _, t in keys)

    def sizes(kept: str = "", like: Predictor | None = None) -> tuple[Predictor, list[Fraction]]:
        params = {name: replace(e, lr=e.lr * little) if e.lr is not None and name != kept else e
                  for name, e in used.params.items()}  # fmt: skip
        found = Predictor(derivation, replace(used, params=params), steps, like=like)
        exponents = [found.at(case.places[k], t).exponent for k, t in keys]
        return found, [Fraction(-1000) if e is None else e.degree for e in exponents]

    like, least = sizes()
    kept = {name: sizes(name, like)[1] for name in case.predictor.program.updates}
    return {key: frozenset(name for name, found in kept.items() if found[row] > least[row])
            for row, key in enumerate(keys)}  # fmt: skip
