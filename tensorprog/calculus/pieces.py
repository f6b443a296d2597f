"""In which order nodes are brought up to date where layers read each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tensorprog.graph import Program
from tensorprog.graph import readers as readers_of


@dataclass(frozen=True, slots=True)
class Piece:
    """Nodes that are brought up to date one after the other. `circular`: each is made of all others."""

    nodes: Sequence[int]
    circular: bool = False


def pieces(program: Program) -> list[Piece]:
    """Every node after what it reads, but for those that layers make of each other: they are one piece. So what only
    reads a stream is worked out when the stream is settled, and gradients when the network is."""
    nodes = program.nodes
    readers = readers_of(nodes)
    back = [(node.id, a) for node in nodes for a in node.args if a > node.id]  # to what is read before its turn
    found: list[Piece] = []
    done = 0
    for first, last in _merged(back):
        ends = [(reader, source) for reader, source in back if first <= reader <= last]
        after = _reached({reader for reader, _ in ends}, readers, first, last)
        before = _reached({source for _, source in ends}, [node.args for node in nodes], first, last)
        inside = range(first, last + 1)
        found += [
            Piece([*range(done, first), *(k for k in inside if k not in after)]),
            Piece([k for k in inside if k in after and k in before], circular=True),
            Piece([k for k in inside if k in after and k not in before]),
        ]
        done = last + 1
    return [*found, Piece(range(done, len(nodes)))]


def with_parts(found: Sequence[Piece], of: Mapping[int, int], behind: Iterable[int]) -> list[Piece]:
    """The same, and the parts of nodes (part -> node) behind them: these read one another as the nodes do. `behind`:
    all that stands behind the nodes, parts and what they need besides."""
    place = {k: at for at, piece in enumerate(found) for k in piece.nodes}
    parts: list[list[int]] = [[] for _ in found]
    for part, whole in of.items():
        parts[place[whole]].append(part)
    needed = Piece([k for k in behind if k not in of])
    return [*found, needed, *(Piece(nodes, piece.circular) for nodes, piece in zip(parts, found, strict=True))]


def _merged(intervals: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Intervals without overlaps that cover the given ones."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(intervals):
        if found and first <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return found


def _reached(start: set[int], edges: Sequence[Sequence[int]], first: int, last: int) -> set[int]:
    """What lies between the first and the last node and is reached from the start."""
    found, pending = set(start), list(start)
    while pending:
        for k in edges[pending.pop()]:
            if first <= k <= last and k not in found:
                found.add(k)
                pending.append(k)
    return found
