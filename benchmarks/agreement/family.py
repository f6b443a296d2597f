"""One architecture in one parametrization, trained at any width: sizes of its tensors, each network trained once."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from unittest.mock import patch

import numpy as np
import numpy.typing as npt

from tensorprog.coordcheck.calibrate import base_rates
from tensorprog.coordcheck.measure import measure, planned
from tensorprog.coordcheck.probes import Probe
from tensorprog.derivation import Derivation
from tensorprog.graph import Add, Contract, InvRms, Node, Scale
from tensorprog.norms import centred, normalised
from tensorprog.optimizers.choice import find
from tensorprog.parametrization import Parametrization

BATCH = 4
BASE = 4  # the base width: far below the ladder, so that what vanishes with width is small on all of it
LADDER = (64, 128, 256, 512)
WIDER = (*LADDER, 1024, 2048)
EACH = "*"  # of a Look: one parameter after the other
EPSILON = 1e-30  # of normalisations: arguments may vanish like n^-3
ONE = 1.0  # with which no normalisation takes away exactly what is common to all that it reads
ADAM = Fraction(1, 10**18)  # the base epsilon of optimizers that have one: gradients may vanish like n^-7/2
MUON = "tensorprog.arrays.SMALLEST_NORM"  # is no larger, for the same reason

RAISED, NORMED = "with one learning rate raised", "with an epsilon in its norms"
FURTHER = "at other learning rates and larger widths"

Floats = npt.NDArray[np.float64]
Key = tuple[int, int]  # a place and a step


def with_epsilon(derivation: Derivation, epsilon: float) -> Derivation:
    """The same networks, with this epsilon in normalisations, and with optimizers that normalise what is small, too:
    exponents are those without epsilon."""

    def cleaned(nodes: tuple[Node, ...]) -> tuple[Node, ...]:
        return tuple(replace(n, op=replace(n.op, eps=epsilon)) if isinstance(n.op, InvRms) else n for n in nodes)

    program = derivation.architecture.program
    optimizer = derivation.parametrization.optimizer
    options = (("eps", ADAM),) if "eps" in dict(find(optimizer).defaults) else ()
    forward = replace(program.forward, nodes=cleaned(program.forward.nodes), optimizer=optimizer,
                      optimizer_options=options)  # fmt: skip
    architecture = replace(derivation.architecture)
    architecture.__dict__["graph"] = forward
    architecture.__dict__["program"] = replace(program, forward=forward, nodes=cleaned(program.nodes))
    return replace(derivation, architecture=architecture)


def idle(nodes: Sequence[Node]) -> set[int]:
    """Nodes that change by epsilon alone, which the networks here are without, so that there is nothing to measure:
    inverse norms of what a norm over the same axes has already divided by its own, perhaps without its mean once more;
    |x|^2 over these axes of such an x, or x.y of two that differ by norms alone; and what is computed from these."""
    norms, found = {node.op for node in nodes if isinstance(node.op, InvRms)}, set[int]()
    for node in nodes:
        match node.op:
            case InvRms():
                known = _has_norm(nodes, node.args[0], node.op)
            case Contract(left, right, out) if left == right:
                axes = tuple(k for k, index in enumerate(left) if index not in out)
                known = any(
                    norm.axes == axes
                    and all(_has_norm(nodes, a, norm) for a in node.args)
                    and len({_direction(nodes, a, norm) for a in node.args}) == 1
                    for norm in norms
                )
            case _:
                known = bool(node.args) and found.issuperset(node.args)
        if known:
            found.add(node.id)
    return found


def _has_norm(nodes: Sequence[Node], value: int, norm: InvRms) -> bool:
    """Whether a node is a multiple of what was divided by its own norm, of the same kind as `norm`."""
    x = nodes[value]
    if _is_multiple(x):
        return _has_norm(nodes, x.args[0], norm)
    source = centred(nodes, x, norm.axes)
    if source is not None:
        return _sums_to_zero(nodes, source, norm) and _has_norm(nodes, source, norm)
    return _divided(nodes, x, norm)


def _direction(nodes: Sequence[Node], value: int, norm: InvRms) -> int:
    """What a node is but for factors and for such norms."""
    x = nodes[value]
    if _is_multiple(x) or _divided(nodes, x, norm):
        return _direction(nodes, next(a for a in x.args if nodes[a].op != norm), norm)
    return value


def _sums_to_zero(nodes: Sequence[Node], value: int, norm: InvRms) -> bool:
    """Whether the mean over the axes of `norm` was taken off, and all that followed are such norms and multiples."""
    x = nodes[value]
    if _is_multiple(x) or _divided(nodes, x, norm):
        return _sums_to_zero(nodes, next(a for a in x.args if nodes[a].op != norm), norm)
    return centred(nodes, x, norm.axes) is not None


def _is_multiple(x: Node) -> bool:
    return isinstance(x.op, Scale) or (isinstance(x.op, Add) and len({*x.args}) == len({*x.op.places}) == 1)


def _divided(nodes: Sequence[Node], x: Node, norm: InvRms) -> bool:
    return normalised(nodes, x.id) is not None and any(nodes[a].op == norm for a in x.args)


@dataclass(frozen=True, slots=True)
class Look:
    """Networks to train: `seeds` of each width. `rate`: times the learning rates of a check, or that of the parameter
    `raised` alone (EACH: one after the other, those that matter). `epsilon`: of normalisations."""

    seeds: int
    rate: float = 1.0
    widths: tuple[int, ...] = LADDER
    raised: str = ""
    epsilon: float = EPSILON

    @property
    def wider(self) -> bool:
        """Whether it is for what misses on the ladder."""
        return self.widths == WIDER

    @property
    def settles(self) -> str:
        """Of a look with other constants, at what disagrees in all others: why a row agrees that does so there."""
        if self.raised:
            return RAISED
        if self.epsilon != EPSILON:
            return NORMED
        return FURTHER if self.wider and self.rate != 1 else ""


@dataclass
class Family:
    """`places`: what may be measured. `steps`: how many updates are made. `dtype`: of all numbers. `epsilon`: of
    normalisations."""

    derivation: Derivation
    used: Parametrization
    places: Sequence[Probe]
    steps: int
    dtype: str = "float32"
    epsilon: float = EPSILON
    _done: dict[tuple[str, float, int, int], Floats] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.derivation = with_epsilon(self.derivation, self.epsilon)

    @cached_property
    def base(self) -> dict[str, int]:
        return dict.fromkeys(self.derivation.widths, BASE)

    @cached_property
    def rates(self) -> Mapping[str, float]:
        """Base learning rates."""
        narrow = dict.fromkeys(self.derivation.widths, LADDER[0])
        with patch(MUON, float(ADAM)):
            return base_rates(self.derivation, narrow, self.base, batch=BATCH)

    def precisely(self) -> Family:
        """The same networks in double precision."""
        other = replace(self, dtype="float64", _done={})
        other.__dict__["rates"] = self.rates
        return other

    def sizes(self, look: Look, rows: Collection[Key], also: Collection[Key] = ()) -> Floats:
        """Sizes [place, step, width, seed] of these rows (place, step), and of those in `also` that are seen while
        `rows` are; nan elsewhere. A network that was trained before is not trained again: only a part of the rows
        that were asked for then can be asked for now."""
        if look.epsilon != self.epsilon:
            return replace(self, epsilon=look.epsilon, _done={}).sizes(look, rows, also)
        wanted = sorted({k for k, _ in (*rows, *also)})
        steps = min(self.steps, max(1, max(t for _, t in rows)))
        lr = {name: look.rate * rate if look.raised in ("", name) else rate for name, rate in self.rates.items()}
        of = look.raised, look.rate
        for width in look.widths:
            at = dict.fromkeys(self.derivation.widths, width)
            missing = [seed for seed in range(look.seeds) if (*of, width, seed) not in self._done]
            if not missing:
                continue
            plan = planned(self.derivation, self.used, at, self.base, BATCH, lr, self.dtype)
            for seed in missing:
                found = np.full((len(self.places), self.steps + 1), np.nan)
                with patch(MUON, float(ADAM)):
                    found[wanted, : steps + 1] = measure(
                        self.derivation, self.used, [self.places[k] for k in wanted], at, self.base, seed=seed,
                        steps=steps, batch=BATCH, lr=lr, dtype=self.dtype, plan=plan)  # fmt: skip
                self._done[*of, width, seed] = found
        grid = [self._done[*of, width, seed] for width in look.widths for seed in range(look.seeds)]
        return np.stack(grid, axis=-1).reshape(len(self.places), self.steps + 1, len(look.widths), look.seeds)
