"""The coordinate check as small multiples: the size of every tensor against the width, measured and predicted."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tensorprog.coordcheck.report import CheckReport, Row, when
from tensorprog.plots.select import Floats, Group, chosen, counts, groups, points, role
from tensorprog.plots.style import (
    LARGE,
    LIGHT,
    MARKS,
    NORMAL,
    SMALL,
    WORDS,
    Theme,
    drawing,
    legend_columns,
    legend_style,
    new_axes,
    new_figure,
    plain,
    power,
    shortened,
    symbol,
)

FILLS: dict[str, Any] = {"init": "none", "change": "full"}  # of the marks
SIGNS = {"init": "\N{WHITE CIRCLE}", "change": "\N{BLACK CIRCLE}"}  # the same in a line of text
PANEL, GAP, MARGIN = (1.2, 1.0), (0.18, 0.44), (0.6, 0.7, 0.15, 1.02)  # inches; margins: left, bottom, right, top
DODGE = 0.09  # octaves of width by which initial values stand left, changes right
PANELS = 12  # at most: what three columns show legibly where a page is 400 pixels wide
LONGEST = 17  # letters of a panel's title
TICKS = 4  # widths that are named, at most
ROOM = 0.35  # octaves above and below


def coordinate_check(
    report: CheckReport, theme: Theme = LIGHT, *, columns: int = 3, limit: int = PANELS, heading: bool = True
) -> Figure:
    """One panel per tensor (at most `limit`: see `select.chosen`): sizes over the ladder of widths with their 95%
    intervals, the predicted slope dashed, the verdict as the mark's shape and colour.

    Every row is divided by its size at the smallest width (that of a line through its points): predictions are about
    slopes, and so all panels share one scale. For a parametrization that was not derived, the dotted line is the
    calculus' own prediction.
    """
    shown = chosen(report, limit)
    columns = max(1, min(columns, len(shown)))
    lines = math.ceil(len(shown) / columns)
    left, bottom, right, top = MARGIN if heading else (*MARGIN[:3], 0.42)
    width = left + columns * PANEL[0] + (columns - 1) * GAP[0] + right
    handles = _handles(report, shown, theme)
    across = legend_columns(handles, width)
    bottom += 0.17 * (math.ceil(len(handles) / across) - 1)
    height = bottom + lines * PANEL[1] + (lines - 1) * GAP[1] + top
    low, high = _range(report, shown)
    with drawing():
        figure = new_figure(width, height, theme)
        for k, group in enumerate(shown):
            line, column = divmod(k, columns)
            x = left + column * (PANEL[0] + GAP[0])
            y = height - top - PANEL[1] - line * (PANEL[1] + GAP[1])
            axes = new_axes(figure, (x, y, *PANEL), theme)
            _scales(axes, report.widths, low, high, theme, first=column == 0, last=k + columns >= len(shown))
            axes.set_label(group.name)
            _panel(axes, report, group, theme)
        if heading:
            _heading(figure, report, len(shown), theme)
        figure.legend(handles=handles, loc="lower center", ncols=across, **legend_style(theme))
        said: dict[str, Any] = {"color": theme.muted, "fontsize": SMALL, "va": "center", "ha": "center"}
        figure.text(0.13 / width, 0.5, f"size, relative to that at the smallest {symbol(report)}", rotation=90, **said)
        figure.text(0.5, (bottom - 0.32) / height, symbol(report), **said)
    return figure


def _series(report: CheckReport, row: Row) -> tuple[Floats, Floats] | None:
    """Sizes and half intervals in octaves, relative to the size at the smallest width on a line through the points."""
    found = points(row)
    if found is None:
        return None
    sizes, half = found
    widths = np.array(report.widths, dtype=np.float64)
    _, level = np.polyfit(np.log2(widths / widths[0]), sizes, 1, w=widths**0.25)
    return sizes - level, np.where(np.isfinite(half), half, 0.0)


def _range(report: CheckReport, shown: list[Group]) -> tuple[float, float]:
    """The common vertical range in octaves."""
    low, high = -1.0, 1.0
    for row in (row for group in shown for row in group.rows):
        found = _series(report, row)
        if found is not None:
            low, high = min(low, *(found[0] - found[1])), max(high, *(found[0] + found[1]))
            for exponent in (row.predicted, row.calculus):
                end = math.log2(report.widths[-1] / report.widths[0]) * float(Fraction(exponent or 0))
                low, high = min(low, end), max(high, end)
    return low - ROOM, high + ROOM


def _scales(
    axes: Axes, widths: tuple[int, ...], low: float, high: float, theme: Theme, *, first: bool, last: bool
) -> None:
    ends = math.log2(widths[0]), math.log2(widths[-1])
    axes.set_xlim(ends[0] - ROOM, ends[1] + ROOM)
    axes.set_ylim(low, high)
    every = math.ceil(len(widths) / TICKS)
    ticks = widths[::every]
    axes.set_xticks([math.log2(n) for n in ticks], [str(n) for n in ticks] if last else [""] * len(ticks))
    step = max(1, math.ceil((high - low) / 6))
    octaves = [k * step for k in range(math.ceil(low / step), math.floor(high / step) + 1)]
    axes.set_yticks(octaves, [_ratio(k) for k in octaves] if first else [""] * len(octaves))
    axes.grid(axis="y", color=theme.grid, linewidth=0.5)
    axes.set_axisbelow(True)


def _ratio(octaves: int) -> str:
    """2^k as people write it."""
    if abs(octaves) > 10:
        return f"$2^{{{octaves}}}$"
    return str(2**octaves) if octaves >= 0 else f"1/{2**-octaves}"


def _panel(axes: Axes, report: CheckReport, group: Group, theme: Theme) -> None:
    axes.set_title(
        plain(shortened(group.tensor, LONGEST)), fontsize=NORMAL, color=theme.ink, loc="left", pad=13, fontweight="bold"
    )
    axes.text(
        0,
        1.04,
        _claims(group, report.steps, symbol(report)),
        transform=axes.transAxes,
        fontsize=SMALL,
        color=theme.muted,
    )
    logs = np.log2(np.array(report.widths, dtype=np.float64))
    for k, row in enumerate(group.rows):
        found = _series(report, row)
        color = theme.verdict(row.verdict)
        if found is None:
            if row.reason:
                axes.text(0.5, 0.16 if k else 0.84, f"{when(row.part, row.step)}: {row.reason}", color=color, wrap=True,
                          fontsize=SMALL - 1, ha="center", va="center", transform=axes.transAxes)  # fmt: skip
            continue
        sizes, half = found
        x = logs + (DODGE if role(row) == "change" else -DODGE)
        _line(axes, x, row.predicted, theme.ink, (0, (4, 2.5)))
        if row.calculus != row.predicted:
            _line(axes, x, row.calculus, theme.muted, (0, (1, 1.6)))
        axes.plot(x, sizes, color=color, linewidth=0.7, alpha=0.6, zorder=2)
        mark: dict[str, Any] = {"fmt": MARKS[row.verdict], "fillstyle": FILLS[role(row)]}
        axes.errorbar(x, sizes, half, color=color, markersize=4, markeredgewidth=0.9, elinewidth=0.9, zorder=3, **mark)


def _line(axes: Axes, x: Floats, exponent: str | None, color: str, dashes: tuple[int, tuple[float, float]]) -> None:
    if exponent is not None:
        slope = float(Fraction(exponent))
        axes.plot(x, slope * (x - x[0]), color=color, linewidth=0.9, linestyle=dashes, zorder=1)


def _claims(group: Group, steps: int, of: str) -> str:
    """What is measured, unless it is the tensor itself, and the predictions behind their marks:
    `spectral ○ n^0 ● n^-1, step 2`."""
    claims = [
        f"{SIGNS[role(row)]} {power(row.predicted, of)}" + (f", step {row.step}" if row.step and steps > 1 else "")
        for row in group.rows
    ]
    return " ".join([group.what, *claims]).strip()


def _heading(figure: Figure, report: CheckReport, shown: int, theme: Theme) -> None:
    width, height = figure.get_size_inches()
    total = len(groups(report))
    some = "" if shown == total else f"\n{shown} of {total} tensors, those that agree least among them"
    name = report.file.replace("\\", "/").rpartition("/")[2]
    parametrization = "muP" if report.parametrization == "derived" else report.parametrization
    figure.text(0.13 / width, 1 - 0.16 / height, f"{plain(name)} under {report.optimizer}, {parametrization}",
                fontsize=LARGE, fontweight="bold", color=theme.ink, va="center")  # fmt: skip
    figure.text(0.13 / width, 1 - 0.3 / height, counts(report) + some, fontsize=SMALL, color=theme.muted, va="top",
                linespacing=1.4)  # fmt: skip


def _handles(report: CheckReport, shown: list[Group], theme: Theme) -> list[Line2D]:
    """The legend's entries."""
    roles = sorted({role(row) for group in shown for row in group.rows}, reverse=True)
    common: dict[str, Any] = {"linestyle": "none", "markersize": 4, "markeredgewidth": 0.9}
    handles = [
        Line2D([], [], marker="o", color=theme.muted, fillstyle=FILLS[name], label=name, **common) for name in roles
    ]
    handles += [Line2D([], [], marker=MARKS[word], color=theme.verdict(word), label=word, **common)
                for word in reversed(WORDS)]  # fmt: skip
    handles.append(Line2D([], [], color=theme.ink, linewidth=0.9, linestyle=(0, (4, 2.5)), label="predicted slope"))
    if report.parametrization != "derived":
        label = f"the calculus for {report.parametrization}"
        handles.append(Line2D([], [], color=theme.muted, linewidth=0.9, linestyle=(0, (1, 1.6)), label=label))
    return handles
