"""One architecture in one parametrization, trained at any width: sizes of its tensors, each network trained once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from tensorprog.coordcheck.calibrate import base_rates
from tensorprog.coordcheck.measure import measure, planned
from tensorprog.coordcheck.probes import Probe
from tensorprog.derivation import Derivation
from tensorprog.graph import InvRms, Node
from tensorprog.parametrization import Parametrization

BATCH = 4
BASE = 4  # the base width: far below the ladder, so that what vanishes with width is small on all of it
NARROW = 64
EPSILON = 1e-12  # of normalisations

Floats = npt.NDArray[np.float64]


def without_epsilon(derivation: Derivation) -> Derivation:
    """The same networks, with normalisations that hold for small arguments too: exponents are those without epsilon."""

    def cleaned(nodes: tuple[Node, ...]) -> tuple[Node, ...]:
        return tuple(replace(n, op=replace(n.op, eps=EPSILON)) if isinstance(n.op, InvRms) else n for n in nodes)

    program = derivation.architecture.program
    forward = replace(program.forward, nodes=cleaned(program.forward.nodes))
    architecture = replace(derivation.architecture)
    architecture.__dict__["graph"] = forward
    architecture.__dict__["program"] = replace(program, forward=forward, nodes=cleaned(program.nodes))
    return replace(derivation, architecture=architecture)


@dataclass
class Family:
    """`places`: what is measured. `steps`: how many updates are made. `rate`: times the learning rates of a check."""

    derivation: Derivation
    used: Parametrization
    places: Sequence[Probe]
    steps: int
    rate: float = 1.0
    _done: dict[tuple[int, int], Floats] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.derivation = without_epsilon(self.derivation)

    @cached_property
    def base(self) -> dict[str, int]:
        return dict.fromkeys(self.derivation.widths, BASE)

    @cached_property
    def rates(self) -> Mapping[str, float]:
        """Base learning rates."""
        narrow = dict.fromkeys(self.derivation.widths, NARROW)
        found = base_rates(self.derivation, narrow, self.base, batch=BATCH)
        return {name: self.rate * rate for name, rate in found.items()}

    def again(self, places: Sequence[Probe], rate: float) -> Family:
        """The same networks at other learning rates."""
        other = replace(self, places=places, rate=rate, _done={})
        other.__dict__["rates"] = {name: rate / self.rate * own for name, own in self.rates.items()}
        return other

    def sizes(self, widths: Sequence[int], seeds: int) -> Floats:
        """Sizes [probe, step, width, seed]; networks that were trained before are not trained again."""
        for width in widths:
            at = dict.fromkeys(self.derivation.widths, width)
            missing = [seed for seed in range(seeds) if (width, seed) not in self._done]
            if not missing:
                continue
            plan = planned(self.derivation, self.used, at, self.base, BATCH, self.rates, "float32")
            for seed in missing:
                self._done[width, seed] = measure(
                    self.derivation, self.used, self.places, at, self.base, seed=seed, steps=self.steps, batch=BATCH,
                    lr=self.rates, dtype="float32", plan=plan)  # fmt: skip
        grid = np.stack([self._done[width, seed] for width in widths for seed in range(seeds)], axis=-1)
        return grid.reshape(*grid.shape[:2], len(widths), seeds)

    def entries(self, width: int) -> int:
        """How many entries all parameters have at this width."""
        sizes = {**dict.fromkeys(self.derivation.widths, width)}
        parameters = self.derivation.architecture.graph.parameters.values()
        return sum(math.prod(int(axis.dim.evaluate(sizes)) for axis in p.axes) for p in parameters)
