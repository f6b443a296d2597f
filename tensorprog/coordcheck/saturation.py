"""Saturation: a bounded function under-reads what grows. Behind tanh, an argument that grows like n^1/2 may look as if
it hardly grew, so nothing that depends on it can agree."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from tensorprog.arrays import rms
from tensorprog.coordcheck.ladder import Ladder
from tensorprog.coordcheck.probes import Probe, arguments
from tensorprog.coordcheck.report import Row
from tensorprog.coordcheck.statistics import TOLERANCE, fit
from tensorprog.derivation import Derivation
from tensorprog.functions import Function, find
from tensorprog.graph import Map

GROWS = 0.1  # an argument whose slope is above this, with its whole interval; of its change: above the tolerance
DULL = 0.8  # a function whose values spread less than this many per cent wider for each per cent of its argument's
_SAMPLES = 4001

Floats = npt.NDArray[np.float64]


def spread_degree(run: Any, size: float) -> float:
    """By how many per cent the values of a function spread wider for each per cent of its argument, a Gaussian of this
    root mean square. 1 for a linear function, 0 where it is saturated. `run`: arrays [axis, sample] to such."""
    gaussian = np.random.default_rng(0).standard_normal((8, _SAMPLES))
    low, high = (float(np.std(run(gaussian * size * factor))) for factor in (2**-0.5, 2**0.5))
    return float(np.log2(high / low)) if low > 0 and high > 0 else 0.0


@lru_cache(maxsize=256)
def _dull(function: Function | None, derivative: int, size: float) -> bool:
    """Whether a function (None: softmax) is saturated under arguments of this size."""

    def run(x: Floats) -> Floats:
        if function is not None:
            return np.asarray(function.numpy[derivative](x), dtype=np.float64)
        e = np.exp(x - x.max(axis=0))
        return np.asarray(e / e.sum(axis=0))

    return spread_degree(run, size) < DULL


def saturated(
    derivation: Derivation,
    ladder: Ladder,
    probes: Sequence[Probe],
    values: Floats,
    rounded: Collection[tuple[int, int]] = (),
) -> dict[int, dict[int, str]]:
    """Step -> nodes that are, at the top of the ladder, saturated by an argument that grows -> how that is called.

    `values`: sizes [probe, step, rung, seed]; `rounded`: which of them are nothing but rounding errors."""
    nodes, behind = derivation.architecture.graph.nodes, arguments(derivation)
    changes = {probe.node: k for k, probe in enumerate(probes) if probe.param is None and probe.kind == "value"}
    found: dict[int, dict[int, str]] = {}
    for k, probe in enumerate(probes):
        if probe.kind != "argument":
            continue
        for t in range(values.shape[1]):
            change = changes.get(probe.node) if t else None
            moved = change is not None and (change, t) not in rounded
            if not (_above(GROWS, ladder, values[k, t]) or (moved and _above(TOLERANCE, ladder, values[change, t]))):
                continue
            size = float(f"{rms(values[k, t, -1]):.3g}")
            for node in behind[probe.node]:
                op = nodes[node].op
                function = find(op.fn, derivation.architecture.functions) if isinstance(op, Map) else None
                name, derivative = (op.fn, op.derivative) if isinstance(op, Map) else ("softmax", 0)
                if _dull(function, derivative, size):
                    found.setdefault(t, {})[node] = f"the argument `{probe.name}` of {name}"
    return found


def _above(slope: float, ladder: Ladder, sizes: Floats) -> bool:
    """Whether sizes [rung, seed] grow with a slope above this one, with its whole interval."""
    if sizes.shape[1] < 2 or not np.all(np.isfinite(sizes)) or not np.all(sizes > 0):
        return False
    return fit(ladder.points, sizes, slope).line.low > slope


def doubt(
    derivation: Derivation,
    probes: Sequence[Probe],
    rows: Mapping[tuple[int, int], Row],
    found: Mapping[int, Mapping[int, str]],
) -> dict[tuple[int, int], Row]:
    """The rows, with none that agrees though it depends on a saturated function: those behind it at the same step, the
    gradients of that step, and everything at later steps."""
    nodes = derivation.architecture.graph.nodes
    result = dict(rows)
    if not found:
        return result
    first = min(found)
    why = f"saturated: {next(iter(found[first].values()))} grows, and hardly shows behind it"
    behind: dict[int, set[int]] = {}
    for t, sources in found.items():
        behind[t] = set(sources)
        for node in nodes:
            if any(a in behind[t] for a in node.args):
                behind[t].add(node.id)
    for (k, t), row in rows.items():
        gradient = probes[k].node >= len(nodes)
        if t > first or (t == first and gradient) or probes[k].node in behind.get(t, ()):
            if row.verdict == "agrees":
                row = replace(row, verdict="inconclusive", reason=why)
            if row.calculus_verdict == "agrees":
                row = replace(row, calculus_verdict="inconclusive")
            result[k, t] = row
    return result
