"""Places: some entries of an axis, and where a node's operands are read for it to have them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import product

import numpy as np

from tensorprog.calculus.cuts import Cuts
from tensorprog.calculus.entries import Token
from tensorprog.graph import Fold, Merge, Node, Split, Window

Row = tuple[Token, int]  # of a table: a row that a token chooses, and which one, as far as slices tell them apart
Place = int | Row | frozenset[int]  # an entry of an axis, for all that are like it; several of them


def entries(place: int | frozenset[int]) -> list[int]:
    return [place] if isinstance(place, int) else sorted(place)


def some(entries: Iterable[int]) -> int | frozenset[int]:
    found = frozenset(entries)
    return next(iter(found)) if len(found) == 1 else found


def moved(cuts: Cuts, node: Node, places: Mapping[int, Place]) -> Mapping[int, Place] | None:
    """Where entries of an axis that is cut, split or merged come from; None: from nowhere."""
    arg, lengths = cuts.program.nodes[node.args[0]], cuts.lengths
    match node.op:
        case Fold(axis, stride, _, offset, False) | Window(axis, stride, _, offset, False) if axis in places:
            to, first = places[axis], cuts.value(offset)
            if first is None:
                return {axis: to}
            rows = [to[1]] if isinstance(to, tuple) else entries(to)
            if isinstance(node.op, Fold) and not stride:
                return {} if first in rows else None
            if isinstance(node.op, Fold):
                found = [(row - first) // stride for row in rows if not (row - first) % stride]
            else:
                found = [first + stride * row for row in rows]
            found = [at for at in found if 0 <= at < cuts.length(arg.axes[axis].dim)]
            return {axis: (to[0], found[0]) if isinstance(to, tuple) else some(found)} if found else None
        case Fold(axis, taps=True) | Window(axis, taps=True):
            return _slid(cuts, node, axis, places)
        case Split(axis, count) if not places.keys().isdisjoint(range(axis, axis + count)):
            own = [[0] if isinstance(at := places.get(axis + k, 0), tuple) else entries(at) for k in range(count)]
            shape = lengths(node, axis, count)
            return {axis: some([int(np.ravel_multi_index(entry, shape)) for entry in product(*own)])}
        case Merge(axis, count) if axis in places and not isinstance(merged := places[axis], tuple):
            apart = np.unravel_index(entries(merged), lengths(arg, axis, count))
            return {axis + k: some([int(entry) for entry in entries]) for k, entries in enumerate(apart)}
    return {}


def _slid(cuts: Cuts, node: Node, axis: int, places: Mapping[int, Place]) -> Mapping[int, Place] | None:
    """Where entries come from that windows of several taps read, or that they are put together from."""
    to, asked = cuts.taps(node), [places.get(axis), places.get(axis + 1)]
    if isinstance(node.op, Fold):
        place = asked[0]
        if to is None or place is None or isinstance(place, tuple):
            return {}
        windows, taps = np.nonzero(np.isin(to, entries(place)))
        return {axis: some(windows.tolist()), axis + 1: some(taps.tolist())} if len(windows) else None
    if to is None or asked == [None, None]:
        return {}
    for k, place in enumerate(asked):
        if place is not None and not isinstance(place, tuple):
            to = to.take(entries(place), axis=k)
    length = cuts.length(cuts.program.nodes[node.args[0]].axes[axis].dim)
    found = to[(to >= 0) & (to < length)].tolist()
    return {axis: some(found)} if found else None


def behind_masks(
    cuts: Cuts, node: Node, at: dict[int, Place], indices: tuple[tuple[int, ...], tuple[int, ...]]
) -> bool:  # fmt: skip
    """Adds what of a sum a mask leaves at such places; False: nothing."""
    for arg, own in zip(node.args, indices, strict=False):
        if arg not in cuts.masked:
            continue
        key, _, query = cuts.masked[arg]
        for kept, summed in ((key, query), (query, key)):
            place, allowed = at.get(own[kept]), cuts.allowed(arg, kept)
            if place is None or isinstance(place, tuple) or own[summed] in at or allowed is None:
                continue
            left = np.flatnonzero(allowed[entries(place)].any(axis=0)).tolist()
            if not left:
                return False
            at[own[summed]] = some(left)
    return True
