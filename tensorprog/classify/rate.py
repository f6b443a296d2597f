"""The largest stable learning rate: all rates of a parametrization times one power of the width."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from tensorprog.calculus.affine import Form
from tensorprog.calculus.exponents import Exponents
from tensorprog.programme.trajectory import Excess, Trainer

START = 6  # powers of the width: more than any learning rate needs
MAX_ROUNDS = 60


@dataclass(frozen=True, slots=True)
class Rate:
    """`factor`: all learning rates may be multiplied by at most n^factor (None: at no learning rate is it stable).
    `binding`: what exceeds Theta(1) above it. `sharp`: it was seen that a little more is unstable."""

    factor: Fraction | None
    binding: Excess | None
    sharp: bool


def largest_rate(trainer: Trainer, exponents: Exponents) -> Rate:
    """Newton's method from above on the size of whatever first exceeds Theta(1), a piecewise linear function of the
    factor: each step goes to where the largest of the affine forms found so far is zero. Exact; confirmed by
    substitution. The trainer's units must be fine enough for the answer (`solving.unsolved`), else it is rounded
    down to them."""
    units = trainer.units
    grain = units.pack({units.symbols[0]: Fraction(1, units.denominator)})
    factor = START * units.denominator
    binding: Excess | None = None
    for _ in range(MAX_ROUNDS):
        result = trainer.run(_shifted(exponents, factor * grain))
        if result.stable:
            above = trainer.run(_plain(_shifted(exponents, (factor + 1) * grain)))
            return Rate(Fraction(factor, units.denominator), binding, not above.stable)
        steps = []
        for excess in result.excess:
            size = excess.size
            slope = size.coefficients(1)[0] if isinstance(size, Form) else 0
            if slope > 0:
                steps.append((ceil(units.degree(int(size)) * units.denominator / slope), excess))
        if not steps:
            return Rate(None, result.excess[0] if result.excess else None, sharp=bool(result.excess))
        down, binding = max(steps, key=lambda found: found[0])
        factor -= down
    return Rate(None, binding, sharp=False)


def _shifted(exponents: Exponents, factor: int) -> Exponents:
    """Every learning rate larger by the factor, as forms of it."""
    rates: dict[str, int] = {name: Form(c - factor, -1, rates=True) for name, c in exponents.C.items()}
    return Exponents(exponents.A, rates, exponents.M)


def _plain(exponents: Exponents) -> Exponents:
    return Exponents(exponents.A, {name: int(c) for name, c in exponents.C.items()}, exponents.M)
