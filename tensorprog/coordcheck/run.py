"""The check itself: networks at every width and seed, slopes, verdicts, and the report."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np

from tensorprog.coordcheck.calibrate import base_rates, base_widths, batch_size, default_ladder
from tensorprog.coordcheck.named import in_gauge, named
from tensorprog.coordcheck.predict import Prediction, Predictor, Probe, growing_sums, probes
from tensorprog.coordcheck.statistics import TOLERANCE, Slope, fit, verdict
from tensorprog.derivation import SCHEMA, Derivation
from tensorprog.dims import Dim
from tensorprog.errors import TensorProgError
from tensorprog.exponents import Power
from tensorprog.parametrization import Parametrization

ROUNDING = 32.0  # a change below this many units of rounding of the tensor itself is no change
CANCELS = 0.1  # of what independent terms would give: below this, a sum's terms cancel
ENOUGH_SEEDS = 6  # with fewer, the error of the error is large: a disagreement asks for more
WIDE = "the interval is wider than the tolerance"
Progress = Callable[[int, int, int], None]  # done, total (of this round of seeds), seeds when it ends
Measurement = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class Row:
    """One tensor at one step. `predicted`: the exponent the derivation demands (None: exactly zero); `calculus`:
    the exponent the calculus predicts for the parametrization that was trained (the same, if it is the derived
    one). `measured`, `low`, `high`: slope and 95% interval (None: the tensor is exactly zero). `rms`: what they rest
    on, root mean squares [width][seed] to 5 digits (None: not finite)."""

    tensor: str
    step: int
    part: str  # "init" | "change"
    predicted: str | None
    measured: float | None
    low: float | None
    high: float | None
    verdict: str
    reason: str = ""
    calculus: str | None = None
    calculus_verdict: str = ""
    rms: tuple[tuple[float | None, ...], ...] = ()


@dataclass(frozen=True)
class CheckReport:
    """All rows of a check, and how it was run."""

    file: str
    optimizer: str
    parametrization: str
    backend: str
    widths: tuple[int, ...]
    seeds: int
    steps: int
    lr: float | None
    tolerance: float
    rows: tuple[Row, ...]
    left_out: tuple[str, ...] = ()  # tensors that the backend's program does not make

    @property
    def verdict(self) -> str:
        """disagrees if any row does; else inconclusive if any is; else agrees."""
        found = {row.verdict for row in self.rows}
        return next((v for v in ("disagrees", "inconclusive") if v in found), "agrees")

    @property
    def exit_code(self) -> int:
        """0 when nothing disagrees, 1 when something does."""
        return 1 if self.verdict == "disagrees" else 0

    def count(self, verdict: str) -> int:
        return sum(row.verdict == verdict for row in self.rows)

    def to_json(self) -> dict[str, Any]:
        head = {k: v for k, v in self.__dict__.items() if k != "rows"}
        return {"schema": SCHEMA, **head, "verdict": self.verdict, "rows": [asdict(row) for row in self.rows]}

    def render(self, format: str = "table", *, color: bool = False, every: bool = False) -> str:
        """As `table` (one line per tensor: its start and its worst step; `every`: all rows) or `json`."""
        if format == "json":
            text = json.dumps(self.to_json(), indent=1)
            return re.sub(r"\[\n[\s\d.e+,-]*\]", lambda m: " ".join(m[0].split()), text) + "\n"  # numbers on one line
        from tensorprog.coordcheck.show import table

        return table(self, color=color, every=every)

    def __str__(self) -> str:
        return self.render()

    def _repr_html_(self) -> str:
        from html import escape

        return f"<pre>{escape(self.render())}</pre>"


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
    a Parametrization, or a name in `coordcheck.named.NAMED`, whose global learning rate scales like n^`lr_exponent`.
    `jobs`: networks trained at the same time, in threads (NumPy backend); the result does not depend on it.
    Raises TensorProgError for unusable arguments.
    """
    ladder = tuple(widths or default_ladder(derivation))
    if len(ladder) < 2 or any(a >= b for a, b in pairwise(ladder)) or ladder[0] < 1:
        raise TensorProgError("the widths must be at least two, increasing", fix="--widths 64,128,256,512")
    if seeds < 1 or steps < 1:
        raise TensorProgError("seeds and steps must be at least 1", fix="--seeds 5 --steps 3")
    used = derivation.parametrization
    if isinstance(parametrization, Parametrization):
        used = parametrization
    elif parametrization != "derived":
        used = named(derivation, parametrization, lr_exponent)
    places = probes(derivation)
    demanded = Predictor(derivation, derivation.solution.exponents, used, steps)
    own = demanded
    if used is not derivation.parametrization:
        own = Predictor(derivation, in_gauge(derivation, used), used, steps)
    symbols = derivation.widths
    batch = batch or batch_size(derivation, ladder)
    base = base_widths(derivation, ladder)
    rates = base_rates(derivation, dict.fromkeys(symbols, ladder[0]), base, batch=batch) if lr is None else lr
    measure = _backend(backend)
    jobs = jobs if backend == "numpy" else 1

    def one(run: tuple[int, int]) -> Measurement:
        width, seed = run
        return measure(derivation, used, places, dict.fromkeys(symbols, width), base,
                       seed=seed, steps=steps, batch=batch, lr=rates, dtype=dtype)  # fmt: skip

    sums, widest = growing_sums(derivation, places), dict.fromkeys(symbols, ladder[-1])
    most = max(seeds, 4 * seeds if max_seeds is None else max_seeds)
    values = np.zeros((len(places), steps + 1, len(ladder), 0))
    rows: tuple[Row, ...] = ()
    while values.shape[3] < most:
        more = range(values.shape[3], min(values.shape[3] + seeds, most))
        values = np.concatenate([values, _round(one, ladder, more, jobs, progress)], axis=3)
        rounding = ROUNDING * float(np.finfo(dtype).eps) * np.max(values[:, 0], axis=(1, 2))
        rows = tuple(
            _row(probe, t, demanded.at(probe, t), own.at(probe, t), own is demanded, values[k, t], ladder,
                 rounding[k] if t else 0.0, _clt_size(sums.get(k), values[:, :, -1], k, t, widest))
            for k, probe in enumerate(places)
            if not np.isnan(values[k, 0]).all()  # a tensor that the emitted program does not make
            for t in range(steps + 1)
        )  # fmt: skip
        if not any(_wants_seeds(row, values.shape[3]) for row in rows):
            break
    measured = {row.tensor for row in rows}
    return CheckReport(
        file=derivation.architecture.file, optimizer=derivation.optimizer,
        parametrization="derived" if own is demanded else used.name, backend=backend, widths=ladder,
        seeds=values.shape[3], steps=steps, lr=lr, tolerance=TOLERANCE, rows=rows,
        left_out=tuple(probe.name for probe in places if probe.name not in measured),
    )  # fmt: skip


