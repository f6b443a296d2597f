"""What a completion says besides a derivation: what is fixed, what is lost, and which constraints allow no more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tensorprog.calculus.explain import Explainer
from tensorprog.calculus.shared import describe
from tensorprog.exponents import Power
from tensorprog.programme.branches import Constraint
from tensorprog.programme.stages import Lost
from tensorprog.tables import collapse

if TYPE_CHECKING:
    from tensorprog.programme.completion import Completion


def remarks(found: Completion) -> list[str]:
    """What is lost and which constraints allow no more; how sure that is."""
    lost = found.completed.lost
    lines = ["nothing is lost: the update of every parameter moves its layer's output by Theta(1)"] if not lost else []
    for one in lost:
        names = [name for name, _ in collapse(list(one.params), [0] * len(one.params))]
        what = "update of" if len(names) == 1 else "updates of"
        because = ", because of" if one.binding else ""
        lines.append(f"the own {what} {', '.join(names)} vanish{'es' if len(names) == 1 else ''}, "
                     f"like {_power(found, one)}{because}")  # fmt: skip
        lines += [f"  {line}" for line in binding_lines(found, one)]
    lines += [f"the start of `{tensor}` vanishes, like {power}" for tensor, power in vanishing(found).items()]
    if lost:
        lines.append(_certainty(found))
    return lines


def _certainty(found: Completion) -> str:
    if not found.completed.certified:
        return ("stable, and the best that was found; not certified to be the best: behind norms and normalised "
                "gradients, or where starts are open too, not every case was followed to its end")  # fmt: skip
    if all(c.sound for one in found.completed.lost for c in one.binding):
        return ("no stable completion has larger updates: each of these constraints holds for all exponents, as far as "
                "the calculus goes")  # fmt: skip
    return ("no stable completion has larger updates, as far as the calculus goes: where other terms rule a norm or a "
            "normalised gradient than in these constraints, none does better either")  # fmt: skip


def vanishing(found: Completion) -> dict[str, Power]:
    """Hidden arguments of nonlinearities whose initial value vanishes."""
    from tensorprog.classify.regime import vanishing_starts

    nodes = found.architecture.graph.nodes
    starts = {k: found.sizes(k)[0] for k in vanishing_starts(found.completed.unknowns.trainer, found.solution.snapshot)}
    return {describe(nodes[k], nodes): power for k, power in starts.items() if power is not None}


def _power(found: Completion, lost: Lost) -> Power:
    return found.completed.units.power(lost.exponent)


def binding_lines(found: Completion, lost: Lost) -> list[str]:
    """The constraints that bind, those of tensors with their line and their form."""
    fixed = list(dict.fromkeys(c.text for c in lost.binding if c.kind == "fix"))
    lines = [", ".join(fixed)] if fixed else []
    nodes = found.architecture.graph.nodes
    return lines + [f"{c.text} (line {nodes[c.node].span.line}) at most Theta(1): {shown_terms(found, c)}"
                    for c in lost.binding if c.kind == "stability"]  # fmt: skip


def shown_terms(found: Completion, constraint: Constraint) -> str:
    """`init[V] + lr[W] <= -2`, or of several widths `init[V] * lr[W] <= m^-1 n^-1`; multipliers that are 0, and what is
    fixed at that, are left out."""
    completed = found.completed
    unknowns, units = completed.unknowns, completed.units
    fixed = {f"?{name}" if fix.quantity == "scale" else f"{fix.quantity}[{name}]"
             for fix in found.fixes for name, value in fix.values.items() if value is not None}  # fmt: skip
    terms: Mapping[int, int] = {
        j: int(c) for j, c in constraint.row.coefficients.items()
        if completed.point[j] or not (unknowns.names[j].startswith("multiplier") or unknowns.names[j] in fixed)
    }  # fmt: skip
    bound = units.power(constraint.row.bound)
    if len(units.symbols) == 1:
        return f"{unknowns.text(terms)} <= {bound.degree}"
    factors = " * ".join(unknowns.names[j] + ("" if c == 1 else f"^{c}") for j, c in sorted(terms.items()))
    return f"{factors} <= {bound}"


# --- one number at a time -----------------------------------------------------------------------------


def _fixed(found: Completion, param: str, quantity: str) -> list[str]:
    """The requirements that speak of a number."""
    speaks = {"init_std": ("init", "init_std"), "multiplier": ("multiplier", "init_std"), "lr": ("lr",)}
    return [fix.text for fix in found.fixes if fix.quantity in speaks.get(quantity, ()) and param in fix.values]


def why(found: Completion, param: str, quantity: str) -> list[str]:
    """What `explain` says of a number of a parameter (or, without one, of a multiplier `?name`)."""
    if quantity == "scale":
        return [f"fixed: {fix.text}" for fix in found.fixes if fix.quantity == quantity and param in fix.values]
    lines = [f"fixed: {text}" for text in _fixed(found, param, quantity)]
    for one in found.completed.lost:
        if quantity == "lr" and param in one.params:
            lines += ["no stable completion allows more, because of", *(f"  {x}" for x in binding_lines(found, one))]
    return lines


def reasons(found: Completion, of_derivation: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
    """The reasons of a derivation, where something is fixed or smaller than it could be on its own."""
    explainer = Explainer(found.solution)
    result: dict[str, dict[str, str]] = {}
    for name, told in of_derivation.items():
        result[name] = dict(told)
        if name in found.solution.gauges:
            start = explainer.power(-found.solution.exponents.A[name])
            result[name]["multiplier"] = f"settled with what is fixed; multiplier * init std is {start}"
        for quantity in ("multiplier", "init_std", "lr"):
            fixed = _fixed(found, name, quantity)
            if fixed and quantity in result[name] and (quantity != "multiplier" or name in found.solution.gauges):
                result[name][quantity] = f"fixed: {', '.join(fixed)}"
        first, own = _start(found, explainer, name), found.contribution(name)
        if first:
            result[name]["init_std"] += f"; its use starts at {explainer.power(first)}"
        if own not in (None, Power()) and "lr" in result[name]:
            result[name]["lr"] += f"; its update moves its use by {own}"
    return result


def _start(found: Completion, explainer: Explainer, param: str) -> int:
    """The packed exponent of a use's value at the parameter's start, all that it meets counted: 0 where it is as large
    as stability of this use alone allows."""
    parameter = found.architecture.graph.parameters[param]
    binding = None if explainer.solver.starts_at_zero(parameter) else explainer.initial_binding(param)
    return 0 if binding is None else binding.gain - found.solution.exponents.A[param]


def to_json(found: Completion, derived: dict[str, Any]) -> dict[str, Any]:
    """The machine-readable result (documented in docs/reference/json-schema.md)."""
    symbols, completed = found.symbols, found.completed

    def exponent(power: Power | None) -> dict[str, str] | None:
        return None if power is None else power.as_json(symbols)

    def bound(constraint: Constraint) -> str | dict[str, str]:
        power = completed.units.power(constraint.row.bound)
        return str(power.degree) if len(symbols) == 1 else power.as_json(symbols)

    nodes = found.architecture.graph.nodes
    for name, entry in derived["parameters"].items():
        entry["own_update"] = exponent(found.contribution(name))
    return derived | {
        "fixed": [fix.text for fix in found.fixes],
        "maximal": found.maximal,
        "certified": completed.certified,
        "lost": [
            {"parameters": list(lost.params), "exponent": exponent(_power(found, lost)),
             "fixed": list(dict.fromkeys(c.text for c in lost.binding if c.kind == "fix")),
             "binding": [{"what": c.text, "line": nodes[c.node].span.line, "sound": c.sound,
                          "terms": {completed.unknowns.names[j]: str(v) for j, v in c.row.coefficients.items()},
                          "at_most": bound(c)} for c in lost.binding if c.kind == "stability"]}
            for lost in completed.lost
        ],
    }  # fmt: skip
