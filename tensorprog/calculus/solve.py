"""The maximal stable exponents of a program: what solver.py finds, substituted back and seen to be stable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tensorprog.calculus.analysis import Analysis
from tensorprog.calculus.cancelling import require_norms_of_what_lasts
from tensorprog.calculus.exponents import Exponents, Snapshot
from tensorprog.calculus.rank import require_finite_rank
from tensorprog.calculus.solver import Solver
from tensorprog.calculus.stable import assert_stable
from tensorprog.calculus.terms import Terms
from tensorprog.calculus.uneven import require_norms_of_equals
from tensorprog.errors import CalculusError
from tensorprog.exponents import Units
from tensorprog.functions import Function
from tensorprog.graph import Program
from tensorprog.optimizers import Choice

STEPS = 4  # so many are looked at one by one, at most


@dataclass(frozen=True, slots=True)
class Solution:
    """Exponents, and what substituting them back gives: the sizes at the fixpoint of training. `gauges`: parameter ->
    its own multiplier exponent a, where that is not for the form to choose."""

    solver: Solver
    exponents: Exponents
    snapshot: Snapshot
    gauges: Mapping[str, int] = field(default_factory=dict)


def prepare(program: Program, units: Units, optimizer: str | Choice, functions: Mapping[str, Function]) -> Solver:
    """A solver whose exponents are all zero, but for starts that are given. Raises CalculusError if the calculus does
    not cover the program."""
    forward = program.forward
    start = {name: -units.pack_power(p.start) if p.start else 0 for name, p in forward.parameters.items()}
    zero = Exponents(start, dict.fromkeys(forward.parameters, 0),
                     dict.fromkeys(forward.unknowns, 0))  # fmt: skip
    solver = Solver(program, units, optimizer, functions, zero)
    solver.choice.require_fit(forward.parameters)
    for name in program.updates:
        if solver.optimizers[name].turns:
            require_finite_rank(program, name, solver.sizes)
    return solver


def solve(program: Program, units: Units, optimizer: str | Choice, functions: Mapping[str, Function]) -> Solution:
    """The maximal stable exponents of a program under an optimizer, verified by substitution.

    Raises CalculusError, naming the node, if the calculus does not cover it or no choice is stable.
    Source: Yang & Hu 2021 (Tensor Programs IV), theorem 3.4 and definition 3.8: stable and every layer maximal.
    """
    solver, snapshot = _stable(program, units, optimizer, functions)
    exponents = solver.exponents
    require_norms(solver, snapshot.initial, exponents.M)
    return Solution(solver, exponents, snapshot)


def require_norms(analysis: Analysis, initial: Sequence[Terms], multipliers: Mapping[str, int]) -> None:
    """Raises CalculusError if initial sizes do not tell how large the inverse of a norm is."""
    program, sizes, rules = analysis.program, analysis.sizes, analysis.rules[: len(initial)]
    require_norms_of_what_lasts(program, initial, multipliers, sizes, analysis.functions)
    require_norms_of_equals(program, initial, rules, sizes)


def _stable(
    program: Program, units: Units, optimizer: str | Choice, functions: Mapping[str, Function]
) -> tuple[Solver, Snapshot]:
    """A solver that has found exponents, and the sizes that these give from the beginning of training. Its sweeps know
    the gradients of the first step and of late ones. Those on the way may be larger (a norm falls only after a gain
    has left zero). If the rates are too large, they are found again, with one more of these steps known each time."""
    met: Mapping[str, tuple[Terms, ...]] = {}
    taken = 0
    while True:
        solver = prepare(program, units, optimizer, functions)
        solver.met = met
        solver.solve()
        try:
            snapshot = solver.fixpoint()
            assert_stable(program, snapshot, units)
            return solver, snapshot
        except CalculusError:
            taken += 1
            before, met = met, solver.gradients_at(taken)
            if taken > STEPS or met == before:
                raise
