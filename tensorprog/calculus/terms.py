"""Terms and grades: what the calculus knows of a tensor, and how a contraction multiplies it.

A tensor is a sum of terms. A term is `(size, raw, grades)`:

- size: the exponent of its typical entry (root mean square), packed into one integer by `Units`;
- grades: one per growing axis. A grade `(odd, free, cover)` tells, for every initial random parameter (a bit
  of the masks), what flipping the sign of that parameter does to the entries *along this axis*:
  `odd`: they flip; `free`: unknown; neither: they stay. `cover` (a part of `free`): the term is itself a sum of
  pieces, each of which is odd in at least one parameter of the cover;
- raw: the mask of parameters whose initial Gaussian *matrix* this still is (two or more growing axes, so that
  its randomness belongs to pairs of indices), 0 otherwise.

Summing over a growing axis of size n multiplies by n^(1/2) if some parameter makes the summand odd along it
(zero mean: central limit theorem), else by n (law of large numbers).

Source: Yang & Hu, Tensor Programs IV (arXiv:2011.14522), section 7 (the Z^x calculus: Gaussian part and
correlated part of a matrix product); the sign-flip grading makes its zero-mean cases decidable.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

Grade = tuple[int, int, int]
Term = tuple[int, int, tuple[Grade, ...]]
Terms = tuple[Term, ...]

EVEN: Grade = (0, 0, 0)
MANY = 6  # above this many terms, those of equal size and kind are merged (sound: only parities are forgotten)


def grade_product(g: Grade, h: Grade) -> Grade:
    """The grade of an entrywise product: free = union; odd = symmetric difference without free."""
    if g == EVEN:
        return h
    if h == EVEN:
        return g
    odd_g, free_g, cover_g = g
    odd_h, free_h, cover_h = h
    free = free_g | free_h
    odd = (odd_g ^ odd_h) & ~free
    keeps_g = cover_g if cover_g and not cover_g & (odd_h | free_h) else 0
    keeps_h = cover_h if cover_h and not cover_h & (odd_g | free_g) else 0
    cover = min(keeps_g, keeps_h) if keeps_g and keeps_h else keeps_g | keeps_h
    return (odd, free, 0 if odd else cover)


def is_zero_mean(g: Grade) -> bool:
    """Whether a sum along the axis is ruled by the central limit theorem."""
    return bool(g[0] or g[2])


def forget(g: Grade) -> Grade:
    """The grade after an arbitrary entrywise map: whatever it depended on, its parity is unknown now."""
    return (0, g[0] | g[1], 0)


def free_in(g: Grade, mask: int) -> Grade:
    """The grade once parity in the parameters of `mask` is unknown."""
    return grade_product(g, (0, mask, 0))


def _includes(big: Grade, small: Grade) -> bool:
    """Whether every sum that is zero-mean for `big` is so for `small`, whatever it is multiplied with."""
    odd, free, cover = big
    if small[1] & ~free or (odd ^ small[0]) & ~free:
        return False
    if not cover:
        return True
    return bool(small[2] and not small[2] & ~cover) or bool(small[0] and not small[0] & ~cover)


def reduce_terms(terms: Iterable[Term]) -> Terms:
    """Drop every term that another at least as large includes; keep a canonical order."""
    best: dict[tuple[int, tuple[Grade, ...]], int] = {}
    for size, raw, grades in terms:
        key = (raw, grades)
        old = best.get(key)
        if old is None or old < size:
            best[key] = size
    if len(best) > 1:
        ordered = sorted(((size, raw, grades) for (raw, grades), size in best.items()), reverse=True)
        kept = _undominated(ordered)
        if len(kept) > MANY:
            kept = _undominated(sorted(_merge_alike(kept), reverse=True))
        return tuple(kept)
    return tuple((size, raw, grades) for (raw, grades), size in best.items())


def _undominated(ordered: list[Term]) -> list[Term]:
    kept: list[Term] = []
    for term in ordered:
        size, raw, grades = term
        for other_size, other_raw, other_grades in kept:
            if other_raw == raw and other_size >= size and all(map(_includes, other_grades, grades)):
                break
        else:
            # equal sizes: a later term may include an earlier one
            kept = [k for k in kept if not (k[0] == size and k[1] == raw and all(map(_includes, grades, k[2])))]
            kept.append(term)
    return kept


def _merge_alike(terms: list[Term]) -> list[Term]:
    """One term for all of equal size, equal raw and zero mean along the same axes."""
    groups: dict[tuple[int, int, tuple[bool, ...]], list[tuple[Grade, ...]]] = {}
    for size, raw, grades in terms:
        groups.setdefault((size, raw, tuple(map(is_zero_mean, grades))), []).append(grades)
    merged: list[Term] = []
    for (size, raw, zero_mean), members in groups.items():
        if len(members) == 1:
            merged.append((size, raw, members[0]))
            continue
        axes = []
        for k, vanishes in enumerate(zero_mean):
            common, depends, cover = members[0][k][0], 0, 0
            for grades in members:
                odd, free, own_cover = grades[k]
                common &= odd
                depends |= odd | free
                cover |= odd or own_cover
            axes.append((common, depends & ~common, 0 if common or not vanishes else cover))
        merged.append((size, raw, tuple(axes)))
    return merged


@dataclass(frozen=True, slots=True)
class Summed:
    """A growing index that a contraction sums: where it is in each operand's grades (-1: absent), and the
    packed exponents of its size (`full`) and of its square root (`half`)."""

    left: int
    right: int
    full: int
    half: int


@dataclass(frozen=True, slots=True)
class ContractPlan:
    """A contraction seen from its growing axes. `kept`: for each growing output axis its place in the
    operands' grades (-1: absent) and the packed exponent of its size."""

    summed: tuple[Summed, ...]
    kept: tuple[tuple[int, int, int], ...]


