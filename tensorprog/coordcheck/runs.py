"""The networks of a check: what is trained and measured of them, and the verdict on every row."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tensorprog.coordcheck import judge
from tensorprog.coordcheck.crowded import crowded
from tensorprog.coordcheck.ladder import Ladder
from tensorprog.coordcheck.layers import Rung, over_layers
from tensorprog.coordcheck.machine import kept_memory, one_core_each
from tensorprog.coordcheck.predict import Predictor
from tensorprog.coordcheck.probes import GRADIENTS, HIDDEN, Probe
from tensorprog.coordcheck.report import Row
from tensorprog.coordcheck.saturation import doubt, saturated
from tensorprog.coordcheck.sums import independent_sums
from tensorprog.derivation import Derivation
from tensorprog.errors import TensorProgError
from tensorprog.parametrization import Parametrization

ROUNDING = 32.0  # a change below this many units of rounding of the tensor itself is no change
Progress = Callable[[int, int, int], None]  # done, total (of this round of seeds), seeds when it ends
Rows = dict[tuple[int, int], Row]  # (position of the probe, step) -> row
Measurement = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class Runs:
    """What is trained, in one parametrization, and what is measured of it."""

    derivation: Derivation
    parametrization: Parametrization
    probes: tuple[Probe, ...]
    ladder: Ladder
    base: Mapping[str, int]
    batch: int
    steps: int
    rates: float | Mapping[str, float]
    backend: str
    device: str
    dtype: str
    jobs: int
    progress: Progress | None
    networks: tuple[Rung, ...] = ()  # one for every rung of a ladder of depths
    network: Callable[[Mapping[str, int]], Rung] | None = None  # what makes that of any depth
    decays: bool = False  # predictions know of weight decay only where its scaling is set
    typical: bool = False  # what is measured: see looks.py

    def measure(self, seeds: range) -> Measurement:
        """Sizes [probe, step, rung, seed]; nan where nothing is measured. `progress` counts the width squared."""
        ladder = list(reversed(self.ladder.rungs))  # the longest runs first: no thread is left alone with one
        runs = [(rung, seed) for rung in ladder for seed in seeds]
        costs = [size**2 for size in reversed(self.ladder.sizes) for _ in seeds]
        train, done = _backend(self.backend), 0
        more = {str(rung): self._told(rung) for rung in ladder}
        places = {str(rung): network for rung, network in zip(self.ladder.rungs, self.networks, strict=False)}
        found: list[Measurement] = []

        def one(run: tuple[Mapping[str, int], int]) -> Measurement:
            rung, seed = run
            derivation, used, rates = self._network(rung)
            place = places.get(str(rung))
            sizes = train(derivation, used, place.probes if place else self.probes, rung, self.base, seed=seed,
                          steps=self.steps, batch=self.batch, lr=rates, dtype=self.dtype,
                          **more[str(rung)])  # fmt: skip
            return over_layers(place, sizes, self.probes) if place else sizes

        jobs = self.jobs if self.backend == "numpy" else 1
        with kept_memory(), one_core_each(jobs), ThreadPoolExecutor(jobs) as pool:
            for cost, measured in zip(costs, pool.map(one, runs) if jobs > 1 else map(one, runs), strict=True):
                found.append(measured)
                done += cost
                if self.progress:
                    self.progress(done, sum(costs), seeds.stop)
        grid = np.stack(found, axis=-1)
        return grid.reshape(*grid.shape[:2], len(ladder), len(seeds))[:, :, ::-1]

    def rows(
        self, values: Measurement, demanded: Predictor, own: Predictor | None, rounded: Collection[tuple[int, int]] = ()
    ) -> Rows:
        """The verdict on everything that was measured, by the positions of probe and step. `rounded`: what is nothing
        but rounding errors."""
        unit = ROUNDING * float(np.finfo(self.dtype).eps)
        independent = {} if self.networks else independent_sums(self.derivation, self.probes, self.ladder, values)
        sums = {probe.param: k for k, probe in enumerate(self.probes) if probe.kind == "terms"}
        rows: Rows = {}
        for k, probe in enumerate(self.probes):
            for t in range(self.steps + 1):
                if probe.kind in HIDDEN or np.isnan(values[k, t]).all():  # the latter: no such tensor, or not now
                    continue
                scale = values[sums[probe.param], t] if probe.kind in GRADIENTS else values[k, 0]
                rounds = probe.kind in GRADIENTS or (t > 0 and probe.kind in ("value", "spectral"))
                known = rounds and not np.isnan(scale).all()
                rounding = math.inf if (k, t) in rounded else unit * float(np.nanmax(scale)) if known else 0.0
                limits = judge.Limits(rounding, independent.get((k, t), 0.0))
                theirs = own.judged(probe, t) if own else None
                rows[k, t] = judge.row(probe, t, demanded.at(probe, t), theirs, values[k, t], self.ladder, limits)
        if self.networks:
            return rows
        rows = crowded(self.derivation, self.ladder, self.batch, self.probes, rows)
        found = saturated(self.derivation, self.ladder, self.probes, values, rounded)
        return doubt(self.derivation, self.probes, rows, found)

    def slower(self, factor: float) -> Runs:
        """The same at learning rates so many times smaller."""

        def less(rates: float | Mapping[str, float]) -> float | Mapping[str, float]:
            if isinstance(rates, Mapping):
                return {name: rate / factor for name, rate in rates.items()}
            return rates / factor

        networks = tuple(replace(network, rates=less(network.rates)) for network in self.networks)
        return replace(self, rates=less(self.rates), networks=networks)

    def louder(self, param: str, factor: float) -> Runs | None:
        """The same at a learning rate of one parameter (in a ladder of depths: of all its layers) so many times larger;
        None where it has none of its own."""
        name_of = self.derivation.rolled_name if self.networks else str

        def more(rates: float | Mapping[str, float]) -> dict[str, float] | None:
            if not isinstance(rates, Mapping) or param not in map(name_of, rates):
                return None
            return {name: factor * rate if name_of(name) == param else rate for name, rate in rates.items()}

        if not self.networks:
            rates = more(self.rates)
            return None if rates is None else replace(self, rates=rates)
        networks = tuple(replace(n, rates=rates) for n in self.networks if (rates := more(n.rates)))
        return replace(self, networks=networks) if len(networks) == len(self.networks) else None

    def _told(self, rung: Mapping[str, int]) -> dict[str, Any]:
        """What else the networks of a rung are told, by backend."""
        if self.backend == "torch":
            return {"device": self.device, "decays": self.decays}
        from tensorprog.coordcheck.measure import planned

        derivation, used, rates = self._network(rung)
        plan = planned(derivation, used, rung, self.base, self.batch, rates, self.dtype, self.decays)
        return {"plan": plan, "typical": self.typical}

    def _network(self, rung: Mapping[str, int]) -> tuple[Derivation, Parametrization, float | Mapping[str, float]]:
        """What is trained at a rung: of a ladder of depths, another network at each."""
        if not self.networks:
            return self.derivation, self.parametrization, self.rates
        network = self.networks[self.ladder.rungs.index(rung)]
        flat = network.derivation
        return flat, self.derivation.lifted(flat.architecture.graph, self.parametrization), network.rates


def _backend(name: str) -> Callable[..., Measurement]:
    if name == "numpy":
        from tensorprog.coordcheck.measure import measure

        return measure
    if name == "torch":
        from tensorprog.coordcheck.measure_torch import measure as measure_torch

        return measure_torch
    raise TensorProgError(f"unknown backend `{name}`", fix="numpy or torch", why="a backend trains the network")
