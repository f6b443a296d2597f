"""What the user fixes, for one program: which exponents, and to which values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from fractions import Fraction

from tensorprog.errors import TensorProgError
from tensorprog.exponents import Power
from tensorprog.fixing import COMMAND_LINE, EXAMPLES
from tensorprog.parametrizations import NAMED, named
from tensorprog.powers import read_power
from tensorprog.programme.trajectory import Trainer
from tensorprog.statements import FixDecl
from tensorprog.suggest import nearest
from tensorprog.syntax import Span


@dataclass(frozen=True, slots=True)
class Fix:
    """One requirement. `quantity`: init (of W = multiplier * w), init_std, multiplier, lr, or "scale" (of `?names`).
    `values`: parameter or multiplier -> exponent (as `Units.number` says it); None: the same number for all of
    `values`, to be found."""

    said: FixDecl
    quantity: str
    values: Mapping[str, Fraction | None]

    @property
    def text(self) -> str:
        return str(self.said)


def requirements(trainer: Trainer, of_file: Iterable[FixDecl], given: Iterable[FixDecl]) -> tuple[Fix, ...]:
    """What is fixed: what is given, and of the file's requirements all that it does not overrule (the same quantity of
    the same parameter). Raises TensorProgError, with its place, for one that makes no sense for the program."""
    later = [resolve(trainer, fix) for fix in given]
    overruled = {(fix.quantity, name) for fix in later for name in fix.values}
    kept = []
    for fix in (resolve(trainer, said) for said in of_file):
        values = {name: value for name, value in fix.values.items() if (fix.quantity, name) not in overruled}
        if values:
            kept.append(replace(fix, values=values))
    return (*kept, *later)


def resolve(trainer: Trainer, said: FixDecl) -> Fix:
    """A requirement for the trainer's program. Raises TensorProgError if it makes no sense there."""
    graph, number = trainer.program.forward, trainer.units.number
    quantity, value = said.quantity, said.value
    if value == "none":
        return Fix(said, quantity, dict.fromkeys(graph.parameters, Fraction(0)))
    if quantity.startswith("?"):
        scales = [name for name, unknown in graph.unknowns.items() if unknown.kind == "multiplier"]
        found = [name for name in scales if fnmatchcase(name, quantity[1:])]
        if not found:
            known = ", ".join(f"?{s}" for s in sorted(scales))
            raise _error(said, quantity, f"the program has no multiplier `{quantity}`",
                         known or "a `?name` in the file",
                         "only what is written with `?` is left open by the file")  # fmt: skip
        if value == "global":
            return Fix(said, "scale", dict.fromkeys(found))
        return Fix(said, "scale", dict.fromkeys(found, number(_power(trainer, said))))
    names = [name for name in graph.parameters if fnmatchcase(name, said.pattern or "*")]
    if quantity == "lr":
        names = [name for name in names if name in trainer.program.updates]
    if quantity.startswith("init"):
        names = [name for name in names if not trainer.starts_at_zero(graph.parameters[name])]
    if not names:
        every = list(graph.parameters)
        if said.pattern in every and quantity != "lr":
            raise _error(said, said.pattern, f"`{said}`: `{said.pattern}` starts at exactly zero",
                         "the parameters that do not", "zero has no exponent")  # fmt: skip
        close = "" if "*" in (said.pattern or "*") else nearest(said.pattern or "", every)
        raise _error(said, said.pattern or quantity, f"`{said}`: there is no such parameter",
                     close or ", ".join(every[:12]), "it would fix nothing")  # fmt: skip
    if value == "global":
        return Fix(said, quantity, dict.fromkeys(names))
    if value in NAMED and value not in graph.widths:
        row = named(trainer, value, Fraction(0) if quantity != "lr" else None)
        values: dict[str, Fraction | None] = {}
        for name in names:
            e = row.params[name]
            power = {"init": e.init, "init_std": e.init_std,
                     "multiplier": e.multiplier, "lr": e.lr}[quantity]  # fmt: skip
            values[name] = number(power or Power())
        return Fix(said, quantity, values)
    return Fix(said, quantity, dict.fromkeys(names, number(_power(trainer, said))))


def _power(trainer: Trainer, said: FixDecl) -> Power:
    widths, value = trainer.program.forward.widths, read_power(said.value)
    example = " ".join(f"{width}^-1/2" for width in widths)
    if isinstance(value, Fraction):
        if value and len(widths) > 1:
            raise _error(said, said.value, f"`{said}` does not say of which width", example,
                         "with several widths an exponent is one of each")  # fmt: skip
        return Power.of({widths[0]: value})
    depths = [symbol for symbol, _ in trainer.program.forward.depths]
    for symbol in value or {}:
        if symbol in depths:
            why = "the linear programme knows networks of finite depth, and exponents of the widths"
            raise _error(said, said.value, f"`{said}`: an exponent of the depth {symbol} cannot be fixed", example, why)
        if symbol not in widths:
            raise _error(said, said.value, f"`{said}`: `{said.value}` is no exponent",
                         f"-1/2, {example}, global, {', '.join(NAMED)}", f"`{symbol}` is no width")  # fmt: skip
    return Power.of(value or {})


def _error(said: FixDecl, part: str, message: str, fix: str, why: str) -> TensorProgError:
    """The error for a `part` of a requirement; of the command line, with that part of it shown."""
    if said.span.file != COMMAND_LINE:
        return TensorProgError(message, said.span, why=why, fix=fix or EXAMPLES)
    text = str(said)
    first = 1 + (text.rindex(part) if part == said.value else text.index(part))
    span = Span(1, first, 1, first + len(part), COMMAND_LINE)
    return TensorProgError(message, span, why=why, fix=fix or EXAMPLES, source=text)
