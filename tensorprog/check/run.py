"""The check itself: networks at every width and seed, slopes, verdicts, and the report."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np

from tensorprog.check.calibrate import base_rates, base_widths, batch_size, default_ladder
from tensorprog.check.named import in_gauge, named
from tensorprog.check.predict import Prediction, Predictor, Probe, probes
from tensorprog.check.statistics import TOLERANCE, Slope, fit, verdict
from tensorprog.derive import SCHEMA, Derivation
from tensorprog.errors import TensorProgError
from tensorprog.exponents import Power
from tensorprog.parametrization import Parametrization

ROUNDING = 32.0  # a change below this many units of rounding of the tensor itself is no change
WIDE = "the interval is wider than the tolerance"
Progress = Callable[[int, int, int], None]  # done, total (of this round of seeds), seeds when it ends
Measurement = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class Row:
    """One tensor at one step. `predicted`: the exponent the derivation demands (None: exactly zero); `calculus`:
    the exponent the calculus predicts for the parametrization that was trained (the same, if it is the derived
    one). `measured`, `low`, `high`: slope and 95% interval (None: the tensor is exactly zero)."""

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
            return json.dumps(self.to_json(), indent=1) + "\n"
        from tensorprog.check.show import table

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
    progress: Progress | None = None,
) -> CheckReport:
    """Train at a ladder of widths and compare the measured exponent of every tensor with the derived one.

    `widths`: values of every width symbol; the first is the base width. `seeds`: networks per width to begin
    with; as long as a row is inconclusive more are added, up to `max_seeds` (default 4 * seeds). `steps`: updates.
    `lr`: one base learning rate for all; default: calibrated (check/calibrate.py). `parametrization`: "derived",
    a Parametrization, or a name in `check.named.NAMED`, whose global learning rate scales like n^`lr_exponent`.
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

    def one(width: int, seed: int) -> Measurement:
        return measure(derivation, used, places, dict.fromkeys(symbols, width), base,
                       seed=seed, steps=steps, batch=batch, lr=rates, dtype=dtype)  # fmt: skip

    most = max(seeds, 4 * seeds if max_seeds is None else max_seeds)
    values = np.zeros((len(places), steps + 1, len(ladder), 0))
    rows: tuple[Row, ...] = ()
    while values.shape[3] < most:
        now = values.shape[3]
        batch_of_seeds = range(now, min(now + seeds, most))
        runs = [[one(width, seed) for seed in _watched(batch_of_seeds, progress, now, w, ladder)]
                for w, width in enumerate(ladder)]  # fmt: skip
        fresh = np.stack([np.stack(per_width, axis=-1) for per_width in runs], axis=-2)
        values = np.concatenate([values, fresh], axis=3)
        rows = tuple(
            _row(
                probe,
                t,
                demanded.at(probe, t),
                own.at(probe, t),
                own is demanded,
                values[k, t],
                ladder,
                ROUNDING * float(np.finfo(dtype).eps) * values[k, 0].max() if t else 0.0,
            )
            for k, probe in enumerate(places)
            if not np.isnan(values[k, 0]).all()  # a tensor that the emitted program does not make
            for t in range(steps + 1)
        )
        if not any(row.verdict == "inconclusive" and row.reason == WIDE for row in rows):
            break
    own_name = "derived" if own is demanded else used.name
    return CheckReport(
        derivation.architecture.file, derivation.optimizer, own_name, backend, ladder, values.shape[3], steps,
        lr, TOLERANCE, rows,
    )  # fmt: skip


def _watched(
    seeds: range, progress: Progress | None, before: int, position: int, ladder: tuple[int, ...]
) -> Iterator[int]:
    """The seeds, telling `progress` what share of this round is done (cost counted as the width squared)."""
    cost = [w * w for w in ladder]
    for k, seed in enumerate(seeds):
        if progress:
            done = sum(cost[:position]) * len(seeds) + cost[position] * k
            progress(done, sum(cost) * len(seeds), before + len(seeds))
        yield seed
    if progress and position == len(ladder) - 1:
        progress(1, 1, before + len(seeds))


def _backend(name: str) -> Callable[..., Measurement]:
    if name == "numpy":
        from tensorprog.check.measure import measure

        return measure
    if name == "torch":
        from tensorprog.check.measure_torch import measure as measure_torch

        return measure_torch
    raise TensorProgError(f"unknown backend `{name}`", fix="numpy or torch")


def _row(
    probe: Probe,
    step: int,
    demanded: Prediction,
    own: Prediction,
    derived: bool,
    values: Measurement,
    ladder: tuple[int, ...],
    rounding: float,
) -> Row:
    part = "change" if step else "init"
    wanted = demanded.change if step else demanded.initial
    expected = own.change if step else own.initial
    measured, low, high, result, reason = _compare(wanted, demanded.bound_only, values, ladder, rounding)
    if derived:
        own_result = result
    else:
        *_, own_result, _ = _compare(expected, own.bound_only, values, ladder, rounding)
    return Row(probe.name, step, part, _text(wanted), measured, low, high, result, reason, _text(expected), own_result)


def _text(power: Power | None) -> str | None:
    return None if power is None else str(power.degree)


def _compare(
    predicted: Power | None, bound_only: bool, values: Measurement, ladder: tuple[int, ...], rounding: float
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
    found = fit(np.array(ladder, dtype=np.float64), values)
    if bound_only:
        return *_shown(found.line), "inconclusive", "below a saturated nonlinearity: the prediction is only a bound"
    result = verdict(float(predicted.degree), found.line)
    if result != "agrees" and found.beyond and verdict(float(predicted.degree), found.beyond) == "agrees":
        return *_shown(found.beyond), "agrees", "once a part that vanishes with width is accounted for"
    if result == "disagrees" and found.drift * (float(predicted.degree) - found.line.value) > 0:
        return (
            *_shown(found.line),
            "inconclusive",
            "its local slope still drifts towards the prediction: use larger widths",
        )
    reason = ""
    if result == "inconclusive":
        reason = "one seed gives no interval" if values.shape[1] == 1 else WIDE
    return *_shown(found.line), result, reason


def _shown(slope: Slope) -> tuple[float | None, float | None, float | None]:
    value, low, high = (round(x, 4) if math.isfinite(x) else None for x in (slope.value, slope.low, slope.high))
    return value, low, high


__all__ = ["CheckReport", "Row", "check"]
