"""Ranges of one tensor that need different learning rates: a multiplier on a range makes one of the two.

W = k w on the range: the optimizer's symmetry says what learning rate w needs where W needs lr, and k is chosen such
that it is that of the rest. This holds for optimizers whose step of an entry depends on that entry's gradients alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

from tensorprog.dims import Dim
from tensorprog.exponents import Power
from tensorprog.optimizers import Optimizer
from tensorprog.torch.changes import (
    UNIT,
    Absorb,
    Changes,
    InputHook,
    MultiplierChange,
    OutputHook,
    ParameterChange,
    Part,
    Place,
)
from tensorprog.torch.cuts import ranged
from tensorprog.torch.groups import shifts

if TYPE_CHECKING:
    from tensorprog.torch.reading import Reading
    from tensorprog.torch.trial import Trial


def range_multipliers(parameters: tuple[ParameterChange, ...], trial: Trial) -> Iterator[MultiplierChange]:
    """For every range whose learning rate is not that of the largest range of its tensor: the factor that makes it so,
    if there is a place for it at the module that holds the tensor."""
    for p in parameters:
        optimizer = p.row
        if len({part.needed.lr for part in p.parts}) < 2 or not _by_entry(optimizer):
            continue
        usual = max(p.parts, key=_size).needed.lr
        for part in p.parts:
            if usual is None or part.needed.lr is None or part.needed.lr == usual:
                continue
            needed = (part.needed.lr / usual) ** (1 / shifts(optimizer)["lr"])
            absorbed = Absorb(p.name, part.axis, part.start, part.stop)
            places = tuple(place for place in _places(trial.reading, p, part) if trial.alike(place, absorbed))
            if places:
                name = ranged(p.name, part.axis, part.start, part.stop)
                yield MultiplierChange(name, "range", p.name.rpartition(".")[0], UNIT, needed, places, p.name,
                                       "with it, one learning rate is right for the whole tensor", part)  # fmt: skip


def _by_entry(optimizer: Optimizer) -> bool:
    """Whether an entry's step depends on that entry's gradients alone, and a learning rate makes up for its size."""
    by_itself = optimizer.normalisation in ("none", "entry") and not optimizer.needs_norm and optimizer.probe is None
    return by_itself and {name for name, _ in optimizer.scales} <= {"eps"} and optimizer.gauge_degree > 0


def _size(part: Part) -> Fraction:
    """A value that sorts ranges where one is larger at all large widths."""
    size: Dim = part.stop - part.start
    return size.evaluate(dict.fromkeys(size.symbols, 10**6))


def _places(reading: Reading, p: ParameterChange, part: Part) -> Iterator[Place]:
    """The input and the output of the module that holds the tensor, along the axis of its channels; the output only if
    there is no bias, which the factor would meet too."""
    module, axis = p.name.rpartition(".")[0], -max(1, len(p.shape) - 1)
    yield InputHook(module, 0, axis, part.start, part.stop)
    if len(list(reading.module.get_submodule(module).parameters(recurse=False))) == 1:
        yield OutputHook(module, 0, axis, part.start, part.stop)


def without_ranges(changes: Changes) -> Changes:
    """The changes of the tensors that are stored: the ranges that have a multiplier are divided by it, and their
    hyperparameters are what this makes them."""
    factors = {(m.param, m.part.start): m.needed for m in changes.multipliers if m.part is not None}
    return replace(changes, parameters=tuple(
        replace(p, parts=tuple(_divided(part, factors.get((p.name, part.start), UNIT), p.row)
                               for part in p.parts)) for p in changes.parameters))  # fmt: skip


def _divided(part: Part, factor: Power, optimizer: Optimizer) -> Part:
    e, shift = part.needed, shifts(optimizer)

    def divided(value: Power | None, times: Fraction) -> Power | None:
        return None if value is None else value / factor**times

    return replace(part, needed=replace(
        e, init_std=divided(e.init_std, Fraction(1)), lr=divided(e.lr, shift["lr"]),
        weight_decay=divided(e.weight_decay, shift["weight_decay"]),
        eps=divided(e.eps, shift.get("eps", Fraction(0)))))  # fmt: skip
