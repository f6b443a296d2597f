"""One short reason per number of a derivation."""

from __future__ import annotations

from tensorprog.calculus.explain import CHANGE, Binding, Explainer
from tensorprog.calculus.solve import Solution
from tensorprog.optimizers import Optimizer
from tensorprog.parametrization import Parametrization


def reasons(solution: Solution, parametrization: Parametrization) -> dict[str, dict[str, str]]:
    """Parameter -> quantity -> reason, one line each."""
    explainer = Explainer(solution)
    return {name: _of_one(explainer, name, parametrization) for name in parametrization.params}


def _of_one(explainer: Explainer, name: str, parametrization: Parametrization) -> dict[str, str]:
    solver = explainer.solver
    exponents = parametrization.params[name]
    optimizer = solver.optimizers[name]
    parameter = solver.program.forward.parameters[name]
    init, update = explainer.initial_binding(name), explainer.update_binding(name)
    size = solver.units.unpack(-solver.exponents.A[name])
    result = {
        "multiplier": f"the form {parametrization.name} chooses it; multiplier * init std is {size} in every form",
        "init_std": "starts at exactly zero" if exponents.init_std is None else _size_reason(init, explainer),
    }
    if exponents.lr is None:
        result["lr"] = "frozen" if parameter.frozen else "no gradient reaches it"
        return result
    result["lr"] = _update_reason(update, optimizer, explainer)
    gradient = exponents.eps if optimizer.eps == "grad" else None
    if optimizer.decay == "decoupled":
        result["weight_decay"] = "decoupled: lr * decay must stay Theta(1)"
    elif optimizer.decay == "coupled":
        result["weight_decay"] = (
            "coupled, step linear in the gradient: lr * decay must stay Theta(1)"
            if optimizer.degree
            else "coupled, normalised step: decay * w must be of the size of its gradient"
        )
    if gradient is not None:
        result["eps"] = f"compared with gradient entries, which are {gradient}"
    return result


def _size_reason(binding: Binding | None, explainer: Explainer) -> str:
    if binding is None:
        return "nothing constrains it"
    return f"its use {_law(binding)}: gain {explainer.power(binding.gain)}"


def _update_reason(binding: Binding | None, optimizer: Optimizer, explainer: Explainer) -> str:
    if binding is None:
        return "its gradient is exactly zero"
    step = binding_step(explainer, binding)
    size = "lr" if step == "1" else f"lr * {step}"
    return f"entries of a step of {optimizer.name} are {size}; its use {_law(binding)}"


def _law(binding: Binding) -> str:
    """What the binding use does with the parameter, without names: parameters with the same reason share it."""
    if not binding.sums:
        return "sums nothing that grows"
    aligned = any(s.aligned for s in binding.sums)
    terms = " and ".join(f"{s.size} terms over {s.index}" for s in binding.sums)
    what = "the change" if binding.part == CHANGE else "the start"
    return f"sums {terms}, " + (f"aligned with {what} of the other factor" if aligned else "of zero mean")


def binding_step(explainer: Explainer, binding: Binding) -> str:
    """The size of one optimizer step's entries, without the learning rate (gauge without multipliers)."""
    step = explainer.solver.step[binding.occurrence.param]
    return explainer.power(max(term[0] for term in step))
