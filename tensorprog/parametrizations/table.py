"""The published parametrizations, a row of data each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

KINDS = ("input", "hidden", "output")


@dataclass(frozen=True, slots=True)
class Kind:
    """What a parametrization does with one kind of parameter. `multiplier`, `init_std`: exponents of the fan-in.
    `lr`: exponents of the size that grows (the fan-in, or the fan-out of an input parameter), for optimizers that are
    linear in the gradient, that normalise it, and whose step is also relative to the parameter; None: not published."""

    multiplier: Fraction
    init_std: Fraction
    lr: tuple[Fraction | None, Fraction | None, Fraction | None]


@dataclass(frozen=True, slots=True)
class Named:
    """`kinds`: "input" (the fan-in is finite; also biases and gains), "hidden" (fan-in and fan-out grow), "output"
    (the fan-in grows, the fan-out is finite)."""

    kinds: Mapping[str, Kind]
    source: str


def _row(source: str, **kinds: str) -> Named:
    """Each kind as "multiplier init_std | lr lr lr", with `-` for what is not published."""
    found = {}
    for name, text in kinds.items():
        sizes, rates = (part.split() for part in text.split("|"))
        multiplier, std = map(Fraction, sizes)
        linear, normalised, relative = (None if r == "-" else Fraction(r) for r in rates)
        found[name] = Kind(multiplier, std, (linear, normalised, relative))
    return Named(found, source)


NAMED: dict[str, Named] = {
    "sp": _row(
        "standard parametrization with one global learning rate: He et al. 2015 (arXiv:1502.01852); "
        "Tensor Programs IV (arXiv:2011.14522), Table 1",
        input="0 -1/2 | 0 0 0", hidden="0 -1/2 | 0 0 0", output="0 -1/2 | 0 0 0",
    ),
    "ntp": _row(
        "neural tangent parametrization: Jacot et al. 2018 (arXiv:1806.07572); Tensor Programs IV, Table 1",
        input="-1/2 0 | 0 0 0", hidden="-1/2 0 | 0 0 0", output="-1/2 0 | 0 0 0",
    ),
    "mfp": _row(
        "mean-field parametrization: Mei et al. 2018 (arXiv:1804.06561), Tensor Programs IV, Table 1 (one hidden "
        "layer, SGD); deeper networks and normalised optimizers: Everett et al. 2024 (arXiv:2407.05872)",
        input="-1/2 0 | 1 0 0", hidden="-1/2 0 | 1 -1/2 -1/2", output="-1 0 | 1 0 0",
    ),
    "mup": _row(
        "maximal update parametrization, by fan-in and fan-out: Tensor Programs V (arXiv:2203.03466), Table 8; "
        "relative steps: Everett et al. 2024 (arXiv:2407.05872)",
        input="0 -1/2 | 1 0 0", hidden="0 -1/2 | 0 -1 -1/2", output="-1 0 | 1 0 0",
    ),
}  # fmt: skip
