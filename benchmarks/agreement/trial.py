"""One network, trained at several widths and judged tensor by tensor.

What is judged: the initial value of every tensor, and its change after each of three updates; gradients too. Rules
for what is not a clean power of the width:

- a step that starts from a network in which something already grows is left out (`left out`): it trains on garbage;
- below a saturated nonlinearity a prediction is a bound, and only exceeding it disagrees;
- a number that overflows is left out where the calculus says that something grows, and disagrees where it does not
  (inconclusive if the widest networks are finite: a learning rate that is too large for the small ones);
- a change of the size of rounding errors, where more was predicted, cancels exactly: inconclusive;
- exponents do not depend on constants, what can be seen of them does: at small learning rates what is of second order
  in them hides behind what vanishes with width, at large ones narrow networks go astray. So a change that is not
  settled is looked at again at other learning rates. If it agrees there it agrees, and is counted apart
  (`ELSEWHERE`); it disagrees only if it does so at the larger ones, too (else: inconclusive, `SOMEWHERE`);
- a seed with an exact zero (of relu, say) is not counted for that tensor, as long as it is one of few.

Constants, which no exponent depends on, are chosen so that powers show early: the base width is far below the ladder.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.agreement import evidence
from benchmarks.agreement.campaign import campaign_program
from benchmarks.agreement.family import Family
from benchmarks.agreement.parametrizations import perturbed
from tensorprog.architecture import parse
from tensorprog.calculus.analysis import largest
from tensorprog.coordcheck.predict import Prediction, Predictor
from tensorprog.coordcheck.probes import Probe, probes
from tensorprog.derivation import Derivation, derive
from tensorprog.errors import TensorProgError
from tensorprog.parametrization import Parametrization

OPTIMIZERS = ("sgd", "adam", "muon")
STEPS = 3
LADDERS = (  # widths, seeds: what settles most rows; where some row is not settled; larger widths for small networks
    ((64, 128, 256, 512), 8),
    ((64, 128, 256, 512), 24),
    ((64, 128, 256, 512), 64),
    ((64, 128, 256, 512, 1024), 24),
)
RATES = (0.25, 4.0, 16.0)  # times the learning rates, in another look at changes that are not settled
RATES_SEEDS = 16
MOST_ENTRIES = 3_000_000  # of all parameters at the largest width of the last ladder
ELSEWHERE, SOMEWHERE = "at other learning rates", "it misses at some learning rates only"
FEW = 1 / 3  # of the seeds may be left out for an exact zero
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

    @property
    def target(self) -> float:
        """The predicted exponent, as a number; nan for an exact zero."""
        return float("nan") if self.predicted == "zero" else float(Fraction(self.predicted))


@dataclass(frozen=True, slots=True)
class Verdicts:
    """`counts`: verdict -> rows. `how`: why rows agree that do not simply follow their power -> rows. `control`: the
    verdicts on rows that were held against another parametrization's exponent. `rows`: what does not agree."""

    counts: Mapping[str, int]
    how: Mapping[str, int]
    control: Mapping[str, int]
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Trial:
    """A network of a campaign. `refused`: why nothing could be predicted ("" if something was)."""

    number: int
    optimizer: str
    wrong: tuple[str, ...]  # how the parametrization differs from the derived one
    source: str
    refused: str
    counts: Mapping[str, int]
    how: Mapping[str, int]
    control: Mapping[str, int]
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
        return Trial(number, optimizer, (), source, f"{error.message}: {error.why}", {}, {}, {}, ())
    wrong: tuple[str, ...] = ()
    used = derivation.parametrization
    if number // len(OPTIMIZERS) % 2:
        used, wrong = perturbed(derivation, number)
    v = judged(derivation, used, ladders=ladders)
    return Trial(number, optimizer, wrong, source, "", v.counts, v.how, v.control, v.rows)


