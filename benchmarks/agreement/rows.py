"""The verdict on a row: one tensor at one step, measured at several widths.

What is judged: the initial value of every tensor, and its change after each of three updates; gradients too. Rules
for what is not a clean power of the width:

- a step that starts from a network in which something already grows is left out (`left out`): it trains on garbage;
- below a saturated nonlinearity a prediction is a bound, and only exceeding it disagrees;
- a number that overflows is left out where the calculus says that something grows, and disagrees where it does not
  (inconclusive if the widest networks are finite: a learning rate that is too large for the small ones);
- a network with numbers so small that they may be rounding errors, or so large that they overflow (gradients through
  several norms of what is exactly zero, without epsilon), is trained in double precision. What vanishes then
  cancels exactly: it disagrees where more was predicted (`CANCELS`);
- exponents do not depend on constants, what can be seen of them does: at small learning rates what is of second order
  in them hides behind what vanishes with width, at large ones narrow networks go astray. So a change that is not
  settled is looked at again at other learning rates. If it agrees there it agrees, and is counted apart
  (`ELSEWHERE`). It disagrees only if it still misses at the largest rate at which it is well known, and would do so if
  it moved on towards the prediction by twice as much as it did from one rate to the other (else: inconclusive,
  `SOMEWHERE`). Where it grows faster than predicted it must miss at the smaller rate, too: large updates saturate;
- a large part that vanishes with width may hide on the ladder what lasts. So what misses is looked at once more at
  larger widths, and agrees if it does there (`AT_WIDER`). It disagrees only if it disagrees there, too, and does not
  move to the prediction (else: inconclusive, `UNSURE` or evidence.py's `MOVES`);
- one learning rate may be far below what would show, and without epsilon a norm takes away all that a factor changes.
  What is smaller than predicted agrees if it follows its prediction at larger widths and rates (`FURTHER`) or with an
  epsilon of 1 (`NORMED`; inconclusive if it may), and is inconclusive if it does with that rate raised (raised.py);
- a first output that vanishes with width may still outweigh the targets at the top of the ladder, if its constant is
  large (squares of squares). The derivative of a squared error then falls as the output does. What falls too fast in
  such a network is inconclusive (`OUTWEIGHS`);
- an argument of a function that vanishes with width, and is seen to, may still be large at the top of the ladder: what
  the function makes of it is not what it makes of a small one. What follows from it does not disagree (`LARGE`);
- a seed with an exact zero (of relu, say), or one that overflows, is not counted for that tensor, as long as it is one
  of few.

Constants, which no exponent depends on, are chosen so that powers show early: the base width is far below the ladder.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from benchmarks.agreement import evidence
from benchmarks.agreement.family import NORMED, RAISED, Key, Look
from benchmarks.agreement.row import CANCELS, OVERFLOWS, ZERO, Row, row_of
from tensorprog.coordcheck.predict import Predictor
from tensorprog.coordcheck.probes import Probe
from tensorprog.functions import find
from tensorprog.graph import Loss, Map, Softmax

RATES = (0.25, 4.0, 16.0)  # times the learning rates, at which changes that are not settled are looked at again
ELSEWHERE, SOMEWHERE = "at other learning rates", "it misses at some learning rates only"
AT_WIDER, NARROW = "at larger widths", "it agrees at small widths only"
UNSURE = "whether it misses at larger widths is not known well enough"
OUTWEIGHS = "a first output outweighs the targets"
LARGE = "an argument that vanishes is still large"
MINUTE = 1e-5  # below it a number of a network in single precision may consist of rounding errors
OUTWEIGHED = 2.0  # times the targets, whose root mean square is 1
SMALL = 1.0  # the functions of the language have their bends about there

Floats = npt.NDArray[np.float64]


@dataclass
class Case:
    """Predictions, and what was seen of them so far. `pending`: rows (place, step) that are not settled. `level`: the
    chance at which a true prediction may be said to disagree."""

    places: Sequence[Probe]
    predictor: Predictor
    grows: int
    pending: list[Key]
    level: float = evidence.STRICT
    rows: dict[Key, Row] = field(default_factory=dict)
    other: dict[Key, dict[float, Row]] = field(default_factory=dict)  # at other learning rates
    wider: dict[Key, Row] = field(default_factory=dict)  # between larger widths
    carriers: dict[Key, frozenset[str]] = field(default_factory=dict)  # of what disagrees: see raised.py
    settled: dict[Key, Row] = field(default_factory=dict)  # agrees with the rate of one of them raised, or an epsilon

    def wanted(self, look: Look, beside: Collection[Key] = ()) -> list[Key]:
        """What a look is for. Initial values do not depend on learning rates. More seeds at another rate are of use
        only where it is not clear that the row misses at that rate. Larger widths are for what misses, more seeds
        there for what would disagree; and, where they are trained for the rows `beside`, for those, too."""
        if look.raised:
            return [key for key, names in self.carriers.items() if look.raised in names and key not in self.settled]
        if look.settles == NORMED:
            return self.disagreeing(evidence.SLOWER, CANCELS, ZERO)
        if look.settles:
            return [key for key in self.disagreeing(evidence.SLOWER) if key[1]]
        if look.wider:
            return [key for key in self.rows if key in beside or self._open(key)]
        return [key for key in self.pending
                if look.rate == 1 or (key[1] and not _misses(self.other.get(key, {}).get(look.rate)))]  # fmt: skip

    def hear(self, look: Look, keys: Sequence[Key], values: Floats, dtype: str, single: Floats | None = None) -> None:
        """Takes a look's sizes [place, step, width, seed] into account. `single`: those in single precision."""
        for k, t in keys:
            row = row_of(self.places[k], t, self.predictor.at(self.places[k], t), values[k, t], values[k, 0], look,
                       self.grows, self.level, dtype, None if single is None else single[k, t])  # fmt: skip
            if row is None:
                continue
            if look.settles:
                if row.verdict == "agrees":
                    verdict = "inconclusive" if look.settles == RAISED else "agrees"
                    self.settled[k, t] = replace(row, verdict=verdict, reason=look.settles)
                elif look.settles == NORMED and row.reason in (evidence.NOISE, evidence.TRANSIENT):
                    self.settled[k, t] = row
            elif look.wider:
                self.wider[k, t] = row
            elif look.rate == 1:
                self.rows[k, t] = row
            elif row.verdict == "agrees":
                self.rows[k, t] = replace(row, reason=ELSEWHERE)
            else:
                self.other.setdefault((k, t), {})[look.rate] = row
        self.pending = [key for key in self.pending if key in self.rows and not self._settled(key, dtype)]

    def _open(self, key: Key) -> bool:
        row, wider = self.rows[key], self.wider.get(key)
        if wider is None:
            return _misses(row) and not math.isnan(row.slope)
        return row.verdict == "disagrees" and wider.verdict != "agrees" and wider.reason != evidence.MOVES

    def _settled(self, key: Key, dtype: str) -> bool:
        row, other, wider = self.rows[key], self.other.get(key, {}), self.wider.get(key)
        if wider is not None and wider.verdict == "agrees":
            return True
        if row.verdict == "disagrees" and ((row.reason == CANCELS and dtype == "float64") or len(other) == len(RATES)):
            return confirmed(row, other)
        return row.verdict in ("agrees", "left out")

    def minute(self) -> list[Key]:
        """What is not settled and may consist of rounding errors, or is too large for single precision alone."""
        return [key for key in self.pending
                if self.rows[key].reason in (CANCELS, OVERFLOWS) or 0 < min(self.rows[key].sizes) < MINUTE]  # fmt: skip

    def verdicts(self) -> list[Row]:
        """The rows, those that disagree in all looks told from those that do so in some."""
        return list(self.found().values())

    def found(self) -> dict[Key, Row]:
        """The same, by place and step."""
        found = {key: self._verdict(key, row) for key, row in self.rows.items()}
        large = self._large(found)
        for key, row in found.items():
            if row.verdict == "disagrees" and row.reason in (evidence.SLOWER, evidence.FASTER) and key in large:
                found[key] = replace(row, verdict="inconclusive", reason=LARGE)
        if self._outweighed():
            for key, row in found.items():
                learns = row.step or row.kind == "gradient"
                if learns and row.verdict == "disagrees" and row.reason == evidence.SLOWER:
                    found[key] = replace(row, verdict="inconclusive", reason=OUTWEIGHS)
        return found | self.settled

    def disagreeing(self, *reasons: str) -> list[Key]:
        """Those that disagree for one of these reasons."""
        return [key for key, row in self.found().items() if row.verdict == "disagrees" and row.reason in reasons]

    def _outweighed(self) -> bool:
        """Whether an output with a squared error is larger than its targets at the start, though it vanishes."""
        nodes = self.predictor.program.nodes
        outputs = {node.args[0] for node in nodes if isinstance(node.op, Loss) and node.op.kind == "mse"}
        starts = [row for (k, t), row in self.rows.items()
                  if not t and self.places[k].kind == "value" and self.places[k].node in outputs]  # fmt: skip
        return any(row.target < 0 and row.sizes[-1] > OUTWEIGHED for row in starts)

    def _large(self, found: Mapping[Key, Row]) -> set[Key]:
        """The rows that follow from an argument which should vanish, is seen to fall, and is still large."""
        program, result = self.predictor.program, set[Key]()
        functions = self.predictor.analysis.functions
        bent = {node.args[0] for node in program.forward.nodes if isinstance(node.op, Softmax) or (
            isinstance(node.op, Map) and find(node.op.fn, functions).facts[0].degree is None)}  # fmt: skip
        for (k, t), row in found.items():
            place = self.places[k]
            if place.kind != "value" or place.node not in bent or row.verdict == "disagrees":
                continue
            if row.target < 0 and row.high < 0 and row.sizes[-1] > SMALL:
                behind = {place.node}
                for node in program.nodes:
                    if not behind.isdisjoint(node.args):
                        behind.add(node.id)
                result |= {(o, step) for o, step in found
                           if step > t or (step == t and self.places[o].node in behind - {place.node})}  # fmt: skip
        return result

    def _verdict(self, key: Key, row: Row) -> Row:
        if row.verdict == "disagrees" and not confirmed(row, self.other.get(key, {})):
            row = replace(row, verdict="inconclusive", reason=SOMEWHERE)
        return at_wider(row, self.wider[key]) if key in self.wider else row


