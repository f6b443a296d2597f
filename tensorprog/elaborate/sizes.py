"""The sizes of undeclared indices: told by what they are used with.

A size that nothing tells yet is a symbol of its own. Where it meets a known size, the ledger notes what it is, and the
whole elaboration is done again, knowing it: so in the end every rule sees plain sizes only.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tensorprog.dims import Dim
from tensorprog.errors import ShapeError
from tensorprog.syntax import NOWHERE, Span

PLACEHOLDER = "?"  # begins the symbol of a size that is not known yet; no user can write it


@dataclass(slots=True)
class Ledger:
    """Sizes that were learned, in this attempt (`fresh`) or an earlier one, and the indices whose size is not known
    yet."""

    learned: dict[str, Dim] = field(default_factory=dict)
    fresh: set[str] = field(default_factory=set)
    open: dict[str, tuple[str, Span]] = field(default_factory=dict)

    def agree(self, a: Dim, b: Dim) -> bool:
        """Whether two sizes are the same; if that tells one that was not known, it is learned."""
        if a == b:
            return True
        a, b = self.current(a), self.current(b)
        if a == b:
            return True
        for unknown, known in ((a, b), (b, a)):
            if len(unknown.terms) == 1 and len(unknown.terms[0][0]) == 1:
                symbol, power = unknown.terms[0][0][0]
                if symbol.startswith(PLACEHOLDER) and power == 1 and symbol not in known.symbols:
                    value = known / Dim.of(unknown.terms[0][1])
                    if value.constant is None or (value.constant > 0 and value.constant.denominator == 1):
                        self._learn(symbol, value)
                        return True
        return False

    def current(self, dim: Dim) -> Dim:
        """The size with all that was learned since this attempt began."""
        for symbol in dim.symbols:
            if symbol in self.fresh:
                dim = substitute(dim, symbol, self.learned[symbol])
        return dim

    def _learn(self, symbol: str, dim: Dim) -> None:
        """Adds a size, also where earlier ones were given in terms of it."""
        try:
            self.learned = {
                known: substitute(value, symbol, dim) if symbol in value.symbols else value
                for known, value in self.learned.items()
            }
        except ValueError:
            label, span = self.open.get(symbol, (symbol.rpartition(":")[2], NOWHERE))
            raise size_unknown(label, span) from None
        self.learned[symbol] = dim
        self.fresh.add(symbol)

    def again(self) -> bool:
        """Whether something was learned in this attempt, so that another must be made; forgets what was left open."""
        learned = bool(self.fresh)
        if learned:
            self.fresh.clear()
            self.open.clear()
        return learned


def substitute(dim: Dim, symbol: str, value: Dim) -> Dim:
    """The size with `value` for `symbol`."""
    total = Dim(())
    for monomial, coefficient in dim.terms:
        term = Dim(((tuple((s, p) for s, p in monomial if s != symbol), coefficient),))
        for power in (p for s, p in monomial if s == symbol):
            for _ in range(abs(power)):
                term = term * value if power > 0 else term / value
        total = total + term
    return total


class Cell:
    """The size of an index; unknown until something it is used with tells."""

    __slots__ = ("dim", "ledger", "symbol")

    def __init__(self, symbol: str, ledger: Ledger) -> None:
        self.symbol, self.ledger = PLACEHOLDER + symbol, ledger
        self.dim: Dim | None = ledger.learned.get(self.symbol)

    def known(self) -> Dim | None:
        return self.dim

    def size(self, label: str, span: Span = NOWHERE) -> Dim:
        """The size; a placeholder if nothing has told it yet."""
        if self.dim is None:
            self.dim = Dim.of(self.symbol)
        for symbol in self.dim.symbols:
            if symbol.startswith(PLACEHOLDER):
                self.ledger.open.setdefault(symbol, (label, span))
        return self.dim

    def bind(self, dim: Dim, label: str, span: Span) -> None:
        """Fixes the size, or checks it."""
        if self.dim is None:
            self.dim = dim
        elif not self.ledger.agree(self.dim, dim):
            raise two_sizes(label, self.dim, dim, span)


def size_unknown(label: str, span: Span) -> ShapeError:
    return ShapeError(f"the size of the index `{label}` is not known", span,
                      why="nothing it is used with has a known size",
                      fix=f"`axis {label}: ..` with a dim or a width")  # fmt: skip


def two_sizes(label: str, one: Dim, other: Dim, span: Span) -> ShapeError:
    return ShapeError(f"the index `{label}` runs over {one}, but here over {other}", span,
                      why="an index has one size in the whole file or block",
                      fix=f"a different index for the axis of size {other}")  # fmt: skip
