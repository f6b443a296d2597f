"""The check itself: networks at every width and seed, slopes, verdicts, and the report."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from tensorprog.calculus.analysis import Exponents
from tensorprog.check.calibrate import base_rates
from tensorprog.check.named import named
from tensorprog.check.predict import Prediction, Predictor, Probe, probes
from tensorprog.check.statistics import TOLERANCE, slope, verdict
from tensorprog.derive import SCHEMA, Derivation
from tensorprog.errors import TensorProgError
from tensorprog.exponents import Power
from tensorprog.parametrization import Parametrization

DEFAULT_WIDTHS = (128, 256, 512, 1024)
VANISHED = 1e-12  # relative to the tensor's own scale: what rounding leaves of an exact zero
Progress = Callable[[int, int], None]


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
    steps: int = 3,
    backend: str = "numpy",
    parametrization: str = "derived",
    lr: float | None = None,
    lr_exponent: Fraction | None = None,
    batch: int = 4,
    dtype: str = "float32",
    progress: Progress | None = None,
) -> CheckReport:
    """Train at a ladder of widths and compare the measured exponent of every tensor with the derived one.

    `widths`: values of the (first) width symbol, the first is the base width; other width symbols keep their
    ratio to it (all are set to the same value). `parametrization`: "derived", or a name in `check.named.NAMED`.
    Raises TensorProgError for unusable arguments.
    """
    ladder = tuple(widths or DEFAULT_WIDTHS)
    if len(ladder) < 2 or any(a >= b for a, b in zip(ladder, ladder[1:], strict=False)) or ladder[0] < 1:
        raise TensorProgError("the widths must be at least two, increasing", fix="--widths 64,128,256,512")
    if seeds < 1 or steps < 1:
        raise TensorProgError("seeds and steps must be at least 1", fix="--seeds 5 --steps 3")
    if parametrization == "derived":
        used, packed = derivation.parametrization, derivation.solution.exponents
    else:
        used, packed = named(derivation, parametrization, lr_exponent)
    places = probes(derivation)
    demanded = Predictor(derivation, derivation.solution.exponents, _in_gauge_of(derivation, used), steps)
    own = demanded if used is derivation.parametrization else Predictor(derivation, packed, used, steps)
    rates = base_rates(derivation, dict.fromkeys(derivation.widths, ladder[0]), batch=batch) if lr is None else lr
    logs = _measure_all(derivation, used, places, ladder, seeds, steps, backend, rates, batch, dtype, progress)
    rows: list[Row] = []
    for k, probe in enumerate(places):
        for t in range(steps + 1):
            rows.append(_row(probe, t, demanded.at(probe, t), own.at(probe, t), own is demanded, logs[k, t], ladder))
    return CheckReport(
        derivation.architecture.file, derivation.optimizer, parametrization, backend, ladder, seeds, steps, lr,
        TOLERANCE, tuple(rows),
    )  # fmt: skip


def _in_gauge_of(derivation: Derivation, used: Parametrization) -> Parametrization:
    """The derived parametrization, with raw parameters expressed in the multipliers of the one that is trained."""
    return used


def _measure_all(
    derivation: Derivation,
    used: Parametrization,
    places: list[Probe],
    ladder: tuple[int, ...],
    seeds: int,
    steps: int,
    backend: str,
    lr: float | Mapping[str, float],
    batch: int,
    dtype: str,
    progress: Progress | None,
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """rms [probe, step, width, seed]."""
    if backend == "numpy":
        from tensorprog.check.measure import measure
    elif backend == "torch":
        from tensorprog.check.measure_torch import measure
    else:
        raise TensorProgError(f"unknown backend `{backend}`", fix="numpy or torch")
    symbols = derivation.widths
    base = dict.fromkeys(symbols, ladder[0])
    result = np.zeros((len(places), steps + 1, len(ladder), seeds))
    done, total = 0, len(ladder) * seeds
    for w, width in enumerate(ladder):
        for seed in range(seeds):
            result[:, :, w, seed] = measure(
                derivation, used, places, dict.fromkeys(symbols, width), base,
                seed=seed, steps=steps, batch=batch, lr=lr, dtype=dtype,
            )  # fmt: skip
            done += 1
            if progress:
                progress(done, total)
    return result


def _row(
    probe: Probe,
    step: int,
    demanded: Prediction,
    own: Prediction,
    derived: bool,
    values: np.ndarray[Any, np.dtype[np.float64]],
    ladder: tuple[int, ...],
) -> Row:
    part = "change" if step else "init"
    wanted = demanded.change if step else demanded.initial
    expected = own.change if step else own.initial
    measured, low, high, result, reason = _compare(wanted, demanded.bound_only, values, ladder)
    if derived:
        own_result = result
    else:
        *_, own_result, _ = _compare(expected, own.bound_only, values, ladder)
    return Row(probe.name, step, part, _text(wanted), measured, low, high, result, reason, _text(expected), own_result)


def _text(power: Power | None) -> str | None:
    return None if power is None else str(power.degree)


def _compare(
    predicted: Power | None, bound_only: bool, values: np.ndarray[Any, np.dtype[np.float64]], ladder: tuple[int, ...]
) -> tuple[float | None, float | None, float | None, str, str]:
    """(measured, low, high, verdict, reason) of rms [width, seed]."""
    if not np.all(np.isfinite(values)):
        finite = np.all(np.isfinite(values), axis=1)
        return None, None, None, "disagrees", f"overflows at width {ladder[int(np.argmin(finite))]}"
    if not values.any():
        if predicted is None:
            return None, None, None, "agrees", "exactly zero, as predicted"
        return None, None, None, "disagrees", "exactly zero"
    if predicted is None:
        return None, None, None, "disagrees", f"should be exactly zero, is {values.max():.1e}"
    if not np.all(values > 0):
        return None, None, None, "inconclusive", "exactly zero for some widths or seeds"
    found = slope(np.array(ladder, dtype=np.float64), np.log2(values))
    shown = tuple(round(x, 4) if math.isfinite(x) else None for x in (found.value, found.low, found.high))
    if bound_only:
        return *shown, "inconclusive", "below a saturated nonlinearity: the prediction is only a bound"
    result = verdict(float(predicted.degree), found)
    reason = ""
    if result == "inconclusive":
        reason = "one seed gives no interval" if values.shape[1] == 1 else "the interval is wider than the tolerance"
    return *shown, result, reason


__all__ = ["CheckReport", "Exponents", "Row", "check"]
