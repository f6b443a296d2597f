"""The parameter at fault: the tensor furthest upstream that disagrees, traced to the one exponent that repairs it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tensorprog.calculus.exponents import Exponents
from tensorprog.coordcheck.ladder import Ladder
from tensorprog.coordcheck.predict import Predictor, Touched
from tensorprog.coordcheck.probes import Probe
from tensorprog.coordcheck.report import Fault, Row
from tensorprog.derivation import Derivation
from tensorprog.exponents import Power
from tensorprog.graph import Param
from tensorprog.parametrization import Parametrization
from tensorprog.parametrizations import in_gauge


@dataclass(frozen=True, slots=True)
class _Repair:
    """An exponent of what was trained, and another value for it. `derived`: that is the derived one."""

    name: str
    quantity: str  # lr | init | multiplier | eps | weight_decay
    exponents: Exponents
    touched: Touched
    shift: Power


def first_at_fault(
    derivation: Derivation,
    used: Parametrization,
    touched: Touched,
    ladder: Ladder,
    probes: tuple[Probe, ...],
    rows: Mapping[tuple[int, int], Row],
) -> Fault | None:
    """The exponent that, put right, repairs the first tensor that disagrees. `rows`: (probe, step) -> its row.

    Furthest upstream is a tensor of the forward pass (parts of products first) in the order of the graph, at its first
    step. Candidates are, in this order: every exponent that is not as derived, put to the derived value; and every
    learning rate, shifted by what is missing (where several exponents are wrong at once). Among each, first the
    parameter that this very node uses, then those before it, then the others. None: nothing that
    disagrees is repaired so (the prediction itself may be wrong), or nothing disagrees.
    """
    wrong = [(probes[k].node, probes[k].kind == "value", step, k) for (k, step), row in rows.items()
             if row.verdict == "disagrees" and probes[k].param is None]  # fmt: skip
    if not wrong:
        return None
    *_, step, k = min(wrong)
    probe, row = probes[k], rows[k, step]
    demanded = Predictor(derivation, used, step, derivation.solution.exponents).at(probe, step).exponent
    own = Predictor(derivation, used, step, None, touched)
    found = own.at(probe, step).exponent
    near = _nearness(derivation, probe.node)
    missing = demanded / found if demanded is not None and found is not None else Power()
    for repair in (*_to_derived(derivation, used, touched, near), *_shifts(derivation, used, touched, near, missing)):
        repaired = Predictor(derivation, used, step, repair.exponents, repair.touched, own).at(probe, step)
        if repaired.exponent == demanded and not repaired.bound_only:
            return _fault(repair, used, row)
    return Fault(row.tensor, row.part, row.step)


def _fault(repair: _Repair, used: Parametrization, row: Row) -> Fault:
    if repair.name.startswith("?"):
        trained = used.unknowns[repair.name[1:]]
    else:
        quantity = "init_std" if repair.quantity == "init" else repair.quantity
        trained = getattr(used.params[repair.name], quantity)
    return Fault(
        row.tensor, row.part, row.step, repair.name, repair.quantity, str(trained), str(trained * repair.shift)
    )


def _nearness(derivation: Derivation, node: int) -> list[str]:
    """All parameters: those used by the node itself first, then its other ancestors (nearest first), then the rest."""
    nodes = derivation.architecture.program.forward.nodes
    own = [use.param for use in derivation.solution.solver.uses if node in (use.node, *use.tail)]
    ancestors, order = {node}, []
    for k in range(node, -1, -1):
        if k in ancestors:
            ancestors.update(nodes[k].args)
            op = nodes[k].op
            if isinstance(op, Param):
                order.append(op.name)
    return list(dict.fromkeys([*own, *order, *derivation.params]))


def _copy(e: Exponents) -> Exponents:
    return Exponents(dict(e.A), dict(e.C), dict(e.M))


def _to_derived(derivation: Derivation, used: Parametrization, touched: Touched, near: list[str]) -> Iterator[_Repair]:
    """Every exponent that is not as derived, put to the derived value."""
    units, right = derivation.solution.solver.units, derivation.solution.exponents
    trained = in_gauge(derivation.solution.solver, used)
    multipliers = [n for n, u in derivation.architecture.graph.unknowns.items() if u.kind == "multiplier"]
    for name in multipliers:
        if trained.M[name] != right.M[name]:
            exponents = _copy(trained)
            exponents.M[name] = right.M[name]
            yield _Repair(f"?{name}", "multiplier", exponents, touched, units.unpack(right.M[name] - trained.M[name]))
    for name in near:
        if used.params[name].lr is not None and trained.C[name] != right.C[name]:
            exponents = _copy(trained)
            exponents.C[name] = right.C[name]
            yield _Repair(name, "lr", exponents, touched, units.unpack(trained.C[name] - right.C[name]))
        if used.params[name].init_std is not None and trained.A[name] != right.A[name]:
            exponents = _copy(trained)
            exponents.A[name] = right.A[name]
            yield _Repair(name, "init", exponents, touched, units.unpack(trained.A[name] - right.A[name]))
        for use in derivation.solution.solver.uses_of.get(name, ()):
            if trained.M[use] != right.M[use]:
                exponents = _copy(trained)
                exponents.M[use] = right.M[use]
                yield _Repair(name, "multiplier", exponents, touched, units.unpack(right.M[use] - trained.M[use]))
        for quantity in ("eps", "weight_decay"):
            if (quantity, name) in touched:
                derived = getattr(derivation.params[name], quantity)
                shift = derived / getattr(used.params[name], quantity)
                yield _Repair(name, quantity, trained, touched - {(quantity, name)}, shift)


def _shifts(
    derivation: Derivation, used: Parametrization, touched: Touched, near: list[str], missing: Power
) -> Iterator[_Repair]:
    """Every learning rate, times what is missing."""
    shift = derivation.solution.solver.units.pack_power(missing)
    trained = in_gauge(derivation.solution.solver, used)
    for name in near:
        if used.params[name].lr is not None:
            exponents = _copy(trained)
            exponents.C[name] -= shift
            yield _Repair(name, "lr", exponents, touched, missing)
