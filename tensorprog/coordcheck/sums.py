"""Plain sums over growing axes, and how large they would be if their terms were independent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tensorprog.coordcheck.ladder import Ladder
from tensorprog.coordcheck.probes import Probe
from tensorprog.derivation import Derivation
from tensorprog.dims import Dim
from tensorprog.graph import Contract, unscaled


def growing_sums(derivation: Derivation, places: Sequence[Probe]) -> dict[int, tuple[int, int, tuple[Dim, ...]]]:
    """Probes that are a plain sum over growing axes, or a multiple of one: position -> (position of the sum itself,
    position of what is summed, the sizes summed)."""
    nodes = derivation.architecture.graph.nodes
    position = {probe.node: k for k, probe in enumerate(places) if probe.param is None and probe.kind == "value"}
    found: dict[int, tuple[int, int, tuple[Dim, ...]]] = {}
    for node_id, k in position.items():
        node = nodes[unscaled(nodes, node_id)]
        if not (isinstance(node.op, Contract) and node.op.right is None):
            continue
        left, out = node.op.left, node.op.out
        summed = [a.dim for i, a in zip(left, nodes[node.args[0]].axes, strict=True) if i not in out and a.dim.grows]
        if summed and node.id in position and node.args[0] in position:
            found[k] = position[node.id], position[node.args[0]], tuple(summed)
    return found


def independent_sums(
    derivation: Derivation, places: Sequence[Probe], ladder: Ladder, values: np.ndarray[Any, np.dtype[np.float64]]
) -> dict[tuple[int, int], float]:
    """(probe, step) of the change of a plain sum -> how large it would be, at the top of the ladder, if its terms
    were independent. `values`: sizes [probe, step, rung, seed]."""
    found = {}
    top = values[:, :, -1]
    for k, (whole, operand, dims) in growing_sums(derivation, places).items():
        factor = top[k, 0].mean() / top[whole, 0].mean() if top[whole, 0].any() else 1.0
        count = math.prod(float(dim.evaluate(ladder.rungs[-1])) for dim in dims)
        for t in range(1, top.shape[1]):
            found[k, t] = float(factor * math.sqrt(count * np.mean(top[operand, t] ** 2)))
    return found
