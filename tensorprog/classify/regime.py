"""The verdicts on a parametrization, from the sizes that the calculus predicts for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from functools import partial
from math import lcm

from tensorprog.architecture import Architecture
from tensorprog.attribution import attributed, orders
from tensorprog.calculus.analysis import largest
from tensorprog.calculus.exponents import Snapshot
from tensorprog.calculus.shared import describe
from tensorprog.calculus.solve import require_norms
from tensorprog.classify.alignment import AlignedTrainer, Alignment, Disagreement, disagreements, read_alignment
from tensorprog.classify.classification import Classification, Growth, Moves
from tensorprog.classify.needed import Change, changes_needed
from tensorprog.classify.rate import Rate, largest_rate
from tensorprog.classify.views import stability, stable_region
from tensorprog.deriving import derivation_of, derive
from tensorprog.errors import CalculusError, TensorProgError
from tensorprog.exponents import Power
from tensorprog.graph import Add, Contract, Input, Map, Node, Param, Program, Scale, Softmax
from tensorprog.optimizers import Choice, Optimizer
from tensorprog.parametrization import Parametrization
from tensorprog.parametrizations import in_gauge, read
from tensorprog.programme.trajectory import Trainer, Trajectory, layer_node, require_own_steps
from tensorprog.solving import units_of, unsolved

SGD_ONLY = "it is defined for SGD"
LARGEST = 10**9  # denominator of the units
FINER = 1680  # times finer units than predictions need, for breakpoints of the learning rate


def classify(
    architecture: Architecture,
    parametrization: str | Parametrization = "sp",
    optimizer: str | Optimizer | Choice | None = None,
    lr: Fraction | None = None,
    *,
    vectors: str | Optimizer | None = None,
    optimizer_for: Mapping[str, str | Optimizer] | None = None,
    alignment: str | Alignment | None = None,
    region: tuple[str, str] | None = None,
    constraints: bool = False,
    advice: bool = True,
) -> Classification:
    """Classify a parametrization: "derived" (with what the file fixes), a name in `parametrizations.NAMED`, the path of
    a TOML file, or exponents.

    `optimizer`, `vectors`, `optimizer_for`: as for `derive`. `lr`: one learning rate n^lr for all parameters.
    `alignment`: assumed instead of derived: "full", "none" or three numbers (alignment.py). `advice`: also find the
    largest stable learning rate and, if the alignment is derived, what to change; without it they are None and ().
    `region`: two exponents such as ("lr[W1]", "lr[W2]"), whose stable polygon is wanted (programme/region.py).
    `constraints`: whether the linear constraints are wanted (programme/polyhedron.py).
    Raises TensorProgError for an unknown name, a file that does not fit, or a program that the calculus does not cover.
    Source: Yang & Hu 2021 (Tensor Programs IV, arXiv:2011.14522), section 3.
    """
    assumed = read_alignment(alignment) if isinstance(alignment, str) else alignment
    trainer = trainer_for(architecture, optimizer, vectors, optimizer_for, assumed)
    try:
        if isinstance(parametrization, str) and parametrization != "derived":
            _require_nothing_fixed(architecture, parametrization)
            parametrization = read(trainer, parametrization, lr)
        elif lr is not None:
            raise TensorProgError("`lr` has no meaning for given exponents", fix="a named parametrization, or no `lr`",
                                  why="they have learning rates already")  # fmt: skip
        elif isinstance(parametrization, str):
            derivation = derive(architecture, trainer.choice).unrolled()
            parametrization = replace(derivation.parametrization, name=derivation.what)
        trainer = fine_enough(trainer, parametrization)
        exponents = in_gauge(trainer, parametrization)
        differs: tuple[Disagreement, ...] = ()
        until: int | None = None
        if assumed is not None:
            plain = fine_enough(trainer_for(architecture, trainer.choice), parametrization)
            run = plain.run(exponents)
            differs, until = disagreements(plain, run.snapshot, assumed), None if run.stable else run.step
        rate = Rate(None, None, sharp=False)
        changes: tuple[Change, ...] | str = ()
        if advice:
            rate = largest_rate(trainer, exponents)
            if assumed is None:
                changes = _changes(architecture, trainer, parametrization)
        found = _verdicts(architecture, trainer, parametrization, rate, changes)
        found = replace(found, alignment=assumed, disagreements=differs, differs_until=until)
        if region is not None:
            found = replace(found, region=stable_region(trainer, parametrization, region))
        if constraints:
            found = replace(found, constraints=stability(trainer, parametrization))
        return found
    except TensorProgError as error:
        raise error.located(architecture.source, architecture.file) from None


def _require_nothing_fixed(architecture: Architecture, name: str) -> None:
    for fix in architecture.fixes:
        raise TensorProgError(f"the file fixes exponents, and `{name}` gives them all", fix.span,
                              fix="--parametrization derived, or a file without `fix`",
                              why="one of the two would be lost")  # fmt: skip


def _changes(
    architecture: Architecture, trainer: Trainer, parametrization: Parametrization
) -> tuple[Change, ...] | str:
    try:
        target = derivation_of(architecture, trainer.choice)  # at the same finite depth
        if held := target.solution.solver.held():
            names = ", ".join(f"`{name}`" for name in held)
            return (f"no start of {names} is in balance: where the update of its use is Theta(1), updates of what it "
                    "multiplies are aligned with it, and grow")  # fmt: skip
        return changes_needed(trainer, parametrization, target.without_multipliers)
    except CalculusError as unsolvable:
        return unsolvable.message


def trainer_for(
    architecture: Architecture,
    optimizer: str | Optimizer | Choice | None = None,
    vectors: str | Optimizer | None = None,
    optimizer_for: Mapping[str, str | Optimizer] | None = None,
    alignment: Alignment | None = None,
) -> Trainer:
    """The machinery that predicts any exponents. Widths in proportion are one: whether they are told apart must not
    decide what is stable. Raises TensorProgError for a program or an optimizer it does not cover."""
    choice = architecture.choice(optimizer, vectors, optimizer_for)
    solver = unsolved(architecture, choice, FINER)
    require_own_steps(solver.optimizers[name] for name in solver.program.updates)
    units = solver.units if len(solver.units.given[0]) == 1 else solver.units.as_one
    given = solver.program, units, choice, solver.functions, solver.exponents
    return Trainer(*given) if alignment is None else AlignedTrainer(*given, alignment=alignment)


def fine_enough(trainer: Trainer, parametrization: Parametrization) -> Trainer:
    """The trainer with units that can express the exponents of a parametrization."""
    powers = [p for e in parametrization.params.values() for p in (e.multiplier, e.init_std, e.lr) if p is not None]
    powers += parametrization.unknowns.values()
    units = trainer.units
    denominator = lcm(units.denominator, *(e.denominator for power in powers for _, e in power.exponents))
    if denominator == units.denominator or denominator > LARGEST:
        return trainer
    return replace(trainer, units=units.finer(denominator, units.base))


def _verdicts(
    architecture: Architecture,
    trainer: Trainer,
    parametrization: Parametrization,
    rate: Rate,
    changes: tuple[Change, ...] | str,
) -> Classification:
    program, nodes = trainer.program, trainer.program.forward.nodes
    trainers = [trainer, *_told_apart(architecture, trainer)]
    results = [one.run(in_gauge(one, parametrization)) for one in trainers]
    result = results[0]

    def power(ask: Callable[[Trainer, Trajectory], int | None]) -> Power | None:
        """An exponent, attributed to the widths."""
        sizes = [(one, ask(one, run)) for one, run in zip(trainers, results, strict=True)]
        found, *ordered = (None if size is None else one.units.unpack(size) for one, size in sizes)
        return attributed(found, ordered, trainer.units)

    def moves(k: int) -> Moves:
        return Moves(describe(nodes[k], nodes), power(lambda _, run: largest(run.snapshot.initial[k])),
                     power(lambda _, run: largest(run.snapshot.change[k])))  # fmt: skip

    growth = None
    if result.excess:
        first = result.excess[0]
        node = nodes[first.node]
        size = power(lambda one, run: next((e.size for e in run.excess if e.at == first.at), None))
        growth = Growth(describe(node, nodes), size or Power(), first.step, node.span.line)
    contributions: dict[str, Power | None] = {}
    for name in program.updates:
        if trainer.contribution(name) is not None or trainer.moved.get(name):
            contributions[name] = power(partial(_contribution, name))
    rates = {e.lr for e in parametrization.params.values() if e.lr is not None}
    common = next(iter(rates)).degree if len(rates) == 1 else None
    return Classification(
        architecture=architecture, optimizer=trainer.choice.title, parametrization=parametrization, growth=growth,
        settled=result.settled or bool(result.excess), seen=result.step,
        outputs=tuple(moves(k) for _, k in program.forward.outputs),
        features=tuple(moves(k) for k in features(trainer)), contributions=contributions,
        vanishing=tuple(map(moves, vanishing_starts(trainer, result.snapshot))), r=_r(trainer, result),
        rate_factor=rate.factor, rate_binding=describe(nodes[rate.binding.node], nodes) if rate.binding else "",
        rate_sharp=rate.sharp, rate_attained=rate.attained, global_rate=common, changes=changes,
        caveat=_caveat(trainer, result),
    )  # fmt: skip


def _caveat(trainer: Trainer, result: Trajectory) -> str:
    try:
        require_norms(trainer, result.snapshot.initial, trainer.exponents.M)
    except CalculusError as error:
        return f"{error.message}: {error.why}"
    return ""


def _contribution(name: str, trainer: Trainer, _: Trajectory) -> int | None:
    return trainer.contribution(name)


def _told_apart(architecture: Architecture, trainer: Trainer) -> list[Trainer]:
    """The trainer for widths in the orders that are asked, where they grow in proportion."""
    units = trainer.units
    return [replace(trainer, units=units_of(architecture.graph, (order, "<<")).finer(units.denominator, units.base))
            for order in orders(units, architecture.graph.widths)]  # fmt: skip


def features(trainer: Trainer) -> list[int]:
    """Hidden tensors, in graph order: with an axis that grows, computed from data and parameters, and either named in
    the file or the value of a parameter's use."""
    program = trainer.program
    from_data, from_weights = _descendants(program, Input), _descendants(program, Param)
    layers = {k for name in trainer.uses_of for k in layer_node(trainer, name)}
    outputs = {k for _, k in program.forward.outputs}
    return [n.id for n in program.forward.nodes
            if n.id in from_data and n.id in from_weights and n.id not in outputs and (n.name or n.id in layers)
            and any(axis.dim.grows for axis in n.axes)]  # fmt: skip


