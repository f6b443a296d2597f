"""Themes, marks, and how a figure becomes bytes: what all plots share.

Colours are those of Okabe & Ito (2008), "Color universal design", adjusted for a dark ground; no meaning rests on
colour alone.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tensorprog.coordcheck.report import CheckReport
from tensorprog.errors import TensorProgError

FORMATS = ("svg", "png", "pdf")
DPI = 200
SMALL, NORMAL, LARGE = 7.0, 8.0, 10.0  # points
LETTER, HANDLE = 0.058, 0.34  # inches, in a legend: a letter; a handle with its gaps


@dataclass(frozen=True, slots=True)
class Theme:
    """The colours of a plot, each different from the others (a page may replace them by its own)."""

    name: str
    ground: str
    card: str
    ink: str
    muted: str
    grid: str
    band: str
    agrees: str
    inconclusive: str
    disagrees: str
    falls: str  # the ground of what vanishes with width
    grows: str  # the ground of what blows up
    ramp: tuple[str, str]  # narrow to wide

    def verdict(self, verdict: str) -> str:
        return {"agrees": self.agrees, "disagrees": self.disagrees}.get(verdict, self.inconclusive)


LIGHT = Theme("light", ground="#ffffff", card="#f5f6f8", ink="#1b1f24", muted="#5b6470", grid="#dfe3e8",
              band="#c9d3dd", agrees="#0072b2", inconclusive="#b8860b", disagrees="#a62000", falls="#cfe3f3",
              grows="#fbd9c6", ramp=("#a9c8e2", "#0b2f52"))  # fmt: skip
DARK = Theme("dark", ground="#12161c", card="#1c222b", ink="#e8ecf1", muted="#9aa6b4", grid="#2c3540",
             band="#3d4a59", agrees="#56b4e9", inconclusive="#e6b422", disagrees="#ff8552", falls="#1f4461",
             grows="#6b3219", ramp=("#2f5f88", "#dcecfa"))  # fmt: skip
THEMES = {theme.name: theme for theme in (LIGHT, DARK)}
MARKS = {"agrees": "o", "inconclusive": "D", "disagrees": "X"}  # the shape says what the colour says
WORDS = ("disagrees", "inconclusive", "agrees")  # worst first

_SETTINGS: dict[str, Any] = {
    "font.family": "DejaVu Sans", "font.size": NORMAL, "mathtext.fontset": "dejavusans", "svg.hashsalt": "tensorprog",
    "axes.unicode_minus": True, "pdf.fonttype": 42,
}  # fmt: skip


@contextmanager
def drawing(**settings: Any) -> Iterator[None]:
    """The same defaults whatever the user's own matplotlibrc says; restored afterwards."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        known: Any = matplotlib.rcParams  # its type lists every name
        known.update(_SETTINGS | settings)
        yield


def new_figure(width: float, height: float, theme: Theme) -> Figure:
    """An empty figure of that size in inches."""
    return Figure(figsize=(width, height), facecolor=theme.ground)


def new_axes(figure: Figure, box: tuple[float, float, float, float], theme: Theme) -> Axes:
    """Axes at `box` = (left, bottom, width, height) in inches, in the theme's colours, without a frame."""
    w, h = figure.get_size_inches()
    left, bottom, width, height = box
    axes: Axes = figure.add_axes((left / w, bottom / h, width / w, height / h), facecolor=theme.ground)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_color(theme.grid)
        axes.spines[side].set_visible(side in ("left", "bottom"))
    axes.tick_params(colors=theme.muted, labelsize=SMALL, length=2.5, width=0.7, color=theme.grid)
    axes.xaxis.label.set_color(theme.muted)
    axes.yaxis.label.set_color(theme.muted)
    return axes


def legend_style(theme: Theme) -> dict[str, Any]:
    """How every legend looks."""
    return {"frameon": False, "fontsize": SMALL, "labelcolor": theme.muted, "handletextpad": 0.4, "columnspacing": 1.3,
            "handlelength": 1.6, "borderaxespad": 0.4}  # fmt: skip


def legend_columns(handles: Sequence[Any], width: float) -> int:
    """How many columns of a legend fit into so many inches."""
    labels = [handle.get_label() for handle in handles]
    for columns in range(len(labels), 1, -1):
        widest = (max(map(len, part)) for part in np.array_split(np.array(labels, dtype=object), columns))
        if sum(LETTER * letters + HANDLE for letters in widest) <= width:
            return columns
    return 1


def render(figure: Figure, format: str = "svg", *, text: bool = False) -> bytes:
    """The figure as `svg`, `png` or `pdf`; the same figure gives the same bytes. `text`: letters of an SVG stay text
    (for pages) instead of outlines (the same look everywhere)."""
    metadata: dict[str, dict[str, Any]] = {
        "svg": {"Date": None, "Creator": "tensorprog"},
        "png": {"Software": "tensorprog"},
        "pdf": {"CreationDate": None, "Creator": "tensorprog", "Producer": None},
    }
    if format not in metadata:
        raise TensorProgError(f"cannot draw a `{format}` file", why="the ending of a picture's name says the format",
                              fix="a name that ends in .svg, .png or .pdf")  # fmt: skip
    out = io.BytesIO()
    with drawing(**{"svg.fonttype": "none" if text else "path"}):
        figure.savefig(out, format=format, dpi=DPI, metadata=metadata[format], facecolor=figure.get_facecolor())
    return out.getvalue()


def symbol(report: CheckReport) -> str:
    """What the ladder of a check climbs: a width or a depth; several widths together are called n."""
    return report.axis[0] if len(report.axis) == 1 else "n"


def power(exponent: Fraction | str | None, symbol: str = "n") -> str:
    """`n^-1/2`, exponents 0 and 1 written too; `zero` for what is exactly zero."""
    return "zero" if exponent is None else f"{symbol}^{exponent}"


def plain(text: str) -> str:
    """Text of the user's, safe from matplotlib's own mathematics."""
    return text.replace("$", r"\$")


def shortened(name: str, length: int) -> str:
    """The end of a dotted path, which tells more than its beginning: from a dot on, unless little is left there. Of the
    paths inside a bracket the last parts."""
    if len(name) > length and name.startswith("["):
        name = re.sub(r"[\w*]+\.(?=\w)", "", name)
    if len(name) <= length:
        return name
    tail = name[1 - length :]
    parts = tail if name[-length] == "." else tail.partition(".")[2]
    return "…" + (parts if 2 * len(parts) > length else tail)
