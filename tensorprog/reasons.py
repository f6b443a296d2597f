"""One short reason per number of a derivation."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from tensorprog.calculus.explain import CHANGE, Binding, Explainer
from tensorprog.calculus.solve import Solution
from tensorprog.optimizers import Optimizer, Size
from tensorprog.optimizers.policies import DEFAULT_POLICY, POLICIES
from tensorprog.parametrization import Parametrization, ParamExponents

SCALE_FREE = "it is divided by its own root mean square: any would do"
GIVEN = "it starts as the model makes it"


def reasons(
    solution: Solution,
    parametrization: Parametrization,
    policy: str = DEFAULT_POLICY,
    held: Mapping[str, int] = MappingProxyType({}),
) -> dict[str, dict[str, str]]:
    """Parameter -> quantity -> reason, one line each. `held`: parameters of which no start is in balance."""
    explainer = Explainer(solution)
    return {name: _of_one(explainer, name, parametrization, policy, held) for name in parametrization.params}


def _of_one(
    explainer: Explainer, name: str, parametrization: Parametrization, policy: str, held: Mapping[str, int]
) -> dict[str, str]:
    solver = explainer.solver
    exponents = parametrization.params[name]
    optimizer = solver.optimizers[name]
    parameter = solver.program.forward.parameters[name]
    init, update = explainer.initial_binding(name), explainer.update_binding(name)
    result = {
        "multiplier": "; ".join([f"the form {parametrization.name} chooses it", *kept(exponents, optimizer)]),
        "init_std": "starts at exactly zero" if exponents.init_std is None else _size_reason(init, explainer, held),
    }
    if exponents.lr is None:
        result["lr"] = "frozen" if parameter.frozen else "no gradient reaches it"
        return result
    result["lr"] = _update_reason(update, optimizer, explainer)
    gradient = exponents.eps if optimizer.eps is not None else None
    if optimizer.decay != "none":
        result["weight_decay"] = _decay_reason(optimizer, policy)
    if gradient is not None:
        result["eps"] = f"compared with {_scale(optimizer.eps)}, which {_verb(optimizer.eps)} {gradient}"
    for quantity, value in exponents.others:
        compared = dict(optimizer.scales).get(quantity)
        result[quantity] = (
            f"compared with {_scale(compared)}, which {_verb(compared)} {value}"
            if compared is not None
            else "the perturbation must move its use as far as a step does: Theta(1)"
        )
    return result


def kept(exponents: ParamExponents, optimizer: Optimizer) -> list[str]:
    """What no form changes: how large w is at the start; of one that starts at zero, how fast it moves."""
    multiplier, degree = exponents.multiplier, optimizer.gauge_degree
    if exponents.init_std is not None:
        return [f"multiplier * init std is {multiplier * exponents.init_std} in every form"]
    if exponents.lr is None or not degree or optimizer.normalisation == "global":  # its norm is another in every form
        return []
    factor = "multiplier" if degree == 1 else f"multiplier^{degree}"
    return [f"{factor} * lr is {multiplier**degree * exponents.lr} in every form"]


def _decay_reason(optimizer: Optimizer, policy: str) -> str:
    chosen = "" if policy == DEFAULT_POLICY else f"policy {policy}, {POLICIES[policy].says}"
    if optimizer.decay == "decoupled":
        return "decoupled: " + (chosen or "lr * decay must stay Theta(1)")
    if optimizer.linear:
        return "coupled, step linear in the gradient: " + (chosen or "lr * decay must stay Theta(1)")
    return "coupled, normalised step: " + (chosen or "decay * w must be of the size of its gradient")


_NAMES = {
    Size(gradient=1): "gradient entries",
    Size(norm=1): "the norm of the whole gradient",
    Size(gradient=2, count=1): "the square of its gradient's norm",
    Size(gradient=-1): "one over gradient entries",
}


def _scale(size: Size | None) -> str:
    """What a hyperparameter is compared with, in words."""
    assert size is not None
    if size in _NAMES:
        return _NAMES[size]
    parts = {"gradient entries": size.gradient, "entries of the parameter": size.parameter,
             "the number of entries": size.count, "the norm of the whole gradient": size.norm}  # fmt: skip
    return " times ".join(f"({what})^{power}" for what, power in parts.items() if power) or "a constant"


def _verb(size: Size | None) -> str:
    return "are" if size in (Size(gradient=1), Size(gradient=-1)) else "is"


def _size_reason(binding: Binding | None, explainer: Explainer, held: Mapping[str, int]) -> str:
    if binding is None:
        return "nothing constrains it"
    if binding.occurrence.param in explainer.solver.started:
        return GIVEN
    if binding.occurrence.param in explainer.solver.scale_free:
        return SCALE_FREE
    layers = ", and the stream sums it over all layers" if binding.layers else ""
    more = explainer.power(explainer.solver.exponents.A[binding.occurrence.param])
    unbalanced = f", but {more} where it starts larger: no start is in balance"
    why = unbalanced if binding.occurrence.param in held else ""
    return f"its use {_law(binding)}{_behind(binding, explainer)}{layers}: gain {explainer.power(binding.gain)}{why}"


def _update_reason(binding: Binding | None, optimizer: Optimizer, explainer: Explainer) -> str:
    if binding is None:
        return "its gradient is exactly zero"
    step = binding_step(explainer, binding)
    size = "lr" if step == "1" else f"lr * {step}"
    together = binding.layers + binding.behind if binding.layers else 0
    layers = f"; all layers move the stream together: {explainer.power(together)}" if together else ""
    behind = "" if binding.layers else _behind(binding, explainer)
    given = explainer.solver.given(binding.occurrence)
    value = f", and its value is {explainer.power(given)}" if given else ""
    return f"entries of a step of {optimizer.name} are {size}; its use {_law(binding)}{behind}{layers}{value}"


def _behind(binding: Binding, explainer: Explainer) -> str:
    return f", and multipliers behind it scale it by {explainer.power(binding.behind)}" if binding.behind else ""


def _law(binding: Binding) -> str:
    """What the binding use does with the parameter, without names: parameters with the same reason share it."""
    sums, part = binding.law
    if not sums:
        return "sums nothing that grows"
    aligned = any(s.aligned for s in sums)
    terms = " and ".join(f"{s.size} terms over {s.index}" for s in sums)
    what = "the change" if part == CHANGE else "the start"
    return f"sums {terms}, " + (f"aligned with {what} of the other factor" if aligned else "of zero mean")


def binding_step(explainer: Explainer, binding: Binding) -> str:
    """The size of one optimizer step's entries, without the learning rate (gauge without multipliers)."""
    step = explainer.solver.step[binding.occurrence.param]
    return explainer.power(max(term[0] for term in step))
