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
    `binding`: what exceeds Theta(1) above it. `sharp`: it was seen that a little more is unstable. `attained`: whether
    n^factor itself is stable; else anything less is, and there only powers of slower widths are too much."""

    factor: Fraction | None
    binding: Excess | None
    sharp: bool
    attained: bool = True


def largest_rate(trainer: Trainer, exponents: Exponents) -> Rate:
    """Newton's method from above on the size of whatever first exceeds Theta(1), a piecewise linear function of the
    factor: each step goes to where the largest of the affine forms found so far is zero. Exact; confirmed by
    substitution. The trainer's units must be fine enough for the answer (`solving.unsolved`), else it is rounded
    down to them."""
    units = trainer.units
    grain = _grain(trainer)
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
        if not down:  # in the width that grows fastest nothing is left of the excess
            return _halved(trainer, exponents, factor, binding)
        factor -= down
    return Rate(None, binding, sharp=False)


def _halved(trainer: Trainer, exponents: Exponents, high: int, binding: Excess) -> Rate:
    """The same by bisection, below a factor at which something grows by powers of slower widths alone: affine forms
    that are compared by the fastest width lead nowhere from there, or to one more step at a time."""
    grain, denominator = _grain(trainer), trainer.units.denominator
    low, limit = -START * denominator, high
    for start in (0, low):
        if start < high and trainer.run(_plain(_shifted(exponents, start * grain))).stable:
            low = start
            break
    else:
        return Rate(None, binding, sharp=False)
    while high - low > 1:
        middle = (low + high) // 2
        result = trainer.run(_plain(_shifted(exponents, middle * grain)))
        if result.stable:
            low = middle
        else:
            high, binding = middle, result.excess[0] if result.excess else binding
    attained = high < limit
    return Rate(Fraction(low if attained else high, denominator), binding, sharp=True, attained=attained)


def _grain(trainer: Trainer) -> int:
    """The smallest power of the fastest width."""
    return trainer.units.pack({trainer.units.symbols[0]: Fraction(1, trainer.units.denominator)})


def _shifted(exponents: Exponents, factor: int) -> Exponents:
    """Every learning rate larger by the factor, as forms of it."""
    rates: dict[str, int] = {name: Form(c - factor, -1, rates=True) for name, c in exponents.C.items()}
    return Exponents(exponents.A, rates, exponents.M)


def _plain(exponents: Exponents) -> Exponents:
    return Exponents(exponents.A, {name: int(c) for name, c in exponents.C.items()}, exponents.M)
