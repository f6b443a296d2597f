"""Which terms of a sum another one includes that is at least as large."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import and_
from typing import TypeVar

from tensorprog.calculus.grades import NOTHING, Grade, Parity, covers, includes, reflects

Candidate = tuple[int, int, tuple[Grade, ...], int]  # a term, and the place of the one that its size comes from
Part = TypeVar("Part", Parity, int)
Included = Callable[[list[Part]], list[list[int]]]  # different parts -> for each, the places of those it includes

FEW = 150  # up to so many are compared one by one


def undominated(ordered: list[Candidate]) -> list[Candidate]:
    """Those, the largest first, that none of the others includes."""
    return _of_few(ordered) if len(ordered) <= FEW else _of_many(ordered)


def _of_few(ordered: list[Candidate]) -> list[Candidate]:
    kept: list[Candidate] = []
    first = 0  # of those of one size
    for candidate in ordered:
        size, raw, grades, _ = candidate
        odd, free, _ = grades[0][0] if grades else NOTHING  # most pairs fail by it: asked without a call of `includes`
        for _, other_raw, other_grades, _ in kept:
            if other_raw != raw:
                continue
            other_odd, other_free, _ = other_grades[0][0] if grades else NOTHING
            if not (free | other_odd ^ odd) & ~other_free and includes(other_grades, grades):
                break
        else:
            if kept and kept[-1][0] == size:  # equal sizes: a later term may include an earlier one
                kept[first:] = [k for k in kept[first:] if not (k[1] == raw and includes(grades, k[2]))]
            else:
                first = len(kept)
            kept.append(candidate)
    return kept


def _of_many(ordered: list[Candidate]) -> list[Candidate]:
    """The same by sets of candidates, masks of their places: one includes another if every part of its grades does, and
    there are much fewer different parts than candidates."""
    raws = _masks([raw for _, raw, _, _ in ordered])
    above = below = [raws[raw] for _, raw, _, _ in ordered]  # who may include each; whom each may include
    for axis in zip(*[grades for _, _, grades, _ in ordered], strict=True):
        wholes, owns, mirrors = zip(*axis, strict=True)
        parts = _related(wholes, _covered), _related(owns, _covered), _related(mirrors, _reflected)
        for including, included in parts:
            above = list(map(and_, above, including))
            below = list(map(and_, below, included))
    kept = alike = 0  # those that are kept, and those of one size among them
    last = ordered[0][0]
    for place, (size, _, _, _) in enumerate(ordered):
        if size != last:
            alike, last = 0, size
        if above[place] & kept:
            continue
        lost = below[place] & alike  # equal sizes: a later term may include an earlier one
        kept, alike = kept & ~lost | 1 << place, alike & ~lost | 1 << place
    return [candidate for place, candidate in enumerate(ordered) if kept >> place & 1]


def _masks(parts: Sequence[Part]) -> dict[Part, int]:
    """Where each stands, as a mask."""
    masks: dict[Part, int] = {}
    for place, part in enumerate(parts):
        masks[part] = masks.get(part, 0) | 1 << place
    return masks


def _related(parts: Sequence[Part], included: Included[Part]) -> tuple[list[int], list[int]]:
    """For every place those whose part includes its own, and those whose part its own includes."""
    masks = _masks(parts)
    own = list(masks.values())
    above, below = own.copy(), own.copy()
    for big, smaller in enumerate(included(list(masks))):
        for small in smaller:
            above[small] |= own[big]
            below[big] |= own[small]
    places = {part: place for place, part in enumerate(masks)}
    order = [places[part] for part in parts]
    return [above[place] for place in order], [below[place] for place in order]


def _covered(parities: list[Parity]) -> list[list[int]]:
    found = []
    for big in parities:
        odd, free, cover = big
        known = ~free  # as above
        smaller = [place for place, small in enumerate(parities) if not (small[1] | odd ^ small[0]) & known]
        found.append([place for place in smaller if covers(big, parities[place])] if cover else smaller)
    return found


def _reflected(mirrors: list[int]) -> list[list[int]]:
    return [[place for place, small in enumerate(mirrors) if reflects(big, small)] for big in mirrors]
