"""Forms: equivalent parametrizations of one derivation, which differ in how much a multiplier carries.

The derivation fixes the effective weight W = n^-a w: its initial size n^-A and, in the gauge a = 0, its learning
rate n^-C. A form is a choice of a for every parameter; then
    initial std of w   n^-(A - a)
    learning rate      n^-(C - 2a) if the step is linear in the gradient (SGD), n^-(C - a) if it ignores the
                       gradient's scale (Adam, Muon), n^-C if it is also relative to w (Adafactor, LAMB, LARS)
    gradient of w      n^-a times that of W, hence epsilon and whatever else is compared with it
leaves every step of training unchanged.

Source: Yang & Hu 2021 (Tensor Programs IV), section 3.1 (the symmetry); Yang et al. 2022 (Tensor Programs V,
arXiv:2203.03466), tables 3, 8 and 9; Yang & Littwin 2023 (IVb, arXiv:2308.01814), section 2 (adaptive optimizers).
"""

from __future__ import annotations

from dataclasses import dataclass

from tensorprog.calculus.analysis import largest
from tensorprog.calculus.solve import Solution
from tensorprog.errors import CalculusError
from tensorprog.exponents import Power
from tensorprog.graph import Param
from tensorprog.optimizers import Optimizer
from tensorprog.optimizers.policies import DEFAULT_POLICY, POLICIES, Policy
from tensorprog.parametrization import Parametrization, ParamExponents

