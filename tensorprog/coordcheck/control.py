"""The negative control: the derived parametrization with one exponent put wrong, which the check must catch.

A check that agrees proves something only if it would have disagreed. So beside every check a second, smaller one trains
networks in which one learning rate scales wrongly by the square root of the width, and holds them against the
same predictions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from tensorprog.coordcheck.ladder import Ladder
from tensorprog.coordcheck.predict import Predictor
from tensorprog.coordcheck.probes import Probe
from tensorprog.derivation import Derivation
from tensorprog.errors import NoPowerLawError
from tensorprog.exponents import Power
from tensorprog.parametrization import Parametrization

RUNGS, SEEDS, MOST_SEEDS = 3, 4, 8  # of a control: it is meant to be cheap
LOUDER = 4  # times the calibrated rate of the wrong parameter, if what others do hides its error at that one
CANDIDATES = 6  # parameters considered, of those that move: what an early one does wrong shows in most tensors
ERROR = Fraction(1, 2)


@dataclass(frozen=True, slots=True)
class Wrong:
    """One exponent put wrong. `probes`: the activations whose first change must show it."""

    param: str
    derived: Power
    trained: Power
    parametrization: Parametrization
    probes: tuple[Probe, ...]


def first_step(derivation: Derivation) -> int:
    """The number of steps until every parameter has moved."""
    return 1 + max((optimizer.delay for optimizer in derivation.solution.solver.optimizers.values()), default=0)


def put_wrong(derivation: Derivation, places: Sequence[Probe], ladder: Ladder) -> Wrong | None:
    """The learning rate, too large or too small by n^1/2, that by the calculus shows in the most activations after one
    step; None if none does. The raw change of the parameter itself does not count: it would be no test of the rest.
    One that shows in the very value of the parameter's use goes first: elsewhere its effect may have a small constant
    and be hidden, on a short ladder, behind what others do there."""
    activations = [p for p in places if p.param is None and p.kind == "value"]
    steps = first_step(derivation)
    right = Predictor(derivation, derivation.parametrization, steps, derivation.solution.exponents)
    demanded = [right.at(probe, steps) for probe in activations]
    uses: dict[str, set[int]] = {}
    for use in derivation.solution.solver.uses:
        uses.setdefault(use.param, set()).add(use.node)
    moved = {p.param for p in places if p.param and p.kind == "value" and right.at(p, steps).exponent is not None}
    trained = [name for name in uses if name in moved and derivation.params[name].lr is not None]
    best: Wrong | None = None
    shown = (False, 0)  # of the best: in the value of its use, in how many activations
    for name in trained[:CANDIDATES]:
        rule = derivation.params[name]
        for sign in (1, -1):
            assert rule.lr is not None
            lr = rule.lr * Power.of({ladder.axis[0]: sign * ERROR})
            params = {**derivation.params, name: replace(rule, lr=lr)}
            wrong = replace(derivation.parametrization, name="control", params=params)
            try:
                predicted = Predictor(derivation, wrong, steps, like=right)
            except NoPowerLawError:  # it would grow from layer to layer: no exponent to be held against
                continue
            showing = tuple(
                probe
                for probe, right_one in zip(activations, demanded, strict=True)
                if right_one.exponent is not None
                and (found := predicted.at(probe, steps)).exponent is not None
                and not found.bound_only
                and abs(ladder.exponent(found.exponent / right_one.exponent)) >= ERROR
            )
            rank = (any(probe.node in uses[name] for probe in showing), len(showing))
            if rank > shown:
                best, shown = Wrong(name, rule.lr, lr, wrong, showing), rank
    return best
