"""Parametrizations that people use without deriving them, as data: what `check --parametrization` trains."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from tensorprog.calculus.analysis import Exponents
from tensorprog.derivation import Derivation
from tensorprog.errors import TensorProgError
from tensorprog.exponents import Power
from tensorprog.graph import Scalar
from tensorprog.optimizers import Optimizer
from tensorprog.parametrization import Parametrization, ParamExponents


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


def named(derivation: Derivation, name: str, lr: Fraction | None = None) -> Parametrization:
    """A named parametrization of the architecture.

    Vectors that are not contracted (biases, gains, embeddings) have fan-in 1. Every `?name` keeps the formula of
    its base value, evaluated at the actual width. `lr` overrides the exponent of the global learning rate.
    Raises TensorProgError for an unknown name.
    """
    if name not in NAMED:
        raise TensorProgError(f"unknown parametrization `{name}`", fix="derived, " + ", ".join(NAMED))
    row = NAMED[name]
    solver, graph = derivation.solution.solver, derivation.architecture.graph
    width = Power.of({derivation.widths[0]: 1})
    params: dict[str, ParamExponents] = {}
    unknowns: dict[str, Power] = {}
    for param, parameter in graph.parameters.items():
        fan_in = Power.of(dict(parameter.fan_in.growth)) if parameter.fan_in is not None else Power()
        optimizer = solver.optimizers[param]
        rate = width ** (lr if lr is not None else row.lr[0 if optimizer.linear else 1])
        std = None if solver.starts_at_zero(parameter) else fan_in**row.std
        decay = rate**-1 if optimizer.decay != "none" else None
        trained = param in solver.program.updates
        params[param] = ParamExponents(fan_in**row.multiplier, std, rate if trained else None, decay,
                                       Power() if optimizer.eps else None, _constant(optimizer))  # fmt: skip
        unknowns.update(dict.fromkeys(solver.uses_of.get(param, ()), fan_in**row.multiplier))
    for key, unknown in graph.unknowns.items():
        if unknown.kind == "multiplier":
            unknowns[key] = _growth(unknown.base)
    return Parametrization(name, derivation.optimizer, params, unknowns, derivation.choice)


def _constant(optimizer: Optimizer) -> tuple[tuple[str, Power], ...]:
    """Its other hyperparameters, kept as they are at every width."""
    return tuple((name, Power()) for name in optimizer.scaled if name != "eps")


def _growth(scalar: Scalar) -> Power:
    power = Power()
    for dim, exponent in scalar.powers:
        power = power * Power.of(dict(dim.growth)) ** exponent
    return power


def in_gauge(derivation: Derivation, parametrization: Parametrization) -> Exponents:
    """Any parametrization of the architecture in the calculus' gauge (effective weights, no multipliers), packed."""
    solver = derivation.solution.solver
    pack = solver.units.pack_power
    packed = Exponents({}, {}, {key: pack(power) for key, power in parametrization.unknowns.items()})
    for name, exponents in parametrization.params.items():
        parameter, optimizer = solver.program.forward.parameters[name], solver.optimizers[name]
        zero = solver.starts_at_zero(parameter)
        times = 1 if optimizer.relative and zero else optimizer.gauge_degree
        packed.A[name] = -pack(exponents.multiplier * (exponents.init_std or Power()))
        packed.C[name] = -pack((exponents.lr or Power()) * exponents.multiplier**times)
        for use in solver.uses_of.get(name, ()):
            packed.M[use] -= pack(exponents.multiplier)
    return packed