def _round(
    one: Callable[[tuple[int, int]], Measurement],
    ladder: tuple[int, ...],
    seeds: range,
    jobs: int,
    progress: Progress | None,
) -> Measurement:
    """rms [probe, step, width, seed] for more seeds at every width. `progress` counts the width squared as cost."""
    runs = [(width, seed) for width in ladder for seed in seeds]
    cost, total = 0, sum(width**2 for width, _ in runs)
    found: list[Measurement] = []
    with ThreadPoolExecutor(jobs) as pool:
        for (width, _), measured in zip(runs, pool.map(one, runs), strict=True):
            found.append(measured)
            cost += width**2
            if progress:
                progress(cost, total, seeds.stop)
    grid = np.stack(found, axis=-1)
    return grid.reshape(*grid.shape[:2], len(ladder), len(seeds))


def _backend(name: str) -> Callable[..., Measurement]:
    if name == "numpy":
        from tensorprog.coordcheck.measure import measure

        return measure
    if name == "torch":
        from tensorprog.coordcheck.measure_torch import measure as measure_torch

        return measure_torch
    raise TensorProgError(f"unknown backend `{name}`", fix="numpy or torch")


def _wants_seeds(row: Row, seeds: int) -> bool:
    """Whether more seeds could change a verdict: a wide interval, a near miss, or a disagreement of few seeds."""
    if row.verdict == "disagrees" and row.measured is not None and row.predicted is not None:
        return seeds < ENOUGH_SEEDS or abs(row.measured - float(Fraction(row.predicted))) < 2 * TOLERANCE
    return row.reason == WIDE


