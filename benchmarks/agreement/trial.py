"""One network, trained at several widths and judged tensor by tensor.

What is judged: the initial value of every tensor, and its change after each of three updates; gradients too. Rules
for what is not a clean power of the width:

- a step that starts from a network in which something already grows is left out (`left out`): it trains on garbage;
- below a saturated nonlinearity a prediction is a bound, and only exceeding it disagrees;
- a number that overflows is left out where the calculus says that something grows, and disagrees where it does not
  (inconclusive if the widest networks are finite: a learning rate that is too large for the small ones);
- a change of the size of rounding errors, where more was predicted, cancels exactly: inconclusive.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.agreement import evidence
from benchmarks.agreement.networks import campaign_program
from benchmarks.agreement.parametrizations import perturbed
from tensorprog.architecture import parse
from tensorprog.calculus.analysis import largest
from tensorprog.coordcheck.calibrate import base_rates
from tensorprog.coordcheck.measure import measure
from tensorprog.coordcheck.predict import Predictor
from tensorprog.coordcheck.probes import Probe, probes
from tensorprog.derivation import Derivation, derive
from tensorprog.errors import TensorProgError
from tensorprog.parametrization import Parametrization

OPTIMIZERS = ("sgd", "adam", "muon")
STEPS, BATCH = 3, 4
GENTLE = 0.5  # of the rates that a check uses: three steps of many parameters must not leave the linear regime
LADDERS = (  # widths, seeds: what settles most rows; where some row is not settled; where some row looks wrong
    ((64, 128, 256, 512), 8),
    ((128, 256, 512, 1024), 16),
    ((256, 512, 1024, 2048), 32),
)
ROUNDING = 64 * float(np.finfo(np.float32).eps)

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Row:
    """A row that is not settled, or disagrees. `predicted`: an exponent, or "zero"."""

    tensor: str
    kind: str
    step: int
    predicted: str
    slope: float
    low: float
    high: float
    verdict: str
    reason: str
    sizes: tuple[float, ...]  # root mean square over the seeds, per width


@dataclass(frozen=True, slots=True)
class Trial:
    """A network of a campaign. `refused`: why nothing could be predicted ("" if something was)."""

    number: int
    optimizer: str
    wrong: tuple[str, ...]  # how the parametrization differs from the derived one
    source: str
    refused: str
    counts: Mapping[str, int]
    rows: tuple[Row, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def trial(number: int, ladders: int = len(LADDERS)) -> Trial:
    """Network `number` of the campaign: its program, its optimizer and its parametrization follow from the number.
    `ladders`: how far to go where rows are not settled."""
    source = campaign_program(number)
    optimizer = OPTIMIZERS[number % len(OPTIMIZERS)]
    try:
        derivation = derive(parse(source), optimizer)
    except TensorProgError as error:
        return Trial(number, optimizer, (), source, f"{error.message}: {error.why}", {}, ())
    wrong: tuple[str, ...] = ()
    used = derivation.parametrization
    if number // len(OPTIMIZERS) % 2:
        used, wrong = perturbed(derivation, number)
    counts, rows = judged(derivation, used, ladders=ladders)
    return Trial(number, optimizer, wrong, source, "", counts, rows)


def judged(
    derivation: Derivation,
    used: Parametrization,
    *,
    ladders: int = len(LADDERS),
    ladder: tuple[tuple[int, ...], int] | None = None,
) -> tuple[dict[str, int], tuple[Row, ...]]:
    """(verdict -> how many rows, the rows that do not agree). `ladder`: widths and seeds, instead of LADDERS."""
    places = tuple(p for p in probes(derivation) if p.kind in ("value", "gradient") and p.name != "loss")
    rungs = (ladder,) if ladder else LADDERS[:ladders]
    predictor = Predictor(derivation, used, STEPS)
    grows = _first_growth(predictor)
    family = _Family(derivation, used)
    settled: dict[tuple[Probe, int], Row] = {}
    pending = [(p, t) for p in places for t in range(STEPS + 1)]
    for turn, (widths, seeds) in enumerate(rungs, 1):
        wanted = tuple(dict.fromkeys(p for p, _ in pending))
        position = {p: k for k, p in enumerate(wanted)}
        values = family.sizes(wanted, widths, seeds)
        for probe, t in pending:
            k = position[probe]
            row = _row(probe, t, predictor, grows, values[k, t], values[k, 0], widths, turn == len(rungs))
            if row is not None:
                settled[probe, t] = row
        again = ("disagrees", "inconclusive") if turn == 1 else ("disagrees",)
        pending = [key for key, row in settled.items() if row.verdict in again]
        if not pending:
            break
    counts = dict.fromkeys(("agrees", "disagrees", "inconclusive", "left out"), 0)
    for row in settled.values():
        counts[row.verdict] += 1
    return counts, tuple(row for row in settled.values() if row.verdict in ("disagrees", "inconclusive"))


@dataclass(frozen=True, slots=True)
class _Family:
    """One architecture in one parametrization, at any width."""

    derivation: Derivation
    used: Parametrization

    def sizes(self, places: Sequence[Probe], widths: Sequence[int], seeds: int) -> Floats:
        """[probe, step, width, seed]. The base width is the same for all ladders: it is one family of networks."""
        symbols, lowest = self.derivation.widths, LADDERS[0][0][0]
        base = dict.fromkeys(symbols, lowest if self.used.name == "perturbed" else lowest // 4)
        rates = base_rates(self.derivation, dict.fromkeys(symbols, lowest), base, batch=BATCH)
        rates = {name: GENTLE * rate for name, rate in rates.items()}
        found = [
            measure(self.derivation, self.used, places, dict.fromkeys(symbols, width), base, seed=seed, steps=STEPS,
                    batch=BATCH, lr=rates, dtype="float32")
            for width in widths
            for seed in range(seeds)
        ]  # fmt: skip
        grid = np.stack(found, axis=-1)
        return grid.reshape(*grid.shape[:2], len(widths), seeds)


def _first_growth(predictor: Predictor) -> int:
    """The first step at which a forward tensor that something consumes grows with the width; STEPS + 1 if none."""
    for t, snapshot in enumerate(predictor.snapshots):
        for node in predictor.program.forward.nodes:
            size = largest((snapshot.change if t else snapshot.initial)[node.id])
            if size is not None and size > 0 and (node.name or predictor.bounds[t]):
                return t
    return STEPS + 1


def _row(
    probe: Probe, t: int, predictor: Predictor, grows: int, sizes: Floats, start: Floats, widths: Sequence[int],
    final: bool,
) -> Row | None:  # fmt: skip
    """The verdict on one tensor at one step; None where nothing is measured."""
    if np.isnan(sizes).all():
        return None
    prediction = predictor.at(probe, t)
    pooled = tuple(float(f"{x:.4g}") for x in np.sqrt(np.mean(sizes**2, axis=1)))
    text = "zero" if prediction.exponent is None else str(prediction.exponent.degree)

    def found(verdict: str, reason: str = "") -> Row:
        return Row(probe.name, probe.kind, t, text, float("nan"), 0.0, 0.0, verdict, reason, pooled)

    if t > grows:
        return found("left out", "something grew at an earlier step")
    finite = np.all(np.isfinite(sizes), axis=1)
    if not finite.all():
        verdict = "left out" if t >= grows else "inconclusive" if finite[-1] else "disagrees"
        return found(verdict, "diverges at small widths" if finite[-1] else "overflows")
    if not sizes.any():
        return found("agrees" if prediction.exponent is None else "disagrees", "exactly zero")
    tiny = t > 0 and probe.kind == "value" and sizes.max() < ROUNDING * max(float(start.max()), 1e-30)
    if prediction.exponent is None:
        return found("agrees" if tiny else "disagrees", "should be exactly zero")
    if tiny:
        return found("inconclusive", "it cancels exactly")
    if not np.all(sizes > 0):
        return found("inconclusive", "exactly zero for some widths or seeds")
    e = evidence.judge(np.array(widths, dtype=np.float64), sizes, float(prediction.exponent.degree),
                       bound=prediction.bound_only, final=final)  # fmt: skip
    return Row(probe.name, probe.kind, t, text, *(round(x, 3) for x in (e.slope, e.low, e.high)), e.verdict, e.reason,
               pooled)  # fmt: skip
