"""Slices through the space of parametrizations: polygons with names, and points in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.patches import Polygon

from tensorprog.errors import TensorProgError
from tensorprog.plots.style import LARGE, LIGHT, NORMAL, SMALL, Theme, drawing, new_axes, new_figure, plain

if TYPE_CHECKING:
    from tensorprog.classify import Classification

SIZE, MARGIN = 3.4, (0.7, 0.6, 0.25, 0.5)  # inches; margins: left, bottom, right, top
Vertex = tuple[Fraction, Fraction]


@dataclass(frozen=True, slots=True)
class Region:
    """A polygon with a name. `kind`: stable | maximal | unstable | trivial; fewer than three vertices are a line or a
    point."""

    label: str
    vertices: tuple[Vertex, ...]
    kind: str = "stable"


@dataclass(frozen=True, slots=True)
class Mark:
    """A parametrization at its exponents."""

    label: str
    at: Vertex


def stable_region(
    regions: Sequence[Region], marks: Sequence[Mark], x: str, y: str, title: str = "", theme: Theme = LIGHT,
    *, seen: tuple[Vertex, Vertex] | None = None,
) -> Figure:  # fmt: skip
    """The regions in the plane of two exponents, called `x` and `y`, with named points. Exponents are exact; every
    region says its name and has a hatch of its own. `seen`: opposite corners of the part of the plane that the regions
    were cut to; the picture ends where they were cut, as a region may go on there. It says so if there is no region."""
    grounds = {"stable": (theme.falls, ""), "unstable": (theme.grows, "///"), "trivial": (theme.band, "..."),
               "maximal": (theme.agrees, "")}  # fmt: skip
    xs = [float(v[0]) for region in regions for v in region.vertices] + [float(mark.at[0]) for mark in marks]
    ys = [float(v[1]) for region in regions for v in region.vertices] + [float(mark.at[1]) for mark in marks]
    if seen and not regions:  # all that was looked at is empty
        xs, ys = [float(x) for x, _ in seen], [float(y) for _, y in seen]
    left, bottom, right, top = MARGIN
    with drawing(**{"hatch.linewidth": 0.4}):
        figure = new_figure(left + SIZE + right, bottom + SIZE + top, theme)
        axes = new_axes(figure, (left, bottom, SIZE, SIZE), theme)
        across, along = zip(*seen, strict=True) if seen else ((), ())
        for values, ends, limit, ticks in ((xs, across, axes.set_xlim, axes.set_xticks),
                                           (ys, along, axes.set_ylim, axes.set_yticks)):  # fmt: skip
            low, high = min(values, default=0.0), max(values, default=1.0)
            pad = 0.06 * (high - low or 1.0)
            limit(low if low in ends else low - pad, high if high in ends else high + pad)
            step = Fraction(1, 2) if high - low <= 3 else Fraction(1)
            marks_ = [k * step for k in range(int(low / step) - 1, int(high / step) + 2) if low <= k * step <= high]
            ticks([float(t) for t in marks_], [str(t).replace("-", "\N{MINUS SIGN}") for t in marks_])
        axes.grid(color=theme.grid, linewidth=0.5)
        axes.set_axisbelow(True)
        for region in regions:
            ground, hatch = grounds.get(region.kind, (theme.card, ""))
            points = [(float(a), float(b)) for a, b in region.vertices]
            if len(points) > 2:
                axes.add_patch(Polygon(points, closed=True, facecolor=ground, edgecolor=theme.muted, hatch=hatch,
                                       linewidth=0.8, alpha=0.85))  # fmt: skip
            else:
                axes.plot(*zip(*points, strict=True), color=ground, linewidth=3, solid_capstyle="round", marker="o",
                          markersize=3)  # fmt: skip
            middle = sum(p[0] for p in points) / len(points), sum(p[1] for p in points) / len(points)
            axes.text(*middle, plain(region.label), fontsize=SMALL, color=theme.ink, ha="center", va="center",
                      bbox={"facecolor": theme.ground, "edgecolor": "none", "alpha": 0.75, "pad": 1.2})  # fmt: skip
        if not regions:
            axes.text(0.5, 0.9, "nothing here is stable", fontsize=NORMAL, color=theme.muted, ha="center",
                      transform=axes.transAxes)  # fmt: skip
        for mark in marks:
            at = float(mark.at[0]), float(mark.at[1])
            axes.plot(*at, marker="o", markersize=5, color=theme.ink, markeredgecolor=theme.ground, markeredgewidth=0.8)
            axes.annotate(plain(mark.label), at, xytext=(5, 5), textcoords="offset points", fontsize=NORMAL,
                          fontweight="bold", color=theme.ink)  # fmt: skip
        axes.set_xlabel(plain(x), fontsize=NORMAL)
        axes.set_ylabel(plain(y), fontsize=NORMAL)
        axes.set_title(plain(title), fontsize=LARGE, fontweight="bold", color=theme.ink, loc="left")
    return figure


def stable_plane(found: Classification, theme: Theme = LIGHT) -> Figure:
    """The plane through a classified parametrization in which two exponents vary: the stable polygon, if there is one,
    and the parametrization. Raises TensorProgError if no plane was asked for."""
    if found.region is None:
        raise TensorProgError("there is no plane to draw", why="no two exponents vary", fix="--region 'lr[W1],lr[W2]'")
    regions = [Region("stable", found.region.vertices)] if found.region.vertices else []
    name = found.parametrization.name.rpartition("/")[2]
    title = found.architecture.file.replace("\\", "/").rpartition("/")[2]
    x, y = (f"exponent of {label}" for label in found.region.labels)
    from tensorprog.programme.region import REACH

    (a, b), title = found.region.here, f"{title} under {found.optimizer}"
    seen = (a - REACH, b - REACH), (a + REACH, b + REACH)
    return stable_region(regions, [Mark(name, found.region.here)], x, y, title, theme, seen=seen)
