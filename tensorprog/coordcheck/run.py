"""The check itself: networks at every rung of a ladder and with several seeds, slopes, verdicts, and the report."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from tensorprog.coordcheck import judge
from tensorprog.coordcheck.calibrate import base_rates, base_widths, batch_size, default_ladder
from tensorprog.coordcheck.ladder import Ladder
from tensorprog.coordcheck.predict import Predictor, Probe, growing_sums, probes
from tensorprog.coordcheck.report import CheckReport, Row
from tensorprog.coordcheck.statistics import TOLERANCE
from tensorprog.derivation import Derivation
from tensorprog.errors import TensorProgError
from tensorprog.parametrization import Parametrization
from tensorprog.parametrizations import in_gauge, read

__all__ = ["CheckReport", "Row", "check"]

ROUNDING = 32.0  # a change below this many units of rounding of the tensor itself is no change
Progress = Callable[[int, int, int], None]  # done, total (of this round of seeds), seeds when it ends
Measurement = np.ndarray[Any, np.dtype[np.float64]]


def check(
    derivation: Derivation,
    *,
    widths: Sequence[int] | None = None,
    seeds: int = 5,
    max_seeds: int | None = None,
    steps: int = 3,
    backend: str = "numpy",
    parametrization: str | Parametrization = "derived",
    lr: float | None = None,
    lr_exponent: Fraction | None = None,
    batch: int | None = None,
    dtype: str = "float32",
    jobs: int = 1,
    progress: Progress | None = None,
) -> CheckReport:
    """Train at a ladder of widths and compare the measured exponent of every tensor with the derived one.

    `widths`: values of every width symbol; the base width lies below them (`calibrate.base_widths`). `seeds`: networks
    per width to begin with; more are added, up to `max_seeds` (default 4 * seeds), while intervals are too wide, or a
    disagreement rests on few seeds or is a near miss. `steps`: updates.
    `lr`: one base learning rate for all; default: calibrated (coordcheck/calibrate.py). `parametrization`: "derived",
    a Parametrization, or a name in `parametrizations.NAMED`, whose global learning rate scales like n^`lr_exponent`.
    `jobs`: networks trained at the same time, in threads (NumPy backend); the result does not depend on it.
    Raises TensorProgError for unusable arguments.
    """
    ladder = Ladder.of(derivation.widths, tuple(widths or default_ladder(derivation)))
    if seeds < 1 or steps < 1:
        raise TensorProgError("seeds and steps must be at least 1", fix="--seeds 5 --steps 3")
    used = derivation.parametrization
    if isinstance(parametrization, Parametrization):
        used = parametrization
    elif parametrization != "derived":
        used = read(derivation.solution.solver, parametrization, lr_exponent)
    places = probes(derivation)
    demanded = Predictor(derivation, derivation.solution.exponents, used, steps)
    own = None
    if used is not derivation.parametrization:
        own = Predictor(derivation, in_gauge(derivation.solution.solver, used), used, steps)
    batch = batch or batch_size(derivation, ladder.sizes)
    base = base_widths(derivation, ladder.sizes)
    rates = base_rates(derivation, ladder.rungs[0], base, batch=batch) if lr is None else lr
    runs = Runs(derivation, used, tuple(places), ladder, base, batch, steps, rates, backend, dtype, jobs, progress)
    values, rows = _until_conclusive(runs, demanded, own, seeds, max(seeds, max_seeds or 4 * seeds))
    measured = {row.tensor for row in rows}
    return CheckReport(
        file=derivation.architecture.file, optimizer=derivation.optimizer,
        parametrization="derived" if own is None else used.name, backend=backend, widths=ladder.sizes,
        seeds=values.shape[3], steps=steps, lr=lr, tolerance=TOLERANCE, rows=rows,
        left_out=tuple(probe.name for probe in places if probe.name not in measured),
    )  # fmt: skip


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
    dtype: str
    jobs: int
    progress: Progress | None

    def measure(self, seeds: range) -> Measurement:
        """Sizes [probe, step, rung, seed]; nan where nothing is measured. `progress` counts the width squared."""
        runs = [(rung, seed) for rung in self.ladder.rungs for seed in seeds]
        costs = [size**2 for size in self.ladder.sizes for _ in seeds]
        train, done = _backend(self.backend), 0
        found: list[Measurement] = []

        def one(run: tuple[Mapping[str, int], int]) -> Measurement:
            rung, seed = run
            return train(self.derivation, self.parametrization, self.probes, rung, self.base, seed=seed,
                         steps=self.steps, batch=self.batch, lr=self.rates, dtype=self.dtype)  # fmt: skip

        with ThreadPoolExecutor(self.jobs if self.backend == "numpy" else 1) as pool:
            for cost, measured in zip(costs, pool.map(one, runs), strict=True):
                found.append(measured)
                done += cost
                if self.progress:
                    self.progress(done, sum(costs), seeds.stop)
        grid = np.stack(found, axis=-1)
        return grid.reshape(*grid.shape[:2], len(self.ladder.rungs), len(seeds))


def _backend(name: str) -> Callable[..., Measurement]:
    if name == "numpy":
        from tensorprog.coordcheck.measure import measure

        return measure
    if name == "torch":
        from tensorprog.coordcheck.measure_torch import measure as measure_torch

        return measure_torch
    raise TensorProgError(f"unknown backend `{name}`", fix="numpy or torch")


def _until_conclusive(
    runs: Runs, demanded: Predictor, own: Predictor | None, seeds: int, most: int
) -> tuple[Measurement, tuple[Row, ...]]:
    """Sizes and rows, with `seeds` more networks at a time while they could change a verdict."""
    values = np.zeros((len(runs.probes), runs.steps + 1, len(runs.ladder.rungs), 0))
    rows: tuple[Row, ...] = ()
    while values.shape[3] < most:
        more = range(values.shape[3], min(values.shape[3] + seeds, most))
        values = np.concatenate([values, runs.measure(more)], axis=3)
        rows = _rows(runs, values, demanded, own)
        if not any(judge.wants_seeds(row, values.shape[3]) for row in rows):
            break
    return values, rows


def _rows(runs: Runs, values: Measurement, demanded: Predictor, own: Predictor | None) -> tuple[Row, ...]:
    """The verdict on everything that was measured."""
    unit = ROUNDING * float(np.finfo(runs.dtype).eps)
    independent = _independent(runs, values)
    rows = []
    for k, probe in enumerate(runs.probes):
        for t in range(runs.steps + 1):
            if np.isnan(values[k, t]).all():  # a tensor that the emitted program does not make
                continue
            limits = judge.Limits(unit * float(np.max(values[k, 0])) if t else 0.0, independent.get((k, t), 0.0))
            theirs = own.at(probe, t) if own else None
            rows.append(judge.row(probe, t, demanded.at(probe, t), theirs, values[k, t], runs.ladder, limits))
    return tuple(rows)


def _independent(runs: Runs, values: Measurement) -> dict[tuple[int, int], float]:
    """(probe, step) of the change of a plain sum -> how large it would be, at the top of the ladder, if its terms
    were independent."""
    found = {}
    top = values[:, :, -1]
    for k, (whole, operand, dims) in growing_sums(runs.derivation, runs.probes).items():
        factor = top[k, 0].mean() / top[whole, 0].mean() if top[whole, 0].any() else 1.0
        count = math.prod(float(dim.evaluate(runs.ladder.rungs[-1])) for dim in dims)
        for t in range(1, runs.steps + 1):
            found[k, t] = float(factor * math.sqrt(count * np.mean(top[operand, t] ** 2)))
    return found
