"""How a contraction multiplies two terms.

Summing over a growing axis of size n multiplies by n^(1/2) if some parameter makes the summand odd along it, or
if its entries flip under reflection (zero mean: central limit theorem), else by n (law of large numbers).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tensorprog.calculus.grades import (
    ANYTHING,
    CENTRED,
    CONSTANT,
    EVEN,
    NOTHING,
    STAYS,
    UNKNOWN,
    Grade,
    depends_on,
    entries_of,
    grade_product,
    is_zero_mean,
    parity_product,
    vanishes,
)
from tensorprog.calculus.terms import Term

if TYPE_CHECKING:
    from tensorprog.calculus.layers import LoopBits


@dataclass(frozen=True, slots=True)
class Summed:
    """A growing index that a contraction sums: where it is in each operand's grades (-1: absent), and the
    packed exponents of its size (`full`) and of its square root (`half`). `apart`: whether the operands are known to
    carry nothing in common along it (see carriers.py)."""

    left: int
    right: int
    full: int
    half: int
    apart: bool = False

    def cancels(self, x: tuple[Grade, ...], y: tuple[Grade, ...]) -> bool:
        """Whether one of the operands is centred along it, and exchanging its entries leaves the other as it is."""
        return self.apart and bool((x[self.left][2] | y[self.right][2]) & CENTRED)


@dataclass(frozen=True, slots=True)
class ContractPlan:
    """A contraction seen from its growing axes. `kept`: for each growing output axis its place in the operands'
    grades (-1: absent). `excess`: for each operand, should it be a raw matrix, the packed exponent of
    (q / p)^(1/2) if what is summed of it (q) outgrows what is kept (p), else 0. `layers`: which of the kept axes count
    the layers of a loop; `crossed`: the loops whose layers are summed. `balanced`: see balanced.py."""

    summed: tuple[Summed, ...]
    kept: tuple[tuple[int, int], ...]
    excess: tuple[int, int] = (0, 0)
    layers: tuple[tuple[int, LoopBits], ...] = ()
    crossed: tuple[LoopBits, ...] = ()
    balanced: tuple[bool, bool] = (False, False)
    known: dict[tuple[Grade, ...], dict[tuple[Grade, ...], tuple[int, int, tuple[Term, ...]]]] = field(
        default_factory=dict, compare=False, repr=False
    )  # grades of one operand -> of the other -> what is raw in each, and the terms of their product

    @property
    def widths(self) -> list[tuple[int, int]]:
        """The kept axes that do not count layers."""
        if not self.layers:
            return list(self.kept)
        apart = {position for position, _ in self.layers}
        return [k for position, k in enumerate(self.kept) if position not in apart]


class GramError(Exception):
    """A random matrix is multiplied with itself: outside the calculus."""


def multiply(x: Term, y: Term, plan: ContractPlan) -> tuple[Term, ...]:
    """The terms of a contraction of two terms (y = the unit term for a unary contraction): one, but where
    `_multiply_raw` tells two parts apart.

    size = |x| + |y| + for every summed growing axis: its dim if the product's mean may be non-zero along it,
    half its dim if some parameter makes it odd. With a raw Gaussian matrix: `_multiply_raw`. No term: exactly zero,
    the sum of what is centred.
    """
    size = x[0] + y[0]
    xg, yg = x[2], y[2]
    if x[1]:
        return (_multiply_two_raw(x, y, plan),) if y[1] else _multiply_raw(x, y, plan, swapped=False)
    if y[1]:
        return _multiply_raw(y, x, plan, swapped=True)
    for s in plan.summed:
        if s.right < 0:
            g = xg[s.left]
        else:
            g = grade_product(xg[s.left], yg[s.right]) if s.left >= 0 else yg[s.right]
        if g[2] >= CENTRED:
            return ()
        size += s.half if is_zero_mean(g) or s.cancels(xg, yg) else s.full
    grades = tuple(
        [
            (grade_product(xg[i], yg[j]) if j >= 0 else xg[i]) if i >= 0 else yg[j]
            for i, j in plan.kept
        ]
    )  # fmt: skip
    return ((size, 0, grades),)


def wild(raw: int, position: int) -> int:
    """The bits that say: the axis at `position` of these matrices was summed without mirror symmetry. What depends on
    a matrix in that way does not flip under reflection any more when multiplied with it along this axis. Every raw
    parameter owns three bits: itself, then its first and its second growing axis."""
    return raw << (1 + min(position, 1))


def _multiply_raw(w: Term, x: Term, plan: ContractPlan, *, swapped: bool) -> tuple[Term, ...]:
    """A raw Gaussian matrix W (p: sizes it keeps, q: sizes summed) times x.

    If x does not depend on W: entries |W| |x| q^(1/2), odd in W along the kept axes; what x was odd in stays
    odd (flipping it flips the whole product). If x depends on W: the operator norm (q^(1/2) + p^(1/2)) bounds
    the result, entries grow by max(q^(1/2), q p^(-1/2)), and the parity in W is unknown. Along a kept axis the
    entries are odd in their own slices of W, as if W were fresh, unless x is correlated with what W^T made; and they
    flip under reflection, unless x depends on W through a sum over that very axis that broke it.

    What W x has in common with what W^T was applied to, W W^T y, is proportional to y, and the rest as random as if W
    were fresh. If all such y are centred (`balanced`), these are two terms: the first is centred, too, and the second
    of zero mean over layers.
    """
    raw = w[1]
    size = w[0] + x[0]
    wg, xg = w[2], x[2]
    through = NOTHING  # x's parity along the summed axes: W carries it over to the kept ones
    q_half = 0
    broken = 0
    uncorrelated = False  # x and W^T y, by Stein's lemma
    for s in plan.summed:
        i, j = (s.right, s.left) if swapped else (s.left, s.right)
        g = grade_product(wg[i] if i >= 0 else CONSTANT, xg[j] if j >= 0 else CONSTANT)
        if g[2] >= CENTRED:
            return ()
        if i < 0:  # only x has this axis
            size += s.half if is_zero_mean(g) else s.full
            continue
        if g[2] != STAYS:
            broken |= wild(raw, i)
        uncorrelated = uncorrelated or vanishes(g[1])
        through = parity_product(through, g[0])
        q_half += s.half
    if not q_half:  # an entrywise product: still a Gaussian matrix, unless the factor depends on it
        grades: list[Grade] = []
        shared = sum([i >= 0 <= j for i, j in plan.kept])  # a scaling of rows alone leaves each row as it is
        known = 0
        for g in xg:
            known |= depends_on(g)
        depends = shared == len(wg) and bool(raw & known)
        for i, j in plan.kept:
            a, b = (j, i) if swapped else (i, j)
            g = grade_product(wg[a] if a >= 0 else EVEN, xg[b] if b >= 0 else EVEN)
            if depends and a >= 0:
                g = entries_of(g, raw)
                g = (*g[:2], UNKNOWN) if wild(raw, a) & known else g  # summed along b, W_ab (W^T y)_b contains y_a
            grades.append(g)
        return ((size, 0 if depends else raw, tuple(grades)),)
    depends = bool(raw & (through[0] | through[1]))
    if depends:
        through = parity_product(through, (0, raw | broken, 0))
        size += q_half if vanishes(through) or uncorrelated else q_half + plan.excess[swapped]
    else:
        through = parity_product(through, (raw, broken, 0))
        size += q_half
    layers = [position for position, _ in plan.layers]

    def kept(*, fresh: bool, centred: bool = False) -> tuple[Grade, ...]:
        """The grades; `fresh`: of what is as random as if W were fresh."""
        grades: list[Grade] = []
        for position, (i, j) in enumerate(plan.kept):
            a, b = (j, i) if swapped else (i, j)
            other = xg[b] if b >= 0 else CONSTANT
            if a < 0:
                grades.append(other)
            elif position in layers:  # x's grade along the layers tells of all its entries: nothing is carried over
                parity = parity_product(wg[a][0], other[0])
                odd, free, cover = parity_product(parity, (0, raw, 0) if depends else (raw, 0, 0))
                random = depends and fresh and plan.balanced[swapped]
                grades.append(((odd, free, raw if random else cover), other[1], STAYS))
            else:
                whole, own, mirror = wg[a]
                if depends and (wild(raw, a) & through[1] or a > 1):
                    mirror = UNKNOWN
                g = (parity_product(whole, through), own if fresh else ANYTHING, mirror | CENTRED * centred)
                grades.append(grade_product(g, other))
        return tuple(grades)

    fresh = uncorrelated or not depends
    if plan.balanced[swapped] and not fresh:
        return (size, 0, kept(fresh=True)), (size, 0, kept(fresh=False, centred=True))
    still_raw = not depends and sum([(j if swapped else i) >= 0 for i, j in plan.widths]) > 1
    return ((size, raw if still_raw else 0, kept(fresh=fresh)),)


def _multiply_two_raw(x: Term, y: Term, plan: ContractPlan) -> Term:
    """Two Gaussian matrices. Independent ones: again a random matrix (its entries are zero-mean sums).
    The same one: entrywise a positive matrix, whose sums are aligned; contracted with itself it is refused (a Gram
    matrix)."""
    size = x[0] + y[0]
    if x[1] & y[1]:
        if any(s.left < 0 or s.right < 0 for s in plan.summed) or (plan.summed and any(-1 in k for k in plan.kept)):
            raise GramError
        size += sum(s.full for s in plan.summed)
        products = [grade_product(x[2][i] if i >= 0 else EVEN, y[2][j] if j >= 0 else EVEN) for i, j in plan.kept]
        return (size, 0, tuple([(whole, ANYTHING, mirror) for whole, _, mirror in products]))
    raw = x[1] | y[1]
    size += sum(s.half for s in plan.summed)
    grades = tuple(grade_product(x[2][i] if i >= 0 else EVEN, y[2][j] if j >= 0 else EVEN) for i, j in plan.kept)
    if len(plan.widths) >= 2:
        return (size, raw, grades)
    return (size, 0, tuple((parity_product(whole, (raw, 0, 0)), own, mirror) for whole, own, mirror in grades))
