"""Base learning rates at which every update shows: constants, which no exponent depends on.

A change of relative size 0.01 hides what it does to second order (a mean square, say) behind the first-order
effects that vanish with width. So each parameter gets the base learning rate at which its first update changes
the value of its use by the fraction `STRENGTH`, measured once at the smallest width. All of them together may be too
large, and a narrow network that explodes says nothing of the limit: so all are halved until none does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from statistics import median

import numpy as np

from tensorprog.arrays import rms
from tensorprog.calculus.analysis import Analysis, largest
from tensorprog.calculus.exponents import Snapshot
from tensorprog.calculus.terms import Terms
from tensorprog.coordcheck.ladder import Ladder
from tensorprog.derivation import Derivation
from tensorprog.dims import BATCH_SYMBOL
from tensorprog.errors import TensorProgError
from tensorprog.graph import Add, Contract, Input, unscaled
from tensorprog.interpret import Interpreter

STRENGTH = 0.2
VANISHING = 2.0  # what counts as the size of a value that vanishes with width (logits): they move by STRENGTH * this
LATEST = 2  # the latest step (the first is 0) whose update is calibrated
STABLE_STEPS, STABLE_SEEDS = 3, 5  # so long, and in so many networks, the loss must not exceed where it began, and
MOST_GROWTH = 10.0  # no value grow by more
HALVINGS = 8  # at most
MOST_ENTRIES = 8_000_000


def width_ladder(derivation: Derivation, sizes: Sequence[int] | None, climbs: str | None) -> Ladder:
    """The ladder of a check of the widths; depths stay. By default four sizes, each twice the one before: the largest
    ladder whose widest network has few enough entries. Widths in a declared order climb one at a time (`climbs`;
    default: the fastest). Raises TensorProgError if there is no such width, or no such ladder."""
    depths, regime = dict(derivation.architecture.graph.depths), derivation.architecture.model.regime
    order = regime[0] if regime is not None and regime[1] == "<<" else ()
    if climbs is not None and climbs not in order:
        raise TensorProgError(f"`{climbs}` does not climb alone", fix=f"--climb {order[-1]}" if order else "no --climb",
                              why="only widths in a declared order (`regime m << n`) do")  # fmt: skip
    climbs = climbs or (order[-1] if order else None)

    def ladder(sizes: Sequence[int]) -> Ladder:
        return Ladder.ordered(order, climbs, sizes, depths) if climbs else Ladder.of(derivation.widths, sizes, depths)

    if sizes is not None:
        return ladder(sizes)
    known = [ladder((top // 8, top // 4, top // 2, top)) for top in (1024, 512, 256, 128, 64, 32)]
    known = known[:4] if climbs is None or climbs == order[-1] else known[4:]
    return next((one for one in known if _entries(derivation, one) <= MOST_ENTRIES), known[-1])


def _entries(derivation: Derivation, ladder: Ladder) -> int:
    """The number of weights of the widest network."""
    sizes = {**ladder.rungs[-1], BATCH_SYMBOL: 1}
    parameters = derivation.architecture.graph.parameters.values()
    return int(sum(math.prod(axis.dim.evaluate(sizes) for axis in p.axes) for p in parameters))


def base_widths(derivation: Derivation, ladder: Ladder) -> dict[str, int]:
    """The base sizes of a check: of the widths that climb, and of faster ones, a quarter of the smallest, if all sizes
    are whole numbers there; of all else, what they are.

    Below the ladder, so that what vanishes with width (the first logits, say) is small on all of it.
    """
    graph = derivation.architecture.graph
    dims = {axis.dim for node in graph.nodes for axis in node.axes}
    first, known = ladder.sizes[0], derivation.widths
    for part in (4, 2):
        base = {s: first // part if s in known and size >= first else size for s, size in ladder.rungs[0].items()}
        sizes = [d.evaluate({**base, BATCH_SYMBOL: 1}) for d in dims] if first % part == 0 else []
        if sizes and all(size.denominator == 1 and size >= 1 for size in sizes):
            return base
    return dict(ladder.rungs[0])


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


def rates_by_stage(
    stages: Sequence[set[str]], effects: Callable[[int, Mapping[str, float]], Mapping[str, float]]
) -> dict[str, float]:
    """Parameter -> the learning rate at which its update changes the result of its use by the fraction `STRENGTH`.
    `effects(stage, rates)`: parameter -> that change at the rate 1, after `stage` steps at `rates` (0 elsewhere).

    A parameter whose first gradient is zero, or smaller than later ones by a power of the width (what stands behind a
    zero-initialised factor, a router), is calibrated a step later, after a step at the rates of the others: with a rate
    at which its first update shows, the later ones would blow up. But its first update is to show no more than that:
    random and with a large constant, it would hide what is larger by a power of the width.
    """
    rates: dict[str, float] = {}
    most: dict[str, float] = {}  # the largest effect of an update so far
    for stage, ready in enumerate(stages):
        for name, effect in effects(stage, rates).items():
            most[name] = max(effect, most.get(name, 0.0))
        shown = {name: e for name, e in most.items() if name in ready - rates.keys() and 0 < e < math.inf}
        rates.update({name: STRENGTH / e for name, e in shown.items()})
    return rates


def base_rates(
    derivation: Derivation, widths: Mapping[str, int], base: Mapping[str, int], *, batch: int, seed: int = 0
) -> dict[str, float]:
    """Parameter -> base learning rate, calibrated at `widths`, as in `rates_by_stage`. One whose gradient is
    exactly zero, in which nothing but rounding errors would be measured, has the usual rate.
    """
    program = derivation.architecture.program
    trained = {name for name, exponents in derivation.params.items() if exponents.lr is not None}

    def fresh(lr: float | Mapping[str, float]) -> Interpreter:
        return Interpreter(program, widths, base, derivation.parametrization, batch=batch, seed=seed, lr=lr,
                           decays=False, functions=derivation.architecture.functions)  # fmt: skip

    def effects(stage: int, rates: Mapping[str, float]) -> dict[str, float]:
        network = fresh(1.0)
        if stage:
            before = fresh({name: rates.get(name, 0.0) for name in program.updates})
            for _ in range(stage):
                before.step()
            network.set_params(before.params)
        return _effects(derivation, network)

    rates = rates_by_stage([ready & trained for ready in stages_of(derivation)], effects)
    usual = median(rates.values()) if rates else 1.0
    rates = {name: rates.get(name, usual) for name in program.updates}
    for _ in range(HALVINGS):
        network = fresh(rates)
        if all(_is_steady(derivation, network.fresh(seed + k)) for k in range(STABLE_SEEDS)):
            break
        rates = {name: rate / 2 for name, rate in rates.items()}
    return rates


def _is_steady(derivation: Derivation, network: Interpreter) -> bool:
    """Whether the loss stays at or below where it began, and no value becomes many times larger (nan is neither)."""
    loss, named = network.graph.loss, [node.id for node in network.graph.nodes if node.name and node.axes]
    wanted = [*named, loss]
    losses: list[float] = []
    start: dict[int, float] = {}
    with np.errstate(all="ignore"):
        for step in range(STABLE_STEPS + 1):
            last = step == STABLE_STEPS
            values = network.run(keep=wanted, backward=False) if last else network.step(keep=wanted)
            losses.append(float(values[loss]))
            for k in named:
                if values[k].dtype.kind != "f":
                    continue
                size = rms(values[k])
                if size > MOST_GROWTH * start.setdefault(k, _scale(derivation, k, size)):
                    return False
    return all(value <= losses[0] for value in losses)


def _scale(derivation: Derivation, node: int, size: float) -> float:
    """What a change of a value is compared with: its size at the start; should that be zero, or smaller than its change
    by a power of the width (logits), `VANISHING`, as its change must outgrow what the features' change does."""
    snapshot, units = derivation.solution.snapshot, derivation.solution.solver.units
    start, change = largest(snapshot.initial[node]), largest(snapshot.change[node])
    if start is None or not size:
        return VANISHING
    lags = change is not None and units.degree(start) < units.degree(change)
    return VANISHING if lags and units.degree(start) < 0 else size


