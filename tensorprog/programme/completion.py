"""`complete`: the best stable completion of exponents that the user fixes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from tensorprog.architecture import Architecture
from tensorprog.attribution import attribute
from tensorprog.calculus.exponents import Exponents
from tensorprog.calculus.forms import DEFAULT_FORM, parametrize, without_multipliers
from tensorprog.calculus.solve import Solution, require_norms
from tensorprog.classify.alignment import AlignedTrainer, Alignment
from tensorprog.derivation import Derivation
from tensorprog.deriving import derivation_of, known_form
from tensorprog.errors import CalculusError, TensorProgError
from tensorprog.exponents import Degrees, Power, Units
from tensorprog.fixing import read_requirement
from tensorprog.optimizers import Choice, Optimizer
from tensorprog.optimizers.policies import DEFAULT_POLICY
from tensorprog.parametrization import Parametrization
from tensorprog.programme import show
from tensorprog.programme.complete import Completed, solve
from tensorprog.programme.fixes import Fix, requirements
from tensorprog.programme.refusals import ConflictError
from tensorprog.programme.search import Progress
from tensorprog.programme.trajectory import Trainer, require_own_steps
from tensorprog.solving import unsolved
from tensorprog.statements import FixDecl

MOST_TERMS = 250  # of the change of a tensor; several times what networks in balance have
UNROLLED = "where exponents are fixed, the depth is finite: its own exponents are not derived"


@dataclass(frozen=True, kw_only=True)
class Completion(Derivation):
    """A derivation in which something is fixed (`fixes`). `completed`: the solution of the linear programme."""

    fixes: tuple[Fix, ...]
    completed: Completed

    @property
    def what(self) -> str:
        texts = (*map(str, self.architecture.given), *(fix.text for fix in self.fixes))
        return f"best stable completion of {', '.join(texts)}"

    @property
    def maximal(self) -> bool:
        """Whether nothing is lost."""
        return not self.completed.lost

    @cached_property
    def own_updates(self) -> Mapping[str, Power | None]:
        return {name: self.contribution(name) for name in self.params}

    @property
    def vanishing(self) -> dict[str, Power]:
        return {name: power for name, power in self.own_updates.items() if power is not None and power.exponents}

    def contribution(self, param: str) -> Power | None:
        """How a parameter's own update moves the value of its use; None: not at all."""
        size = self.completed.contributions.get(param)
        return None if size is None else self.completed.units.power(size)

    def unrolled(self, depths: Mapping[str, int] | None = None) -> Derivation:
        known = self.architecture
        if not depths or depths == dict(known.graph.depths):
            return self
        return complete(replace(known, depths=dict(depths)), self.given, self.choice, self.form,
                        decay_policy=self.decay_policy)  # fmt: skip

    def other_regimes(self) -> dict[tuple[str, ...], Derivation]:
        return {}

    @cached_property
    def reasons(self) -> dict[str, dict[str, str]]:
        return show.reasons(self, super().reasons)

    @property
    def held(self) -> Mapping[str, int]:
        return {}  # what is fixed decides how they start

    def why(self, param: str, quantity: str) -> list[str]:
        return show.why(self, param, quantity)

    @property
    def of_degrees(self) -> list[str]:
        units = self.solution.solver.units
        if not isinstance(units, Degrees):
            return []
        return [f"{', '.join(units.given[0])} grow in proportion, and what is fixed is possible only because of that: "
                f"what is open, and how sizes follow, is told in powers of {units.symbols[0]}"]  # fmt: skip

    @property
    def remarks(self) -> list[str]:
        return [*show.remarks(self), *self.of_degrees, *self.idle_optimizers]

    def to_json(self) -> dict[str, Any]:
        return show.to_json(self, super().to_json())


def complete(
    architecture: Architecture,
    fixes: Sequence[str] = (),
    optimizer: str | Optimizer | Choice | None = None,
    form: str | None = None,
    *,
    vectors: str | Optimizer | None = None,
    optimizer_for: Mapping[str, str | Optimizer] | None = None,
    decay_policy: str | None = None,
    alignment: Alignment | None = None,
    progress: Progress | None = None,
) -> Completion:
    """The stable exponents that keep what is fixed and make the updates as large as possible, the smallest first; then
    the initial sizes, then the multipliers (programme/complete.py). Arguments as for `derive`; `fixes`: requirements
    such as "lr[*] = 0" (fixing.py), besides those of the file, which they overrule where both speak of the same
    exponent; `alignment`: assumed instead of derived (classify/alignment.py); `progress`: told how much
    of the work that is allowed (a fixed amount) is done.

    Raises ConflictError with a minimal set of conflicting requirements, CalculusError for a program that the calculus
    does not cover, TensorProgError for a requirement that makes no sense.
    """
    form = known_form(form or DEFAULT_FORM)
    architecture, fixes = architecture.asking(fixes)
    given = [read_requirement(text) for text in fixes]
    architecture = replace(architecture, rolled=False) if architecture.rolled else architecture
    choice = architecture.choice(optimizer, vectors, optimizer_for)
    policy = decay_policy or DEFAULT_POLICY
    try:
        trainer = trainer_for(architecture, choice, alignment=alignment)
        start = derived_or_zero(architecture, choice, trainer)
        fixed, completed = _of_any_order(trainer, architecture, given, start, progress)
        solution = as_solution(completed)
        require_norms(solution.solver, solution.snapshot.initial, solution.exponents.M)
        parametrization = parametrize(solution, form, policy)
        if len(completed.units.given[0]) > 1:
            given_powers = _powers(trainer, requirements(trainer, architecture.fixes, given))
            parametrization = _attributed(architecture, solution, parametrization, policy, given_powers)
    except TensorProgError as error:
        raise error.located(architecture.source, architecture.file) from None
    note = UNROLLED if architecture.graph.depths else ""
    return Completion(architecture, choice.default.name, form, solution, parametrization, policy, note,
                      given=tuple(fixes), fixes=fixed, completed=completed)  # fmt: skip


