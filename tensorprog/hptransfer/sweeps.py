"""The quantities that can be swept: where their grids begin, how coarse they are, and which values make sense."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tensorprog.derivation import Derivation
from tensorprog.errors import TensorProgError
from tensorprog.hptransfer import fit
from tensorprog.hptransfer.plan import SWEEPS, coordinate

START = 3  # steps of a grid on either side of its centre, when no values are given
DECAY = 2.0**-6  # where a grid of weight decays begins, if the optimizer's own is 0
COARSE = {"weight_decay": 2.0}  # octaves from one value to the next; 1 for all others


@dataclass(frozen=True, slots=True)
class Sweep:
    """`centre`, `step`: of the grid, in octaves. `highest`: no coordinate lies above."""

    name: str
    centre: float
    step: float
    highest: float = np.inf

    def allows(self, octaves: float) -> bool:
        return octaves <= self.highest + fit.ALIKE

    def rounded(self, octaves: float) -> float:
        """The same number however it was reached."""
        return round(octaves, 6)

    def grid(self, values: Sequence[float] | None) -> list[float]:
        """The coordinates of the values (default: around the centre)."""
        if values is None:
            around = (self.rounded(self.centre + k * self.step) for k in range(-START, START + 1))
            return [x for x in around if self.allows(x)]
        return sorted(self.rounded(coordinate(self.name, value)) for value in values)


def sweep_of(derivation: Derivation, name: str, values: Sequence[float] | None = None) -> Sweep:
    """The sweep of that name for this network; the step is that of the values, if there are some. Raises
    TensorProgError if there is no such quantity, or no such values of it."""
    if values is not None:
        _require_grid(name, values)
    optimizer = derivation.choice.default
    defaults = dict(optimizer.defaults)
    if derivation.architecture.graph.optimizer == optimizer.name:
        defaults |= {k: float(v) for k, v in derivation.architecture.graph.optimizer_options}
    step = COARSE.get(name, 1.0)
    if values is not None and len(values) > 1:
        step = float(np.median(np.diff(sorted(coordinate(name, v) for v in values))))
    kind, colon, multiplier = name.partition(":")
    if kind == "multiplier" and colon:
        known = sorted({key.rpartition(".")[2] for key, u in derivation.architecture.graph.unknowns.items()
                        if u.kind == "multiplier"})  # fmt: skip
        if multiplier not in known:
            raise TensorProgError(f"there is no multiplier `?{multiplier}`",
                                  why=f"{derivation.architecture.file} has " +
                                  (", ".join(f"`?{k}`" for k in known) or "none"),
                                  fix="multiplier:NAME of one that it has, or another --sweep")  # fmt: skip
        return Sweep(name, 0.0, step)
    if name not in SWEEPS:
        raise TensorProgError(f"`{name}` cannot be swept", fix=", ".join(SWEEPS) + " or multiplier:NAME",
                              why="what is swept is a hyperparameter of the training")  # fmt: skip
    if name == "lr":
        return Sweep(name, coordinate(name, defaults["lr"]), step)
    if name == "init":
        return Sweep(name, 0.0, step)
    if name == "weight_decay":
        if optimizer.decay == "none":
            raise TensorProgError(f"{optimizer.name} has no weight decay", why="its steps do not decay the weights",
                                  fix="--sweep lr, or an optimizer such as adamw")  # fmt: skip
        return Sweep(name, coordinate(name, defaults.get(name) or DECAY), step)
    momentum = defaults.get("beta1", defaults.get("momentum"))
    if momentum is None:
        raise TensorProgError(f"{optimizer.name} has no momentum", why="its steps have no memory",
                              fix="--sweep lr, or an optimizer such as adam")  # fmt: skip
    return Sweep(name, coordinate(name, momentum or 0.5), step, highest=0.0)


def _require_grid(name: str, values: Sequence[float]) -> None:
    low, top = (0.0, 1.0) if name == "momentum" else (math.ulp(0.0), math.inf)
    if not values or any(not low <= v < top for v in values) or len(set(values)) != len(values):
        fix = "0.5,0.75,0.875" if name == "momentum" else "0.01,0.02,0.04"
        raise TensorProgError(f"no grid for {name}: {', '.join(f'{v:g}' for v in values) or 'no values'}",
                              fix=f"numbers such as {fix}", why="its values differ, and lie in the range")  # fmt: skip
