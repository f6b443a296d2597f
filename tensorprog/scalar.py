"""Numbers that may depend on the widths."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from tensorprog.dims import Dim


@dataclass(frozen=True, slots=True)
class Scalar:
    """coefficient * prod dim^power * prod unknown: a number that may depend on the widths."""

    coefficient: Fraction = Fraction(1)
    powers: tuple[tuple[Dim, Fraction], ...] = ()
    unknowns: tuple[str, ...] = ()

    @classmethod
    def size(cls, dim: Dim, power: Fraction = Fraction(1)) -> Scalar:
        """A size to a power. One that is a number belongs to the coefficient, so that equal numbers are equal."""
        if dim.constant is not None and power.denominator == 1:
            return cls(dim.constant ** int(power))
        return cls(powers=((dim, power),))

    def __mul__(self, other: Scalar) -> Scalar:
        powers: dict[Dim, Fraction] = {}
        for dim, power in (*self.powers, *other.powers):
            powers[dim] = powers.get(dim, Fraction(0)) + power
        kept = tuple((d, p) for d, p in powers.items() if p)
        return Scalar(self.coefficient * other.coefficient, kept, self.unknowns + other.unknowns)