def _clt_size(
    sum_: tuple[int, int, tuple[Dim, ...]] | None, values: Measurement, k: int, step: int, widths: dict[str, int]
) -> float:
    """How large the change of a plain sum would be, at the largest width, if its terms were independent (0: probe k
    is no such sum). `values`: rms [probe, step, seed] there."""
    if sum_ is None or not step:
        return 0.0
    whole, operand, dims = sum_
    factor = values[k, 0].mean() / values[whole, 0].mean() if values[whole, 0].any() else 1.0
    count = math.prod(float(dim.evaluate(widths)) for dim in dims)
    return float(factor * math.sqrt(count * np.mean(values[operand, step] ** 2)))


def _row(
    probe: Probe,
    step: int,
    demanded: Prediction,
    own: Prediction,
    derived: bool,
    values: Measurement,
    ladder: tuple[int, ...],
    rounding: float,
    clt_size: float,
) -> Row:
    part = "change" if step else "init"
    wanted = demanded.change if step else demanded.initial
    expected = own.change if step else own.initial
    measured, low, high, result, reason = _compare(wanted, demanded.bound_only, values, ladder, rounding, clt_size)
    if derived:
        own_result = result
    else:
        *_, own_result, _ = _compare(expected, own.bound_only, values, ladder, rounding, clt_size)
    return Row(probe.name, step, part, _text(wanted), measured, low, high, result, reason, _text(expected), own_result,
               _digits(values))  # fmt: skip


def _text(power: Power | None) -> str | None:
    return None if power is None else str(power.degree)


def _digits(values: Measurement) -> tuple[tuple[float | None, ...], ...]:
    return tuple(tuple(float(f"{x:.5g}") if math.isfinite(x) else None for x in row) for row in values.tolist())


def _compare(
    predicted: Power | None,
    bound_only: bool,
    values: Measurement,
    ladder: tuple[int, ...],
    rounding: float,
    clt_size: float,
) -> tuple[float | None, float | None, float | None, str, str]:
    """(measured, low, high, verdict, reason) of rms [width, seed]."""
    if not np.all(np.isfinite(values)):
        finite = np.all(np.isfinite(values), axis=1)
        return None, None, None, "disagrees", f"overflows at width {ladder[int(np.argmin(finite))]}"
    if not values.any():
        if predicted is None:
            return None, None, None, "agrees", "exactly zero, as predicted"
        return None, None, None, "disagrees", "exactly zero"
    if rounding and values.max() < rounding:
        return None, None, None, "inconclusive", "it cancels exactly: only rounding errors are left"
    if predicted is None:
        return None, None, None, "disagrees", f"should be exactly zero, is {values.max():.1e}"
    if not np.all(values > 0):
        return None, None, None, "inconclusive", "exactly zero for some widths or seeds"
    found = fit(np.array(ladder, dtype=np.float64), values, float(predicted.degree))
    if bound_only:
        return *_shown(found.line), "inconclusive", "below a saturated nonlinearity: the prediction is only a bound"
    result = verdict(float(predicted.degree), found.line)
    if result != "agrees" and found.beyond and verdict(float(predicted.degree), found.beyond) == "agrees":
        return *_shown(found.beyond), "agrees", "once a part that vanishes with width is accounted for"
    if result != "agrees" and math.sqrt(float(np.mean(values[-1] ** 2))) < CANCELS * clt_size:
        return (
            *_shown(found.line),
            "inconclusive",
            "the terms of this sum nearly cancel: what is left is not yet its law",
        )
    missing = float(predicted.degree) - found.line.value
    if result == "disagrees" and found.drift * missing > 0 and abs(missing) <= 2 * abs(found.drift) + TOLERANCE:
        why = "its local slope drifts towards the prediction, and is near it: larger widths would tell"
        return *_shown(found.line), "inconclusive", why
    reason = ""
    if result == "inconclusive":
        reason = "one seed gives no interval" if values.shape[1] == 1 else WIDE
    return *_shown(found.line), result, reason


def _shown(slope: Slope) -> tuple[float | None, float | None, float | None]:
    value, low, high = (round(x, 4) if math.isfinite(x) else None for x in (slope.value, slope.low, slope.high))
    return value, low, high
