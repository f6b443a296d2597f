"""The polyhedron of stable exponents around a parametrization: as a polygon in two of them, and as a list."""

from __future__ import annotations

from fractions import Fraction

from tensorprog.calculus.exponents import Exponents
from tensorprog.classify.rate import largest_rate
from tensorprog.errors import CalculusError
from tensorprog.parametrization import Parametrization
from tensorprog.parametrizations import in_gauge
from tensorprog.programme.polyhedron import Inequality, inequalities
from tensorprog.programme.region import Axis, Region, read_axis, region
from tensorprog.programme.trajectory import Trainer


def stable_region(trainer: Trainer, parametrization: Parametrization, axes: tuple[str, str]) -> Region:
    """What is stable when two exponents of a parametrization vary (of several widths: their total degrees). Raises
    TensorProgError for unknown ones."""
    _require_a_polyhedron(trainer)
    exponents = in_gauge(trainer, parametrization)
    first, second = (read_axis(trainer, text) for text in axes)
    here = _value(parametrization, first), _value(parametrization, second)
    return region(trainer, exponents, (first, second), here)


def _value(parametrization: Parametrization, axis: Axis) -> Fraction:
    if axis.quantity == "scale":
        return parametrization.unknowns[axis.names[0]].degree
    found = {getattr(parametrization.params[name], axis.quantity) for name in axis.names}
    powers = {power.degree for power in found if power is not None}
    return max(powers, default=Fraction(0))  # where they differ, of the largest: all move together


def stability(trainer: Trainer, parametrization: Parametrization) -> tuple[Inequality, ...]:
    """The linear constraints on a, b, c for this start (of several widths: on their total degrees). Raises
    CalculusError if no learning rate is stable."""
    _require_a_polyhedron(trainer)
    units, exponents = trainer.units, in_gauge(trainer, parametrization)
    start = exponents
    if not trainer.run(exponents).stable:
        factor = largest_rate(trainer, exponents).factor
        if factor is None:
            raise CalculusError("no learning rate is stable, so there are no constraints on learning rates to list",
                                fix="a parametrization whose start is stable",
                                why="the start blows up without any update")  # fmt: skip
        shift = units.pack({units.symbols[0]: factor})
        start = Exponents(exponents.A, {name: c - shift for name, c in exponents.C.items()}, exponents.M)
    return inequalities(trainer, start)


def _require_a_polyhedron(trainer: Trainer) -> None:
    """Raises CalculusError for widths in an order. (Those in proportion are one for a trainer.)"""
    groups = trainer.units.groups
    if len(groups) > 1:
        raise CalculusError(
            "the stable exponents of widths in an order are no polyhedron",
            why=f"each constraint compares the powers of {groups[0][0]} first, and where they are equal those of "
            f"{groups[1][0]}, so the edges belong to it in part",
            fix=f"regime {', '.join(trainer.units.symbols)}: proportional, or one width",
        )  # fmt: skip
