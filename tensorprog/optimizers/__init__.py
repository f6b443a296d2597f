"""The optimizers as data: a row each (rows.py), or a formula in the language each (formulas.py)."""

from __future__ import annotations

from tensorprog.optimizers.choice import Choice
from tensorprog.optimizers.data import Optimizer, Size
from tensorprog.optimizers.table import OPTIMIZERS, optimizer_for

__all__ = ["OPTIMIZERS", "Choice", "Optimizer", "Size", "optimizer_for"]
