"""Which rows of a check are drawn, and the points of one row."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tensorprog.coordcheck.report import CheckReport, Row
from tensorprog.coordcheck.statistics import pooled
from tensorprog.plots.style import WORDS

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Group:
    """What is drawn of a tensor, together: its start and its change, each at the step that agrees least. Whatever else
    is measured of it (its spectral norm, its gradient, a part of a product: `what`) is a group of its own."""

    tensor: str
    what: str
    rows: tuple[Row, ...]

    @property
    def name(self) -> str:
        return f"{self.tensor} {self.what}".strip()

    @property
    def badness(self) -> int:
        """0 if a row disagrees, 1 if one is inconclusive, 2 if all agree."""
        return min(WORDS.index(row.verdict) for row in self.rows)


def role(row: Row) -> str:
    """Which of the two places in its group a row takes: `init` | `change`."""
    return "init" if row.part.endswith("init") else "change"


def groups(report: CheckReport) -> list[Group]:
    """All groups, in the order in which their first rows come."""
    worst: dict[tuple[str, str], dict[str, Row]] = {}
    for row in report.rows:
        what = row.part.removesuffix(role(row)).strip()
        known = worst.setdefault((row.tensor, what), {})
        if role(row) not in known or WORDS.index(row.verdict) < WORDS.index(known[role(row)].verdict):
            known[role(row)] = row
    return [Group(*key, tuple(rows.values())) for key, rows in worst.items()]


def chosen(report: CheckReport, limit: int) -> list[Group]:
    """At most `limit` groups in their order. If there are more, one stands for those whose names differ only
    in a layer's number (the one that agrees least); then all that do not agree are kept, and as many others as there is
    room for, evenly spread over the network, those with names of their own first."""
    found = groups(report)
    if len(found) <= limit:
        return found
    place = {group.name: k for k, group in enumerate(found)}
    worst: dict[str, Group] = {}
    for group in found:
        kind = re.sub(r"(?<=\.)\d+(?=\.)", "*", group.name)
        if kind not in worst or group.badness < worst[kind].badness:
            worst[kind] = group
    kept = sorted((g for g in worst.values() if g.badness < 2), key=lambda g: (g.badness, place[g.name]))[:limit]
    for own_name in (True, False):
        others = [g for g in worst.values() if g.badness == 2 and g.name.startswith("[") != own_name]
        kept += spread(others, limit - len(kept))
    return sorted(kept, key=lambda g: place[g.name])


def spread(items: list[Group], count: int) -> list[Group]:
    """At most `count` of the items at even distances, the last one always among them."""
    if count <= 0:
        return []
    if count >= len(items):
        return items
    return [items[-1 - (k * len(items)) // count] for k in range(count)]


def points(row: Row) -> tuple[Floats, Floats] | None:
    """log2 of the row's size at every width and half its 95% interval; None if a size is zero or not finite."""
    rms = np.array(row.rms, dtype=np.float64)
    if rms.ndim != 2 or not rms.size or not np.all(np.isfinite(rms)) or not np.all(rms > 0):
        return None
    return pooled(rms)


def counts(report: CheckReport) -> str:
    """How many rows have which verdict, in words."""
    return (f"{report.count('agrees')} rows agree, {report.count('inconclusive')} inconclusive, "
            f"{report.count('disagrees')} disagree")  # fmt: skip
