"""What a derivation ends in and what emission and check start from: exponents for every parameter and multiplier."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tensorprog.exponents import Power
from tensorprog.optimizers import Choice, Optimizer
from tensorprog.optimizers.choice import choose
from tensorprog.parameters import Parameter


@dataclass(frozen=True, slots=True)
class ParamExponents:
    """How the quantities of one parameter scale with the widths (each is the quantity's own exponent).

    `multiplier`: the factor common to all uses of w. `init_std` None: starts at exactly zero.
    `weight_decay`, `eps` None: the optimizer has none. `others`: its other hyperparameters that scale, by name.
    """

    multiplier: Power
    init_std: Power | None
    lr: Power | None  # None: frozen
    weight_decay: Power | None
    eps: Power | None
    others: tuple[tuple[str, Power], ...] = ()

    @property
    def init(self) -> Power:
        """Of the initial size of W = multiplier * w (of a w that starts at zero: of the multiplier)."""
        return self.multiplier * (self.init_std or Power())

    @property
    def hyper(self) -> dict[str, Power]:
        """All hyperparameters of the optimizer that scale, by name."""
        known = {"lr": self.lr, "weight_decay": self.weight_decay, "eps": self.eps, **dict(self.others)}
        return {name: power for name, power in known.items() if power is not None}


@dataclass(frozen=True, slots=True)
class Parametrization:
    """`params`: parameter name -> exponents. `unknowns`: multiplier name -> exponent of its value, both for
    `?name` and for the implicit ones between a parameter and a use (whole factor, `multiplier` included).

    `optimizer`: of what no rule says otherwise; `choice`: the rules, None if there are none.
    Every quantity at given widths is (its value at the base widths) * Power.ratio(widths, base).
    """

    name: str
    optimizer: str
    params: Mapping[str, ParamExponents]
    unknowns: Mapping[str, Power]
    choice: Choice | None = None

    def updater(self, parameter: Parameter) -> Optimizer:
        """The optimizer that updates this parameter. Raises TensorProgError for an unknown name."""
        return (self.choice or choose(self.optimizer)).of(parameter)

    @property
    def default(self) -> Optimizer:
        """The optimizer of what no rule says otherwise."""
        return (self.choice or choose(self.optimizer)).default
