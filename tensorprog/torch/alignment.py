"""Which operation of a changed model is which of the model as it was read.

A hook may change what the code behind it does: `nn.MultiheadAttention` projects query, key and value at once where they
are one tensor, one by one where a factor has made them different.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Named = tuple[str, str]  # operation, module


@dataclass(frozen=True)
class Alignment:
    """`operations`: those of the changed model; `place`: their numbers -> those in the recording."""

    operations: tuple[Named, ...]
    place: Mapping[int, int]


def align(ours: Sequence[Named], read: Sequence[Named]) -> Alignment:
    """Module by module, from its first operation on and back from its last, as far as they are the same."""
    if tuple(ours) == tuple(read):
        return Alignment(tuple(ours), {k: k for k in range(len(ours))})
    here, there = _by_module(ours), _by_module(read)
    place: dict[int, int] = {}
    for module, places in here.items():
        known = there.get(module, [])
        for direction in (1, -1):
            for a, b in zip(places[::direction], known[::direction], strict=False):
                if ours[a] != read[b]:
                    break
                place.setdefault(a, b)
    return Alignment(tuple(ours), place)


def _by_module(operations: Sequence[Named]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for k, (_, module) in enumerate(operations):
        found.setdefault(module, []).append(k)
    return found
