"""Single exponents put otherwise than derived: `lr[W1]=-1`, `eps[*]=0`, `multiplier[?scale]=-1/2`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from fractions import Fraction
from typing import Any

from tensorprog.coordcheck.predict import Touched
from tensorprog.derivation import Derivation
from tensorprog.errors import TensorProgError
from tensorprog.exponents import Power
from tensorprog.parametrization import Parametrization, ParamExponents
from tensorprog.powers import MOST_PARTS, ordinary, read_power
from tensorprog.suggest import nearest

QUANTITIES = {
    "multiplier": "multiplier", "init": "init_std", "lr": "lr", "weight_decay": "weight_decay", "eps": "eps",
}  # fmt: skip
EXAMPLE = "--set 'lr[W1]=-1', --set 'eps[*]=0' or --set 'multiplier[?scale]=-1/2'"


@dataclass(frozen=True, slots=True)
class Override:
    """`quantity`: a value of QUANTITIES. `name`: of a parameter, a pattern with `*`, or `?name` of a multiplier.
    `power`: how the quantity itself scales."""

    quantity: str
    name: str
    power: Power


def override(text: str, widths: Sequence[str], depths: Sequence[str] = ()) -> Override:
    """Reads `quantity[name]=exponent`: the exponent of the only width, or a product such as `n^-1 m^1/2` or
    `L^-1 n^-1`.

    Raises TensorProgError for anything else."""
    found = re.fullmatch(r"\s*(\w+)\s*\[\s*(\S+)\s*\]\s*=\s*(.+?)\s*", text)
    if not found:
        raise TensorProgError(
            f"`{text}` sets no exponent", fix=EXAMPLE, why="a quantity, a name and an exponent are wanted"
        )
    quantity, name, exponent = found.groups()
    if quantity not in QUANTITIES:
        known = nearest(quantity, QUANTITIES) or ", ".join(QUANTITIES)
        raise TensorProgError(f"no quantity `{quantity}` to set in `{text}`", fix=known,
                              why="only what a parametrization has can be put otherwise")  # fmt: skip
    return Override(QUANTITIES[quantity], name, _power(exponent, widths, depths, text))


def _power(exponent: str, widths: Sequence[str], depths: Sequence[str], text: str) -> Power:
    example = " ".join(f"{w}^-1/2" for w in widths)
    found = read_power(exponent)
    if isinstance(found, Fraction):
        if found and len(widths) > 1:
            raise TensorProgError(f"`{text}` does not say which width", fix=f"{text.partition('=')[0]}={example}",
                                  why="with several widths an exponent is one of each")  # fmt: skip
        found = {widths[0]: found}
    if found is None or not found.keys() <= {*widths, *depths}:
        why = f"`{exponent}` is no power of a width"
        raise TensorProgError(f"`{text}` sets no exponent", why=why, fix=f"-1, or {example}")
    if not ordinary(found) or any(MOST_PARTS % e.denominator for e in found.values()):
        raise TensorProgError(f"`{text}` sets an exponent out of the ordinary", fix="one such as -1, 1/2 or -3/4",
                              why="sizes must be told apart exactly")  # fmt: skip
    return Power.of(found)


def put(
    derivation: Derivation, parametrization: Parametrization, overrides: Sequence[Override]
) -> tuple[Parametrization, Touched]:
    """The parametrization with the overrides in place, and which epsilons and weight decays they set.

    A parameter's multiplier is set for all its uses. Raises TensorProgError where nothing has that name or quantity."""
    params, unknowns = dict(parametrization.params), dict(parametrization.unknowns)
    uses_of = derivation.solution.solver.uses_of
    touched: set[tuple[str, str]] = set()
    for o in overrides:
        if o.name.startswith("?"):
            _put_multiplier(derivation, unknowns, o)
            continue
        named = [name for name in params if fnmatchcase(name, o.name)]
        if not named:
            fix = nearest(o.name, params) or ", ".join(list(params)[:8])
            raise TensorProgError(f"no parameter `{o.name}` to set", fix=fix, why="it would change nothing")
        having = [name for name in named if getattr(params[name], o.quantity) is not None]
        if not having:
            quantity = next(short for short, long in QUANTITIES.items() if long == o.quantity)
            why = f"it is not trained, or starts at zero, or {parametrization.optimizer} has no such thing"
            raise TensorProgError(f"`{o.name}` has no {quantity}", why=why, fix="a parameter that has one")
        for name in having:
            if o.quantity == "multiplier":
                for use in uses_of.get(name, ()):
                    unknowns[use] = unknowns[use] / params[name].multiplier * o.power
            params[name] = _with(params[name], o.quantity, o.power)
            if o.quantity in ("eps", "weight_decay"):
                touched.add((o.quantity, name))
    return replace(parametrization, params=params, unknowns=unknowns), frozenset(touched)


def _with(rule: ParamExponents, quantity: str, power: Power) -> ParamExponents:
    changes: dict[str, Any] = {quantity: power}
    return replace(rule, **changes)


def _put_multiplier(derivation: Derivation, unknowns: dict[str, Power], o: Override) -> None:
    known = [name for name, u in derivation.architecture.graph.unknowns.items() if u.kind == "multiplier"]
    named = [name for name in known if fnmatchcase(name, o.name[1:])]
    if o.quantity != "multiplier" or not named:
        fix = ", ".join(f"multiplier[?{name}]" for name in known) or "`?name` in the file, or a parameter's name"
        raise TensorProgError(f"no multiplier `{o.name}` to set", fix=fix,
                              why="it would change nothing" if known else "the file has none")  # fmt: skip
    unknowns.update(dict.fromkeys(named, o.power))
