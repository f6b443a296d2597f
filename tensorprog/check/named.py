"""Parametrizations that people use without deriving them, as data: what `check --parametrization` trains."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from tensorprog.calculus.analysis import Exponents
from tensorprog.derive import Derivation
from tensorprog.errors import TensorProgError
from tensorprog.exponents import Power
from tensorprog.parametrization import ParamExponents, Parametrization


@dataclass(frozen=True, slots=True)
class Named:
    """`std`, `multiplier`: exponent of the fan-in; `lr`: exponent of the width for (degree 1, degree 0) optimizers."""

    std: Fraction
    multiplier: Fraction
    lr: tuple[Fraction, Fraction]
    source: str


_HALF = Fraction(1, 2)
NAMED: dict[str, Named] = {
    "sp": Named(-_HALF, Fraction(0), (Fraction(0), Fraction(0)),
                "standard parametrization with one global learning rate: He et al. 2015; TP V, table 3 in grey"),
    "ntp": Named(Fraction(0), -_HALF, (Fraction(0), Fraction(0)),
                 "neural tangent parametrization: Jacot et al. 2018; Tensor Programs IV, table 1"),
}  # fmt: skip


def named(derivation: Derivation, name: str, lr: Fraction | None = None) -> tuple[Parametrization, Exponents]:
    """A named parametrization of the architecture, and the same in the calculus' gauge (packed).

    Vectors that are not contracted (biases, gains, embeddings) have fan-in 1. Every `?name` keeps the formula of
    its base value, evaluated at the actual width. `lr` overrides the exponent of the global learning rate.
    Raises TensorProgError for an unknown name.
    """
    if name not in NAMED:
        raise TensorProgError(f"unknown parametrization `{name}`", fix="derived, " + ", ".join(NAMED))
    row = NAMED[name]
    solver, graph = derivation.solution.solver, derivation.architecture.graph
    units = solver.units
    params: dict[str, ParamExponents] = {}
    unknowns: dict[str, Power] = {}
    packed = Exponents({}, {}, {})
    for param, parameter in graph.parameters.items():
        fan_in = Power.of(dict(parameter.fan_in.growth)) if parameter.fan_in is not None else Power()
        widest = Power.of({derivation.widths[0]: 1})
        multiplier, std = fan_in**row.multiplier, fan_in**row.std
        optimizer = solver.optimizers[param]
        exponent = widest ** (lr if lr is not None else row.lr[0 if optimizer.degree else 1])
        zero = solver.starts_at_zero(parameter)
        decay = exponent ** Fraction(-1) if optimizer.decay != "none" else None
        eps = Power() if optimizer.eps else None
        params[param] = ParamExponents(multiplier, None if zero else std, exponent, decay, eps)
        packed.A[param] = -units.pack_power(multiplier * std)
        times = 2 if optimizer.degree else 0 if optimizer.relative and not zero else 1
        packed.C[param] = -units.pack_power(exponent * multiplier**times)
        for use in solver.uses_of.get(param, ()):
            unknowns[use] = multiplier
            packed.M[use] = 0
    for name_, unknown in graph.unknowns.items():
        if unknown.kind == "multiplier":
            power = Power()
            for dim, p in unknown.base.powers:
                power = power * Power.of(dict(dim.growth)) ** p
            unknowns[name_] = power
            packed.M[name_] = units.pack_power(power)
    return Parametrization(name, derivation.optimizer, params, unknowns), packed
