"""The computation graph coloured by exponent."""

from __future__ import annotations

from fractions import Fraction

from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, PathPatch, Rectangle
from matplotlib.path import Path

from tensorprog.derivation import Derivation
from tensorprog.exponents import Power
from tensorprog.plots.layout import Layout, Point, layered
from tensorprog.plots.style import LARGE, LIGHT, NORMAL, SMALL, Theme, drawing, new_figure, plain, shortened
from tensorprog.plots.view import CARDS, Card, Line, view

NAMES, CELL, HEAD, LINE, PAD = 1.35, 0.56, 0.26, 0.185, 0.07  # inches
GAP, LANE = (0.3, 0.3), 0.17
SIDE, TOP, BOTTOM = 0.2, 0.62, 1.0
CORNER = 0.08
LETTERS = 24
TIMES = "\N{MULTIPLICATION SIGN}"


def computation_graph(
    derivation: Derivation, theme: Theme = LIGHT, *, limit: int = CARDS, heading: bool = True
) -> Figure:
    """Cards from the input to the loss. A card names a tensor (or a block, by its result), with the exponents of its
    size at the start and of its change; below them the parameters used there, with initial std and learning rate.

    Cells that fall or grow with the width are tinted, and every cell says its power of the width.
    """
    shown = view(derivation, limit)
    sizes = [(_width(card), HEAD + LINE * len(card.lines) + (PAD if card.lines else 0)) for card in shown.cards]
    placed = layered(sizes, shown.edges, shown.back, gap=GAP, lane=LANE)
    top = TOP if heading else 0.15
    width = max(placed.width, NAMES + 2 * CELL + 0.6) + 2 * SIDE
    height = placed.height + top + BOTTOM
    with drawing():
        figure = new_figure(width, height, theme)
        axes: Axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.set_xlim(-(width - placed.width) / 2, placed.width + (width - placed.width) / 2)
        axes.set_ylim(placed.height + BOTTOM, -top)
        _edges(axes, placed, len(shown.edges), theme)
        for card, center, size in zip(shown.cards, placed.centers, sizes, strict=True):
            _card(axes, card, (center[0] - size[0] / 2, center[1] - size[1] / 2), size, theme)
        climbs = "width or depth" if derivation.architecture.graph.loops else "width"
        _legend(axes, placed, climbs, bool(shown.back), theme)
        if heading:
            name = derivation.architecture.file.replace("\\", "/").rpartition("/")[2]
            left = axes.get_xlim()[0] + 0.13
            axes.text(left, -top + 0.17, plain(f"{name} under {derivation.optimizer}"), fontsize=LARGE,
                      fontweight="bold", color=theme.ink, va="center")  # fmt: skip
            axes.text(
                left,
                -top + 0.38,
                f"{derivation.what}, form {derivation.form}",
                fontsize=SMALL,
                color=theme.muted,
                va="center",
            )
    return figure


def _width(card: Card) -> float:
    return NAMES + 2 * CELL + PAD


def _edges(axes: Axes, placed: Layout, forward: int, theme: Theme) -> None:
    for k, route in enumerate(placed.routes):
        dashes = "solid" if k < forward else (0, (3, 2))
        axes.add_patch(
            PathPatch(
                _rounded(route), facecolor="none", edgecolor=theme.muted, linewidth=0.9, zorder=1, linestyle=dashes
            )
        )
        x, y = route[-1]
        axes.add_patch(PathPatch(Path([(x, y), (x - 0.035, y - 0.07), (x + 0.035, y - 0.07), (x, y)]), linewidth=0,
                                 facecolor=theme.muted, zorder=1))  # fmt: skip


def _rounded(corners: tuple[Point, ...]) -> Path:
    """A line through the corners, each cut by a curve."""
    points = [p for k, p in enumerate(corners) if k == 0 or p != corners[k - 1]]
    vertices, codes = [points[0]], [Path.MOVETO]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        vertices += [_toward(corner, before), corner, _toward(corner, after)]
        codes += [Path.LINETO, Path.CURVE3, Path.CURVE3]
    return Path([*vertices, points[-1]], [*codes, Path.LINETO])


def _toward(corner: Point, other: Point) -> Point:
    dx, dy = other[0] - corner[0], other[1] - corner[1]
    length = max(abs(dx), abs(dy))
    share = min(CORNER, length / 2) / length
    return corner[0] + dx * share, corner[1] + dy * share


