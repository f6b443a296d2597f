"""The check itself: networks at every rung of a ladder and with several seeds, slopes, verdicts, and the report."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np

from tensorprog.coordcheck import judge
from tensorprog.coordcheck.calibrate import base_rates, base_widths, batch_size, width_ladder
from tensorprog.coordcheck.control import LOUDER, MOST_SEEDS, RUNGS, SEEDS, first_step, put_wrong
from tensorprog.coordcheck.fault import first_at_fault
from tensorprog.coordcheck.ladder import require_runs
from tensorprog.coordcheck.layers import Rung, base_sizes, depth_ladder, networks
from tensorprog.coordcheck.looks import second_looks
from tensorprog.coordcheck.natural import with_natural_multipliers
from tensorprog.coordcheck.overrides import override, put
from tensorprog.coordcheck.predict import Predictor, Touched
from tensorprog.coordcheck.probes import EXTRAS, probes
from tensorprog.coordcheck.report import CheckReport, Control, Row
from tensorprog.coordcheck.rounding import only_rounding
from tensorprog.coordcheck.runs import Measurement, Progress, Rows, Runs
from tensorprog.coordcheck.statistics import TOLERANCE
from tensorprog.derivation import Derivation
from tensorprog.errors import NoPowerLawError, TensorProgError
from tensorprog.parametrization import Parametrization
from tensorprog.parametrizations import read

__all__ = ["CheckReport", "Row", "check"]

MOST = 1000  # seeds, however large the budget


def check(
    derivation: Derivation,
    *,
    widths: Sequence[int] | None = None,
    depths: Sequence[int] | None = None,
    climb: str | None = None,
    seeds: int = 5,
    max_seeds: int | None = None,
    budget: float | None = None,
    steps: int = 3,
    backend: str = "numpy",
    device: str = "cpu",
    parametrization: str | Parametrization = "derived",
    overrides: Sequence[str] = (),
    also: Collection[str] = (),
    control: bool = True,
    lr: float | None = None,
    lr_exponent: Fraction | None = None,
    batch: int | None = None,
    dtype: str = "float32",
    jobs: int = 1,
    progress: Progress | None = None,
) -> CheckReport:
    """Train at a ladder of widths and compare the measured exponent of every tensor with the derived one.

    `widths`: values of every width symbol; the base width lies below them (`calibrate.base_widths`). `depths`: a ladder
    of depths instead, at one width (coordcheck/layers.py); the base depth is a quarter of its first. `climb`: of widths
    in a declared order, the one that is measured (`Ladder.ordered`; default: the fastest). `seeds`: networks
    per width to begin with; more are added, up to `max_seeds` (default 4 * seeds), while intervals are too wide, or a
    disagreement rests on few seeds or is a near miss. `budget`: seconds for the whole check; the seeds added are then
    limited by the time (and by `max_seeds`, if given), so their number depends on the machine; what so many seeds say
    does not. `steps`: updates. `device`: "cuda" for the torch backend.
    `lr`: one base learning rate for all; default: calibrated (coordcheck/calibrate.py). `parametrization`: "derived",
    a Parametrization, or a name in `parametrizations.NAMED`, whose global learning rate scales like n^`lr_exponent`.
    `overrides`: exponents put otherwise, such as "lr[W1]=-1" (coordcheck/overrides.py). `also`: what else is measured,
    of `probes.EXTRAS`. `control`: whether the negative control is run (coordcheck/control.py).
    `jobs`: networks trained at the same time, in threads (NumPy backend); the result does not depend on it.
    Raises TensorProgError for unusable arguments.
    """
    if depths is None:
        derivation = derivation.unrolled()
        multipliers = derivation.parametrization.unknowns
        derivation = replace(derivation, architecture=with_natural_multipliers(derivation.architecture, multipliers))
        ladder = width_ladder(derivation, widths, climb)
    else:
        if climb is not None:
            raise TensorProgError("either a width or the depths climb, not both", fix="--depths without --climb",
                                  why="one ladder is measured at a time")  # fmt: skip
        ladder, also = depth_ladder(derivation, depths, widths), ()
    require_runs(seeds, steps, max_seeds)
    if device != "cpu" and backend != "torch":
        raise TensorProgError(f"NumPy does not run on `{device}`", fix="--backend torch, or --device cpu",
                              why="it computes on the processor alone")  # fmt: skip
    deadline = None if budget is None else time.monotonic() + budget
    unknown = sorted(set(also) - set(EXTRAS))
    if unknown:
        raise TensorProgError(f"nothing called `{unknown[0]}` can be measured", fix=", ".join(EXTRAS),
                              why="only these are known besides the tensors of the graph")  # fmt: skip
    used, touched = _trained(derivation, parametrization, lr_exponent, overrides)
    places = tuple(p for p in probes(derivation, also) if depths is None or p.kind == "value")
    demanded = Predictor(derivation, used, steps, derivation.solution.exponents, orders=True)
    derived, own, unpredicted = used is derivation.parametrization, None, ""
    if not derived:
        try:
            own = Predictor(derivation, used, steps, None, touched, orders=True)
        except NoPowerLawError as error:  # held against the derived exponents alone
            unpredicted = error.message
    batch = batch or batch_size(derivation, ladder.sizes)
    if depths is None:
        base = base_widths(derivation, ladder)
        rates = base_rates(derivation, ladder.rungs[0], base, batch=batch) if lr is None else lr
        network: Callable[[Mapping[str, int]], Rung] | None = None
    else:
        base, rates = base_sizes(ladder), lr or 0.0
        network = networks(derivation, places, ladder, base, batch, lr)
    rungs = tuple(map(network, ladder.rungs)) if network else ()
    runs = Runs(derivation, used, places, ladder, base, batch, steps, rates, backend, device, dtype, jobs, progress,
                rungs, network, decays=any(quantity == "weight_decay" for quantity, _ in touched))  # fmt: skip
    most = max_seeds or (MOST if deadline else 4 * seeds)
    controlled = _control(runs) if control else None
    values, found = _until_conclusive(runs, demanded, own, seeds, most, deadline)
    climbs = (widths is None or network is not None) and deadline is None
    if unpredicted:
        found = {at: replace(row, calculus=None, calculus_verdict="") for at, row in found.items()}
    else:
        found = second_looks(runs, found, values, demanded, own, climb=climbs)
    rows = tuple(found.values())
    fault = None if own is None or network else first_at_fault(derivation, used, touched, ladder, places, found)
    measured = {row.tensor for row in rows}
    return CheckReport(
        file=derivation.architecture.file, optimizer=derivation.optimizer,
        parametrization="derived" if derived else used.name, backend=backend, widths=ladder.sizes,
        seeds=values.shape[3], steps=steps, lr=lr, tolerance=TOLERANCE, rows=rows,
        left_out=tuple(probe.name for probe in places if probe.name not in measured),
        control=controlled, uncontrolled=control and controlled is None, fault=fault, budget=budget,
        unpredicted=unpredicted, axis=ladder.axis,
        held={} if network else {w: size for w, size in ladder.held.items() if w in derivation.widths},
    )  # fmt: skip


def _trained(
    derivation: Derivation,
    parametrization: str | Parametrization,
    lr_exponent: Fraction | None,
    overrides: Sequence[str],
) -> tuple[Parametrization, Touched]:
    """The parametrization that is trained, and which epsilons and weight decays the overrides set in it."""
    used = derivation.parametrization
    if isinstance(parametrization, Parametrization):
        used = parametrization
    elif parametrization != "derived":
        used = read(derivation.solution.solver, parametrization, lr_exponent)
    if not overrides:
        return used, frozenset()
    name = "derived" if used is derivation.parametrization else used.name
    depths = [symbol for symbol in derivation.symbols if symbol not in derivation.widths]
    used, touched = put(derivation, used, [override(text, derivation.widths, depths) for text in overrides])
    return replace(used, name=", ".join([name, *overrides])), touched


def _control(runs: Runs) -> Control | None:
    """Whether the check catches one wrong exponent: on a short ladder, with few seeds, after one step."""
    derivation, ladder, steps = runs.derivation, runs.ladder.lowest(RUNGS), first_step(runs.derivation)
    wrong = put_wrong(derivation, runs.probes, ladder)
    if wrong is None:
        return None
    control = replace(runs, parametrization=wrong.parametrization, probes=wrong.probes, ladder=ladder, steps=steps,
                      progress=None)  # fmt: skip
    demanded = Predictor(derivation, wrong.parametrization, steps, derivation.solution.exponents, orders=True)
    for attempt in _attempts(control, wrong.param):
        tried, times, values = attempt
        rows = tried.rows(values, demanded, None, only_rounding(tried, values, demanded))
        missed = {at: row for at, row in rows.items() if at[1] and row.verdict == "disagrees"}
        if missed and times > 1:  # at such a rate the right exponent may disagree as well
            right = replace(tried, parametrization=derivation.parametrization)
            known = right.rows(right.measure(range(values.shape[3])), demanded, None)
            missed = {at: row for at, row in missed.items() if at in known and known[at].verdict == "agrees"}
        caught = next(iter(missed.values()), None)
        if caught:
            break
    return Control(
        wrong.param, str(wrong.derived), str(wrong.trained), ladder.sizes, values.shape[3], times, caught is not None,
        caught.tensor if caught else "", caught.predicted if caught else None, caught.measured if caught else None,
    )  # fmt: skip


def _attempts(control: Runs, param: str) -> Iterator[tuple[Runs, int, Measurement]]:
    """What is trained until the control is caught, how many times the base rate of `param` it has, and its sizes."""
    values = control.measure(range(SEEDS))
    yield control, 1, values
    yield control, 1, np.concatenate([values, control.measure(range(SEEDS, MOST_SEEDS))], axis=3)
    louder = control.louder(param, LOUDER)
    if louder is not None:
        yield louder, LOUDER, louder.measure(range(MOST_SEEDS))


def _until_conclusive(
    runs: Runs, demanded: Predictor, own: Predictor | None, seeds: int, most: int, deadline: float | None
) -> tuple[Measurement, Rows]:
    """Sizes and rows, with `seeds` more networks at a time while they could change a verdict, and while the next ones
    are expected to be done before the deadline."""
    values = np.zeros((len(runs.probes), runs.steps + 1, len(runs.ladder.rungs), 0))
    rows: Rows = {}
    rounded: Collection[tuple[int, int]] = ()
    while values.shape[3] < most:
        more, start = range(values.shape[3], min(values.shape[3] + seeds, most)), time.monotonic()
        values = np.concatenate([values, runs.measure(more)], axis=3)
        if not more.start:  # the first network tells
            rounded = only_rounding(runs, values, demanded)
        rows = runs.rows(values, demanded, own, rounded)
        if not any(judge.wants_seeds(row, values.shape[3]) for row in rows.values()):
            break
        now = time.monotonic()
        if deadline is not None and 2 * now - start > deadline:
            break
    return values, rows