DEFAULT_FORM = "table8"
FORMS: dict[str, str] = {
    "table8": "what has fewer than two growing axes starts at size 1, with a multiplier; what has two, without",
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
    dW, None if zero), `entries` (their number, in all layers), `growing` axes; `step`: entries of a step, `value`:
    of W at any time (None if zero). `floored`: it starts at zero under an optimizer whose step is relative to the
    parameter, so that the optimizer's own floor is its first scale; `alone`: it starts at zero, steps are over the norm
    of the whole gradient, and at first nothing that starts at random has one. `gauge`: the multiplier's exponent a, if
    it is given."""

    initial: int
    lr: int
    gradient: int | None
    entries: int
    growing: int
    step: int | None
    value: int | None
    floored: bool
    alone: bool
    gauge: int | None


def sized(solution: Solution, name: str) -> Sized:
    """The sizes of one parameter in a solution."""
    solver, program = solution.solver, solution.solver.program
    parameter = program.forward.parameters[name]
    grad = program.grads.get(name)
    size = None if grad is None else largest(solution.snapshot.initial[grad] + solution.snapshot.change[grad])
    dims = [solver.sizes(axis.dim) for axis in parameter.axes]
    layers = sum(solver.sizes(axis.dim) for axis in parameter.layers)
    exponents, zero = solution.exponents, solver.starts_at_zero(parameter)
    step, moved = largest(solver.step.get(name, ())), largest(solver.moved.get(name, ()))
    values = [v for v in (None if zero else -exponents.A[name], moved) if v is not None]
    return Sized(
        exponents.A[name], exponents.C[name], size, sum(dims) + layers, sum(1 for d in dims if d),
        None if step is None else step - exponents.C[name], max(values, default=None),
        floored=solver.optimizers[name].relative and zero,
        alone=zero and _alone(solution, name), gauge=solution.gauges.get(name),
    )  # fmt: skip


def _alone(solution: Solution, name: str) -> bool:
    solver = solution.solver
    program, optimizer = solver.program, solver.optimizers[name]
    if optimizer.normalisation != "global" and optimizer.probe is None:
        return False
    first = [other for other in program.updates
             if solver.optimizers[other] == optimizer and solution.snapshot.initial[program.grads[other]]]  # fmt: skip
    return name in first and all(solver.starts_at_zero(program.forward.parameters[other]) for other in first)


def gauge(form: str, s: Sized) -> int:
    """The multiplier exponent a of a parameter (W = n^-a w) that the form chooses, unless it is given."""
    if s.gauge is not None:
        return s.gauge
    if s.floored and form != "table3":  # w must be Theta(1), like the floor
        return s.initial
    if s.alone and form == "table8":  # its gradient is the norm at first, those of matrices are later: Theta(1)
        form = "table9"
    match form:
        case "table3":
            return 0
        case "table8":
            return s.initial if s.growing < 2 else 0
        case "table9":
            return 0 if s.gradient is None else s.gradient + s.entries // 2
        case "unit":
            return s.initial
        case _:
            raise CalculusError(f"unknown form `{form}`", fix=" | ".join(FORMS), why="these are the known ones")


def parametrize(solution: Solution, form: str, policy: str = DEFAULT_POLICY) -> Parametrization:
    """The solution in one form, with one policy of weight decay. Raises CalculusError where the form has no answer:
    no multipliers, yet the uses of one parameter need different ones."""
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
        params[name] = _exponents(solution, name, s, form, policy)
    return Parametrization(form, solver.choice.default.name, params, unknowns, solver.choice)


def without_multipliers(solution: Solution, policy: str = DEFAULT_POLICY) -> Parametrization:
    """The solution in the gauge a = 0 (the form table3), with multipliers only where the uses of one parameter need
    different ones: there they stand at the uses."""
    program, units, exponents = solution.solver.program, solution.solver.units, solution.exponents
    params = {name: _exponents(solution, name, sized(solution, name), "table3", policy)
              for name in program.forward.parameters}  # fmt: skip
    unknowns = {name: units.unpack(exponents.M[name]) for name in program.forward.unknowns}
    return Parametrization("table3", solution.solver.choice.default.name, params, unknowns, solution.solver.choice)


def _exponents(solution: Solution, name: str, s: Sized, form: str, policy: str) -> ParamExponents:
    solver, units = solution.solver, solution.solver.units
    parameter, optimizer = solver.program.forward.parameters[name], solver.optimizers[name]
    zero, a = solver.starts_at_zero(parameter), gauge(form, s)
    init_std = None if zero else units.unpack(a - s.initial)
    if parameter.frozen or not solver.step.get(name):  # not trained, or its gradient is exactly zero
        return ParamExponents(units.unpack(-a), init_std, None, None, None)
    norm = _norm(solution, form, optimizer) if optimizer.needs_norm else 0
    times = 1 if s.floored else optimizer.gauge_degree
    lr = times * a - s.lr + (norm if optimizer.normalisation == "global" else 0)
    scaled: dict[str, Power] = {}
    if s.gradient is not None and s.value is not None:
        known = (s.gradient - a, s.value + a, s.entries, norm)
        scaled = {key: units.unpack(size.of(*known)) for key, size in optimizer.scales}
        if optimizer.probe is not None and s.step is not None:  # as far as a step of its own
            scaled["rho"] = units.unpack(s.step + a - optimizer.probe.of(*known))
    decay = _decay(optimizer, POLICIES[policy], s)
    if decay is not None:
        decay += -lr if _shrinks(optimizer) else -2 * a
    if POLICIES[policy].power is None and optimizer.decay != "none":
        decay = 0
    eps = scaled.pop("eps", None)
    return ParamExponents(units.unpack(-a), init_std, units.unpack(lr), None if decay is None else units.unpack(decay),
                          eps, tuple(scaled.items()))  # fmt: skip


def _shrinks(optimizer: Optimizer) -> bool:
    """Whether a step shrinks w by lr * decay."""
    return optimizer.decay == "decoupled" or (optimizer.decay == "coupled" and optimizer.linear)


def _decay(optimizer: Optimizer, policy: Policy, s: Sized) -> int | None:
    """The size of lr * decay if a step shrinks w by that; of decay in the gauge a = 0 if the penalty is normalised with
    the gradient g: then a step shrinks w by step * decay / g, until at decay = g / w the penalty rules."""
    if optimizer.decay == "none" or policy.power is None or s.step is None or s.value is None:
        return None
    shrink = int(policy.power * (s.step - s.value))
    if _shrinks(optimizer):
        return shrink
    return None if s.gradient is None else s.gradient + min(shrink - s.step, -s.value)


def _norm(solution: Solution, form: str, optimizer: Optimizer) -> int:
    """The packed exponent of the norm of the gradient of all parameters that one optimizer updates."""
    solver = solution.solver
    names = [name for name in solver.program.updates if solver.optimizers[name] == optimizer]
    found = [gradient_norm(solution, form, name) for name in names]
    return max(norm for norm in found if norm is not None)


def gradient_norm(solution: Solution, form: str, name: str) -> int | None:
    """The packed exponent of the norm of a parameter's gradient in a form (None: it has none)."""
    s = sized(solution, name)
    return None if s.gradient is None else s.gradient - gauge(form, s) + s.entries // 2
