"""One network, trained at several widths and judged tensor by tensor: rows.py says how.

It is looked at as often as is worth it: more seeds, other learning rates and larger widths for what is not settled.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from benchmarks.agreement.campaign import campaign_program
from benchmarks.agreement.family import EACH, ONE, WIDER, Family, Look, idle
from benchmarks.agreement.parametrizations import perturbed
from benchmarks.agreement.raised import RAISES, carriers
from benchmarks.agreement.row import Row, alike
from benchmarks.agreement.rows import RATES, Case
from tensorprog.architecture import parse
from tensorprog.calculus.analysis import largest
from tensorprog.coordcheck.predict import Predictor
from tensorprog.coordcheck.probes import probes
from tensorprog.derivation import Derivation
from tensorprog.deriving import derive
from tensorprog.errors import TensorProgError
from tensorprog.parametrization import Parametrization

OPTIMIZERS = ("sgd", "adam", "muon")
STEPS = 3
LOOKS = (  # one after the other, each at what is not settled then: more seeds, other learning rates, larger widths
    Look(8), Look(16), *(Look(8, rate) for rate in RATES), Look(32), *(Look(16, rate) for rate in RATES),
    Look(4, widths=WIDER), Look(48), Look(8, widths=WIDER), Look(48, epsilon=ONE),
    *(Look(8, rate, widths=WIDER) for rate in RATES if rate > 1), Look(8, raised=EACH),
)  # fmt: skip
CONTROL = 0.001  # the level at which a row of the control disagrees


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
    """A network of a campaign. `refused`: why nothing could be predicted ("" if something was). `predicted`: a digest
    of all that is trained and predicted, by which a later version knows whether its verdicts would be others."""

    number: int
    optimizer: str
    wrong: tuple[str, ...]  # how the parametrization differs from the derived one
    source: str
    refused: str
    predicted: str
    counts: Mapping[str, int]
    how: Mapping[str, int]
    control: Mapping[str, int]
    rows: tuple[Row, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Hearing:
    """What is to be judged: what is trained, and the predictions it is held against (`cases`: the first has those for
    what is trained, a second those for other exponents)."""

    derivation: Derivation
    wrong: tuple[str, ...]
    family: Family
    cases: tuple[Case, ...]

    @property
    def predicted(self) -> str:
        """The digest of a Trial."""
        told = [repr(self.derivation.parametrization), repr(self.family.used), str(self.family.steps)]
        for case in self.cases:
            places = [(case.places[k], t) for k, t in case.pending]
            told += [f"{case.grows} {place.name} {place.kind} {t} {case.predictor.at(place, t)}" for place, t in places]
        return hashlib.sha256("\n".join(told).encode()).hexdigest()[:16]


def trial(number: int, looks: Sequence[Look] = LOOKS) -> Trial:
    """Network `number` of the campaign: its program, its optimizer and its parametrization follow from the number.
    `looks`: how far to go where rows are not settled."""
    source, optimizer = posed(number)
    try:
        hearing = opened(number, source, optimizer)
    except TensorProgError as error:
        return Trial(number, optimizer, (), source, f"{error.message}: {error.why}", "", {}, {}, {}, ())
    predicted = hearing.predicted
    v = heard(hearing, looks)
    return Trial(number, optimizer, hearing.wrong, source, "", predicted, v.counts, v.how, v.control, v.rows)


def posed(number: int) -> tuple[str, str]:
    """The program of network `number`, and its optimizer."""
    return campaign_program(number), OPTIMIZERS[number % len(OPTIMIZERS)]


def opened(number: int, source: str, optimizer: str) -> Hearing:
    """What is trained and predicted of network `number`; nothing is trained yet. Raises TensorProgError if it is
    refused."""
    derivation = derive(parse(source), optimizer)
    if number // len(OPTIMIZERS) % 2:
        return prepared(derivation, *perturbed(derivation, number))
    return prepared(derivation, derivation.parametrization)


def judged(
    derivation: Derivation, used: Parametrization, *, looks: Sequence[Look] = LOOKS,
    expected: Parametrization | None = None,
) -> Verdicts:  # fmt: skip
    """The verdicts on every tensor of an architecture, trained as `used` says. `expected`: what the predictions are
    made for, if not for `used` (a negative control)."""
    return heard(prepared(derivation, used, expected=expected), looks)


def prepared(
    derivation: Derivation, used: Parametrization, wrong: tuple[str, ...] = (), expected: Parametrization | None = None
) -> Hearing:
    """Everything that can be predicted, to be judged."""
    still = idle(derivation.architecture.graph.nodes)
    places = tuple(p for p in probes(derivation)
                   if p.kind in ("value", "gradient") and p.name != "loss" and p.node not in still)  # fmt: skip
    predictor = Predictor(derivation, expected or used, STEPS)
    grows = _first_growth(predictor)
    family = Family(derivation, used, places, max(1, min(STEPS, grows)))
    unbounded = [predictor.unbounded(t) for t in range(family.steps + 1)]
    everything = [(k, t) for k, p in enumerate(places) for t, beyond in enumerate(unbounded) if p.node not in beyond]
    own = Case(places, predictor, grows, everything)
    return Hearing(derivation, wrong, family, (own, control(derivation, own)) if used is not derivation.parametrization
                   else (own,))  # fmt: skip


def heard(hearing: Hearing, looks: Sequence[Look]) -> Verdicts:
    """Trains it, and judges."""
    family, cases = hearing.family, hearing.cases
    own = cases[0]
    unknown = len(own.places) * (family.steps + 1) - len(own.pending)  # no bound is known of them
    for look in unrolled(looks, hearing):
        wanted = [own.wanted(look)]
        wanted += [case.wanted(look, wanted[0]) for case in cases[1:]]
        if not wanted[0]:
            continue
        values = family.sizes(look, *wanted)
        for case, keys in zip(cases, wanted, strict=True):
            case.hear(look, keys, values, family.dtype)
        if look is looks[0] and (minute := own.minute()):
            double, wanted = family.precisely(), [case.wanted(look) for case in cases]
            precise = double.sizes(look, *wanted)
            if all(alike(values[key], precise[key]) for key in minute):
                continue
            family = double
            for case, keys in zip(cases, wanted, strict=True):
                case.hear(look, keys, precise, family.dtype, values)
    rows = own.verdicts()
    counts = dict.fromkeys(("agrees", "disagrees", "inconclusive", "left out"), 0)
    counts["left out"] = sum(p.kind == "value" for p in own.places) * (STEPS - family.steps) + unknown
    for row in rows:
        counts[row.verdict] += 1
    how = dict(Counter(row.reason for row in rows if row.verdict == "agrees" and row.reason))
    others = Counter(row.verdict for case in cases[1:] for row in case.verdicts())
    return Verdicts(counts, how, dict(others), tuple(r for r in rows if r.verdict in ("disagrees", "inconclusive")))


def unrolled(looks: Sequence[Look], hearing: Hearing) -> Iterator[Look]:
    """The looks; that which raises rates, for each parameter that carries what disagrees by then, and each factor."""
    for look in looks:
        if look.raised != EACH:
            yield look
            continue
        for case in hearing.cases:
            case.carriers = carriers(hearing.derivation, case)
        for name in sorted(set().union(*hearing.cases[0].carriers.values())):
            yield from (replace(look, raised=name, rate=rate) for rate in RAISES)


def control(derivation: Derivation, own: Case) -> Case:
    """The negative control: networks with wrong exponents, held against the predictions for the derived ones in all
    rows of which the two predictions differ; nothing is trained for it, but it sees whatever is."""
    derived = Predictor(derivation, derivation.parametrization, STEPS)
    differ = []
    for k, t in own.pending:
        right, wrong = own.predictor.at(own.places[k], t), derived.at(own.places[k], t)
        if t > own.grows or right.bound_only or right.exponent is None or wrong.exponent is None:
            continue
        if right.exponent.degree != wrong.exponent.degree:  # n and m grow in proportion: n^1/2 m^-1/2 is no power
            differ.append((k, t))
    return Case(own.places, derived, STEPS + 1, differ, level=CONTROL)


def _first_growth(predictor: Predictor) -> int:
    """The first step at which a forward tensor that something consumes grows with the width; STEPS + 1 if none."""
    for t, snapshot in enumerate(predictor.snapshots):
        for node in predictor.program.forward.nodes:
            size = largest((snapshot.change if t else snapshot.initial)[node.id])
            if size is not None and size > 0 and (node.name or predictor.bounds[t]):
                return t
    return STEPS + 1