def _of_any_order(
    trainer: Trainer, architecture: Architecture, given: Sequence[FixDecl], start: Exponents, progress: Progress | None
) -> tuple[tuple[Fix, ...], Completed]:
    """What is fixed, and the solution. Of widths in proportion n^1/2 m^-1/2 neither grows nor vanishes, but an answer
    in monomials must decide: the programme holds it to be larger than 1. If that alone makes what is fixed impossible,
    it is held to be smaller; and if that does not help, the widths are one."""
    own = trainer.units
    widths, *slower = own.given
    reverse = Units(widths[::-1], *slower, denominator=own.denominator, base=own.base)
    for units in (own, reverse, own.as_one.finer(own.denominator, own.base)):
        other = replace(trainer, units=units, exponents=_repacked(start, trainer.units, units))
        fixed = requirements(other, architecture.fixes, given)
        try:
            return fixed, _solved(other, fixed, other.exponents, progress)
        except ConflictError as error:
            if not error.tied:
                raise
    raise AssertionError("where widths are one there are no ties")


def _powers(trainer: Trainer, fixes: Sequence[Fix]) -> dict[tuple[str, str], Power | None]:
    """What is fixed, to which power (None: to be found)."""
    return {(fix.quantity, name): None if value is None else trainer.units.power(value)
            for fix in fixes for name, value in fix.values.items()}  # fmt: skip


def _attributed(
    architecture: Architecture,
    solution: Solution,
    found: Parametrization,
    policy: str,
    given: Mapping[tuple[str, str], Power | None],
) -> Parametrization:
    """The exponents of widths in proportion: what is fixed as it is said; of parameters that have the derived ones, of
    the same widths as there."""
    solver, fixed = solution.solver, dict[tuple[str, str], Power]()
    for (quantity, name), power in given.items():
        kept = found.unknowns[name] if quantity == "scale" else getattr(found.params[name], quantity)
        fixed[quantity, name] = kept if power is None else power
    try:
        derived = derivation_of(architecture, solver.choice, found.name, policy)
        known = [(derived.parametrization, derived.without_multipliers)]
    except TensorProgError:
        known = []
    owners = {use: name for name, of in solver.uses_of.items() for use in of}
    return attribute((found, without_multipliers(solution, policy)), known, owners, solver.units, fixed)


def _solved(trainer: Trainer, fixes: Sequence[Fix], start: Exponents, progress: Progress | None) -> Completed:
    """The solution. Of conflicting requirements, those are left out without which the others still conflict."""
    try:
        return solve(trainer, fixes, start, progress=progress)
    except ConflictError as error:
        worst = error
    kept = [fix for fix in fixes if fix.text in worst.fixes]
    for fix in tuple(kept):
        fewer = [other for other in kept if other is not fix]
        try:
            solve(trainer, fewer, start, anything=True, progress=progress)
        except CalculusError:
            continue  # it is open whether these can be had together
        except ConflictError as error:
            kept, worst = [other for other in fewer if other.text in error.fixes], error
    raise worst


def trainer_for(architecture: Architecture, choice: Choice, alignment: Alignment | None = None) -> Trainer:
    """The machinery that predicts any exponents of a program. Raises TensorProgError for optimizers whose step depends
    on all parameters at once."""
    solver = unsolved(architecture, choice)
    require_own_steps(solver.optimizers[name] for name in solver.program.updates)
    given = solver.program, solver.units.finer(solver.units.denominator), choice, solver.functions, solver.exponents
    if alignment is None:
        return Trainer(*given, strict=True, most=MOST_TERMS)
    return AlignedTrainer(*given, strict=True, most=MOST_TERMS, alignment=alignment)


def derived_or_zero(architecture: Architecture, choice: Choice, trainer: Trainer) -> Exponents:
    """Where to begin: at what the local solver finds, stable or not, in the trainer's units."""
    try:
        solver = unsolved(architecture, choice)
        found = solver.solve()
    except CalculusError:
        return trainer.exponents
    return _repacked(found, solver.units, trainer.units)


def _repacked(exponents: Exponents, old: Units, new: Units) -> Exponents:
    A, C, M = ({name: new.pack_power(old.unpack(size)) for name, size in part.items()}
               for part in (exponents.A, exponents.C, exponents.M))  # fmt: skip
    return Exponents(A, C, M)


def as_solution(completed: Completed) -> Solution:
    """What the forms need: the exponents, their snapshot, the multipliers that are settled."""
    unknowns, trainer = completed.unknowns, completed.unknowns.trainer
    trainer.record_steps()
    gauges = {name: -trainer.units.packed(affine.at(completed.point)) for name, affine in unknowns.multiplier.items()}
    return Solution(trainer, completed.exponents, completed.trajectory.snapshot, gauges)
