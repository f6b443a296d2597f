"""Terms and grades: what the calculus knows of a tensor.

A tensor is a sum of terms. A term is `(size, raw, grades)`:

- size: the exponent of its typical entry (root mean square), packed into one integer by `Units`;
- grades: one per growing axis (see grades.py);
- raw: the mask of parameters whose initial Gaussian *matrix* this still is (two or more growing axes, so that
  its randomness belongs to pairs of indices), 0 otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar, cast

from tensorprog.calculus.affine import Form, differ, greatest, trained
from tensorprog.calculus.grades import (
    CENTRED,
    SAME,
    Grade,
    entries_of,
    grade_product,
    includes,
    merged,
    vanishes,
)
from tensorprog.calculus.inclusion import Candidate, undominated

Term = tuple[int, int, tuple[Grade, ...]]
Terms = tuple[Term, ...]


class Replaced(tuple[Term, ...]):
    """The terms of a change that takes initial terms away: those that are `gained` and those that are `lost`. `stays`:
    what is left of the initial value. `everywhere`: not only in most entries."""

    stays: Terms
    gained: Terms
    lost: Terms
    everywhere: bool

    def __new__(cls, stays: Terms, gained: Terms, lost: Terms, *, everywhere: bool = True) -> Replaced:
        made = super().__new__(cls, (*gained, *lost))
        made.stays, made.gained, made.lost, made.everywhere = stays, gained, lost, everywhere
        return made

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Replaced) and parts((), self) == parts((), other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = tuple.__hash__


def parts(initial: Terms, change: Terms) -> tuple[Terms, Terms, Terms]:
    """What stays of an initial value as it changes, what is gained, and what is lost."""
    if isinstance(change, Replaced):
        return change.stays, change.gained, change.lost
    return initial, change, ()


def joined(initial: Terms, old: Terms, new: Terms) -> Terms:
    """The terms of a change that was `old` at one step and is `new` at another."""
    if not isinstance(new, Replaced):
        return reduce_terms([*old, *new])
    if not old:
        return new
    both = zip(parts(initial, old), parts(initial, new), strict=True)
    return Replaced(*[reduce_terms([*a, *b]) for a, b in both], everywhere=new.everywhere)


REMEMBERED = 1 << 20  # so many results of one kind are kept at most
Pure = TypeVar("Pure", bound=Callable[..., Any])
_forget: list[Callable[[], None]] = []


def remembered(function: Pure) -> Pure:
    """A pure function that looks up what it has found before, since an analysis began."""
    known = lru_cache(REMEMBERED)(function)
    _forget.append(known.cache_clear)
    return cast(Pure, known)


def forget_results() -> None:
    """Let go of what was looked up so far; done as an analysis begins, so that what is kept serves one network."""
    for forget in _forget:
        forget()


class Grades(tuple[Grade, ...]):
    """Grades by which results are looked up. Their masks are long, and to hash the contents would cost more than a
    result that is found saves: they hash by identity. Equal ones are one object if they come from `interned`; where
    they are not, something is worked out twice, and that is all."""

    __slots__ = ()
    __hash__ = object.__hash__


@remembered
def interned(grades: tuple[Grade, ...]) -> Grades:
    """The one object for these grades."""
    return Grades(grades)


@remembered
def times(one: tuple[Grade, ...], other: tuple[Grade, ...]) -> Grades:
    """The grades of an entrywise product."""
    return interned(tuple(map(grade_product, one, other)))


MANY = 3  # above this many terms, those of equal size and kind are merged (sound: only parities are forgotten)


@remembered
def marked(grades: tuple[Grade, ...], position: int) -> tuple[Grade, ...]:
    """The grades of what is centred along an axis."""
    whole, own, mirror = grades[position]
    return interned((*grades[:position], (whole, own, mirror | CENTRED), *grades[position + 1 :]))


@remembered
def uncentred(grades: tuple[Grade, ...]) -> tuple[Grade, ...]:
    """The grades of what need not sum to zero any more."""
    if all(mirror < CENTRED for _, _, mirror in grades):
        return grades
    return interned(tuple([(whole, own, mirror & SAME) for whole, own, mirror in grades]))


def as_entries(term: Term) -> Term:
    """The term as entrywise functions know it, neither a Gaussian matrix (it depends on it, along every axis) nor
    centred."""
    size, raw, grades = term
    if not raw:
        return (size, 0, uncentred(grades))
    return (size, 0, interned(tuple([entries_of(g, raw) for g in grades])))


def reduce_terms(terms: list[Term]) -> Terms:
    """Drop every term that another at least as large includes; keep a canonical order."""
    if len(terms) < 2:
        return tuple(terms)
    kept = _reduced(tuple(terms))
    if len(kept) < len(terms) and any(type(term[0]) is Form for term in terms):
        return _absorbing(terms, kept)
    return tuple([(terms[place][0], raw, grades) for _, raw, grades, place in kept])


def _absorbing(terms: list[Term], kept: list[Candidate]) -> Terms:
    """Starting sizes that are forms stand for those that were dropped, too, should they be divided by. (What training
    adds may have hundreds of rivals; it rules a norm only where it outgrows the start.)"""
    places = {place for *_, place in kept}
    sizes = [[terms[place][0]] for *_, place in kept]
    for place, (size, raw, grades) in enumerate(terms):
        if place in places or trained(size):
            continue
        for known, (large, other, those, _) in zip(sizes, kept, strict=True):
            if large >= size and other == raw and (those == grades or includes(those, grades)):
                if not trained(known[0]) and differ(known[0], size):
                    known.append(size)
                break
    return tuple([(greatest(known), raw, grades) for known, (_, raw, grades, _) in zip(sizes, kept, strict=True)])


@remembered
def _reduced(terms: Terms) -> list[Candidate]:
    """What is left of them. It names places, not sizes: equal sizes may be different forms of the unknowns."""
    best: dict[tuple[int, tuple[Grade, ...]], int] = {}
    for place, (size, raw, grades) in enumerate(terms):
        key = (raw, grades if type(grades) is Grades else interned(grades))
        old = best.get(key)
        if old is None or terms[old][0] < size:
            best[key] = place
    kept = [(terms[place][0], raw, grades, place) for (raw, grades), place in best.items()]
    if len(kept) > 1:
        kept = undominated(sorted(kept, reverse=True))
    if len(kept) > MANY:
        merged = _merge_alike(kept)
        if len(merged) < len(kept):
            kept = undominated(sorted(merged, reverse=True))
    return kept


def leading(terms: Terms, margin: int) -> Terms:
    """Without the terms that can never rule: alignment along all growing axes gains a smaller term at most
    `margin`, the square roots of their sizes, over the largest one. (One that is alike along an axis may be taken away
    by centring, one that is centred by a sum.)"""
    if isinstance(terms, Replaced):
        return Replaced(*[leading(part, margin) for part in parts((), terms)], everywhere=terms.everywhere)
    if len(terms) < 2:
        return terms
    sizes = [term[0] for term in terms]
    if min(sizes) > max(sizes) - margin:
        return terms
    lasting = [term[0] for term in terms if not any(g[2] >= SAME for g in term[2])]
    if not lasting:
        return _leading_alike(terms, margin)
    floor = max(lasting) - margin
    kept = tuple([term for term in terms if term[0] > floor])
    return kept or (max(terms),)


def _leading_alike(terms: Terms, margin: int) -> Terms:
    """Without the terms that another one rules that the same centring or sum takes away."""
    kinds = [tuple([g[2] if g[2] == SAME else g[2] & CENTRED for g in term[2]]) for term in terms]
    floors = {kind: max(t[0] for t, k in zip(terms, kinds, strict=True) if k == kind) - margin for kind in kinds}
    kept = [term for term, kind in zip(terms, kinds, strict=True) if term[0] > floors[kind]]
    return tuple(kept) or (max(terms),)


def largest(terms: Terms) -> int | None:
    """The size of a sum of terms; None for an exact zero."""
    return max((term[0] for term in terms), default=None)


def size_of(terms: Terms) -> int:
    """The size of a sum of terms that is not an exact zero."""
    size = largest(terms)
    assert size is not None
    return size


def _merge_alike(terms: list[Candidate]) -> list[Candidate]:
    """One term for all of equal size, equal raw and zero mean, for equal reasons, along the same axes."""
    groups: dict[tuple[int, int, tuple[tuple[bool, bool, int], ...]], list[Candidate]] = {}
    for term in terms:
        size, raw, grades, _ = term
        kind = tuple([(vanishes(g[0]), vanishes(g[1]), g[2]) for g in grades])
        groups.setdefault((size, raw, kind), []).append(term)
    together: list[Candidate] = []
    for (size, raw, kind), members in groups.items():
        if len(members) == 1:
            together += members
            continue
        axes: list[Grade] = []
        for k, (_, _, mirror) in enumerate(kind):
            axes.append((merged([m[2][k][0] for m in members]), merged([m[2][k][1] for m in members]), mirror))
        together.append((size, raw, interned(tuple(axes)), members[0][3]))
    return together