class GramError(Exception):
    """A random matrix is multiplied with itself: outside the calculus."""


def multiply(x: Term, y: Term, plan: ContractPlan) -> Term:
    """The term of a contraction of two terms (y = the unit term for a unary contraction).

    size = |x| + |y| + for every summed growing axis: its dim if the product's mean may be non-zero along it,
    half its dim if some parameter makes it odd. With a raw Gaussian matrix: `_multiply_raw`.
    """
    size = x[0] + y[0]
    xg, yg = x[2], y[2]
    if x[1]:
        return _multiply_two_raw(x, y, plan) if y[1] else _multiply_raw(x, y, plan, swapped=False)
    if y[1]:
        return _multiply_raw(y, x, plan, swapped=True)
    for s in plan.summed:
        left = xg[s.left] if s.left >= 0 else EVEN
        right = yg[s.right] if s.right >= 0 else EVEN
        odd, _, cover = grade_product(left, right)
        size += s.half if odd or cover else s.full
    grades = tuple(
        [
            (grade_product(xg[i], yg[j]) if j >= 0 else xg[i]) if i >= 0 else yg[j]
            for i, j, _ in plan.kept
        ]
    )  # fmt: skip
    return (size, 0, grades)


def _multiply_raw(w: Term, x: Term, plan: ContractPlan, *, swapped: bool) -> Term:
    """A raw Gaussian matrix W (p: sizes it keeps, q: sizes summed) times x.

    If x does not depend on W: entries |W| |x| q^(1/2), odd in W along the kept axes; what x was odd in stays
    odd (flipping it flips the whole product). If x depends on W: the operator norm (q^(1/2) + p^(1/2)) bounds
    the result, entries grow by max(q^(1/2), q p^(-1/2)), and the parity in W is unknown.
    """
    raw = w[1]
    size = w[0] + x[0]
    wg, xg = w[2], x[2]
    through = EVEN  # x's grade along the summed axes: W carries it over to the kept ones
    q_full = q_half = 0
    for s in plan.summed:
        i, j = (s.right, s.left) if swapped else (s.left, s.right)
        g = grade_product(wg[i] if i >= 0 else EVEN, xg[j] if j >= 0 else EVEN)
        if i < 0:  # only x has this axis
            size += s.half if is_zero_mean(g) else s.full
            continue
        through = grade_product(through, g)
        q_full += s.full
        q_half += s.half
    p_full = 0
    kept_of_w = 0
    for i, j, full in plan.kept:
        if (j if swapped else i) >= 0:
            p_full += full
            kept_of_w += 1
    grades = []
    if not q_full:  # an entrywise product: still a Gaussian matrix, unless the factor depends on it
        depends = any(raw & (g[0] | g[1]) for g in xg)
        for i, j, _ in plan.kept:
            a, b = (j, i) if swapped else (i, j)
            g = grade_product(wg[a] if a >= 0 else EVEN, xg[b] if b >= 0 else EVEN)
            grades.append(free_in(g, raw) if depends and a >= 0 else g)
        return (size, 0 if depends else raw, tuple(grades))
    depends = bool(raw & (through[0] | through[1]))
    if depends:
        through = free_in(through, raw)
        aligned = q_full - p_full // 2
        size += q_half if is_zero_mean(through) else max(q_half, aligned)
    else:
        through = grade_product(through, (raw, 0, 0))
        size += q_half
    for i, j, _ in plan.kept:
        a, b = (j, i) if swapped else (i, j)
        if a < 0:
            grades.append(xg[b])
            continue
        g = grade_product(wg[a], through)
        grades.append(grade_product(g, xg[b]) if b >= 0 else g)
    still_raw = raw if not depends and kept_of_w >= 2 else 0
    return (size, still_raw, tuple(grades))


def _multiply_two_raw(x: Term, y: Term, plan: ContractPlan) -> Term:
    """Two Gaussian matrices. Independent ones: again a random matrix (its entries are zero-mean sums).
    The same one: entrywise a positive matrix; contracted with itself it is refused (a Gram matrix)."""
    size = x[0] + y[0]
    if x[1] & y[1]:
        if plan.summed:
            raise GramError
        return (size, 0, tuple(grade_product(x[2][i] if i >= 0 else EVEN, y[2][j] if j >= 0 else EVEN)
                               for i, j, _ in plan.kept))  # fmt: skip
    raw = x[1] | y[1]
    size += sum(s.half for s in plan.summed)
    grades = tuple(grade_product(x[2][i] if i >= 0 else EVEN, y[2][j] if j >= 0 else EVEN) for i, j, _ in plan.kept)
    if len(plan.kept) >= 2:
        return (size, raw, grades)
    return (size, 0, tuple(grade_product(g, (raw, 0, 0)) for g in grades))
