"""The unknown exponents of a network as the variables of a linear programme.

Variables are exponents of the quantities themselves (not of their inverses): `init[W]` of the initial size of
W = multiplier * w, `lr[W]` of its learning rate, `?name` of a multiplier. A parameter whose raw quantities are spoken
of also has `multiplier[W]`; its `lr[W]` is then that of w. Parameters with several uses have a multiplier at each.

With several widths an exponent is a vector. It stands in the programme as one rational number (`Units.number`): a
linear map that keeps the order of growth. Coefficients are plain rationals, so vectors never meet in a product, and a
linear programme over vectors, compared as sizes are, is the same programme over these numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from tensorprog.calculus.affine import Form, pack
from tensorprog.calculus.exponents import Exponents
from tensorprog.exponents import Units
from tensorprog.parametrizations.gauge import gauge_degree
from tensorprog.programme.trajectory import Trainer

Point = Sequence[Fraction]


@dataclass(frozen=True, slots=True)
class Affine:
    """A sum of integer coefficients times variables."""

    terms: Mapping[int, int] = field(default_factory=dict)

    def at(self, point: Point) -> Fraction:
        return sum((c * point[j] for j, c in self.terms.items()), Fraction(0))

    def __add__(self, other: Affine) -> Affine:
        total = dict(self.terms)
        for j, c in other.terms.items():
            total[j] = total.get(j, 0) + c
        return Affine({j: c for j, c in total.items() if c})

    def __mul__(self, factor: int) -> Affine:
        return Affine({j: factor * c for j, c in self.terms.items() if factor})

    def __sub__(self, other: Affine) -> Affine:
        return self + other * -1


NOTHING = Affine()


class Unknowns:
    """The variables of one programme. `gauged`: parameters whose own multiplier is a variable."""

    def __init__(self, trainer: Trainer, gauged: Iterable[str]) -> None:
        self.trainer = trainer
        self.names: list[str] = []
        self.multiplier: dict[str, Affine] = {name: self.new(f"multiplier[{name}]") for name in gauged}
        self.init: dict[str, Affine] = {}
        self.lr: dict[str, Affine] = {}
        self.scale: dict[str, Affine] = {}
        program = trainer.program
        for name in program.forward.parameters:
            self.init[name] = self.new(f"init[{name}]")
            if name in program.updates:
                self.lr[name] = self.new(f"lr[{name}]")
        self.use: dict[str, Affine] = {}
        for name in trainer.uses_of:
            own = constraining(trainer, name)
            if len(own) > 1:
                self.use.update({use: self.new(f"multiplier[{use.replace('@', ' at ')}]") for use in own})
        for name, unknown in program.forward.unknowns.items():
            if unknown.kind == "multiplier":
                self.scale[name] = self.new(f"?{name}")

    def new(self, name: str) -> Affine:
        """One more variable."""
        self.names.append(name)
        return Affine({len(self.names) - 1: 1})

    def raw(self, name: str, quantity: str) -> Affine:
        """A quantity of a parameter: init (of W), init_std, multiplier or lr (of w)."""
        multiplier = self.multiplier.get(name, NOTHING)
        match quantity:
            case "init":
                return self.init[name]
            case "init_std":
                return self.init[name] - multiplier
            case "multiplier":
                return multiplier
            case _:
                return self.lr[name]

    def exponents(self, point: Point) -> Exponents:
        """The calculus' exponents at a point, as forms of the variables. Raises ValueError if the units are too
        coarse for it."""
        units = self.trainer.units
        A = {name: _form(units, affine * -1, point) for name, affine in self.init.items()}
        C: dict[str, int] = dict.fromkeys(self.trainer.program.forward.parameters, 0)
        for name, affine in self.lr.items():
            whole = affine + self.multiplier.get(name, NOTHING) * gauge_degree(self.trainer, name)
            C[name] = _form(units, whole * -1, point, rates=True)
        M: dict[str, int] = {name: _form(units, self.scale[name], point) if name in self.scale
                             else _form(units, self.use[name], point) if name in self.use else 0
                             for name in self.trainer.program.forward.unknowns}  # fmt: skip
        return Exponents(A, C, M)

    def point(self, exponents: Exponents) -> list[Fraction]:
        """The point at which the exponents are these, without multipliers of parameters."""
        denominator = self.trainer.units.denominator
        point = [Fraction(0)] * len(self.names)
        for known, sign, values in ((self.init, -1, exponents.A), (self.lr, -1, exponents.C),
                                    (self.scale, 1, exponents.M), (self.use, 1, exponents.M)):  # fmt: skip
            for name, affine in known.items():
                (variable,) = affine.terms
                point[variable] = Fraction(sign * int(values[name]), denominator)
        return point

    def text(self, terms: Mapping[int, int]) -> str:
        """`init[V] + 2 lr[W]`."""
        parts = []
        for j, c in sorted(terms.items()):
            factor = "" if abs(c) == 1 else f"{abs(c)} "
            parts.append(f"{'-' if c < 0 else '+'} {factor}{self.names[j]}")
        joined = " ".join(parts)
        return joined[2:] if joined.startswith("+ ") else "-" + joined[2:]


def _form(units: Units, affine: Affine, point: Point, *, rates: bool = False) -> int:
    value = units.packed(affine.at(point))
    if not affine.terms:
        return value
    coefficients = [affine.terms.get(j, 0) for j in range(max(affine.terms) + 1)]
    return Form(value, pack(coefficients), rates=rates)


def constraining(trainer: Trainer, name: str) -> list[str]:
    """The uses of a parameter that demand something of its size: not those whose value only an unknown multiplier
    consumes, unless all are like that."""
    uses = trainer.uses_by_param(name)
    return list(dict.fromkeys(o.use for o in uses if name in trainer.always_free or o.multiplier is None))
