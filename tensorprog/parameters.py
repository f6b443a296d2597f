"""What a derivation decides about: parameters, how they start, and the multipliers of a network."""

from __future__ import annotations

from dataclasses import dataclass, field

from tensorprog.dims import Dim
from tensorprog.exponents import Power
from tensorprog.graph import Axis, Scalar
from tensorprog.syntax import NOWHERE, Span


@dataclass(frozen=True, slots=True)
class Unknown:
    """A multiplier the derivation solves for: base-width value `base` (`stated`: in the file), exponent to be found.

    kind "multiplier": written `?name` in the file. kind "use": the implicit multiplier that stands between a
    parameter `param` and one use of it in the text (base 1); parametrizations with multipliers set it.
    """

    name: str
    base: Scalar = Scalar()
    kind: str = "multiplier"
    param: str = ""
    span: Span = field(default=NOWHERE, compare=False)
    stated: bool = False


@dataclass(frozen=True, slots=True)
class Init:
    """How a parameter starts. kind: normal | zeros | ones | constant | orthogonal.

    `value` is the standard deviation (normal), the constant, or the gain (orthogonal) at the base width;
    None for normal means fan_in^-1/2 at the base width, fan_in = the sizes contracted at its first use.
    """

    kind: str = "normal"
    value: float | None = None


@dataclass(frozen=True, slots=True)
class Parameter:
    """A trained (or frozen) tensor. `name` is its dotted path, e.g. `layers.0.attention.Wq`. `start`: how its entries
    start where that is given, and not for a derivation to choose."""

    name: str
    axes: tuple[Axis, ...]
    init: Init = Init()
    frozen: bool = False
    optimizer: str | None = None
    fan_in: Dim | None = None  # product of the sizes summed at its first use; None if nothing is summed
    layers: tuple[Axis, ...] = ()  # there is one for all positions of these axes, outermost first; not in `axes`
    start: Power | None = None
    span: Span = field(default=NOWHERE, compare=False)
