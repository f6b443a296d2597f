"""What the user fixes: `lr[*] = 0`, `init = sp`, `lr = global`, `no multipliers`, `?scale = n^-1/2`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from fractions import Fraction

from tensorprog.errors import TensorProgError
from tensorprog.exponents import Power
from tensorprog.parametrizations import NAMED, named
from tensorprog.parametrizations.own import parse_power
from tensorprog.programme.trajectory import Trainer
from tensorprog.suggest import nearest

QUANTITIES = ("init", "init_std", "multiplier", "lr")
EXAMPLES = '"lr[*] = 0", "init = sp", "lr = global", "no multipliers" or "?scale = -1/2"'


@dataclass(frozen=True, slots=True)
class Fix:
    """One requirement. `quantity`: init (of W = multiplier * w), init_std, multiplier, lr, or "scale" (of `?names`).
    `values`: parameter or multiplier -> exponent; None: the same number for all of `values`, to be found."""

    text: str
    quantity: str
    values: dict[str, Fraction | None]


def read_fix(trainer: Trainer, text: str) -> Fix:
    """A requirement from its text. Raises TensorProgError if it makes no sense for the trainer's program."""
    text = " ".join(text.split())
    graph = trainer.program.forward
    scales = {name for name, unknown in graph.unknowns.items() if unknown.kind == "multiplier"}
    if text == "no multipliers":
        return Fix(text, "multiplier", dict.fromkeys(graph.parameters, Fraction(0)))
    found = re.fullmatch(r"(\??[\w.]+)\s*(?:\[([^\]]+)\])?\s*=\s*(.+)", text)
    if found is None:
        raise TensorProgError(f"`{text}` fixes nothing", fix=f"--fix {EXAMPLES}")
    quantity, pattern, value = found[1], found[2], found[3].strip()
    if quantity.startswith("?"):
        if quantity[1:] not in scales:
            known = ", ".join(f"?{s}" for s in sorted(scales))
            raise TensorProgError(f"the program has no multiplier `{quantity}`", fix=known or "a `?name` in the file")
        return Fix(text, "scale", {quantity[1:]: _number(value, trainer, text)})
    if quantity not in QUANTITIES:
        raise TensorProgError(f"`{quantity}` is nothing to fix", fix=nearest(quantity, QUANTITIES) or EXAMPLES)
    names = [name for name in graph.parameters if fnmatchcase(name, pattern.strip() if pattern else "*")]
    if quantity == "lr":
        names = [name for name in names if name in trainer.program.updates]
    if quantity.startswith("init"):
        names = [name for name in names if not trainer.starts_at_zero(graph.parameters[name])]
    if not names:
        raise TensorProgError(f"`{text}`: there is no such parameter", fix=", ".join(graph.parameters))
    if value == "global":
        return Fix(text, quantity, dict.fromkeys(names))
    if value in NAMED:
        row = named(trainer, value, Fraction(0) if quantity != "lr" else None)
        values: dict[str, Fraction | None] = {}
        for name in names:
            e = row.params[name]
            power = {"init": e.multiplier * (e.init_std or Power()), "init_std": e.init_std,
                     "multiplier": e.multiplier, "lr": e.lr}[quantity]  # fmt: skip
            values[name] = (power or Power()).degree
        return Fix(text, quantity, values)
    return Fix(text, quantity, dict.fromkeys(names, _number(value, trainer, text)))


def _number(value: str, trainer: Trainer, text: str) -> Fraction:
    try:
        return parse_power(value, trainer.program.forward.widths).degree
    except ValueError:
        names = ", ".join(NAMED)
        raise TensorProgError(f"`{text}`: `{value}` is no exponent", fix=f"-1/2, n^-1/2, global, {names}") from None
