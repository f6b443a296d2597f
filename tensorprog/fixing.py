"""What the user fixes, as text: one reader for `fix` statements of a file and for `--fix`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

from tensorprog.errors import ParseError
from tensorprog.powers import ordinary, read_power
from tensorprog.statements import FixDecl
from tensorprog.suggest import nearest
from tensorprog.syntax import Span

QUANTITIES = ("init", "init_std", "multiplier", "lr")
EXAMPLES = "lr[*] = 0, init = sp, lr = global, no multipliers or ?scale = -1/2"
COMMAND_LINE = "--fix"  # the file that a requirement of the command line stands in
_FORM = re.compile(r"(\??[A-Za-z_*][\w.*]*)\s*(?:\[\s*([^\]\s]+)\s*\])?\s*=\s*(.*)", re.ASCII)


def read_statement(text: str, span: Span) -> FixDecl:
    """A statement `fix ..` that stands at `span`. Raises ParseError, at the part of it that is wrong."""
    text = text.rstrip()
    place = replace(span, end_line=span.line, end_column=span.column + len(text))
    return _read(text, len("fix"), place)


def read_requirement(text: str) -> FixDecl:
    """The same requirement as an argument of the command line or of a function. Raises ParseError."""
    text = " ".join(text.split())
    try:
        return _read(text, 0, Span(1, 1, 1, 1 + len(text), COMMAND_LINE))
    except ParseError as error:
        raise error.located(text, COMMAND_LINE) from None


def said(fix: FixDecl) -> str:
    """How the user wrote it, for messages."""
    return f"--fix {str(fix)!r}" if fix.span.file == COMMAND_LINE else f"`fix {fix}` (line {fix.span.line})"


def _read(text: str, start: int, place: Span) -> FixDecl:
    """`text` from `start` on; all of it stands at `place`."""

    def error(message: str, first: int, end: int, fix: str) -> ParseError:
        column = place.column
        return ParseError(message, replace(place, column=column + first, end_column=column + max(end, first + 1)),
                          why="a requirement gives one quantity a power of the sizes", fix=fix)  # fmt: skip

    body = text[start:]
    first = start + len(body) - len(body.lstrip())
    if body.split() == ["no", "multipliers"]:
        return FixDecl("multiplier", None, "none", place)
    found = _FORM.fullmatch(text, first)
    if found is None:
        raise error(f"`{text[first:] or 'fix'}` fixes nothing", min(first, len(text) - 1), len(text), EXAMPLES)
    quantity, pattern, value = found.groups()
    if quantity not in QUANTITIES and not quantity.startswith("?"):
        raise error(f"`{quantity}` is nothing to fix", *found.span(1), nearest(quantity, QUANTITIES) or EXAMPLES)
    if quantity.startswith("?") and pattern is not None:
        raise error(f"`{quantity}` belongs to no parameter", *found.span(2), f"{quantity} = {value}")
    power = read_power(value)
    if power is None:
        raise error(f"`{text[first:]}`: `{value}` is no exponent", *found.span(3), "-1/2, n^-1/2, global, sp, ..")
    if not ordinary(power):
        raise error(f"`{value}` is an exponent out of the ordinary", *found.span(3), "one such as -1, 1/2 or -3/4")
    return FixDecl(quantity, pattern, _canonical(power), place)


def _canonical(power: Mapping[str, Fraction] | Fraction) -> str:
    if isinstance(power, Fraction):
        return str(power)
    return " ".join(symbol if e == 1 else f"{symbol}^{e}" for symbol, e in power.items())
