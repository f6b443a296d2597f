"""How long axes are, at widths that make all sizes whole and none equal by accident."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import count as natural
from math import ceil, isqrt, lcm, prod

from tensorprog.dims import Dim
from tensorprog.graph import Fold, Node, Program, Window

LEAST, SMALLEST = 48, 6  # a width that sizes are compared at, and its smallest share
LONGEST = 10**6  # entries of an axis that are told apart
MOST = 1000  # entries of a slice: longer ones are not told from those that grow


@dataclass
class Lengths:
    program: Program

    @cached_property
    def _widths(self) -> dict[str, int]:
        """Widths at which all sizes are whole numbers, and none is equal to another by accident: multiples of primes,
        larger than what slices of axes that grow have in entries that do not."""
        dims = self._dims | {node.op.offset for node in self.program.nodes if isinstance(node.op, Fold | Window)}
        whole = lcm(*[c.denominator for dim in dims for _, c in dim.terms])
        below = sorted({s for dim in dims for monomial, _ in dim.terms for s, power in monomial if power < 0})
        above = sorted({s for dim in dims for s in dim.symbols} - set(below))
        primes = _primes(max(SMALLEST, LEAST // whole, 2 * min(self._finite, MOST)))
        found = {symbol: whole * next(primes) for symbol in below}
        divided = prod(found.values())
        return found | {symbol: whole * divided * next(primes) for symbol in above}

    @cached_property
    def _dims(self) -> set[Dim]:
        """Those of all axes. (Most nodes have the very same ones: to compare them takes longer than to find that.)"""
        return set({id(axis.dim): axis.dim for node in self.program.nodes for axis in node.axes}.values())

    @cached_property
    def _finite(self) -> int:
        """How far slices of axes that grow reach in entries whose number stays as it is, and by how many others are
        shorter than a multiple of a width."""
        grown = [dim for dim in self._dims if dim.grows]
        most = max([ceil(-c) for dim in grown for monomial, c in dim.terms if not monomial], default=0)
        for node in self.program.nodes:
            if isinstance(op := node.op, Fold | Window) and not op.taps:
                sizes = (op.offset, node.axes[op.axis].dim, self.program.nodes[node.args[0]].axes[op.axis].dim)
                if any(dim.grows for dim in sizes):
                    fixed = [abs(c) for dim in sizes for monomial, c in dim.terms if not monomial]
                    most = max(most, ceil(op.stride * sum(fixed)))
        return most

    def value(self, dim: Dim) -> int | None:
        value = dim.evaluate(self._widths)
        return int(value) if value.denominator == 1 else None

    def length(self, dim: Dim) -> int:
        """0 if it is not known, or too long to tell its entries apart."""
        value = self.value(dim) or 0
        return value if 0 < value <= LONGEST else 0

    def lengths(self, node: Node, axis: int, count: int) -> list[int]:
        return [self.length(node.axes[axis + k].dim) for k in range(count)]


def _primes(above: int) -> Iterator[int]:
    return (n for n in natural(above + 1) if all(n % k for k in range(2, isqrt(n) + 1)))