def judged(
    derivation: Derivation,
    used: Parametrization,
    *,
    ladders: int = len(LADDERS),
    ladder: tuple[tuple[int, ...], int] | None = None,
    expected: Parametrization | None = None,
) -> Verdicts:
    """The verdicts on every tensor of an architecture, trained as `used` says. `ladder`: widths and seeds, instead of
    LADDERS. `expected`: what the predictions are made for, if not for `used` (a negative control)."""
    places = tuple(p for p in probes(derivation) if p.kind in ("value", "gradient") and p.name != "loss")
    predictor = Predictor(derivation, expected or used, STEPS)
    grows = _first_growth(predictor)
    family = Family(derivation, used, places, max(1, min(STEPS, grows)))
    rungs = (ladder,) if ladder else LADDERS[:ladders]
    if len(rungs) == len(LADDERS) and family.entries(rungs[-1][0][-1]) > MOST_ENTRIES:
        rungs = rungs[:-1]
    settled: dict[tuple[int, int], Row] = {}
    pending = [(k, t) for k in range(len(places)) for t in range(family.steps + 1)]
    for turn, (widths, seeds) in enumerate(rungs, 1):
        values = family.sizes(widths, seeds)
        for k, t in pending:
            row = _row(places[k], t, predictor.at(places[k], t), values[k, t], values[k, 0], widths, grows,
                       final=turn == len(rungs))  # fmt: skip
            if row is not None:
                settled[k, t] = row
        pending = [key for key, row in settled.items() if row.verdict in ("disagrees", "inconclusive")]
        if not pending:
            break
    for rate in RATES if len(rungs) > 1 else ():
        pending = [(k, t) for (k, t), row in settled.items() if t and row.verdict in ("disagrees", "inconclusive")]
        if not pending:
            break
        ladder = rungs[0][0], RATES_SEEDS
        wanted = list(dict.fromkeys(k for k, _ in pending))
        moved = dict(zip(wanted, family.again([places[k] for k in wanted], rate).sizes(*ladder), strict=True))
        for k, t in pending:
            row = _row(places[k], t, predictor.at(places[k], t), moved[k][t], moved[k][0], ladder[0], grows, final=True)
            if row is not None and row.verdict == "agrees":
                settled[k, t] = replace(row, reason=ELSEWHERE)
            elif row is not None and row.verdict != "disagrees" and settled[k, t].verdict == "disagrees" and rate > 1:
                settled[k, t] = replace(settled[k, t], verdict="inconclusive", reason=SOMEWHERE)
    counts = dict.fromkeys(("agrees", "disagrees", "inconclusive", "left out"), 0)
    counts["left out"] = sum(p.kind == "value" for p in places) * (STEPS - family.steps)
    for row in settled.values():
        counts[row.verdict] += 1
    how = dict(Counter(row.reason for row in settled.values() if row.verdict == "agrees" and row.reason))
    control = _control(derivation, used, predictor, places, values, widths, grows)
    return Verdicts(counts, how, control, tuple(row for row in settled.values()
                                                if row.verdict in ("disagrees", "inconclusive")))  # fmt: skip


def _control(
    derivation: Derivation,
    used: Parametrization,
    own: Predictor,
    places: Sequence[Probe],
    values: Floats,
    widths: tuple[int, ...],
    grows: int,
) -> dict[str, int]:
    """The negative control: networks with wrong exponents, held against the predictions for the derived ones. The
    verdicts on all rows of which the two predictions differ; nothing is trained for it."""
    counts: Counter[str] = Counter()
    if used is derivation.parametrization:
        return {}
    derived = Predictor(derivation, derivation.parametrization, STEPS)
    for k, probe in enumerate(places):
        for t in range(min(values.shape[1], grows + 1)):
            right, wrong = own.at(probe, t), derived.at(probe, t)
            if right.bound_only or right.exponent is None or wrong.exponent is None or right.exponent == wrong.exponent:
                continue
            row = _row(probe, t, wrong, values[k, t], values[k, 0], widths, STEPS + 1, final=False)
            if row is not None:
                counts[row.verdict] += 1
    return dict(counts)


def _first_growth(predictor: Predictor) -> int:
    """The first step at which a forward tensor that something consumes grows with the width; STEPS + 1 if none."""
    for t, snapshot in enumerate(predictor.snapshots):
        for node in predictor.program.forward.nodes:
            size = largest((snapshot.change if t else snapshot.initial)[node.id])
            if size is not None and size > 0 and (node.name or predictor.bounds[t]):
                return t
    return STEPS + 1


def _row(
    probe: Probe, t: int, prediction: Prediction, sizes: Floats, start: Floats, widths: Sequence[int], grows: int,
    *, final: bool,
) -> Row | None:  # fmt: skip
    """The verdict on one tensor at one step; None where nothing is measured."""
    if np.isnan(sizes).all():
        return None
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
    alive = np.all(sizes > 0, axis=0)
    if np.mean(alive) < 1 - FEW:
        return found("inconclusive", "exactly zero for some widths or seeds")
    e = evidence.judge(np.array(widths, dtype=np.float64), sizes[:, alive], float(prediction.exponent.degree),
                       bound=prediction.bound_only, final=final)  # fmt: skip
    return Row(probe.name, probe.kind, t, text, *(round(x, 3) for x in (e.slope, e.low, e.high)), e.verdict, e.reason,
               pooled)  # fmt: skip
