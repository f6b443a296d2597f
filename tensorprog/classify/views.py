"""The polyhedron of stable exponents around a parametrization: as a polygon in two of them, and as a list."""

from __future__ import annotations

from fractions import Fraction

from tensorprog.calculus.analysis import Exponents
from tensorprog.classify.rate import largest_rate
from tensorprog.errors import CalculusError
from tensorprog.parametrization import Parametrization
from tensorprog.programme.polyhedron import Inequality, inequalities
from tensorprog.programme.region import Axis, Region, read_axis, region
from tensorprog.programme.trajectory import Trainer


def stable_region(
    trainer: Trainer, parametrization: Parametrization, exponents: Exponents, axes: tuple[str, str]
) -> Region:
    """What is stable when two exponents of a parametrization vary. Raises TensorProgError for unknown ones, or if
    an axis stands for exponents that differ."""
    _require_one_width(trainer)
    first, second = (read_axis(trainer, text) for text in axes)
    here = _value(parametrization, first), _value(parametrization, second)
    return region(trainer, exponents, (first, second), here)


def _value(parametrization: Parametrization, axis: Axis) -> Fraction:
    if axis.quantity == "scale":
        return parametrization.unknowns[axis.names[0]].degree
    found = {getattr(parametrization.params[name], axis.quantity) for name in axis.names}
    powers = {power.degree for power in found if power is not None}
    return max(powers, default=Fraction(0))  # where they differ, of the largest: all move together


def stability(trainer: Trainer, exponents: Exponents) -> tuple[Inequality, ...]:
    """The linear constraints on a, b, c for this start. Raises CalculusError if no learning rate is stable."""
    _require_one_width(trainer)
    units, start = trainer.units, exponents
    if not trainer.run(exponents).stable:
        factor = largest_rate(trainer, exponents).factor
        if factor is None:
            raise CalculusError("no learning rate is stable, so there are no constraints on learning rates to list",
                                fix="a parametrization whose start is stable")  # fmt: skip
        shift = units.pack({units.symbols[0]: factor})
        start = Exponents(exponents.A, {name: c - shift for name, c in exponents.C.items()}, exponents.M)
    return inequalities(trainer, start)


def _require_one_width(trainer: Trainer) -> None:
    if len(trainer.units.symbols) > 1:
        raise CalculusError("polyhedra over several widths are not covered yet", fix="one width symbol")
