"""All optimizers by name."""

from __future__ import annotations

from tensorprog.optimizers.data import Optimizer
from tensorprog.optimizers.rows import ROWS

OPTIMIZERS: dict[str, Optimizer] = {row.name: row for row in ROWS}


def optimizer_for(name: str, axes: int) -> Optimizer:
    """The optimizer that really updates a parameter with `axes` axes: Muon leaves vectors to another one.

    Raises KeyError for an unknown name.
    """
    return fitting(OPTIMIZERS[name], axes)


def fitting(optimizer: Optimizer, axes: int) -> Optimizer:
    """The optimizer itself, or the one to which it leaves parameters with so few axes."""
    return OPTIMIZERS[optimizer.vectors] if optimizer.vectors is not None and axes < 2 else optimizer
