"""What the calculus needs to know of an optimizer: its degree in the gradient, its normalisation, its other scales."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from tensorprog.errors import TensorProgError
from tensorprog.suggest import nearest

if TYPE_CHECKING:
    from tensorprog.optimizers.arithmetic import Formula

NORMALISATIONS = {
    "none": "linear in the gradient",
    "global": "over the norm of the whole gradient",
    "entry": "normalised entry by entry",
    "eigenbasis": "normalised entry by entry in an eigenbasis of earlier gradients",
    "tensor": "normalised by the gradient's rms",
    "frobenius": "normalised by the gradient's Frobenius norm",
    "spectral": "orthogonalised: spectral norm 1",
}
DECAYS = ("decoupled", "coupled", "none")
FACTORS = ("", "original", "match_rms", "spectral")
_FRACTIONS = ("beta1", "beta2", "momentum", "alpha")  # of what averages and momenta keep


@dataclass(frozen=True, slots=True)
class Size:
    """The exponent of a quantity of one parameter, as a linear form in four others: those of the entries of its
    gradient, of its own entries, of the number of its entries, and of the norm of the whole gradient."""

    gradient: Fraction | int = 0
    parameter: Fraction | int = 0
    count: Fraction | int = 0
    norm: Fraction | int = 0

    def of(self, gradient: int, parameter: int, count: int, norm: int) -> int:
        """Its value for packed exponents of the four. Raises ValueError if it is no multiple of the unit."""
        total = (
            Fraction(self.gradient) * gradient
            + Fraction(self.parameter) * parameter
            + Fraction(self.count) * count
            + Fraction(self.norm) * norm
        )
        if total.denominator != 1:
            raise ValueError(f"an exponent is not a multiple of the unit: {self}")
        return total.numerator


@dataclass(frozen=True, slots=True)
class Optimizer:
    """One optimizer.

    `normalisation` of the gradient, one of NORMALISATIONS: "none" (the step is linear in it) | "global" (over the
    norm of the whole gradient) | "entry" (each entry by its own history) | "eigenbasis" (entries
    in coordinates of which finitely many along each axis are directions of earlier gradients, and the rest arbitrary)
    | "tensor" (its rms) | "frobenius" (its norm)
    | "spectral" (orthogonalised: every direction of a matrix lifted to singular value 1).
    `relative`: the step is also proportional to the size of the parameter itself.
    `factor`: of the published convention, for a matrix [rows, cols]: "" | "original" sqrt(max(1, rows/cols)) |
    "match_rms" 0.2 sqrt(max(rows, cols)) | "spectral" sqrt(rows/cols).
    `scales`: hyperparameters that are added to or compared with something that scales: name -> its size. The learning
    rate, the weight decay and the radius of a perturbation are not among them: they are derived.
    `decay`: what weight decay does: "decoupled" from the gradient (w -= lr * decay * w) | "coupled" (L2) | "none".
    `vectors`: the optimizer that takes the parameters with fewer than two axes instead.
    `torch`: the class in torch.optim with exactly this step, None if there is none.
    `defaults`: hyperparameters by their names in torch.optim, with betas as beta1 and beta2 (flags are 0 or 1).
    `delay`: steps at the start that gather statistics and move nothing.
    `probe`: None, or the size of a perturbation of the parameters, without its radius `rho`, at which the gradient is
    taken. `sampled`: it also wants the gradient for targets drawn from the model itself; `uses_norm`: the norm of the
    whole gradient.
    `formula`: its definition in the language; `step`: its NumPy step, (stepper, w, g) -> None, w changed in place.
    """

    name: str
    normalisation: str
    source: str = ""
    relative: bool = False
    factor: str = ""
    scales: tuple[tuple[str, Size], ...] = ()
    decay: str = "none"
    vectors: str | None = None
    torch: str | None = None
    defaults: tuple[tuple[str, float], ...] = ()
    delay: int = 0
    probe: Size | None = None
    sampled: bool = False
    uses_norm: bool = False
    formula: Formula | None = None
    step: Callable[[Any, Any, Any], None] | None = None

    def __post_init__(self) -> None:
        """Raises TensorProgError for a normalisation, a decay or a factor that there is not."""
        for what, value, known in (("normalisation", self.normalisation, tuple(NORMALISATIONS)),
                                   ("decay", self.decay, DECAYS), ("factor", self.factor, FACTORS)):  # fmt: skip
            if value not in known:
                raise TensorProgError(f'the optimizer {self.name} has {what} "{value}"',
                                      fix=" | ".join(f'"{one}"' for one in known),
                                      why="its exponents follow from that, and these are known")  # fmt: skip

    def hyperparameters(self, options: Mapping[str, float]) -> dict[str, float]:
        """The defaults, overridden. Raises TensorProgError for an option it does not have, or one out of its range."""
        values = dict(self.defaults)
        for name, value in options.items():
            if name not in values:
                raise TensorProgError(f"the optimizer {self.name} has no option `{name}`",
                                      fix=nearest(name, values) or "one of " + ", ".join(values),
                                      why="it would change nothing")  # fmt: skip
            if name in _FRACTIONS and not 0 <= value < 1:
                raise TensorProgError(
                    f"`{name}` is {float(value):g}", why="it lies between 0 and 1, 1 excluded", fix="0.9"
                )
            if name in ("lr", "eps", "weight_decay") and value < 0:
                raise TensorProgError(
                    f"`{name}` is {float(value):g}", why="it is not negative", fix="a number from 0 on"
                )
            values[name] = float(value)
        return values

    @property
    def degree(self) -> int:
        """Of homogeneity in the gradient: 1 if the update is proportional to it, 0 if its scale does not matter."""
        return 1 if self.normalisation == "none" else 0

    @property
    def linear(self) -> bool:
        """Whether the step of one parameter is its gradient times a number that all parameters share."""
        return self.normalisation in ("none", "global")

    @property
    def keeps_sums(self) -> bool:
        """Whether an axis along which the gradient sums to zero is one along which the step does: a number times the
        gradient, or a function of its singular values alone, which keeps its column space and its row space."""
        return self.normalisation not in ("entry", "eigenbasis") if self.formula is None else not self.formula.mixes

    @property
    def turns(self) -> bool:
        """Whether a step depends on the directions of a gradient: on its singular vectors, not on entries or norms."""
        return self.normalisation in ("spectral", "eigenbasis")

    @property
    def remembers(self) -> bool:
        """Whether a step depends on the directions that earlier gradients had: on examples seen before it differs."""
        return self.normalisation == "eigenbasis"

    @property
    def eps(self) -> Size | None:
        """What eps is compared with; None if there is no eps whose scale matters."""
        return dict(self.scales).get("eps")

    @property
    def scaled(self) -> tuple[str, ...]:
        """The names of its hyperparameters that scale, other than the learning rate and the weight decay."""
        return (*(name for name, _ in self.scales), *(("rho",) if self.probe else ()))

    @property
    def gauge_degree(self) -> int:
        """How often a multiplier n^-a of w enters its learning rate: lr of w = n^(gauge_degree * a) * lr of W."""
        return 1 + int(self.linear) - int(self.relative)

    @property
    def needs_norm(self) -> bool:
        """Whether a step needs the norm of the whole gradient (of all parameters this optimizer updates)."""
        sizes = (*(size for _, size in self.scales), *((self.probe,) if self.probe else ()))
        return self.uses_norm or self.normalisation == "global" or any(size.norm for size in sizes)


def hyper(**values: float) -> tuple[tuple[str, float], ...]:
    """Hyperparameters and their defaults, for a row."""
    return tuple(values.items())


def scales(**sizes: Size) -> tuple[tuple[str, Size], ...]:
    """Hyperparameters that scale, for a row."""
    return tuple(sizes.items())