def _card(axes: Axes, card: Card, corner: Point, size: tuple[float, float], theme: Theme) -> None:
    x, y = corner
    dashed = (0, (3, 2)) if card.kind in ("input", "loss") else "solid"
    box = FancyBboxPatch(corner, *size, boxstyle="round,pad=0.02,rounding_size=0.05", facecolor=theme.card,
                         edgecolor=theme.muted if card.kind == "block" else theme.band, linestyle=dashed,
                         linewidth=1.1 if card.kind == "block" else 0.8, zorder=2)  # fmt: skip
    axes.add_patch(box)
    middle = y + HEAD / 2
    name = plain(shortened(card.name, LETTERS))
    axes.text(x + PAD, middle, name, fontsize=NORMAL if len(card.name) < 15 else SMALL, fontweight="bold",
              color=theme.ink, va="center", zorder=4)  # fmt: skip
    room = NAMES - PAD - 0.082 * len(card.name)
    shape = f"[{', '.join(card.shape)}]"
    if card.kind != "loss" and 0.05 * len(shape) < room:
        axes.text(x + NAMES - 0.04, middle, plain(shape), fontsize=SMALL - 1, color=theme.muted, va="center",
                  ha="right", zorder=4)  # fmt: skip
    if card.kind in ("tensor", "block"):
        _cell(axes, (x + NAMES, y + 0.025), HEAD - 0.05, card.start, "0", theme, strong=True)
        _cell(axes, (x + NAMES + CELL, y + 0.025), HEAD - 0.05, card.change, "0", theme, strong=True)
    for k, line in enumerate(card.lines):
        _line(axes, line, (x, y + HEAD + 0.02 + k * LINE), theme)


def _line(axes: Axes, line: Line, corner: Point, theme: Theme) -> None:
    x, y = corner
    unknown = line.kind == "multiplier"
    factor = f"  {TIMES} {_math(line.multiplier)}" if line.multiplier.exponents and not unknown else ""
    names, room = ", ".join(line.names), LETTERS - (5 if factor else 0)
    if len(names) > room and len(line.names) > 1:
        names = f"{line.names[0]}, … ({len(line.names)})"
    axes.text(x + PAD, y + LINE / 2, plain(shortened(names, room)) + factor, fontsize=SMALL - 0.5, color=theme.muted,
              va="center", zorder=4)  # fmt: skip
    if unknown:
        _cell(axes, (x + NAMES, y + 0.015), LINE - 0.03, line.multiplier, "", theme)
    else:
        _cell(axes, (x + NAMES, y + 0.015), LINE - 0.03, line.init, "0", theme)
        _cell(axes, (x + NAMES + CELL, y + 0.015), LINE - 0.03, line.lr, "-", theme)


def _cell(
    axes: Axes, corner: Point, height: float, power: Power | None, none: str, theme: Theme, *, strong: bool = False
) -> None:
    width = CELL - 0.03
    axes.add_patch(Rectangle(corner, width, height, facecolor=_tint(power, theme), linewidth=0, zorder=3))
    axes.text(corner[0] + width / 2, corner[1] + height / 2, none if power is None else _math(power), ha="center",
              va="center", fontsize=SMALL + 0.5 if strong else SMALL - 0.5, color=theme.ink, zorder=4)  # fmt: skip


def _tint(power: Power | None, theme: Theme) -> str:
    """The ground of a cell: half tinted up to exponent 1/2, fully from 1 on."""
    degree = Fraction(0) if power is None else power.degree
    if not degree:
        return theme.ground
    share = 0.55 if abs(degree) <= Fraction(1, 2) else 1.0
    r, g, b = (share * full + (1 - share) * ground for full, ground in zip(
        to_rgb(theme.grows if degree > 0 else theme.falls), to_rgb(theme.ground), strict=True))  # fmt: skip
    return to_hex((r, g, b))


def _math(power: Power) -> str:
    if not power.exponents:
        return "1"
    return " ".join(f"${s}$" if e == 1 else f"${s}^{{{e}}}$" for s, e in power.exponents)


def _legend(axes: Axes, placed: Layout, size: str, loops: bool, theme: Theme) -> None:
    left = axes.get_xlim()[0] + 0.2
    y = placed.height + 0.3
    entries = ((theme.falls, f"vanishes with {size}"), (theme.ground, "independent of it"), (theme.grows, "grows"))
    for color, text in entries:
        axes.add_patch(Rectangle((left, y - 0.06), 0.16, 0.12, facecolor=color, edgecolor=theme.band, linewidth=0.6))
        axes.text(left + 0.21, y, text, fontsize=SMALL - 0.5, color=theme.muted, va="center")
        left += 0.3 + 0.05 * len(text)
    left = axes.get_xlim()[0] + 0.2
    tensor = "bold: a tensor, its size at the start | its change"
    parameter = f"below: a parameter {TIMES} its multiplier, initial std | learning rate"
    axes.text(left, y + 0.2, tensor, fontsize=SMALL - 0.5, color=theme.muted, va="center")
    axes.text(left, y + 0.37, parameter, fontsize=SMALL - 0.5, color=theme.muted, va="center")
    if loops:
        axes.text(left, y + 0.54, "dashed: to the next layer", fontsize=SMALL - 0.5, color=theme.muted, va="center")
