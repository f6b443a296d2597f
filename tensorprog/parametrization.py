"""What a derivation ends in and what emission and check start from: exponents for every parameter and multiplier."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tensorprog.exponents import Power


@dataclass(frozen=True, slots=True)
class ParamExponents:
    """How the quantities of one parameter scale with the widths (each is the quantity's own exponent).

    `multiplier`: the factor common to all uses of w. `init_std` None: starts at exactly zero.
    `weight_decay`, `eps` None: the optimizer has none.
    """

    multiplier: Power
    init_std: Power | None
    lr: Power | None  # None: frozen
    weight_decay: Power | None
    eps: Power | None


@dataclass(frozen=True, slots=True)
class Parametrization:
    """`params`: parameter name -> exponents. `unknowns`: multiplier name -> exponent of its value, both for
    `?name` and for the implicit ones between a parameter and a use (whole factor, `multiplier` included).

    Every quantity at given widths is (its value at the base widths) * Power.ratio(widths, base).
    """

    name: str
    optimizer: str
    params: Mapping[str, ParamExponents]
    unknowns: Mapping[str, Power]
