"""Random parametrizations: the derived one with some of its exponents off by a half or by one."""

from __future__ import annotations

import random
from dataclasses import replace
from fractions import Fraction

from tensorprog.derivation import Derivation
from tensorprog.exponents import Power
from tensorprog.parametrization import Parametrization

SHIFTS = (Fraction(-1), Fraction(-1, 2), Fraction(1, 2), Fraction(1), Fraction(1))  # growth by n^(1/2) shows late


def perturbed(derivation: Derivation, seed: int) -> tuple[Parametrization, tuple[str, ...]]:
    """(a parametrization with one to three exponents wrong by 1/2 or 1, stable or not; what was done to it)."""
    rng = random.Random(f"parametrization {seed}")
    graph, chosen = derivation.architecture.graph, derivation.parametrization
    params, unknowns = dict(chosen.params), dict(chosen.unknowns)
    symbol = derivation.widths[0]
    places: list[tuple[str, str]] = [
        (name, quantity)
        for name, e in params.items()
        for quantity in ("init_std", "lr", "multiplier")
        if quantity == "multiplier" or getattr(e, quantity) is not None
    ]
    places += [("?", name) for name in unknowns if graph.unknowns[name].kind == "multiplier"]
    done = []
    for name, what in rng.sample(places, min(len(places), rng.randint(1, 3))):
        shift = Power.of({symbol: rng.choice(SHIFTS)})
        if name == "?":
            unknowns[what] = unknowns[what] * shift
        else:
            params[name] = replace(params[name], **{what: getattr(params[name], what) * shift})
            if what == "multiplier":
                for use in derivation.solution.solver.uses_of.get(name, ()):
                    unknowns[use] = unknowns[use] * shift
        done.append(f"{'?' + what if name == '?' else f'{what}[{name}]'} * {shift}")
    return Parametrization("perturbed", chosen.optimizer, params, unknowns), tuple(done)
