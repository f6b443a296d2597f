"""Base learning rates at which every update shows: constants, which no exponent depends on.

A change of relative size 0.01 hides what it does to second order (a mean square, say) behind the first-order
effects that vanish with width. So each parameter gets the base learning rate at which its first update changes
the value of its use by the fraction `STRENGTH`, measured once at the smallest width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import median

import numpy as np

from tensorprog.derivation import Derivation
from tensorprog.dims import BATCH_SYMBOL
from tensorprog.graph import Add, Contract, Input
from tensorprog.interpret import Interpreter

STRENGTH = 0.2
VANISHING = 2.0  # what counts as the size of a value that vanishes with width (logits): they move by STRENGTH * this
MOST_ENTRIES = 8_000_000


def default_ladder(derivation: Derivation) -> tuple[int, ...]:
    """Four widths, each twice the one before: the largest ladder whose widest network has few enough entries."""
    graph = derivation.architecture.graph
    for top in (1024, 512, 256, 128):
        sizes = {**dict.fromkeys(derivation.widths, top), BATCH_SYMBOL: 1}
        count = sum(math.prod(axis.dim.evaluate(sizes) for axis in p.axes) for p in graph.parameters.values())
        if count <= MOST_ENTRIES:
            break
    return (top // 8, top // 4, top // 2, top)


def base_widths(derivation: Derivation, ladder: Sequence[int]) -> dict[str, int]:
    """The base widths of a check: a quarter of the smallest width, if all sizes are whole numbers there.

    Below the ladder, so that what vanishes with width (the first logits, say) is small on all of it.
    """
    graph = derivation.architecture.graph
    dims = {axis.dim for node in graph.nodes for axis in node.axes}
    for part in (4, 2):
        base = dict.fromkeys(derivation.widths, ladder[0] // part)
        sizes = [d.evaluate({**base, BATCH_SYMBOL: 1}) for d in dims] if ladder[0] % part == 0 else []
        if sizes and all(size.denominator == 1 and size >= 1 for size in sizes):
            return base
    return dict.fromkeys(derivation.widths, ladder[0])


def batch_size(derivation: Derivation, ladder: Sequence[int]) -> int:
    """Examples per batch. Few: the more of them share an update, the smaller the part of it that is aligned with each,
    and the longer its transients; and the rank of the gradient must stay below the width (Muon)."""
    graph = derivation.architecture.graph
    tokens = 1
    for node in graph.nodes:
        if isinstance(node.op, Input) and node.op.kind != "target":
            inner = node.axes[1:-1]
            sizes = [axis.dim.constant for axis in inner]
            tokens = max(tokens, math.prod(int(size) for size in sizes if size))
    spectral = any(o.normalisation == "spectral" for o in derivation.solution.solver.optimizers.values())
    wanted = min(32, ladder[0] // 4) if spectral else 32
    return max(1, min(16, wanted // tokens))


def base_rates(
    derivation: Derivation, widths: Mapping[str, int], base: Mapping[str, int], *, batch: int, seed: int = 0
) -> dict[str, float]:
    """Parameter -> base learning rate, calibrated at `widths`."""
    program, solution, solver = derivation.architecture.program, derivation.solution, derivation.solution.solver
    network = Interpreter(
        program, widths, base, derivation.parametrization, batch=batch, seed=seed, lr=1.0,
        functions=derivation.architecture.functions,
    )  # fmt: skip
    wanted = {k for o in solver.uses for k in (o.node, *(a for c in (*o.chain, o.node) for a in program.nodes[c].args))}
    values = network.step(keep=wanted, changes=True)
    effect: dict[str, float] = {}
    for o in solver.uses:
        if o.param not in program.updates:
            continue
        moved = values[program.updates[o.param]]
        for before, k in pairwise(o.chain):
            rest = 0.0 if isinstance(program.nodes[k].op, Add) else 1.0  # of a sum, only this operand's part
            moved = network.apply(k, *(moved if a == before else rest * values[a] for a in program.nodes[k].args))
        node = program.nodes[o.node]
        if isinstance(node.op, Contract) and node.op.right is not None:
            args = [values[a] for a in node.args]
            args[o.position] = moved
            moved = network.apply(o.node, *args)
        size, change = (float(np.sqrt(np.mean(np.square(x)))) for x in (values[o.node], moved))
        starts = solution.snapshot.initial[o.node]
        if not size or solution.solver.units.degree(max(term[0] for term in starts)) < 0:
            size = VANISHING  # it starts at zero, or vanishes: its change must outgrow what the features' change does
        effect[o.param] = max(effect.get(o.param, 0.0), change / size)
    rates = {name: STRENGTH / e for name, e in effect.items() if e > 0 and np.isfinite(e)}
    usual = median(rates.values()) if rates else 1.0
    return {name: rates.get(name, usual) for name in program.updates}
