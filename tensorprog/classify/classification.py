"""What a parametrization does to an architecture, as data, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from tensorprog.architecture import Architecture
from tensorprog.classify.alignment import Alignment, Disagreement
from tensorprog.classify.needed import Change
from tensorprog.exponents import Power
from tensorprog.parametrization import Parametrization
from tensorprog.programme.polyhedron import Inequality
from tensorprog.programme.region import Region
from tensorprog.solving import units_of


@dataclass(frozen=True, slots=True)
class Growth:
    """A tensor larger than Theta(1): like `exponent`, first at `step` (0: initialisation)."""

    tensor: str
    exponent: Power
    step: int
    line: int


@dataclass(frozen=True, slots=True)
class Moves:
    """A hidden tensor: the exponents of its initial value and of its change. None: exactly zero."""

    tensor: str
    initial: Power | None
    change: Power | None


@dataclass(frozen=True)
class Classification:
    """What a parametrization does to an architecture under an optimizer.

    `growth`: the first tensor that exceeds Theta(1), in order of steps, then of the graph; None: stable. `features`:
    how the hidden tensors move: at every step if it is stable, else until the step `seen`. `contributions`: parameter
    -> exponent of what its own change makes of its layer's output (None: it does not move). `vanishing`: arguments of
    nonlinearities whose initial value vanishes. `r`: exponent of Tensor Programs IV, or why there is none.
    `rate_factor`: the largest n^x by which all learning rates may be multiplied (None: none is stable);
    `rate_binding`: what exceeds Theta(1) above it; `rate_sharp`: whether a little more was seen to be unstable;
    `rate_attained`: whether it is stable itself, or only all that is less (where slower widths are left of it).
    `global_rate`: n^x, if all parameters have the same learning rate. `changes`: what would make it maximal, or why
    nothing does. `alignment`: what was assumed (None: derived); `disagreements`: where the derived alignment differs,
    up to the step `differs_until`, at which something exceeds Theta(1) (None: at every step).
    `caveat`: which norm the calculus does not cover, so that gradients behind it may be larger than predicted.
    `region`, `constraints`: the polyhedron of what is stable, in two exponents and as a list, if asked for.
    """

    architecture: Architecture
    optimizer: str
    parametrization: Parametrization
    growth: Growth | None
    settled: bool
    seen: int
    outputs: tuple[Moves, ...]
    features: tuple[Moves, ...]
    contributions: dict[str, Power | None]
    vanishing: tuple[Moves, ...]
    r: Fraction | str
    rate_factor: Fraction | None
    rate_binding: str
    rate_sharp: bool
    rate_attained: bool
    global_rate: Fraction | None
    changes: tuple[Change, ...] | str
    alignment: Alignment | None = None
    disagreements: tuple[Disagreement, ...] = ()
    differs_until: int | None = None
    caveat: str = ""
    region: Region | None = None
    constraints: tuple[Inequality, ...] | None = None

    @property
    def stable(self) -> bool:
        """Nothing exceeds Theta(1), at initialisation or after any number of steps."""
        return self.growth is None and self.settled

    def degrees(self, power: Power) -> tuple[Fraction, ...]:
        """Of each group of widths that grow in proportion, the fastest first: how large things are, in this order."""
        units = units_of(self.architecture.graph, self.architecture.model.regime)
        return tuple(sum((power[symbol] for symbol in group), Fraction(0)) for group in units.given)

    def sign(self, power: Power) -> int:
        """1 for what grows, -1 for what vanishes, 0 for what does neither."""
        first = next(filter(None, self.degrees(power)), Fraction(0))
        return (first > 0) - (first < 0)

    def moves_by_one(self, moves: Moves) -> bool:
        """Whether a tensor changes by Theta(1) or more."""
        return moves.change is not None and self.sign(moves.change) >= 0

    @property
    def trivial(self) -> bool:
        """The outputs do not move in the limit."""
        return not any(map(self.moves_by_one, self.outputs))

    @property
    def feature_learning(self) -> bool:
        """Some hidden tensor moves by Theta(1) or more."""
        return any(map(self.moves_by_one, self.features))

    @property
    def regime(self) -> str:
        """unstable | trivial | kernel | feature learning. Source: Tensor Programs IV, section 3."""
        if not self.stable:
            return "unstable"
        if self.trivial:
            return "trivial"
        return "feature learning" if self.feature_learning else "kernel"

    @property
    def maximal(self) -> bool:
        """Stable, and the change of every trained parameter moves its layer's output by Theta(1)."""
        return self.stable and all(power is not None and not self.sign(power) for power in self.trained.values())

    @property
    def trained(self) -> dict[str, Power | None]:
        """The contributions of the parameters that have a learning rate."""
        return {name: c for name, c in self.contributions.items()
                if self.parametrization.params[name].lr is not None}  # fmt: skip

    def render(self, format: str = "table", *, color: bool = False) -> str:
        """As `table`, `json`, or (its constraints) `latex`."""
        from tensorprog.classify import show

        if format == "table":
            return show.table(self, color=color)
        return show.as_latex(self) if format == "latex" else show.as_json(self)

    def __str__(self) -> str:
        return self.render()
