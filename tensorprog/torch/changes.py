"""What must change in a model, in terms of the model itself: where reading one ends and applying begins.

Every law is a `Power` of the symbols of the builder (`build(n)`: n; `build(hidden=.., ffn=..)`: hidden and ffn), or a
`Dim`, a polynomial in them. A quantity q that is right at the base sizes is, at other sizes,

    q * needed.ratio(sizes, base)            # a learning rate, weight decay, epsilon: as the user tuned it
    q * (needed / now).ratio(sizes, base)    # an initial value, a multiplier: the model already varies like `now`

The symbols' values in a given model follow from the shapes of its parameters (`ParameterChange.shape`).

Everything is stated without multipliers on parameters (W = w, the gauge a = 0 of `tensorprog.calculus.forms`), except
where the uses of one parameter need different sizes, or ranges of one different learning rates: those are among
`Changes.multipliers`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from tensorprog.dims import Dim
from tensorprog.exponents import Power
from tensorprog.optimizers import OPTIMIZERS, Optimizer
from tensorprog.parametrization import ParamExponents

UNIT = Power()


@dataclass(frozen=True, slots=True)
class Part:
    """A range of one axis of a parameter, with exponents of its own: the rows `start` to `stop` (excluded) along
    `axis`. The exponents are those of `ParamExponents`, whose multiplier is 1 here.

    `init_now`: how the initial standard deviation (or constant) scales at present; None: it starts at zero.
    `needed.init_std` None: it must start, and starts, at zero.
    """

    axis: int
    start: Dim
    stop: Dim
    init_now: Power | None
    needed: ParamExponents
    reasons: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ParameterChange:
    """One parameter tensor (tied names are one): what it is now and what it must be.

    `name`: the first of its qualified names, as in `named_parameters()`; `aliases`: the others. `shape`: its sizes.
    `init_kind`: normal | constant | zeros. `optimizer`: which one updates it (Muon leaves vectors to Adam). `frozen`:
    not trained, or no gradient reaches it; then `needed.lr` is None.
    `parts`: empty where one law holds for the whole tensor; else ranges that tile one axis, and `init_now`, `needed`
    are those of the first. Parts whose `lr` (or
    `weight_decay`, `eps`) differ have no right value of it in one parameter group.
    `refused`: why nothing could be derived ("" if something was); then `needed` keeps everything as it is.
    `own`: the optimizer, where the table has none of that name.
    `measured`: it starts at fixed numbers, such as logarithms, whose size follows no power: `init_now` is but the
    nearest, and the size at the base must be known to say what it must be elsewhere.
    """

    name: str
    aliases: tuple[str, ...]
    shape: tuple[Dim, ...]
    init_kind: str
    init_now: Power | None
    needed: ParamExponents
    optimizer: str
    frozen: bool = False
    parts: tuple[Part, ...] = ()
    reasons: Mapping[str, str] = field(default_factory=dict)
    refused: str = ""
    own: Optimizer | None = None
    measured: bool = False

    @property
    def row(self) -> Optimizer:
        """The optimizer that updates it."""
        return self.own or OPTIMIZERS[self.optimizer]

    @property
    def init_factor(self) -> Power:
        """How the present initial value must be multiplied (1 if it starts at zero)."""
        if self.init_now is None or self.needed.init_std is None:
            return UNIT
        return self.needed.init_std / self.init_now


@dataclass(frozen=True, slots=True)
class Attribute:
    """The number `getattr(module, name)` of the module at this path. The multiplier changes by a factor when the number
    is multiplied by factor^(1/power)."""

    module: str
    name: str
    power: Fraction = Fraction(1)


@dataclass(frozen=True, slots=True)
class ConfigField:
    """The number `getattr(model.config, name)`, read at every forward pass; `power` as of an `Attribute`."""

    name: str
    power: Fraction = Fraction(1)


@dataclass(frozen=True, slots=True)
class OutputHook:
    """The output (number `output`, if it is a tuple) of the module at this path: multiply it by the factor; if `axis`
    is not None only the range `start` to `stop` (excluded) along that axis, counted from the end (-1), in each of
    `blocks` equal parts of it (one per head, where each has its query, key and value side by side)."""

    module: str
    output: int = 0
    axis: int | None = None
    start: Dim | None = None
    stop: Dim | None = None
    blocks: Dim = Dim.of(1)


@dataclass(frozen=True, slots=True)
class InputHook:
    """The positional input number `argument` of the module at this path: multiply it by the factor; with `axis` only a
    range, as of an `OutputHook`."""

    module: str
    argument: int = 0
    axis: int | None = None
    start: Dim | None = None
    stop: Dim | None = None


@dataclass(frozen=True, slots=True)
class Absorb:
    """Multiply the parameter itself by the factor k (and its range, if given): initial value k, and learning rate, eps
    and weight decay as the optimizer's symmetry has it."""

    param: str
    axis: int | None = None
    start: Dim | None = None
    stop: Dim | None = None


Place = Attribute | ConfigField | OutputHook | InputHook | Absorb


@dataclass(frozen=True, slots=True)
class MultiplierChange:
    """One scalar factor in the computation: how it scales now, and how it must.

    `name`: for people, e.g. `h.0.attn (scores)`. `kind`: "product" (a product of two activations summed over an axis
    that grows, such as attention scores), "use" (one of several uses of the parameter `param`, such as a tied
    readout) or "range" (of the range `part` of `param`, which is divided by it: then the whole tensor has one learning
    rate). `module`: where it is computed. `now`, `needed`: how the whole fixed factor there scales. `places`: where
    the factor can be put, best first; none that is not known to work stands here. May be empty: then say so.
    `shared_with`: the multiplier whose place is this one's, too, where a module is called several times.
    """

    name: str
    kind: str
    module: str
    now: Power
    needed: Power
    places: tuple[Place, ...]
    param: str = ""
    reason: str = ""
    part: Part | None = None
    shared_with: str = ""

    @property
    def factor(self) -> Power:
        """How the present value must be multiplied."""
        return self.needed / self.now


@dataclass(frozen=True, slots=True)
class Changes:
    """All that must change in one model under one optimizer. `symbols`: those of the builder, with the values at which
    it was traced first in `traced`. `gradient_norm`: of the global norm that a clip compares with."""

    symbols: tuple[str, ...]
    optimizer: str
    parameters: tuple[ParameterChange, ...]
    multipliers: tuple[MultiplierChange, ...]
    gradient_norm: Power | None
    traced: Mapping[str, int] = field(default_factory=dict)

    @property
    def needed(self) -> bool:
        """Whether anything differs from what the model does already, learning rates included."""
        quantities = [p.needed.lr for p in self.parameters] + [p.init_factor for p in self.parameters]
        parts = [part.needed.lr for p in self.parameters for part in p.parts]
        moved = any(q is not None and q != UNIT for q in (*quantities, *parts))
        return moved or any(m.factor != UNIT for m in self.multipliers) or any(p.measured for p in self.parameters)

    def parameter(self, name: str) -> ParameterChange:
        """By any of its names. Raises KeyError."""
        return next(p for p in self.parameters if name == p.name or name in p.aliases)
