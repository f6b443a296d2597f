"""What one training run is, and the key under which it is recorded: a hash of everything that determines it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache

RECIPE = 1  # of `train.py`: raise it when the same job would give another number
SWEEPS = ("lr", "init", "momentum", "weight_decay")  # and multiplier:NAME

Sizes = tuple[tuple[str, int], ...]  # (symbol, size), sorted: widths, and depths where they vary


def sizes_of(mapping: Mapping[str, int]) -> Sizes:
    return tuple(sorted(mapping.items()))


@dataclass(frozen=True, slots=True)
class Job:
    """One run.

    `source`: the emitted program. `sizes`: symbol -> size. `inputs`, `outputs`: names in the order in which the
    program takes and gives them. `sweep`: the quantity that has `value`; `lr`: the learning rate at the base sizes,
    None for the optimizer's own (and when it is swept).
    """

    source: str
    sizes: Sizes
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    sweep: str
    value: float
    lr: float | None
    seed: int
    steps: int
    batch: int

    def key(self, data: str) -> str:
        """The name of the run's record; `data` is the data's id."""
        what = {**asdict(self), "data": data, "dtype": "float32", "recipe": RECIPE, **versions()}
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


@cache
def versions() -> dict[str, str]:
    """Of what computes: this package, PyTorch and NumPy (which draws the batches)."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for package in ("tensorprog", "torch", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "?"
    return found


def coordinate(sweep: str, value: float) -> float:
    """Where a value lies on the axis of the sweep, in octaves: log2 of it; of 1 - value for a momentum."""
    return math.log2(1 - value) if sweep == "momentum" else math.log2(value)


def at_coordinate(sweep: str, octaves: float) -> float:
    """The inverse of `coordinate`."""
    power = math.exp2(octaves)
    return 1 - power if sweep == "momentum" else power