def vanishing_starts(trainer: Trainer, snapshot: Snapshot) -> list[int]:
    """Hidden arguments of nonlinearities whose initial value vanishes."""
    fed = {a for n in trainer.program.forward.nodes if isinstance(n.op, Map | Softmax) for a in n.args}
    starts = {k: largest(snapshot.initial[k]) for k in features(trainer) if k in fed}
    return [k for k, size in starts.items() if size is not None and trainer.units.degree(size) < 0]


def _descendants(program: Program, kind: type) -> set[int]:
    found: set[int] = set()
    for node in program.forward.nodes:
        if isinstance(node.op, kind) or any(a in found for a in node.args):
            found.add(node.id)
    return found


def _r(trainer: Trainer, result: Trajectory) -> Fraction | str:
    """The features that the outputs read change by Theta(n^-r).

    Source: Tensor Programs IV, section 3 (there: the last layer's x, under SGD)."""
    if any(not trainer.optimizers[name].linear for name in trainer.program.updates):
        return SGD_ONLY
    if not result.stable:
        return "training is not stable"
    changes = []
    for name, output in trainer.program.forward.outputs:
        read_by = _read(trainer.program, output)
        if read_by is None:
            return f"`{name}` is not a parameter times hidden features"
        changes.append(largest(result.snapshot.change[read_by]))
    sizes = [size for size in changes if size is not None]
    return -trainer.units.degree(max(sizes)) if sizes else "the features do not move at all"


def _read(program: Program, output: int) -> int | None:
    """The features that an output sums over with a parameter (biases and scalars apart)."""
    nodes = program.forward.nodes
    weights: set[int] = set()
    for node in nodes:
        if isinstance(node.op, Param) or (node.args and all(a in weights for a in node.args)):
            weights.add(node.id)
    at: Node = nodes[output]
    while isinstance(at.op, Scale | Add):
        rest = [a for a in at.args if a not in weights]
        if len(rest) != 1:
            return None
        at = nodes[rest[0]]
    if not isinstance(at.op, Contract) or at.op.right is None:
        return None
    rest = [a for a in at.args if a not in weights]
    grows = rest and any(axis.dim.grows for axis in nodes[rest[0]].axes)
    return rest[0] if len(rest) == 1 and grows else None
