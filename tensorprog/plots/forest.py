"""The forest plot: the measured slope of every tensor with its interval, beside the predicted exponent."""

from __future__ import annotations

from fractions import Fraction

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from tensorprog.coordcheck.report import CheckReport, Row
from tensorprog.plots.select import chosen, counts, groups, role
from tensorprog.plots.style import (
    LARGE,
    LIGHT,
    MARKS,
    SMALL,
    WORDS,
    Theme,
    drawing,
    legend_columns,
    legend_style,
    new_axes,
    new_figure,
    plain,
    shortened,
    symbol,
)

LINES = 60  # at most
LETTER, GAP, LINE = 0.062, 0.14, 0.19  # inches
TOP, BOTTOM, RIGHT = 0.62, 0.78, 0.14
COLUMN = {False: 1.65, True: 1.15}  # narrow or not
LONGEST = {False: 30, True: 22}  # letters of a name
REACH = 3.0  # slopes further out than this beyond all predictions are drawn at the edge, with an arrow


def slope_forest(
    report: CheckReport, theme: Theme = LIGHT, *, limit: int = LINES, narrow: bool = False, heading: bool = True
) -> Figure:
    """One line per tensor (at most `limit`: see `select.chosen`), one column for starts and one for changes: a box at
    the predicted exponent, as wide as the tolerance, and the measured slope with its 95% interval, the verdict as shape
    and colour. `narrow`: for a phone."""
    column, longest = COLUMN[narrow], LONGEST[narrow]
    shown = chosen(report, limit)
    roles = sorted({role(row) for group in shown for row in group.rows}, reverse=True)
    top = TOP if heading else 0.34
    names = 0.25 + LETTER * min(longest, max((len(group.name) for group in shown), default=0))
    width = names + len(roles) * column + (len(roles) - 1) * GAP + RIGHT
    height = top + len(shown) * LINE + BOTTOM
    low, high = _range([row for group in shown for row in group.rows], report.tolerance)
    with drawing():
        figure = new_figure(width, height, theme)
        for place, name in enumerate(roles):
            box = (names + place * (column + GAP), BOTTOM, column, len(shown) * LINE)
            axes = new_axes(figure, box, theme)
            _scales(axes, low, high, len(shown), theme)
            axes.set_title(name, fontsize=SMALL, color=theme.muted, loc="left", pad=4)
            for line, group in enumerate(shown):
                if place == 0:
                    axes.text(-0.05, line, plain(shortened(group.name, longest)), ha="right", va="center",
                              transform=axes.get_yaxis_transform(), fontsize=SMALL, color=theme.ink)  # fmt: skip
                for row in group.rows:
                    if role(row) == name:
                        _row(axes, row, line, low, high, report.tolerance, theme)
        if heading:
            _heading(figure, report, len(shown), theme)
        figure.text(
            names / width,
            0.46 / height,
            f"exponent of {symbol(report)}",
            fontsize=SMALL,
            color=theme.muted,
            va="center",
        )
        _legend(figure, report, theme)
    return figure


def _range(rows: list[Row], tolerance: float) -> tuple[float, float]:
    """The common range of exponents: all predictions, and the measured slopes within reach of them."""
    predicted = [float(Fraction(row.predicted)) for row in rows if row.predicted is not None] or [0.0]
    edges = min(predicted) - REACH, max(predicted) + REACH
    ends = [end for row in rows for end in (row.low, row.high, row.measured) if end is not None]
    inside = [min(max(end, edges[0]), edges[1]) for end in ends]
    return min(*inside, *predicted, 0.0) - 2 * tolerance, max(*inside, *predicted, 0.0) + 2 * tolerance


def _scales(axes: Axes, low: float, high: float, lines: int, theme: Theme) -> None:
    axes.set_xlim(low, high)
    axes.set_ylim(lines - 0.5, -0.5)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    step = Fraction(1, 2) if high - low < 2.6 else Fraction(1) if high - low < 6 else Fraction(2)
    ticks = [k * step for k in range(int(low / step) - 1, int(high / step) + 2) if low <= k * step <= high]
    axes.set_xticks([float(tick) for tick in ticks], [str(tick).replace("-", "\N{MINUS SIGN}") for tick in ticks])
    axes.grid(axis="x", color=theme.grid, linewidth=0.6)
    axes.set_axisbelow(True)


def _row(axes: Axes, row: Row, place: int, low: float, high: float, tolerance: float, theme: Theme) -> None:
    color = theme.verdict(row.verdict)
    if row.predicted is not None:
        center = float(Fraction(row.predicted))
        axes.add_patch(
            Rectangle((center - tolerance, place - 0.36), 2 * tolerance, 0.72, color=theme.band, linewidth=0)
        )
        axes.plot([center, center], [place - 0.36, place + 0.36], color=theme.ink, linewidth=0.9)
    if row.measured is None:
        text = "zero" if row.predicted is None and row.verdict == "agrees" else row.reason
        center = 0.0 if row.predicted is None else float(Fraction(row.predicted)) + tolerance
        axes.text(center, place, f" {text}", fontsize=SMALL - 1, color=color, va="center")
        return
    at = min(max(row.measured, low + 0.05), high - 0.05)
    mark = MARKS[row.verdict] if at == row.measured else ">" if at < row.measured else "<"
    if row.low is not None and row.high is not None:
        axes.plot([max(row.low, low), min(row.high, high)], [place, place], color=color, linewidth=1.3,
                  solid_capstyle="butt")  # fmt: skip
    size = 5.5 if mark == "X" else 4.2
    axes.plot([at], [place], marker=mark, color=color, markersize=size, markeredgewidth=0)


def _heading(figure: Figure, report: CheckReport, shown: int, theme: Theme) -> None:
    width, height = figure.get_size_inches()
    total = len(groups(report))
    name = report.file.replace("\\", "/").rpartition("/")[2]
    parametrization = "muP" if report.parametrization == "derived" else report.parametrization
    figure.text(0.13 / width, 1 - 0.15 / height, f"{plain(name)} under {report.optimizer}, {parametrization}",
                fontsize=LARGE, fontweight="bold", color=theme.ink, va="center")  # fmt: skip
    some = "" if shown == total else f"; {shown} of {total} tensors shown"
    figure.text(0.13 / width, 1 - 0.35 / height, counts(report) + some, fontsize=SMALL, color=theme.muted, va="center")


def _legend(figure: Figure, report: CheckReport, theme: Theme) -> None:
    handles: list[Line2D | Rectangle] = [
        Line2D([], [], linestyle="none", marker=MARKS[word], markersize=4, color=theme.verdict(word), label=word)
        for word in reversed(WORDS)
    ]
    handles.append(Rectangle((0, 0), 1, 1, color=theme.band, label=f"predicted ± {report.tolerance:g}"))
    width, _ = figure.get_size_inches()
    figure.legend(handles=handles, loc="lower center", ncols=legend_columns(handles, width), **legend_style(theme))
