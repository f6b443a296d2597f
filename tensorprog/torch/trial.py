"""Tries a place for a multiplier: the module with a factor there against the graph with the multiplier at it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from tensorprog.dims import BATCH_SYMBOL
from tensorprog.exponents import Power
from tensorprog.graph import Graph, Input, Scalar
from tensorprog.interpret import Interpreter
from tensorprog.parametrization import Parametrization, ParamExponents
from tensorprog.torch.changes import Absorb, Attribute, ConfigField, Place
from tensorprog.torch.lively import make_lively
from tensorprog.torch.placing import install, range_of, uninstall
from tensorprog.torch.runs import widened

if TYPE_CHECKING:
    from tensorprog.torch.reading import Reading

FACTOR = 1.5
OTHERS = ((1 / 8, 0.05), (1 / 64, 0.05), (8.0, 0.05), (64.0, 0.05))  # the epsilon of a norm shows less
DRAWS = 4  # of the parameters, at most
VISIBLE = 1e-4  # the least relative effect of the factor that can be told from rounding


def interpreted(
    reading: Reading, factors: dict[str, float] | None = None, point: int = 0, nodes: Sequence[int] | None = None
) -> list[Any]:
    """The values of `nodes` (the graph's outputs) at one point, for the parameters and data recorded there. `factors`:
    multiplier -> its value (1 otherwise)."""
    graph = _with_factors(reading.lowered.graph, factors or {})
    program = replace(reading.architecture.program, forward=graph)
    sizes = dict(reading.points[point])
    batch = sizes.pop(BATCH_SYMBOL, 1)
    neutral = ParamExponents(Power(), Power(), Power(), None, None)
    parametrization = Parametrization("as it is", "sgd", dict.fromkeys(graph.parameters, neutral),
                                      dict.fromkeys(graph.unknowns, Power()))  # fmt: skip
    interpreter = Interpreter(program, sizes, sizes, parametrization, functions=reading.architecture.functions,
                              batch=batch)  # fmt: skip
    interpreter.set_params(reading.arrays(point))
    data = {name: arrays[point] for name, arrays in reading.lowered.data.items()}
    for node in graph.nodes:
        if isinstance(node.op, Input) and node.op.name not in data:
            data[node.op.name] = interpreter.data[node.op.name]
    kept = [node for _, node in graph.outputs] if nodes is None else nodes
    values = interpreter.run(data, keep=set(kept), backward=False)
    return [values[node] for node in kept]


def _with_factors(graph: Graph, factors: dict[str, float]) -> Graph:
    unknowns = {name: replace(u, base=Scalar(Fraction(factors[name]))) if name in factors else u
                for name, u in graph.unknowns.items()}  # fmt: skip
    return replace(graph, unknowns=unknowns)


def moved_by(reading: Reading, names: Iterable[str]) -> set[int]:
    """The nodes whose values depend on these multipliers."""
    nodes = [node.id for node in reading.lowered.graph.nodes]
    before, after = interpreted(reading, {}, 0, nodes), interpreted(reading, dict.fromkeys(names, FACTOR), 0, nodes)
    return {k for k, a, b in zip(nodes, before, after, strict=True)
            if np.abs(np.asarray(a) - b).max(initial=0) > VISIBLE * np.abs(a).max(initial=0)}  # fmt: skip


class Trial:
    """Tries places in the module of a reading, as it was at the first point."""

    def __init__(self, reading: Reading) -> None:
        """All parameters get values at which everything matters: a place must be right for those too. They are drawn
        again while a result is the same everywhere, behind a relu that no example opens. In full precision: with few
        digits, one place looks like another."""
        self.reading = replace(reading, run=widened(reading.run))
        self._matters: dict[Place, bool] = {}
        for seed in range(2, 2 + DRAWS):
            make_lively(self.reading.module, seed)
            self.before = interpreted(self.reading)
            if all(np.size(result) == 1 or np.ptp(result) for result in self.before):
                break

    def matters(self, place: Attribute | ConfigField) -> bool:
        """Whether the results depend on the number at this place."""
        if place not in self._matters:
            try:
                with self._placed(place):
                    found = self.reading.rerun()
            except Exception:  # a number that the module cannot do with
                found = []
            pairs = zip(found, self.before, strict=False)
            self._matters[place] = any(
                float(np.abs(a - np.reshape(b, a.shape)).max()) > VISIBLE * (float(np.abs(b).max()) or 1.0)
                for a, b in pairs
            )
        return self._matters[place]

    def works(self, names: Iterable[str], place: Place) -> bool:
        """Whether the factor at this place is the multiplier, or all of several together."""
        return self._gives(interpreted(self.reading, dict.fromkeys(names, FACTOR)), place)

    def idle(self, name: str) -> bool:
        """Whether nothing depends on a multiplier: what it multiplies is divided by what has it too. (A softmax that is
        saturated minds only a factor that is far smaller, or larger.)"""
        for factor, visible in ((FACTOR, VISIBLE), *OTHERS):
            pairs = zip(self.before, interpreted(self.reading, {name: factor}), strict=True)
            if any(float(np.abs(a - b).max()) > visible * float(np.abs(a).max()) for a, b in pairs):
                return False
        return True

    def alike(self, place: Place, other: Place) -> bool:
        """Whether the factor at one place is the factor at another."""
        with self._placed(other):
            wanted = self.reading.rerun()
        return self._gives(wanted, place)

    def _gives(self, wanted: list[Any], place: Place) -> bool:
        try:
            with self._placed(place):
                found = self.reading.rerun()
        except Exception:  # a hook or attribute that the module does not stand
            return False
        effect = error = 0.0
        for a, b, c in zip(wanted, found, self.before, strict=True):
            if a.size != b.size:
                return False
            scale = float(np.abs(b).max()) or 1.0
            effect = max(effect, float(np.abs(a - c.reshape(a.shape)).max()) / scale)
            error = max(error, float(np.abs(a - b.reshape(a.shape)).max()) / scale)
        return effect > VISIBLE and error < effect / 100

    @contextlib.contextmanager
    def _placed(self, place: Place) -> Iterator[None]:
        module, sizes = self.reading.module, self.reading.points[0]
        if isinstance(place, Absorb):
            part = range_of(place, sizes).of(module.get_parameter(place.param))
            kept = part.clone()
            part.mul_(FACTOR)
            try:
                yield
            finally:
                part.copy_(kept)
            return
        before = install(module, place, FACTOR, sizes)
        try:
            yield
        finally:
            uninstall(module, place, *before)
