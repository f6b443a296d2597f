"""A named parametrization, applied to the parameters of an architecture."""

from __future__ import annotations

from fractions import Fraction

from tensorprog.calculus.solver import Solver
from tensorprog.dims import ONE, Dim
from tensorprog.errors import TensorProgError
from tensorprog.exponents import Power
from tensorprog.graph import Scalar
from tensorprog.optimizers import Optimizer
from tensorprog.parameters import Parameter
from tensorprog.parametrization import Parametrization, ParamExponents
from tensorprog.parametrizations.table import NAMED, Kind


def named(solver: Solver, name: str, lr: Fraction | None = None) -> Parametrization:
    """A named parametrization of the solver's program, for its optimizers.

    Parameters that are not contracted (biases, gains, embeddings) have fan-in 1. Every `?name` keeps the formula of
    its base value, evaluated at the actual width. `lr`: one learning rate n^lr for all parameters instead of the
    published ones. Raises TensorProgError for an unknown name, or where no learning rate is published.
    """
    if name not in NAMED:
        known = ", ".join(["derived", *NAMED])
        raise TensorProgError(f"unknown parametrization `{name}`", fix=f"{known}, or a file such as mine.toml",
                              why="its exponents must be known")  # fmt: skip
    graph = solver.program.forward
    width = Power.of({graph.widths[0]: 1})
    params: dict[str, ParamExponents] = {}
    unknowns: dict[str, Power] = {}
    for param, parameter in graph.parameters.items():
        fan_in, fan_out = fans(parameter)
        row = NAMED[name].kinds[kind_of(parameter)]
        multiplier = fan_in**row.multiplier
        optimizer = solver.optimizers[param]
        trained = param in solver.program.updates
        rate: Power | None = None
        if trained:
            rate = (
                width**lr if lr is not None else (fan_in if fan_in.degree else fan_out) ** _rate(name, row, optimizer)
            )
        std = None if solver.starts_at_zero(parameter) else fan_in**row.init_std
        decay = rate**-1 if rate is not None and optimizer.decay != "none" else None
        others = tuple((key, Power()) for key in optimizer.scaled if key != "eps")  # kept as they are at every width
        params[param] = ParamExponents(multiplier, std, rate, decay, Power() if optimizer.eps else None, others)
        unknowns.update(dict.fromkeys(solver.uses_of.get(param, ()), multiplier))
    for key, unknown in graph.unknowns.items():
        if unknown.kind == "multiplier":
            unknowns[key] = growth_of(unknown.base)
    return Parametrization(name, solver.choice.default.name, params, unknowns, solver.choice)


def fans(parameter: Parameter) -> tuple[Power, Power]:
    """How the fan-in (what its first use sums) and the fan-out (its other axes) grow."""
    fan_in = _growth(parameter.fan_in or ONE)
    size = Power()
    for axis in parameter.axes:
        size = size * _growth(axis.dim)
    return fan_in, size / fan_in


def kind_of(parameter: Parameter) -> str:
    """A key of `Named.kinds`."""
    fan_in, fan_out = fans(parameter)
    if fan_in.degree <= 0:
        return "input"
    return "hidden" if fan_out.degree > 0 else "output"


def growth_of(scalar: Scalar) -> Power:
    """How a fixed factor grows."""
    power = Power()
    for dim, exponent in scalar.powers:
        power = power * _growth(dim) ** exponent
    return power


def _growth(dim: Dim) -> Power:
    return Power.of(dict(dim.growth))


def _rate(name: str, row: Kind, optimizer: Optimizer) -> Fraction:
    linear, normalised, relative = row.lr
    found = linear if optimizer.linear else relative if optimizer.relative else normalised
    published = optimizer.linear or optimizer.relative or optimizer.normalisation == "entry" or not _differs(name)
    if found is None or not published:
        raise TensorProgError(
            f"no learning rates of `{name}` are published for {optimizer.name}",
            fix="--lr E for one learning rate n^E, or a file such as mine.toml with rates of your own",
            why="they depend on how large a step is",
        )
    return found


def _differs(name: str) -> bool:
    """Whether the learning rates depend on the kind of parameter."""
    return len({kind.lr for kind in NAMED[name].kinds.values()}) > 1
