"""A parametrization of the user's own, from a TOML file."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from fractions import Fraction
from pathlib import Path
from typing import Any

from tensorprog.calculus.solver import Solver
from tensorprog.errors import TensorProgError
from tensorprog.exponents import Power
from tensorprog.files import read_text
from tensorprog.parametrization import Parametrization, ParamExponents
from tensorprog.parametrizations.named import named
from tensorprog.powers import ordinary, read_power
from tensorprog.suggest import nearest

KEYS = ("name", "source", "like", "lr", "parameters", "multipliers")
QUANTITIES = ("multiplier", "init_std", "lr")


def read_own(solver: Solver, path: Path, lr: Fraction | None = None) -> Parametrization:
    """The parametrization that a TOML file describes, for the solver's program.

    It begins as the one named by `like` (default sp), with one learning rate n^`lr` if that is given; `[parameters]`
    then overrides `multiplier`, `init_std` and `lr` of the parameters whose names match (`*`: any characters; later
    lines win), `[multipliers]` the `?name`s. A value is the exponent of the first width symbol (-1, "-1/2") or a
    product of powers ("n^-1/2"). `lr` (the argument) takes the place of every learning rate of the file.
    Raises TensorProgError for a file that cannot be read or does not fit the architecture.
    """
    data = _load(path)
    where = str(path)
    symbols = solver.program.forward.widths
    rate = _power(data["lr"], symbols, "lr", where) if "lr" in data else None
    if rate is not None and rate != Power.of({symbols[0]: rate.degree}):
        raise _bad(where, f"`lr` is {rate}", "it is one rate for all", f"one exponent of {symbols[0]}, such as -1")
    base = named(solver, str(data.get("like", "sp")), lr if lr is not None else rate.degree if rate else None)
    params, unknowns = dict(base.params), dict(base.unknowns)
    for pattern, values in _table(data, "parameters", where).items():
        matched = [name for name in params if fnmatchcase(name, pattern)]
        if not matched:
            raise _bad(
                where,
                f"no parameter matches `{pattern}`",
                "it would change nothing",
                nearest(pattern, params) or ", ".join(params),
            )
        if not isinstance(values, Mapping):
            raise _bad(where, f"`{pattern}` needs a table", "it has three exponents", f'{pattern} = {{ lr = "-1/2" }}')
        for quantity, value in values.items():
            if quantity not in QUANTITIES:
                raise _bad(where, f"a parameter has no `{quantity}`", "these are known", ", ".join(QUANTITIES))
            if pattern in params and quantity != "multiplier" and getattr(params[pattern], quantity) is None:
                state = "starts at zero" if quantity == "init_std" else "is not trained"
                raise _bad(where, f"`{pattern}` {state}", f"it has no `{quantity}`", f"no `{quantity}` for it")
            power = _power(value, symbols, quantity, where)
            for name in matched:
                if quantity == "lr" and lr is not None:
                    continue
                params[name] = _with(params[name], quantity, power)
                if quantity == "multiplier":
                    unknowns.update(dict.fromkeys(solver.uses_of.get(name, ()), power))
    free = {name for name, unknown in solver.program.forward.unknowns.items() if unknown.kind == "multiplier"}
    for name, value in _table(data, "multipliers", where).items():
        if name.lstrip("?") not in free:
            known = ", ".join(sorted(free)) or "a `?name` in the .tp file"
            raise _bad(where, f"the program has no multiplier `?{name.lstrip('?')}`", "it would change nothing", known)
        unknowns[name.lstrip("?")] = _power(value, symbols, name, where)
    return Parametrization(str(data.get("name", path.stem)), base.optimizer, params, unknowns, base.choice)


def _with(exponents: ParamExponents, quantity: str, power: Power) -> ParamExponents:
    """One quantity replaced. What starts at zero stays there, what is not trained has no learning rate."""
    match quantity:
        case "multiplier":
            return replace(exponents, multiplier=power)
        case "init_std":
            return exponents if exponents.init_std is None else replace(exponents, init_std=power)
        case _:
            if exponents.lr is None:
                return exponents
            decay = None if exponents.weight_decay is None else power**-1
            return replace(exponents, lr=power, weight_decay=decay)


def _load(path: Path) -> Mapping[str, Any]:
    try:
        data = tomllib.loads(read_text(path, "a TOML file"))
    except (ValueError, RecursionError) as error:  # of the text, of a number or a nesting without end
        raise TensorProgError(f"not a TOML file: {error}", file=str(path), fix='lines such as: like = "sp"',
                              why="parametrizations are read from such") from None  # fmt: skip
    for key in data:
        if key not in KEYS:
            raise _bad(str(path), f"unknown key `{key}`", "it would be ignored", nearest(key, KEYS) or ", ".join(KEYS))
    return data


def _table(data: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    table = data.get(key, {})
    if not isinstance(table, Mapping):
        raise _bad(where, f"`{key}` is not a table", "it has a line for each name", f"[{key}]")
    return table


def _power(value: object, symbols: tuple[str, ...], key: str, where: str) -> Power:
    """A number is an exponent of the first symbol."""
    found = read_power(value) if isinstance(value, str) else Fraction(value) if type(value) is int else None
    if isinstance(found, Fraction):
        found = {symbols[0]: found}
    if found is None or not found.keys() <= set(symbols) or not ordinary(found):
        raise _bad(where, f"`{key} = {value}` is no exponent",
                   "a number is a power of the first width, a text a product of powers",
                   f'{key} = -1, {key} = "-1/2" or {key} = "{symbols[0]}^-1/2"')  # fmt: skip
    return Power.of(found)


def _bad(where: str, message: str, why: str, fix: str) -> TensorProgError:
    return TensorProgError(message, file=where, why=why, fix=fix)
