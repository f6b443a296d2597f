"""Parametrizations that people use without deriving them: as data (table.py), applied to an architecture (named.py),
read from a TOML file (own.py), and put into the calculus' gauge (gauge.py)."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from tensorprog.calculus.solver import Solver
from tensorprog.errors import TensorProgError
from tensorprog.parametrization import Parametrization
from tensorprog.parametrizations.gauge import in_gauge
from tensorprog.parametrizations.named import named
from tensorprog.parametrizations.own import read_own
from tensorprog.parametrizations.table import NAMED, Kind, Named
from tensorprog.powers import LARGEST

__all__ = ["NAMED", "Kind", "Named", "in_gauge", "named", "read", "read_own"]


def read(solver: Solver, name: str, lr: Fraction | None = None) -> Parametrization:
    """A parametrization by its name, or from a file whose name ends in `.toml` (see `named` and `read_own`).
    Raises TensorProgError if there is none, or for an `lr` beyond any use."""
    if lr is not None and abs(lr) > LARGEST:
        raise TensorProgError(f"a global learning rate ~ n^{lr} is out of the ordinary",
                              fix="one such as -1, 1/2 or -3/4", why="sizes must be told apart exactly")  # fmt: skip
    return read_own(solver, Path(name), lr) if name.endswith(".toml") else named(solver, name, lr)
