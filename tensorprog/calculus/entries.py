"""Entries of an axis that are told apart: by labels, alike where nothing does; of a table's rows also by what may
choose them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np

Labels = np.ndarray  # of the entries of an axis: alike where nothing tells them apart
Token = tuple[int, tuple[tuple[int, int], ...]]  # an input of tokens, and entries of some of its axes


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Of the axis of a table's rows: what may choose one (input of tokens -> its axis -> which of its entries are told
    apart), and which rows slices tell apart. A token may choose any."""

    tokens: Mapping[int, Mapping[int, Labels]]
    labels: Labels | None = None

    @property
    def places(self) -> list[Token]:
        """One of each kind of tokens."""
        return [
            (root, chosen) for root, axes in sorted(self.tokens.items())
            for chosen in product(*[[(axis, k) for k in firsts(of)] for axis, of in sorted(axes.items())])
        ]  # fmt: skip

    def like(self, token: Token) -> Token | None:
        """That of `places` which is told apart from others as this one is; None if such tokens choose none here."""
        root, entries = token[0], dict(token[1])
        if root not in self.tokens:
            return None
        return root, tuple([(axis, alike(of, entries.get(axis, 0))) for axis, of in sorted(self.tokens[root].items())])


Cut = Labels | Rows  # of an axis


def common(one: Cut, other: Cut) -> Cut:
    """What tells apart all that one of them does."""
    if isinstance(one, Rows) or isinstance(other, Rows):
        both = [cut if isinstance(cut, Rows) else Rows({}, cut) for cut in (one, other)]
        tokens: dict[int, dict[int, Labels]] = {}
        for root, axes in [item for rows in both for item in rows.tokens.items()]:
            known = tokens.setdefault(root, {})
            for axis, of in axes.items():
                known[axis] = _joint(known[axis], of) if axis in known else of
        apart = [rows.labels for rows in both if rows.labels is not None]
        return Rows(tokens, _joint(*apart) if len(apart) > 1 else apart[0] if apart else None)
    return _joint(one, other)


def _joint(one: Labels, other: Labels) -> Labels:
    if one is other or len(one) != len(other):
        return one
    joint = counted(one * (int(other.max()) + 1) + other)
    return one if joint.max() == counted(one).max() else joint


def counted(labels: Labels) -> Labels:
    """The same, from 0 without gaps."""
    return np.unique(labels, return_inverse=True)[1]


def of_length(cut: Cut, length: int) -> Cut | None:
    """What is known of an axis of this length."""
    if isinstance(cut, Rows):
        return cut if cut.labels is None else Rows(cut.tokens, _labels_of(cut.labels, length))
    return _labels_of(cut, length)


def _labels_of(labels: Labels, length: int) -> Labels | None:
    return labels if len(labels) == length and labels.any() else None


def kinds(cuts: Mapping[int, Cut]) -> list[tuple[int, ...]]:
    """How many kinds of entries each axis has: more of them never become fewer."""
    return [(axis, *_kinds(cut)) for axis, cut in sorted(cuts.items())]


def _kinds(cut: Cut | None) -> tuple[int, ...]:
    if isinstance(cut, Rows):
        return (len(cut.places), *_kinds(cut.labels))
    return () if cut is None else (int(cut.max()),)


def rows_apart(rows: np.ndarray) -> Labels:
    """Labels of the rows of a matrix: alike where they are equal."""
    return np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1)


def first_of_each(labels: Labels) -> Labels:
    """Of every entry the first that is like it."""
    _, first, kind = np.unique(labels, return_index=True, return_inverse=True)
    return np.asarray(first[kind])


def firsts(labels: Labels) -> list[int]:
    """The first entry of each kind."""
    return [int(k) for k in np.unique(labels, return_index=True)[1]]


def alike(labels: Labels, entry: int) -> int:
    """The first entry that is like this one."""
    return int(np.argmax(labels == labels[entry]))