def _misses(row: Row | None) -> bool:
    return row is not None and (row.verdict == "disagrees" or row.reason == evidence.MISSES)


def confirmed(row: Row, others: Mapping[float, Row]) -> bool:
    """Whether a row that disagrees does so at larger learning rates, too: see the head of this file."""
    larger = [others[rate] for rate in sorted(others, reverse=True) if rate > 1]
    if row.reason == evidence.FASTER and any(rate < 1 and not _misses(other) for rate, other in others.items()):
        return False
    for other in larger:
        if other.verdict == "disagrees" and other.reason == row.reason:
            return True
        if not other.high - other.low <= 2 * evidence.TOLERANCE or math.isnan(row.slope) or math.isnan(other.slope):
            continue
        side = 1 if row.slope > row.target else -1
        moved = max(0.0, side * (row.slope - other.slope))
        nearest = other.low if side > 0 else other.high
        ahead = other.slope - side * 2 * moved
        return min(side * (nearest - row.target), side * (ahead - row.target)) > evidence.TOLERANCE
    return not larger


def at_wider(row: Row, wider: Row) -> Row:
    """The verdict on a row that was looked at between larger widths, too: see the head of this file."""
    if wider.verdict == "agrees":
        return row if row.verdict == "agrees" else replace(wider, reason=AT_WIDER)
    if row.verdict == "agrees":
        return replace(wider, verdict="inconclusive", reason=NARROW) if _misses(wider) else row
    row = replace(row, wider=(wider.slope, wider.low, wider.high))
    if wider.reason == evidence.MOVES:
        return replace(row, verdict="inconclusive", reason=evidence.MOVES)
    if row.verdict == "disagrees" and wider.verdict != "disagrees":
        return replace(row, verdict="inconclusive", reason=UNSURE)
    return row
