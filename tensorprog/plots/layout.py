"""Where the cards of a graph stand: rows from top to bottom, and edges that cross no card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import networkx as nx

SWEEPS = 4
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Layout:
    """`centers`: of every card, x to the right, y downwards; `routes`: of every edge, the corners of its line;
    `width`, `height` of the whole. Same unit as the sizes given."""

    centers: tuple[Point, ...]
    routes: tuple[tuple[Point, ...], ...]
    width: float
    height: float


def layered(
    sizes: Sequence[tuple[float, float]],
    edges: Sequence[tuple[int, int]],
    back: Sequence[tuple[int, int]] = (),
    *,
    gap: Point,
    lane: float,
) -> Layout:
    """Cards of `sizes` (width, height) in rows, each below all that it depends on; what depends on nothing stands right
    above its first user. Edges to the next row are straight; longer ones take a lane at the right side.

    `gap`: between cards of a row and between rows; `lane`: between lanes. `edges` must have no cycle; those of
    `back` lead upwards, and their routes come last.
    """
    rows = _rows(len(sizes), edges)
    row_of = {card: k for k, row in enumerate(rows) for card in row}
    widths = [sum(sizes[c][0] for c in row) + gap[0] * (len(row) - 1) for row in rows]
    heights = [max(sizes[c][1] for c in row) for row in rows]
    body = max(widths)
    tops = [sum(heights[:k]) + gap[1] * k for k in range(len(rows))]
    centers: dict[int, Point] = {}
    for k, row in enumerate(rows):
        x = (body - widths[k]) / 2
        for card in row:
            centers[card] = (x + sizes[card][0] / 2, tops[k] + heights[k] / 2)
            x += sizes[card][0] + gap[0]
    long = [*((a, b) for a, b in edges if row_of[b] - row_of[a] > 1), *back]
    lanes = _lanes(
        [(row_of[a], row_of[b]) if row_of[a] < row_of[b] else (row_of[b] - 1, row_of[a] + 1) for a, b in long]
    )
    lane_of = dict(zip(long, lanes, strict=True))
    routes: list[tuple[Point, ...]] = []
    for a, b in [*edges, *back]:
        start = centers[a][0], centers[a][1] + sizes[a][1] / 2
        end = centers[b][0], centers[b][1] - sizes[b][1] / 2
        if (a, b) in lane_of:
            x = body + lane * (1 + lane_of[a, b])
            below, above = tops[row_of[a]] + heights[row_of[a]] + gap[1] * 0.3, tops[row_of[b]] - gap[1] * 0.55
            routes.append((start, (start[0], below), (x, below), (x, above), (end[0], above), end))
        else:
            middle = (tops[row_of[b]] - gap[1] * 0.55) if start[0] != end[0] else end[1]
            routes.append((start, (start[0], middle), (end[0], middle), end))
    width = body + lane * (1 + max(lanes, default=-1))
    return Layout(tuple(centers[k] for k in range(len(sizes))), tuple(routes), width, tops[-1] + heights[-1])


def _rows(count: int, edges: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Longest paths from the top; sources pulled down to their users; neighbours brought near one another."""
    graph: nx.DiGraph[int] = nx.DiGraph()
    graph.add_nodes_from(range(count))
    graph.add_edges_from(edges)
    row = {card: k for k, generation in enumerate(nx.topological_generations(graph)) for card in generation}
    for card in range(count):
        if graph.in_degree(card) == 0 and graph.out_degree(card):
            row[card] = min(row[user] for user in graph.successors(card)) - 1
    numbers = {k: place for place, k in enumerate(sorted(set(row.values())))}
    rows: list[list[int]] = [[] for _ in numbers]
    for card in range(count):
        rows[numbers[row[card]]].append(card)
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        for cards in rows if down else reversed(rows):
            place = {c: k - (len(r) - 1) / 2 for r in rows for k, c in enumerate(r)}
            near = {c: list(graph.predecessors(c) if down else graph.successors(c)) for c in cards}
            cards.sort(key=lambda c: sum(place[o] for o in near[c]) / len(near[c]) if near[c] else place[c])
    return rows


def _lanes(spans: Sequence[tuple[int, int]]) -> list[int]:
    """A lane for every span of rows such that none share a lane and a row; short spans on the inside."""
    lanes: dict[int, list[tuple[int, int]]] = {}
    result = [0] * len(spans)
    for k in sorted(range(len(spans)), key=lambda k: (spans[k][1] - spans[k][0], spans[k])):
        lane, (top, bottom) = 0, spans[k]
        while any(top < other[1] and other[0] < bottom for other in lanes.get(lane, ())):
            lane += 1
        lanes.setdefault(lane, []).append(spans[k])
        result[k] = lane
    return result
