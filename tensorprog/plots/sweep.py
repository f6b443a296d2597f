"""Transfer curves: the loss against the learning rate (or another hyperparameter), one line per width."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tensorprog.plots.style import (
    LARGE,
    LIGHT,
    NORMAL,
    SMALL,
    Theme,
    drawing,
    legend_columns,
    legend_style,
    new_axes,
    new_figure,
    plain,
)

PANEL, GAP, MARGIN = (2.6, 2.0), 0.25, (0.62, 0.92, 0.2, 0.78)  # inches; margins: left, bottom, right, top
WORDS = {"derived": "muP, derived", "sp": "standard parametrization", "ntp": "neural tangent parametrization"}
WIDEST = 0.75  # of the range of log2 loss that is shown above the best losses: the initial loss is far above


@dataclass(frozen=True, slots=True)
class Run:
    """One training run: final loss (None: diverged)."""

    parametrization: str
    size: int
    value: float
    seed: int
    loss: float | None


@dataclass(frozen=True, slots=True)
class Optimum:
    """The fitted best value at one size with its 95% interval, and the loss there (None: not found)."""

    parametrization: str
    size: int
    value: float | None
    low: float | None = None
    high: float | None = None
    loss: float | None = None


@dataclass(frozen=True, slots=True)
class Sweep:
    """`quantity`: what was swept, in words; `notes`: one line per parametrization, such as its drift."""

    title: str
    quantity: str
    size: str
    runs: tuple[Run, ...]
    optima: tuple[Optimum, ...] = ()
    notes: tuple[tuple[str, str], ...] = ()


def transfer_curves(sweep: Sweep, theme: Theme = LIGHT, *, columns: int = 3, heading: bool = True) -> Figure:
    """One panel per parametrization, with common axes: the mean loss over seeds (bars: from the least to the largest
    one), darker lines for wider networks, a star at every fitted optimum with its interval, a dashed line through the
    stars. Crosses at the top edge are runs that diverged or left the panel."""
    names = list(dict.fromkeys(run.parametrization for run in sweep.runs))
    sizes = sorted({run.size for run in sweep.runs})
    columns = max(1, min(columns, len(names)))
    lines = math.ceil(len(names) / columns)
    left, bottom, right, top = MARGIN if heading else (*MARGIN[:3], 0.45)
    width = left + columns * PANEL[0] + (columns - 1) * GAP + right
    height = bottom + lines * PANEL[1] + (lines - 1) * 0.75 + top
    colors = dict(zip(sizes, ramp(theme, len(sizes)), strict=True))
    low, high = _range(sweep)
    with drawing():
        figure = new_figure(width, height, theme)
        for k, name in enumerate(names):
            line, column = divmod(k, columns)
            y = height - top - PANEL[1] - line * (PANEL[1] + 0.75)
            axes = new_axes(figure, (left + column * (PANEL[0] + GAP), y, *PANEL), theme)
            axes.set_title(plain(WORDS.get(name, name)), fontsize=NORMAL, color=theme.ink, loc="left", pad=14,
                           fontweight="bold")  # fmt: skip
            axes.text(0, 1.03, plain(dict(sweep.notes).get(name, "")), transform=axes.transAxes, fontsize=SMALL - 0.5,
                      color=theme.muted)  # fmt: skip
            _panel(axes, sweep, name, colors, low, high, theme)
            axes.set_xlabel(plain(sweep.quantity), fontsize=SMALL)
            if column == 0:
                axes.set_ylabel("loss after training", fontsize=SMALL)
            else:
                axes.tick_params(labelleft=False)
        if heading:
            figure.text(0.13 / width, 1 - 0.16 / height, plain(sweep.title), fontsize=LARGE, fontweight="bold",
                        color=theme.ink, va="center")  # fmt: skip
        _legend(figure, sweep, colors, theme)
    return figure


def ramp(theme: Theme, count: int) -> list[str]:
    """Colours from narrow to wide."""
    a, b = (np.array(to_rgb(color)) for color in theme.ramp)
    return [to_hex(a + (b - a) * (k / max(1, count - 1))) for k in range(count)]


def _range(sweep: Sweep) -> tuple[float, float]:
    """The losses shown: from the least to a share of the way to the largest."""
    losses = [run.loss for run in sweep.runs if run.loss is not None and math.isfinite(run.loss) and run.loss > 0]
    if not losses:
        return 0.5, 2.0
    least = min(losses)
    best = [
        min(r.loss for r in group if r.loss) for group in _by_curve(sweep.runs).values() if any(r.loss for r in group)
    ]
    largest = max(max(best), least * (max(losses) / least) ** WIDEST)
    return least / (largest / least) ** 0.06, largest * (largest / least) ** 0.06


def _by_curve(runs: Sequence[Run]) -> dict[tuple[str, int], list[Run]]:
    groups: dict[tuple[str, int], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.parametrization, run.size), []).append(run)
    return groups


def _panel(axes: Axes, sweep: Sweep, name: str, colors: dict[int, str], low: float, high: float, theme: Theme) -> None:
    values = sorted({run.value for run in sweep.runs})
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xlim(values[0] / 1.3, values[-1] * 1.3)
    axes.set_ylim(low, high)
    axes.xaxis.set_major_formatter(lambda x, _: f"$2^{{{round(math.log2(x))}}}$")
    axes.yaxis.set_major_formatter(lambda x, _: f"{x:.3g}")
    axes.yaxis.set_minor_formatter(lambda x, _: "")
    axes.set_yticks(nice(low, high))
    axes.minorticks_off()
    axes.grid(axis="y", color=theme.grid, linewidth=0.5)
    axes.set_axisbelow(True)
    for (parametrization, size), runs in sorted(_by_curve(sweep.runs).items()):
        if parametrization != name:
            continue
        at = sorted({run.value for run in runs})
        seeds = [[run.loss for run in runs if run.value == value] for value in at]
        finite = [
            (v, [x for x in losses if x is not None]) for v, losses in zip(at, seeds, strict=True) if None not in losses
        ]
        mean = np.array([np.exp2(np.mean(np.log2(losses))) for _, losses in finite])
        x = np.array([v for v, _ in finite])
        spread = np.array([[m - min(losses), max(losses) - m] for (_, losses), m in zip(finite, mean, strict=True)])
        marks: dict[str, Any] = {"marker": "o", "markersize": 3, "elinewidth": 0.8, "linewidth": 1.3, "zorder": 3}
        axes.errorbar(x, mean, np.maximum(spread, 0).T if len(x) else None, color=colors[size], **marks)
        lost = [v for v, losses in zip(at, seeds, strict=True) if None in losses]
        lost += [v for v, m in zip(x, mean, strict=True) if m > high]
        axes.plot(
            lost, [high] * len(lost), linestyle="none", marker="x", markersize=4, color=colors[size], clip_on=False
        )
    found = sorted((o.size, o.value, o.loss, o.low, o.high) for o in sweep.optima
                   if o.parametrization == name and o.value is not None and o.loss is not None)  # fmt: skip
    axes.plot([best for _, best, _, _, _ in found], [loss for _, _, loss, _, _ in found], color=theme.disagrees,
              linewidth=0.8, zorder=4, linestyle=(0, (3, 2)))  # fmt: skip
    for _, best, loss, least, most in found:
        if least is not None and most is not None:
            axes.plot([least, most], [loss, loss], color=theme.disagrees, linewidth=1.1, zorder=4)
        axes.plot([best], [loss], marker="*", markersize=8.5, color=theme.disagrees, markeredgecolor=theme.ground,
                  markeredgewidth=0.5, zorder=5)  # fmt: skip


def nice(low: float, high: float) -> list[float]:
    """Round numbers in a range, at least two and rarely more than six."""
    found: list[float] = []
    for digits in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7), tuple(k / 10 for k in range(10, 100))):
        tens = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        found = [float(f"{d * 10.0**k:.12g}") for k in tens for d in digits if low <= d * 10.0**k <= high]
        if len(found) > 2:
            break
    return found[:: math.ceil(len(found) / 6)] if found else [low, high]


def _legend(figure: Figure, sweep: Sweep, colors: dict[int, str], theme: Theme) -> None:
    handles = [Line2D([], [], color=color, marker="o", markersize=3, linewidth=1.3, label=f"{sweep.size} = {size}")
               for size, color in colors.items()]  # fmt: skip
    handles.append(Line2D([], [], color=theme.disagrees, marker="*", markersize=7, linewidth=0.8, linestyle=(0, (3, 2)),
                          label="best, with 95% interval"))  # fmt: skip
    if any(line.get_marker() == "x" and np.size(line.get_xdata()) for axes in figure.axes for line in axes.lines):
        label = "diverged, or too large to show"
        handles.append(Line2D([], [], color=theme.muted, marker="x", markersize=4, linestyle="none", label=label))
    width, _ = figure.get_size_inches()
    figure.legend(handles=handles, loc="lower center", ncols=legend_columns(handles, width), **legend_style(theme))
