"""The experiment: a grid of one hyperparameter at every size under several parametrizations, extended until the best
value lies inside; then optima, drift, comparison of sizes, and cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from tensorprog.coordcheck.ladder import Ladder
from tensorprog.derivation import Derivation
from tensorprog.emission import emit
from tensorprog.errors import TensorProgError
from tensorprog.files import require_writable
from tensorprog.graph import Input
from tensorprog.hptransfer import fit
from tensorprog.hptransfer.data import Data, slots
from tensorprog.hptransfer.plan import Job, at_coordinate, sizes_of, versions
from tensorprog.hptransfer.pool import Workers
from tensorprog.hptransfer.report import Drift, Optimum, Record, TransferReport, Wider
from tensorprog.hptransfer.sources import default_data, load_data
from tensorprog.hptransfer.store import Store
from tensorprog.hptransfer.sweeps import Sweep, sweep_of
from tensorprog.hptransfer.train import Outcome, flops
from tensorprog.parametrization import Parametrization
from tensorprog.parametrizations import read

FARTHEST = 12  # steps by which a grid is extended on either side, at most
Progress = Callable[[float, float], None]  # done, total: FLOPs of the runs known so far


@dataclass(slots=True)
class Curve:
    """One parametrization at one size: `outcomes` by coordinate and seed."""

    parametrization: str
    rung: Mapping[str, int]
    job: Job  # of any value and seed
    cost: float
    outcomes: dict[float, dict[int, Outcome]] = field(default_factory=dict)

    @property
    def octaves(self) -> fit.Floats:
        return np.array(sorted(self.outcomes))

    @property
    def losses(self) -> fit.Floats:
        """log2 losses that count, [value, seed]."""
        return np.array([[fit.log_loss(o.loss, o.initial) for _, o in sorted(self.outcomes[x].items())]
                         for x in sorted(self.outcomes)])  # fmt: skip


def transfer(
    derivation: Derivation,
    *,
    sweep: str = "lr",
    values: Sequence[float] | None = None,
    extend: bool = True,
    ladder: Ladder,
    parametrizations: Sequence[str | Parametrization] = ("derived", "sp"),
    data: str | Data | None = None,
    lr: float | None = None,
    steps: int = 100,
    batch: int = 32,
    seeds: int = 4,
    jobs: int = 1,
    store: str | Path | None = None,
    progress: Progress | None = None,
) -> TransferReport:
    """Train at every rung of `ladder` with every value of the swept quantity, and find the best value of each.

    `sweep`: lr, init, momentum, weight_decay or multiplier:NAME. `values`: the grid at every size (default: around the
    optimizer's own value at the first size, then around what was best there); where the best value is the first or the
    last, or its neighbours are missing, the grid is extended unless `extend` is False. The base sizes are those of the
    first rung. `data`: a name (`sources.KINDS`) or data. `lr`: at the base sizes, when something else is swept.
    `store`: an SQLite file of finished runs; runs that are in it are not trained again. `jobs`: processes; the result
    does not depend on it. Raises TensorProgError for unusable arguments.
    """
    if seeds < 1 or steps < 1 or batch < 1 or jobs < 1:
        raise TensorProgError(
            "steps, batch, seeds and jobs must be at least 1", why="nothing would be trained", fix="numbers from 1 on"
        )
    if store is not None and not Path(store).is_file():
        require_writable(Path(store))
    if sweep == "lr" and lr is not None:
        raise TensorProgError("the learning rate is swept, so it cannot be fixed", fix="the grid's values instead",
                              why="one of the two would be lost")  # fmt: skip
    sampled = next((o.name for o in derivation.solution.solver.optimizers.values() if o.sampled), None)
    if sampled is not None:
        raise TensorProgError(f"{sampled} cannot be trained here", why="its step needs targets drawn from the model",
                              fix="--optimizer adam")  # fmt: skip
    swept = sweep_of(derivation, sweep, values)
    grid = swept.grid(values)
    architecture = derivation.architecture
    wanted = slots(architecture, ladder.rungs[0])
    if data is None or isinstance(data, str):
        data = load_data(data or default_data(wanted), wanted, architecture.file)
    start = Job("", (), _inputs(derivation), tuple(n for n, _ in architecture.graph.outputs), sweep,
                at_coordinate(sweep, grid[0]), lr, 0, steps, batch)  # fmt: skip
    curves = [
        curve
        for name, source in _sources(derivation, parametrizations, ladder.rungs[0]).items()
        for curve in _curves(name, replace(start, source=source), ladder, data)
    ]
    with Store(store) as results, Workers(data, jobs) as workers:
        runner = _Runner(results, workers, data.id, range(seeds), progress)
        first = [curve for curve in curves if curve.rung is ladder.rungs[0]]
        runner.fill([(curve, x) for curve in first for x in grid])
        if extend:
            runner.extend(first, swept)
        rest = [curve for curve in curves if curve.rung is not ladder.rungs[0]]
        runner.fill([(curve, x) for curve in rest for x in (grid if values else _around(first, swept))])
        if extend:
            runner.extend(rest, swept)
    names = list(dict.fromkeys(curve.parametrization for curve in curves))
    groups = [[curve for curve in curves if curve.parametrization == name] for name in names]
    fitted = [[fit.vertex(c.octaves, c.losses, swept.step) for c in group] for group in groups]
    return TransferReport(
        file=architecture.file, optimizer=derivation.optimizer, form=derivation.form, sweep=sweep, data=data.name,
        data_id=data.id, axis=ladder.axis, sizes=ladder.sizes, base=dict(ladder.rungs[0]), lr=lr, steps=steps,
        batch=batch, seeds=seeds, tolerance=fit.TOLERANCE, versions=versions(),
        records=tuple(record for curve in curves for record in _records(curve, sweep)),
        optima=tuple(_optimum(c, v, sweep) for g, f in zip(groups, fitted, strict=True)
                     for c, v in zip(g, f, strict=True)),
        drifts=tuple(_drift(g, f, ladder) for g, f in zip(groups, fitted, strict=True)),
        wider=tuple(_wider(g, ladder, sweep) for g in groups),
        flops={size: curve.cost for size, curve in zip(ladder.sizes, groups[0], strict=True)},
    )  # fmt: skip


def _inputs(derivation: Derivation) -> tuple[str, ...]:
    ops = (node.op for node in derivation.architecture.graph.nodes)
    return tuple(op.name for op in ops if isinstance(op, Input) and op.kind != "target")


def _sources(
    derivation: Derivation, parametrizations: Sequence[str | Parametrization], base: Mapping[str, int]
) -> dict[str, str]:
    """Name of a parametrization -> the emitted program."""
    found: dict[str, str] = {}
    for given in parametrizations:
        if isinstance(given, Parametrization):
            name, used = given.name, given
        elif given == "derived":
            name, used = given, derivation.parametrization
        else:
            name, used = given, read(derivation.solution.solver, given)
        source = emit(derivation.architecture.model, used, base, source_name="network.tp")
        if found.setdefault(name, source) != source:
            raise TensorProgError(f"two parametrizations are called {name}", why="their names tell curves apart",
                                  fix="dataclasses.replace(parametrization, name=..)")  # fmt: skip
    if not found:
        raise TensorProgError("there is no parametrization to train", fix="derived", why="curves are of one or more")
    return found


def _curves(name: str, job: Job, ladder: Ladder, data: Data) -> list[Curve]:
    """An empty curve for every rung, with the cost of one run there."""
    found = []
    for rung in ladder.rungs:
        here = replace(job, sizes=sizes_of(rung))
        try:
            cost = flops(here, data)
        except (ValueError, RuntimeError) as error:
            at = ", ".join(f"{symbol} = {size}" for symbol, size in here.sizes)
            raise TensorProgError(f"the network cannot be trained at {at}", why=str(error).splitlines()[0],
                                  fix="other --widths") from None  # fmt: skip
        found.append(Curve(name, rung, here, cost))
    return found


def _around(first: Sequence[Curve], swept: Sweep) -> list[float]:
    """The values around the best ones of the smallest size: where the larger sizes begin."""
    best = {float(c.octaves[int(np.argmin(c.losses.mean(axis=1)))]) for c in first}
    near = {swept.rounded(x + k * swept.step) for x in best for k in range(-fit.REACH, fit.REACH + 1)}
    return sorted(x for x in near if swept.allows(x))


class _Runner:
    """Trains what is missing, and records it."""

    def __init__(self, results: Store, workers: Workers, data: str, seeds: range, progress: Progress | None) -> None:
        self._results, self._workers, self._data, self._seeds, self._progress = results, workers, data, seeds, progress
        self._done = self._total = 0.0

    def fill(self, places: Sequence[tuple[Curve, float]]) -> None:
        """Every curve at its coordinate, for all seeds; the largest networks first, so that no process idles at the
        end."""
        curve_of: dict[Job, tuple[Curve, float]] = {}
        for curve, octaves in places:
            for seed in self._seeds:
                job = replace(curve.job, value=at_coordinate(curve.job.sweep, octaves), seed=seed)
                known = self._results.get(job.key(self._data))
                self._total += curve.cost
                if known is None:
                    curve_of[job] = (curve, octaves)
                else:
                    self._take(curve, octaves, seed, known)
        for job, outcome in self._workers.run(sorted(curve_of, key=lambda job: -curve_of[job][0].cost)):
            curve, octaves = curve_of[job]
            self._results.put(job.key(self._data), curve.parametrization, self._data, job, outcome)
            self._take(curve, octaves, job.seed, outcome)

    def _take(self, curve: Curve, octaves: float, seed: int, outcome: Outcome) -> None:
        least = min(outcome.initial, math.inf if outcome.loss is None else outcome.loss)
        if least < 0:
            raise TensorProgError(f"the loss is negative: {least:.4g}", why="losses are compared by their logarithms",
                                  fix="a loss that is bounded below by 0, such as cross_entropy or mse")  # fmt: skip
        curve.outcomes.setdefault(octaves, {})[seed] = outcome
        self._done += curve.cost
        if self._progress:
            self._progress(self._done, self._total)

    def extend(self, curves: Sequence[Curve], swept: Sweep) -> None:
        """More values on the sides of the best ones, until all have neighbours enough for a fit."""
        limits = {id(c): (c.octaves[0] - FARTHEST * swept.step, c.octaves[-1] + FARTHEST * swept.step) for c in curves}
        while True:
            missing: list[tuple[Curve, float]] = []
            for curve in curves:
                low, high = limits[id(curve)]
                more = fit.wanted(curve.octaves, curve.losses, swept.step)
                missing += [(curve, swept.rounded(x)) for x in more
                            if low - fit.ALIKE <= x <= high + fit.ALIKE and swept.allows(x)]  # fmt: skip
            if not missing:
                return
            self.fill(missing)


def _records(curve: Curve, sweep: str) -> list[Record]:
    return [
        Record(
            curve.parametrization,
            dict(curve.rung),
            at_coordinate(sweep, octaves),
            seed,
            o.loss,
            o.initial if math.isfinite(o.initial) else None,
        )
        for octaves, by_seed in sorted(curve.outcomes.items())
        for seed, o in sorted(by_seed.items())
    ]


def _optimum(curve: Curve, vertex: fit.Vertex, sweep: str) -> Optimum:
    tried = len(curve.outcomes)
    if vertex.status != "found":
        status = vertex.status
        if sweep == "momentum" and status in ("below", "above"):  # its axis runs the other way
            status = "above" if status == "below" else "below"
        return Optimum(curve.parametrization, dict(curve.rung), status, None, None, None, None, None, tried)
    bars = vertex.bars
    ends = sorted(at_coordinate(sweep, x) for x in (bars.low, bars.high) if math.isfinite(x))
    low, high = ends if ends else (None, None)
    return Optimum(curve.parametrization, dict(curve.rung), "found", at_coordinate(sweep, bars.value), low, high,
                   2.0 ** float(vertex.loss[0]), vertex.curvature, tried)  # fmt: skip


def _drift(group: Sequence[Curve], vertices: Sequence[fit.Vertex], ladder: Ladder) -> Drift:
    name = group[0].parametrization
    if any(vertex.status != "found" for vertex in vertices):
        return Drift(name, None, None, None, "inconclusive")
    slope = fit.drift(np.log2(ladder.points), vertices)
    low, high = (x if math.isfinite(x) else None for x in (slope.low, slope.high))
    largest = group[-1]
    carried = fit.interpolated(largest.octaves, largest.losses, float(vertices[0].octaves[0]))
    return Drift(name, slope.value, low, high, fit.verdict(slope), None if carried is None else 2.0**carried,
                 2.0 ** float(largest.losses.mean(axis=1).min()))  # fmt: skip


def _wider(group: Sequence[Curve], ladder: Ladder, sweep: str) -> Wider:
    """Neighbouring sizes at the same value, seed by seed."""
    counts = {"better": 0, "alike": 0, "worse": 0}
    worst: tuple[float, tuple[float, int, int]] | None = None
    for (small, a), (large, b) in pairwise(zip(group, ladder.sizes, strict=True)):
        at_small = dict(zip(small.octaves, small.losses, strict=True))
        for x, losses in zip(large.octaves, large.losses, strict=True):
            if x not in at_small:
                continue
            rise = fit.error_bars(fit.without_each(losses - at_small[x]))
            result = "better" if rise.high < 0 else "worse" if rise.low > 0 else "alike"
            counts[result] += 1
            if result == "worse" and (worst is None or rise.value > worst[0]):
                worst = rise.value, (at_coordinate(sweep, float(x)), a, b)
    return Wider(group[0].parametrization, **counts, worst=worst[1] if worst else None)
