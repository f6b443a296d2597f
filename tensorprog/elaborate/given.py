"""Unknown multipliers that are given as a known number: what then stands in the network in place of `?name`."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from fractions import Fraction

from tensorprog.elaborate.scalars import static_scalar
from tensorprog.elaborate.scope import Scope
from tensorprog.errors import ShapeError
from tensorprog.fixing import COMMAND_LINE
from tensorprog.graph import Scalar
from tensorprog.powers import read_power
from tensorprog.statements import FixDecl
from tensorprog.syntax import NOWHERE, Binary, Name, Number, Span


class Given:
    """Requirements such as `?branch = L^-1/2`, and the numbers they put in place of multipliers. Raises ShapeError for
    a symbol that is no size."""

    def __init__(self, fixes: Iterable[FixDecl], top: Scope) -> None:
        self.numbers = {fix: _number(fix, top) for fix in fixes}
        self.unused = set(self.numbers)

    def of(self, name: str, span: Span) -> Scalar | None:
        """The number of a multiplier; None if it is not given. Raises ShapeError if it is given twice."""
        found = [fix for fix in self.numbers if fnmatchcase(name, fix.quantity[1:])]
        self.unused.difference_update(found)
        if len({self.numbers[fix] for fix in found}) > 1:
            texts = ", ".join(f"`{fix}`" for fix in found)
            raise ShapeError(f"`?{name}` is fixed to different powers: {texts}", span, fix="one of them",
                             why="a number has one power")  # fmt: skip
        return self.numbers[found[0]] if found else None

    def require_used(self, multipliers: Iterable[str]) -> None:
        """Raises ShapeError for a requirement that speaks of no multiplier."""
        for fix in self.numbers:
            if fix in self.unused:
                known = ", ".join(f"?{name}" for name in sorted(multipliers))
                raise ShapeError(f"the program has no multiplier `{fix.quantity}`", place(fix),
                                 fix=known or "a `?name` in the file",
                                 why="only what is written with `?` is left open by the file")  # fmt: skip


def place(fix: FixDecl) -> Span:
    """Where a requirement stands, if it stands in the file."""
    return NOWHERE if fix.span.file == COMMAND_LINE else fix.span


def _number(fix: FixDecl, top: Scope) -> Scalar:
    power = read_power(fix.value)
    assert power is not None and not isinstance(power, Fraction)  # it names a depth
    number = Scalar()
    for symbol, exponent in power.items():
        factor = static_scalar(Binary("^", Name(symbol, place(fix)), Number(exponent, place(fix)), place(fix)), top)
        if factor is None:
            raise ShapeError(f"`{fix}`: `{symbol}` is no size", place(fix), fix="powers of widths and depths",
                             why="what is given is a power of sizes that the file declares")  # fmt: skip
        number = number * factor
    return number
