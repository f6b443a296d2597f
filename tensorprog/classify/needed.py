"""Which exponents to change, and no more than needed, to make a parametrization maximal."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from tensorprog.exponents import Power
from tensorprog.parametrization import Parametrization, ParamExponents
from tensorprog.parametrizations import in_gauge
from tensorprog.parametrizations.gauge import gauge_degree
from tensorprog.programme.trajectory import Trainer

ONE = Power()


@dataclass(frozen=True, slots=True)
class Change:
    """One exponent to change: `quantity` (multiplier, init_std, lr, or "use": the multiplier at one use) of the
    parameter or multiplier `name`, from `before` to `after`."""

    name: str
    quantity: str
    before: Power
    after: Power


def maximal(trainer: Trainer, parametrization: Parametrization) -> bool:
    """Whether it is stable and every trained parameter's change moves the value of its use by Theta(1)."""
    if not trainer.run(in_gauge(trainer, parametrization)).stable:
        return False
    sizes = [trainer.contribution(name) for name in trainer.program.updates if trainer.moved.get(name)]
    return all(size is not None and trainer.units.degree(size) == 0 for size in sizes)


def changes_needed(trainer: Trainer, parametrization: Parametrization, target: Parametrization) -> tuple[Change, ...]:
    """Changes that lead to a maximal parametrization; undoing any one of them (of all layers of a repeat together)
    leads out again. They aim at the derived exponents, in the gauge of the parametrization; what is not needed for that
    is taken back. Another set with fewer changes is not searched for."""
    groups = _grouped(_differences(trainer, parametrization, target))
    kept = dict(groups)
    for pattern in groups:
        fewer = {key: changes for key, changes in kept.items() if key != pattern}
        if maximal(trainer, changed(trainer, parametrization, _flat(fewer))):
            kept = fewer
    return tuple(_flat(kept))


def changed(trainer: Trainer, parametrization: Parametrization, changes: Iterable[Change]) -> Parametrization:
    """The parametrization after some changes."""
    params, unknowns = dict(parametrization.params), dict(parametrization.unknowns)
    for change in changes:
        if change.quantity == "use":
            unknowns[change.name] = change.after
            continue
        params[change.name] = _with(params[change.name], change.quantity, change.after)
        if change.quantity == "multiplier":
            for use in trainer.uses_of.get(change.name, ()):
                unknowns[use] = unknowns[use] * change.after / change.before
    return replace(parametrization, params=params, unknowns=unknowns)


def _with(exponents: ParamExponents, quantity: str, power: Power) -> ParamExponents:
    match quantity:
        case "multiplier":
            return replace(exponents, multiplier=power)
        case "init_std":
            return replace(exponents, init_std=power)
        case _:
            return replace(exponents, lr=power)


def _flat(groups: dict[tuple[str, str], list[Change]]) -> list[Change]:
    return [change for changes in groups.values() for change in changes]


def _grouped(changes: list[Change]) -> dict[tuple[str, str], list[Change]]:
    groups: dict[tuple[str, str], list[Change]] = {}
    for change in changes:
        groups.setdefault((re.sub(r"\.\d+\.", ".*.", change.name), change.quantity), []).append(change)
    return groups


def _differences(trainer: Trainer, parametrization: Parametrization, target: Parametrization) -> list[Change]:
    """What separates it from the derived exponents (without multipliers). If both the initial size and the learning
    rate of a parameter do, its multiplier alone is changed where that is enough."""

    def same(power: Power) -> bool:
        return not trainer.units.pack_power(power)  # of widths in proportion only the degree counts

    found = []
    for name, now in parametrization.params.items():
        derived = target.params[name]
        size = now.init
        resized = ONE if now.init_std is None else (derived.init_std or ONE) / size
        sped = ONE
        times = gauge_degree(trainer, name)
        if now.lr is not None and derived.lr is not None:
            sped = derived.lr / (now.lr * now.multiplier**times)
        if not same(resized) and not same(sped) and same(sped / resized**times):
            found.append(Change(name, "multiplier", now.multiplier, now.multiplier * resized))
            continue
        if not same(resized) and now.init_std is not None:
            found.append(Change(name, "init_std", now.init_std, now.init_std * resized))
        if not same(sped) and now.lr is not None:
            found.append(Change(name, "lr", now.lr, now.lr * sped))
    multipliers = {use: name for name, uses in trainer.uses_of.items() for use in uses}
    for key, power in parametrization.unknowns.items():
        own = parametrization.params[multipliers[key]].multiplier if key in multipliers else ONE
        wanted = target.unknowns[key] * own
        if not same(wanted / power):
            found.append(Change(key, "use", power, wanted))
    return found
