"""Which learning rate brings out what is predicted, where it is not seen: see `tensorprog.coordcheck.carriers`.

Base rates are halved together until no narrow network explodes, which may leave one of them at a thousandth of what
the limit bears. What still grows more slowly than predicted is looked at once more with this one rate raised: what
follows its prediction there is inconclusive (`RAISED`). It is no evidence for the prediction: at so large a rate a
bounded function saturates, and what comes out of it is of order 1 whatever the law.
"""

from __future__ import annotations

from benchmarks.agreement import evidence
from benchmarks.agreement.family import Key
from benchmarks.agreement.rows import Case
from tensorprog.coordcheck import carriers as calculus
from tensorprog.derivation import Derivation

RAISES = (8.0, 64.0, 512.0, 4096.0)  # times one learning rate


def carriers(derivation: Derivation, case: Case) -> dict[Key, frozenset[str]]:
    """Row that disagrees since its change is too small -> the parameters whose updates carry the predicted part."""
    keys = [key for key in case.disagreeing(evidence.SLOWER) if key[1]]
    found = calculus.carriers(derivation, case.predictor, [(case.places[k], t) for k, t in keys])
    return dict(zip(keys, found, strict=True))