def stages_of(derivation: Derivation, *, factors: bool = False) -> list[set[str]]:
    """The trained parameters in the order of the step at which their update first has its full exponent; and, with
    `factors`, at which what they are multiplied with has it."""
    program, solution = derivation.architecture.program, derivation.solution
    solver = solution.solver
    analysis = Analysis(program, solver.units, derivation.choice, solver.functions, solution.exponents)
    others = _factors(derivation) if factors else {}

    def sizes(snapshot: Snapshot) -> dict[str, list[int | None]]:
        def whole(node: int) -> Terms:
            return snapshot.initial[node] + snapshot.change[node]

        found = {}
        for name, node in program.updates.items():
            update = analysis.update_terms(name, whole(program.nodes[node].args[0]))
            found[name] = [largest(update), *(largest(whole(k)) for k in others.get(name, ()))]
        return found

    full = sizes(solution.snapshot)
    stages: list[set[str]] = []
    for snapshot in analysis.steps(LATEST):
        done: set[str] = set().union(*stages)
        stages.append({name for name, size in sizes(snapshot).items() if name not in done and size == full[name]})
        if len(done) + len(stages[-1]) == len(full):
            break
    return stages


def _factors(derivation: Derivation) -> dict[str, list[int]]:
    """Parameter -> the nodes that it is multiplied with, where it does not start at zero; and, of what is added to such
    a product, the same."""
    solution, nodes = derivation.solution, derivation.architecture.program.nodes
    found: dict[str, list[int]] = {}
    behind: dict[int, int] = {}  # product -> the other factor
    for o in solution.solver.uses:
        node = nodes[o.node]
        if isinstance(node.op, Contract) and node.op.right is not None:
            if largest(solution.snapshot.initial[o.chain[0]]) is not None:
                behind[o.node] = node.args[1 - o.position]
                found.setdefault(o.param, []).append(behind[o.node])
        elif isinstance(node.op, Add):
            products = (unscaled(nodes, a) for k, a in enumerate(node.args) if k != o.position)
            found.setdefault(o.param, []).extend(behind[k] for k in products if k in behind)
    return found


def _effects(derivation: Derivation, network: Interpreter) -> dict[str, float]:
    """Parameter -> the relative change that the next update makes to the value of its use; makes that update."""
    program, solver = derivation.architecture.program, derivation.solution.solver
    wanted = {k for o in solver.uses for k in (o.node, *(a for c in (*o.chain, o.node) for a in program.nodes[c].args))}
    network.prime()
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
        size, change = rms(values[o.node]), rms(moved)
        effect[o.param] = max(effect.get(o.param, 0.0), change / _scale(derivation, o.node, size))
    return effect
