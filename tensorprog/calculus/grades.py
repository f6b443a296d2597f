"""Grades: what sign flips of initial random parameters do to a tensor's entries along one axis.

A grade `(whole, own, mirror)` of a growing axis:

- `whole`: what becomes of the entries if a parameter is flipped as a whole;
- `own`: if only that slice of it is flipped which has coordinate i of entry i. Either is a parity `(odd, free, cover)`,
  masks with a bit for every parameter (`own`: for each of its axes). `odd`: entries flip; `free`: unknown; neither:
  they stay. `cover` (a part of `free`): the term is itself a sum of pieces, each of which is odd in at least one bit
  of the cover;
- `mirror`: what becomes of entry i when everything with that coordinate i is reflected at once: FLIPS, STAYS or
  UNKNOWN (an entrywise function that is neither odd nor even breaks the symmetry); SAME if all entries are alike.
  CENTRED may be added to it: the sum along the axis is exactly zero, and stays so in what is multiplied with something
  alike along the axis.

Reflections: initialisation is symmetric, so the law of the whole network does not change when coordinate i of an
axis is reflected in every tensor that has it; entries that flip are then uncorrelated across i, at any width and
after any number of steps. This breaks where a sum over the axis is not itself invariant (see `multiply.wild`).

Own slices: row i of W is met by entry i of W x and, to leading order, by nothing else, whatever x is made of. So W x
is odd in its own rows of W and depends on nothing else that has this coordinate, however often W was used before,
unless x contains W^T y: then sum_k W_ik x_k has a part y_i sum_k W_ik^2 dx_k/dg_k with g = W^T y. By Stein's lemma the
mean of dx_k/dg_k is that of x_k g_k (over a variance), zero if some own slice makes x_k g_k odd.

Source: Yang & Hu, Tensor Programs IV (arXiv:2011.14522), section 7 (the Z^x calculus: Gaussian part and
correlated part of a matrix product, hat Z and dot Z); the sign-flip grading makes their zero-mean cases decidable.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

Parity = tuple[int, int, int]
Grade = tuple[Parity, Parity, int]

STAYS, FLIPS, UNKNOWN, SAME = 0, 1, 2, 3
CENTRED = 4
NOTHING: Parity = (0, 0, 0)  # depends on no parameter
ANYTHING: Parity = (0, -1, 0)  # free in every bit
EVEN: Grade = (NOTHING, NOTHING, STAYS)
CONSTANT: Grade = (NOTHING, NOTHING, SAME)


def parity_product(g: Parity, h: Parity) -> Parity:
    """The parity of a product: free = union; odd = symmetric difference without free."""
    if g == NOTHING:
        return h
    if h == NOTHING:
        return g
    odd_g, free_g, cover_g = g
    odd_h, free_h, cover_h = h
    free = free_g | free_h
    odd = (odd_g ^ odd_h) & ~free
    if not (cover_g or cover_h):
        return (odd, free, 0)
    keeps_g = cover_g if cover_g and not cover_g & (odd_h | free_h) else 0
    keeps_h = cover_h if cover_h and not cover_h & (odd_g | free_g) else 0
    return (odd, free, min(keeps_g, keeps_h) if keeps_g and keeps_h else keeps_g | keeps_h)


def grade_product(g: Grade, h: Grade) -> Grade:
    """The grade of an entrywise product."""
    if g == CONSTANT or (g == EVEN and h != CONSTANT and h[2] < CENTRED):
        return h
    if h == CONSTANT or (h == EVEN and g[2] < CENTRED):
        return g
    whole_g, own_g, mirror_g = g
    whole_h, own_h, mirror_h = h
    mirror = UNKNOWN if (mirror_g | mirror_h) & UNKNOWN else (mirror_g ^ mirror_h) & FLIPS
    return (parity_product(whole_g, whole_h), parity_product(own_g, own_h), mirror)


def vanishes(parity: Parity) -> bool:
    """Whether something flips what has this parity, so that its mean is zero."""
    return bool(parity[0] or parity[2])


def is_zero_mean(g: Grade) -> bool:
    """Whether a sum along the axis is ruled by the central limit theorem."""
    return vanishes(g[0]) or vanishes(g[1]) or g[2] & SAME == FLIPS


def forgotten(parity: Parity) -> Parity:
    """The parity after an arbitrary map: whatever it depended on is unknown now."""
    return (0, parity[0] | parity[1], 0)


def forget(g: Grade, mirror: int | None = None) -> Grade:
    """The grade after an arbitrary entrywise map."""
    if mirror is None:
        mirror = g[2] & SAME if g[2] & SAME in (STAYS, SAME) else UNKNOWN
    return (forgotten(g[0]), forgotten(g[1]), mirror)


def squared(g: Grade) -> Grade:
    """An even function of one term: what it was odd in is gone."""
    (_, whole, _), (_, own, _), mirror = g
    return ((0, whole, 0), (0, own, 0), STAYS if mirror == FLIPS else mirror)


def depends_on(g: Grade) -> int:
    """The parameters that the entries along this axis depend on."""
    return g[0][0] | g[0][1]


def common(parities: Sequence[Parity]) -> Parity:
    """What is known of a sum of terms of these parities: odd where all are, unknown where only some are."""
    odd, depends = parities[0][0], 0
    for term in parities:
        odd &= term[0]
        depends |= term[0] | term[1]
    return (odd, depends & ~odd, 0)


def joint_flip(parities: Sequence[Parity]) -> int:
    """Bits that flip every term if they are flipped together, each of these being odd in an odd number of them: so
    every odd function of their sum is a sum of pieces odd in at least one. 0 if there are none. (Elimination over two
    elements: a row is the mask of a term, with one more bit for the right-hand side.)"""
    unknown = 0
    for parity in parities:
        unknown |= parity[1]
    rows: dict[int, int] = {}  # lowest bit -> row, reduced by all others
    for odd in sorted({parity[0] & ~unknown for parity in parities}):
        row = odd << 1 | 1
        for pivot, other in rows.items():
            if row & pivot:
                row ^= other
        if row == 1:
            return 0
        if not row:
            continue
        pivot = (row >> 1 & -(row >> 1)) << 1
        rows = {p: other ^ row if other & pivot else other for p, other in rows.items()}
        rows[pivot] = row
    return sum(pivot >> 1 for pivot, row in rows.items() if row & 1)


def entries_of(g: Grade, raw: int) -> Grade:
    """Along an axis, the entries of what is no longer known to be the Gaussian matrices `raw`: they depend on them, and
    are reflected as they were."""
    whole, _, mirror = g
    return (forgotten((whole[0], whole[1] | raw, 0)), ANYTHING, mirror & SAME)


def includes(big: tuple[Grade, ...], small: tuple[Grade, ...]) -> bool:
    """Whether every sum along an axis that is zero-mean for `big` is so for `small`, whatever it is multiplied with."""
    for (whole, own, mirror), (small_whole, small_own, small_mirror) in zip(big, small, strict=True):
        if mirror != small_mirror and not reflects(mirror, small_mirror):
            return False
        if not covers(whole, small_whole) or not covers(own, small_own):
            return False
    return True


def reflects(big: int, small: int) -> bool:
    """`includes`, of what becomes of entries under reflection."""
    known, other = big & SAME, small & SAME
    return not big & ~small & CENTRED and (known in (UNKNOWN, other) or (known, other) == (STAYS, SAME))


def covers(big: Parity, small: Parity) -> bool:
    """`includes`, of parities."""
    if big == small:
        return True
    odd, free, cover = big
    if small[1] & ~free or (odd ^ small[0]) & ~free:
        return False
    if not cover:
        return True
    return bool(small[0] & cover) or bool(small[2] and not small[2] & ~cover)


def merged(parities: list[Parity]) -> Parity:
    """The parity of a sum of terms all of which vanish, or none does. Its cover has as few bits as will do: it is lost
    in products with what depends on one of them."""
    odd, free, _ = common(parities)
    apart = [parity[0] & ~odd for parity in parities]  # what else a term is odd in
    cover = 0
    if all(parity[2] or mask for parity, mask in zip(parities, apart, strict=True)):
        for parity, mask in zip(parities, apart, strict=True):
            cover |= 0 if mask else parity[2]
        cover = _hitting([mask for mask in apart if mask], cover)
    return (odd, free, cover)


def _hitting(masks: list[int], chosen: int) -> int:
    """`chosen` and a few bits more, so that each of these masks has one: again and again the bit that most have, the
    last of several."""
    while masks := [mask for mask in masks if not mask & chosen]:
        having: Counter[int] = Counter()
        for mask in masks:
            while mask:
                having[mask & -mask] += 1
                mask &= mask - 1
        chosen |= max(having, key=lambda bit: (having[bit], bit))
    return chosen
