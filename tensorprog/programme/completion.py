"""`complete`: the best stable completion of exponents that the user fixes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tensorprog.architecture import Architecture
from tensorprog.calculus.analysis import Exponents
from tensorprog.calculus.forms import DEFAULT_FORM, FORMS, parametrize
from tensorprog.calculus.solve import Solution
from tensorprog.classify.alignment import AlignedTrainer, Alignment
from tensorprog.derivation import unsolved
from tensorprog.errors import CalculusError, TensorProgError
from tensorprog.exponents import Power
from tensorprog.optimizers import Choice, Optimizer
from tensorprog.optimizers.choice import choose
from tensorprog.optimizers.policies import DEFAULT_POLICY
from tensorprog.parametrization import Parametrization
from tensorprog.programme.complete import Completed, ConflictError, Programme
from tensorprog.programme.fixes import Fix, read_fix
from tensorprog.programme.trajectory import Trainer, require_own_steps


@dataclass(frozen=True)
class Completion:
    """The result: `parametrization` can be checked and emitted like a derived one; `completed` is the solution of the
    linear programme, `solution` what the calculus says of it."""

    architecture: Architecture
    optimizer: str
    form: str
    fixes: tuple[Fix, ...]
    completed: Completed
    solution: Solution
    parametrization: Parametrization

    @property
    def maximal(self) -> bool:
        """Whether nothing is lost."""
        return not self.completed.lost

    def contribution(self, param: str) -> Power | None:
        """How a parameter's own update moves the value of its use; None: not at all."""
        size = self.completed.contributions.get(param)
        return None if size is None else Power.of({self.architecture.graph.widths[0]: size})

    def render(self, format: str = "table", *, color: bool = False) -> str:
        """As `table`, `json`, `markdown` or `latex`."""
        from tensorprog.programme import show

        return show.render(self, format, color=color)

    def __str__(self) -> str:
        return self.render()


def complete(
    architecture: Architecture,
    fixes: Sequence[str],
    optimizer: str | Optimizer | Choice | None = None,
    form: str | None = None,
    *,
    vectors: str | Optimizer | None = None,
    optimizer_for: Mapping[str, str | Optimizer] | None = None,
    decay_policy: str | None = None,
    alignment: Alignment | None = None,
) -> Completion:
    """The stable exponents that keep what is fixed and make the updates as large as possible, the smallest first; then
    the initial sizes, then the multipliers (programme/complete.py). Arguments as for `derive`; `fixes`: requirements
    such as "lr[*] = 0" (programme/fixes.py); `alignment`: assumed instead of derived (classify/alignment.py).

    Raises ConflictError with a minimal set of conflicting requirements, CalculusError for a program that the calculus
    does not cover or with several widths, TensorProgError for a requirement that makes no sense.
    """
    form = form or DEFAULT_FORM
    if form not in FORMS:
        raise TensorProgError(f"unknown form `{form}`", fix=", ".join(FORMS))
    own = architecture.optimizers
    choice = choose(optimizer or architecture.graph.optimizer or "adam", vectors, optimizer_for or {}, own)
    try:
        trainer = trainer_for(architecture, choice, alignment=alignment)
        read = tuple(read_fix(trainer, text) for text in fixes)
        completed = _solved(trainer, read, derived_or_zero(architecture, choice, trainer))
        solution = as_solution(completed)
        parametrization = parametrize(solution, form, decay_policy or DEFAULT_POLICY)
    except TensorProgError as error:
        raise error.located(architecture.source, architecture.file) from None
    return Completion(architecture, choice.title, form, read, completed, solution, parametrization)


def _solved(trainer: Trainer, fixes: Sequence[Fix], start: Exponents) -> Completed:
    """The solution. Of conflicting requirements, those are left out without which the others still conflict."""
    try:
        return Programme(trainer, fixes, start).solve()
    except ConflictError as error:
        worst = error
    kept = [fix for fix in fixes if fix.text in worst.fixes]
    for fix in tuple(kept):
        fewer = [other for other in kept if other is not fix]
        try:
            Programme(trainer, fewer, start).solve()
        except ConflictError as error:
            kept, worst = [other for other in fewer if other.text in error.fixes], error
    raise worst


def trainer_for(architecture: Architecture, choice: Choice, alignment: Alignment | None = None) -> Trainer:
    """The machinery that predicts any exponents of a program with one width. Raises TensorProgError for others, and
    for optimizers whose step depends on all parameters at once."""
    if len(architecture.graph.widths) > 1:
        names = ", ".join(architecture.graph.widths)
        raise CalculusError(f"a linear programme over several widths ({names}) is not covered yet",
                            fix="one width, of which the others are multiples")  # fmt: skip
    solver = unsolved(architecture, choice)
    require_own_steps(solver.optimizers[name] for name in solver.program.updates)
    given = solver.program, solver.units, choice, solver.functions, solver.exponents
    return Trainer(*given) if alignment is None else AlignedTrainer(*given, alignment=alignment)


def derived_or_zero(architecture: Architecture, choice: Choice, trainer: Trainer) -> Exponents:
    """Where to begin: at what the local solver finds, stable or not, in the trainer's units."""
    try:
        solver = unsolved(architecture, choice)
        found = solver.solve()
    except CalculusError:
        return trainer.exponents
    finer = trainer.units.denominator // solver.units.denominator
    A, C, M = ({name: value * finer for name, value in part.items()} for part in (found.A, found.C, found.M))
    return Exponents(A, C, M)


def as_solution(completed: Completed) -> Solution:
    """What the forms need: the exponents, their snapshot, the multipliers that are settled."""
    unknowns, trainer = completed.unknowns, completed.unknowns.trainer
    trainer.record_steps()
    symbol = trainer.units.symbols[0]
    gauges = {name: -trainer.units.pack({symbol: affine.at(completed.point)})
              for name, affine in unknowns.multiplier.items()}  # fmt: skip
    return Solution(trainer, completed.exponents, completed.trajectory.snapshot, gauges)
