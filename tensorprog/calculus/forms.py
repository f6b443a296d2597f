"""Forms: equivalent parametrizations of one derivation, which differ in how much a multiplier carries.

The derivation fixes the effective weight W = n^-a w: its initial size n^-A and, in the gauge a = 0, its learning
rate n^-C. A form is a choice of a for every parameter; then
    initial std of w   n^-(A - a)
    learning rate      n^-(C - 2a) if the step is linear in the gradient (SGD), n^-(C - a) if it ignores the
                       gradient's scale (Adam, Muon), n^-C if it is also relative to w (Adafactor, LAMB, LARS)
    gradient of w      n^-a times that of W, hence epsilon
leaves every step of training unchanged.

Source: Yang & Hu 2021 (Tensor Programs IV), section 3.1 (the symmetry); Yang et al. 2022 (Tensor Programs V,
arXiv:2203.03466), tables 3, 8 and 9; Yang & Littwin 2023 (IVb, arXiv:2308.01814), section 2 (adaptive optimizers).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from tensorprog.calculus.analysis import largest
from tensorprog.calculus.solve import Solution
from tensorprog.errors import CalculusError
from tensorprog.exponents import Power, Units
from tensorprog.graph import Param
from tensorprog.parametrization import Parametrization, ParamExponents

DEFAULT_FORM = "table8"
FORMS: dict[str, str] = {
    "table8": "vectors have unit init and carry their size in a multiplier; matrices have no multiplier",
    "table3": "no multipliers: initial std and learning rate carry everything",
    "table9": "the gradient of every parameter has norm Theta(1): with SGD all learning rates are equal",
    "unit": "unit init everywhere, multipliers carry all initial sizes (NTK-like)",
}
SOURCES = {
    "table8": "Tensor Programs V, table 8",
    "table3": "Tensor Programs V, table 3",
    "table9": "Tensor Programs V, table 9",
    "unit": "Jacot et al. 2018 (unit variance), Tensor Programs IV section 3.1",
}


@dataclass(frozen=True, slots=True)
class Sized:
    """What a form needs to know of one parameter, packed exponents: `initial` A, `lr` C, `gradient` (entries of
    dW, None if zero), `entries` (number of entries), `growing` axes. `floored`: it starts at zero under an
    optimizer whose step is relative to the parameter, so that the optimizer's own floor is its first scale."""

    initial: int
    lr: int
    gradient: int | None
    entries: int
    growing: int
    floored: bool


def sized(solution: Solution, name: str) -> Sized:
    """The sizes of one parameter in a solution."""
    solver, program = solution.solver, solution.solver.program
    parameter = program.forward.parameters[name]
    grad = program.grads.get(name)
    size = None if grad is None else largest(solution.snapshot.initial[grad] + solution.snapshot.change[grad])
    dims = [solver.sizes(axis.dim) for axis in parameter.axes]
    exponents = solution.exponents
    floored = solver.optimizers[name].relative and solver.starts_at_zero(parameter)
    return Sized(exponents.A[name], exponents.C[name], size, sum(dims), sum(1 for d in dims if d), floored)


def gauge(form: str, s: Sized) -> int:
    """The multiplier exponent a of a parameter (W = n^-a w) that the form chooses."""
    if s.floored and form != "table3":  # w must be Theta(1), like the floor
        return s.initial
    match form:
        case "table3":
            return 0
        case "table8":
            return s.initial if s.growing == 1 else 0
        case "table9":
            return 0 if s.gradient is None else s.gradient + s.entries // 2
        case "unit":
            return s.initial
        case _:
            raise CalculusError(f"unknown form `{form}`", fix=" | ".join(FORMS))


def parametrize(solution: Solution, form: str) -> Parametrization:
    """The solution in one form. Raises CalculusError where the form has no answer: no multipliers, yet the uses
    of one parameter need different ones."""
    solver = solution.solver
    units, program, exponents = solver.units, solver.program, solution.exponents
    params: dict[str, ParamExponents] = {}
    unknowns: dict[str, Power] = {}
    for name, unknown in program.forward.unknowns.items():
        if unknown.kind == "multiplier":
            unknowns[name] = units.unpack(exponents.M[name])
    for name, parameter in program.forward.parameters.items():
        s = sized(solution, name)
        a = gauge(form, s)
        uses = solver.uses_of.get(name, ())
        if form == "table3" and any(exponents.M[use] for use in uses):
            node = next(n for n in program.forward.nodes if isinstance(n.op, Param) and n.op.name == name)
            raise CalculusError(
                f"the form `table3` has no answer for `{name}`",
                parameter.span if parameter.span.line else node.span,
                why="it is used in places that need different sizes, and this form has no multipliers",
                fix="--form table8, or an unknown multiplier at one of its uses, such as `?output * (...)`",
            )
        for use in uses:
            unknowns[use] = units.unpack(exponents.M[use] - a)
        params[name] = _exponents(solution, name, s, a, units)
    return Parametrization(form, solver.optimizer, params, unknowns)


def _exponents(solution: Solution, name: str, s: Sized, a: int, units: Units) -> ParamExponents:
    solver = solution.solver
    parameter, optimizer = solver.program.forward.parameters[name], solver.optimizers[name]
    zero = solver.starts_at_zero(parameter)
    init_std = None if zero else units.unpack(a - s.initial)
    if parameter.frozen or not solver.step.get(name):  # not trained, or its gradient is exactly zero
        return ParamExponents(units.unpack(-a), init_std, None, None, None)
    times = 2 if optimizer.degree else 0 if optimizer.relative and not zero else 1
    lr = units.unpack(times * a - s.lr)
    gradient = None if s.gradient is None else units.unpack(s.gradient - a)
    decay: Power | None = None
    if optimizer.decay == "decoupled" or (optimizer.decay == "coupled" and optimizer.degree):
        decay = lr ** Fraction(-1)
    elif optimizer.decay == "coupled" and gradient is not None:
        moved = largest(solver.moved.get(name, ()))
        sizes = [size for size in (None if zero else -s.initial, moved) if size is not None]
        decay = gradient / units.unpack(max(sizes) + a) if sizes else None
    eps = {"grad": gradient, "grad_squared": None if gradient is None else gradient**2}.get(optimizer.eps or "")
    return ParamExponents(units.unpack(-a), init_std, lr, decay, eps)


def gradient_norm(solution: Solution, form: str) -> Power | None:
    """The exponent of the global gradient norm (over all trained parameters) in a form: what a clip compares."""
    best: int | None = None
    for name in solution.solver.program.updates:
        s = sized(solution, name)
        if s.gradient is not None:
            norm = s.gradient - gauge(form, s) + s.entries // 2
            best = norm if best is None else max(best, norm)
    return None if best is None else solution.solver.units.unpack(best)
