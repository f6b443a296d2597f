"""One short reason per number of a derivation."""

from __future__ import annotations

from tensorprog.calculus.explain import Binding, Explainer, law
from tensorprog.calculus.forms import SOURCES
from tensorprog.calculus.rules import describe
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
        "multiplier": f"form {parametrization.name} ({SOURCES.get(parametrization.name, 'as given')}); "
        f"multiplier times initial std is {size}",
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
        result["eps"] = f"it is compared with gradient entries, which are {gradient}"
    return result


def _size_reason(binding: Binding | None, explainer: Explainer) -> str:
    if binding is None:
        return "nothing constrains it"
    gain = explainer.power(binding.gain)
    return f"{law(binding, explainer.program.nodes)}: gain {gain}"


def _update_reason(binding: Binding | None, optimizer: Optimizer, explainer: Explainer) -> str:
    if binding is None:
        return "its gradient is exactly zero"
    step = binding_step(explainer, binding)
    return f"a step of {optimizer.name} has entries lr * {step}; {law(binding, explainer.program.nodes)}"


def binding_step(explainer: Explainer, binding: Binding) -> str:
    """The size of one optimizer step's entries, without the learning rate (gauge without multipliers)."""
    step = explainer.solver.step[binding.occurrence.param]
    return explainer.power(max(term[0] for term in step))


__all__ = ["binding_step", "describe", "reasons"]
