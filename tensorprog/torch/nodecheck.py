"""The check of an applied parametrization on the model itself: every recorded operation against its prediction."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from fractions import Fraction
from functools import partial
from itertools import pairwise
from math import gcd
from typing import TYPE_CHECKING

import numpy as np

from tensorprog.coordcheck import judge
from tensorprog.coordcheck.calibrate import MOST_ENTRIES
from tensorprog.coordcheck.ladder import Ladder, require_runs
from tensorprog.coordcheck.report import CheckReport, Row
from tensorprog.coordcheck.runs import ROUNDING
from tensorprog.coordcheck.statistics import TOLERANCE
from tensorprog.errors import TensorProgError
from tensorprog.graph import reached
from tensorprog.torch.building import construct
from tensorprog.torch.calibrate import base_rates
from tensorprog.torch.changes import UNIT, Absorb, Attribute, ConfigField
from tensorprog.torch.hidden import Hidden
from tensorprog.torch.looks import Rows, second_looks
from tensorprog.torch.measure import Rates, Spot, Trained, spots
from tensorprog.torch.predicted import Predicted
from tensorprog.torch.rounding import only_rounding
from tensorprog.torch.sources import behind_hooks, leading, read_through
from tensorprog.torch.training import FIRST, TOP, Floats, Progress, entries
from tensorprog.torch.trial import moved_by

if TYPE_CHECKING:
    from tensorprog.torch.model import ImportedDerivation

Widths = Sequence[int] | Mapping[str, Sequence[int]] | None


def check_model(
    p: ImportedDerivation,
    widths: Widths = None,
    *,
    seeds: int = 5,
    max_seeds: int | None = None,
    steps: int = 3,
    lr: float | None = None,
    keep: Collection[str] = (),
    unmodified: bool = False,
    progress: Progress | None = None,
) -> CheckReport:
    """Applies `p` to the model at every width, trains it, and compares the exponent of every tensor with the derived
    one.

    `widths`: values that every symbol of the builder takes in turn, or symbol -> its values, which climb by the same
    factors; default: four, as wide as stays small. The base width lies below them. `lr`: at the base width (default:
    calibrated for each parameter). `keep`: parameters and multipliers to leave as they are; `unmodified`: all of them,
    with one learning rate, to see what is wrong then. Other arguments as in `tensorprog.coordcheck.run.check`. Raises
    TensorProgError for unusable arguments.
    """
    require_runs(seeds, steps, max_seeds)
    most = max_seeds or 2 * seeds
    every, ladder = spots(p), _ladder(p, widths)
    behind = behind_hooks(p.reading, (m for m in p.changes.multipliers if m.factor != UNIT)) | _without(p)
    places = [spot for spot in every if unmodified or not (spot.probe.node in behind or _moved(p, spot))]
    trained = Trained(p, tuple(places), _base(ladder), tuple(keep), unmodified).aligned(ladder.rungs[0])
    rates: Rates = (lambda *_: lr) if lr is not None else base_rates(trained, ladder.rungs[0])
    predicted = Predicted(p, steps)
    rounded: set[tuple[int, int]] = set()

    def judged(values: Floats, ladder: Ladder) -> Rows:
        return _rows(trained.spots, predicted, rounded, values, ladder)

    values = np.zeros((len(trained.spots), steps + 1, 2, len(ladder.rungs), 0))
    rows: Rows = {}
    while values.shape[4] < most:
        more = range(values.shape[4], min(values.shape[4] + seeds, most))
        values = np.concatenate([values, _measure(trained, ladder, rates, more, steps, progress)], axis=4)
        if not more.start:  # the first network tells
            rounded |= only_rounding(trained, values, predicted, ladder, rates)
        rows = judged(values, ladder)
        if not any(judge.wants_seeds(row, values.shape[4]) for row in rows.values()):
            break
    if not unmodified and not keep:  # what else is trained than was derived has no second chance
        same = partial(_measure, trained, seeds=range(values.shape[4]), steps=steps, progress=None)
        rows = second_looks(rows, values, ladder, rates, same, judged, climb=widths is None)
    left_out = tuple(spot.probe.name for spot in every if spot not in trained.spots)
    return CheckReport(p.reading.name, p.derivation.optimizer, "derived", "module", ladder.sizes, values.shape[4],
                       steps, lr, TOLERANCE, tuple(rows.values()), left_out)  # fmt: skip


def _without(p: ImportedDerivation) -> set[int]:
    """The nodes that have a multiplier in the derivation and not in the model, or the other way round: it cancels
    further on, stands at what reads the product, or is absorbed into a weight."""
    needed, lowered = p.derivation.parametrization.unknowns, p.reading.lowered
    products = [m for m in p.changes.multipliers if m.kind == "product" and needed[m.name] != UNIT]
    found: set[int] = set()
    for m in products:
        passed, hooks = read_through(p.reading, lowered.products[m.name])
        if m.places and m.places[0] in hooks:
            found |= passed
        if m.places and isinstance(m.places[0], Absorb):
            found |= leading(lowered.graph.nodes, m.places[0].param, set(lowered.products.values()))
    cancelled = [m.name for m in products if m.factor == UNIT]
    return found | (moved_by(p.reading, cancelled) if cancelled else set())


def _moved(p: ImportedDerivation, spot: Spot) -> bool:
    """Whether a multiplier may stand before this tensor in the model and after it in the derivation, or the other way
    round: inside of the same module, it leads to the product that the multiplier belongs to; or it is made where the
    multiplier belongs, which a number that acts elsewhere stands for."""
    lowered = p.reading.lowered
    for unknown, node in lowered.products.items():
        if p.derivation.parametrization.unknowns.get(unknown, UNIT) != UNIT:
            module, _ = lowered.multipliers[unknown]
            if (
                spot.module == module
                and spot.probe.node != node
                and spot.probe.node in reached(lowered.graph.nodes, [node])
            ):
                return True
    return any(
        m.kind == "use" and m.factor != UNIT and m.module == spot.module and spot.probe.param is None
        and any(isinstance(place, Attribute | ConfigField) for place in m.places)
        for m in p.changes.multipliers
    )  # fmt: skip


def _rows(
    spots: Sequence[Spot],
    predictor: Predicted,
    rounded: Collection[tuple[int, int]],
    values: Floats,
    ladder: Ladder,
) -> Rows:
    """The rows, by positions of spot and step, from `values` [spot, step, size and that of independent terms over it,
    rung, seed]. `rounded`: those that rounding errors alone move."""
    unit = ROUNDING * float(np.finfo(np.float32).eps)
    hidden = Hidden(predictor, {spot.probe.node: k for k, spot in enumerate(spots)}, values, ladder)
    rows: dict[tuple[int, int], Row] = {}
    for k, spot in enumerate(spots):
        for t in range(values.shape[1]):
            sizes = values[k, t, 0]
            if np.isnan(sizes).all():
                continue
            rounding = unit * float(np.nanmax(values[k, 0, 0])) if t else 0.0
            if (k, t) in rounded:
                rounding = math.inf
            node = spot.probe.node
            limits = judge.Limits(rounding, hidden.independent(node, t) if t else 0.0, hidden=hidden.behind(node, t))
            rows[k, t] = judge.row(spot.probe, t, predictor.at(spot.probe, t), None, sizes, ladder, limits)
    return rows


def _measure(
    trained: Trained, ladder: Ladder, rates: Rates, seeds: range, steps: int, progress: Progress | None
) -> Floats:
    """Sizes [spot, 1 + steps, 2, rung, seed], as `Trained.sizes`."""
    found, done, total = [], 0, len(seeds) * sum(size**2 for size in ladder.sizes)
    for rung, size in zip(ladder.rungs, ladder.sizes, strict=True):
        for seed in seeds:
            found.append(trained.sizes(rung, seed, rates, steps))
            done += size**2
            if progress:
                progress(done, total, seeds.stop)
    grid = np.stack(found, axis=-1)
    return grid.reshape(*grid.shape[:3], len(ladder.rungs), len(seeds))


def _ladder(p: ImportedDerivation, widths: Widths) -> Ladder:
    """The sizes of all symbols at every rung."""
    symbols = p.reading.symbols
    if not isinstance(widths, Mapping):
        return Ladder.of(symbols, tuple(widths or _default(p)))
    if set(widths) != set(symbols):
        raise TensorProgError(f"widths are needed for each of {', '.join(symbols)}", why="all sizes climb together",
                              fix=", ".join(f"{s}: 32, 64, 128" for s in symbols))  # fmt: skip
    columns = [Ladder.of((s,), tuple(widths[s])).sizes for s in symbols]
    factors = {tuple(Fraction(b, a) for a, b in pairwise(sizes)) for sizes in columns}
    if len(factors) > 1:
        raise TensorProgError("the widths must climb together, by the same factors",
                              why="a slope is measured along one line",
                              fix=", ".join(f"{s}: 32, 64, 128" for s in symbols))  # fmt: skip
    return Ladder(tuple(dict(zip(symbols, row, strict=True)) for row in zip(*columns, strict=True)), tuple(symbols))


def _default(p: ImportedDerivation) -> tuple[int, ...]:
    """Four widths, each twice the one before, the largest with at most MOST_ENTRIES entries."""
    from tensorprog.torch.runs import call

    def count(n: int) -> int:
        point = dict.fromkeys(p.reading.symbols, n)
        return entries(construct(lambda _: call(p.reading.build, point), n, p.reading.inputs))

    top, size = FIRST, count(FIRST)
    while top < TOP and 4 * size <= MOST_ENTRIES:
        top, size = 2 * top, count(2 * top)
    return (top // 8, top // 4, top // 2, top)


def _base(ladder: Ladder) -> dict[str, int]:
    """A quarter of the lowest rung, or as small a part of it as whole numbers allow."""
    lowest = ladder.rungs[0]
    common = 0
    for size in lowest.values():
        common = gcd(common, size)
    part = next(d for d in (4, 3, 2, 1) if common % d == 0)
    return {s: size // part for s, size in lowest.items()}
