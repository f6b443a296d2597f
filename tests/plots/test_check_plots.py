"""Plots of a check show the numbers of its rows, without colour too, and are the same bytes every time."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

matplotlib = pytest.importorskip("matplotlib")

from tensorprog.api import check  # noqa: E402
from tensorprog.cli import main  # noqa: E402
from tensorprog.coordcheck.report import CheckReport, Row  # noqa: E402
from tensorprog.errors import TensorProgError  # noqa: E402
from tensorprog.plots import DARK, LIGHT, THEMES, Theme, coordinate_check, render, slope_forest  # noqa: E402
from tensorprog.plots.ladder import GAP, PANEL  # noqa: E402
from tensorprog.plots.select import chosen, groups, role  # noqa: E402
from tensorprog.plots.style import MARKS, shortened  # noqa: E402
from tests.shared import ROOT, python  # noqa: E402

MLP = str(ROOT / "examples" / "mlp.tp")
QUICK = ["--widths", "32,64", "--seeds", "2", "--max-seeds", "2", "--steps", "1", "--batch", "8"]


@pytest.fixture(scope="module")
def standard() -> CheckReport:
    """The perceptron in standard parametrization: some rows agree, some disagree."""
    return check(MLP, "adam", parametrization="sp", widths=[32, 64, 128], seeds=3, max_seeds=3, steps=1)


Sizes = tuple[tuple[float | None, ...], ...]


def made_up(verdicts: dict[str, str], sizes: Sizes = ((1.0, 1.1), (1.0, 0.9))) -> CheckReport:
    """A report with one row per tensor."""
    rows = tuple(Row(name, 0, "init", "0", 0.0, -0.1, 0.1, verdict, rms=sizes) for name, verdict in verdicts.items())
    return CheckReport("made-up.tp", "adam", "derived", "numpy", (64, 128), 2, 1, None, 0.2, rows)


@pytest.mark.slow
def test_every_series_is_drawn_with_the_slope_and_the_mark_of_its_row(standard: CheckReport) -> None:
    figure = coordinate_check(standard, limit=99)
    panels = {axes.get_label(): axes for axes in figure.axes}
    assert set(panels) == {group.name for group in groups(standard)} >= {row.tensor for row in standard.rows}
    drawn = 0
    for group in groups(standard):
        measured = [row for row in group.rows if row.measured is not None]
        series = [container.lines[0] for container in panels[group.name].containers]
        assert len(series) == len(measured)
        for row, line in zip(measured, series, strict=True):
            x, y = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
            assert np.allclose(np.diff(x), 1)  # octaves
            slope = np.polyfit(x, y, 1, w=np.array(standard.widths) ** 0.25)[0]
            assert row.measured == pytest.approx(slope, abs=0.02)
            assert line.get_marker() == MARKS[row.verdict]
            drawn += 1
    assert drawn > 20
    assert {row.verdict for row in standard.rows} >= {"agrees", "disagrees"}


def test_the_forest_places_every_row_at_its_measured_exponent(standard: CheckReport) -> None:
    figure = slope_forest(standard)
    by_part = {axes.get_title(loc="left"): axes for axes in figure.axes}
    shown = [(k, row) for k, group in enumerate(groups(standard)) for row in group.rows]
    for name, axes in by_part.items():
        marks = {round(line.get_ydata()[0]): line for line in axes.lines if line.get_marker() in MARKS.values()}
        rows = {k: row for k, row in shown if role(row) == name and row.measured is not None}
        assert set(marks) == set(rows)
        for place, row in rows.items():
            assert marks[place].get_xdata()[0] == row.measured
            assert marks[place].get_marker() == MARKS[row.verdict]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("draw", "format"), [(coordinate_check, "svg"), (slope_forest, "svg"), (slope_forest, "png"), (slope_forest, "pdf")]
)
def test_same_result_same_bytes_whatever_the_users_settings(draw, format: str, standard: CheckReport) -> None:  # type: ignore[no-untyped-def]
    standard = replace(standard, rows=tuple(row for row in standard.rows if row.tensor in ("W2", "h2")))
    first = render(draw(standard), format)
    before = dict(matplotlib.rcParams)
    with matplotlib.rc_context({"axes.facecolor": "red", "font.size": 30, "axes.grid": True, "savefig.dpi": 10}):
        assert render(draw(standard), format) == first
    assert dict(matplotlib.rcParams) == before
    assert render(draw(standard, DARK), format) != first


@pytest.mark.slow
def test_bytes_do_not_depend_on_the_process_and_pyplot_stays_away() -> None:
    code = """
import sys
from tensorprog.coordcheck.report import CheckReport, Row
from tensorprog.plots import coordinate_check, render
row = Row("h", 0, "init", "0", 0.0, -0.1, 0.1, "agrees", rms=((1.0, 1.1), (1.0, 0.9)))
report = CheckReport("made-up.tp", "adam", "derived", "numpy", (64, 128), 2, 1, None, 0.2, (row,))
picture = render(coordinate_check(report), "svg", text=True)
assert "matplotlib.pyplot" not in sys.modules
sys.stdout.buffer.write(picture)
"""
    result = python("-c", code, PYTHONHASHSEED="1")
    assert "<text" in result.stdout, result.stderr
    assert result.stdout.encode() == render(coordinate_check(made_up({"h": "agrees"})), "svg", text=True)


def test_a_large_network_keeps_every_row_that_does_not_agree() -> None:
    verdicts = {f"layers.{k}.h": "agrees" for k in range(50)} | {f"t{k}": "agrees" for k in range(50)}
    verdicts |= {"layers.33.h": "disagrees", "t7": "inconclusive", "[t8 t9]": "disagrees"}
    shown = [group.name for group in chosen(made_up(verdicts), 10)]
    assert len(shown) == 10
    assert {"layers.33.h", "t7", "[t8 t9]", "t49"} <= set(shown)
    assert shown == [name for name in verdicts if name in shown]  # in forward order
    assert sum(name.startswith("layers.") for name in shown) == 1


def test_the_plot_is_legible_where_a_page_is_400_pixels_wide() -> None:
    figure = coordinate_check(made_up({f"h{k}.attention.projection": "agrees" for k in range(40)}), limit=12)
    points = 72 * figure.get_size_inches()[0]
    texts = [text for axes in figure.axes for text in (axes.title, *axes.texts, *axes.get_xticklabels()) if text]
    assert len(figure.axes) == 12 and len({round(axes.get_position().x0, 3) for axes in figure.axes}) == 3
    assert min(text.get_fontsize() for text in texts) * 400 / points >= 8  # pixels
    letters = max(len(axes.get_title(loc="left")) for axes in figure.axes)
    assert letters * 0.65 * 8 < 72 * (PANEL[0] + GAP[0])  # bold letters are at most 0.65 of their height wide


@pytest.mark.parametrize(("name", "length", "shown"), [
    ("readout.W", 17, "readout.W"), ("layers.0.attention.Wk", 17, "…0.attention.Wk"),
    ("layers.0.layernorm.shift", 17, "…layernorm.shift"), ("embedding_of_tokens", 17, "…edding_of_tokens"),
    ("layers.0.selective_ssm.bb", 17, "…selective_ssm.bb"),
    ("[layers.0.ssm.Wr layers.0.ssm.low] #2", 17, "[Wr low] #2"),
    ("[layers.0.step .. layers.1.b]", 17, "[step .. b]"),
    ("layers.0.norm.gain gradient", 19, "…norm.gain gradient"),
])  # fmt: skip
def test_a_long_name_keeps_the_whole_parts_of_its_end(name: str, length: int, shown: str) -> None:
    assert shortened(name, length) == shown and len(shown) <= length


@pytest.mark.parametrize("sizes", [((0.0, 0.0), (0.0, 0.0)), ((1.0, None), (1.0, 2.0)), ()])
def test_sizes_without_a_logarithm_leave_their_reason(sizes: Sizes) -> None:
    report = made_up({"h": "disagrees"}, sizes)
    row = replace(report.rows[0], measured=None, low=None, high=None, reason="overflows at width 64")
    for draw in (coordinate_check, slope_forest):
        assert b"overflows at width 64" in render(draw(replace(report, rows=(row,))), "svg", text=True)


def test_names_are_shown_as_they_are_written() -> None:
    report = replace(made_up({"a$x^2$ <b> & c": "agrees"}), file="we$ird$.tp")
    for draw in (coordinate_check, slope_forest):
        root = ElementTree.parse(io.BytesIO(render(draw(report), "svg", text=True)))
        text = "".join(root.getroot().itertext())
        assert "a$x^2$ <b> & c" in text and "we$ird$.tp" in text


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(TensorProgError, match="cannot draw a `gif` file"):
        render(coordinate_check(made_up({"h": "agrees"})), "gif")


# --- the command line ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_check_saves_what_it_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for plot, name in (("widths", "a.svg"), ("slopes", "b.png"), ("slopes", "c.pdf")):
        code = main(["check", MLP, *QUICK, "--save", str(tmp_path / name), "--plot", plot, "--theme", "dark"])
        out, err = capsys.readouterr()
        assert code in (0, 1)
        assert "rows: " in out and err == ""
    assert ElementTree.parse(tmp_path / "a.svg").getroot().tag.endswith("svg")
    assert (tmp_path / "b.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "c.pdf").read_bytes().startswith(b"%PDF")


def test_a_picture_that_cannot_be_written_is_refused_before_anything_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["check", MLP, "--save", "a.gif"])
    assert "write .svg, .png or .pdf" in capsys.readouterr().err
    assert main(["check", MLP, "--save", str(tmp_path / "no" / "a.svg")]) == 2
    out, err = capsys.readouterr()
    assert out == "" and "No such file or directory" in err


def test_without_matplotlib_the_message_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys\nsys.modules['matplotlib'] = None\nfrom tensorprog.cli import main\n"
        f"sys.exit(main(['check', {MLP!r}, '--save', 'a.svg']))"
    )
    result = python("-c", code, cwd=tmp_path)
    assert result.returncode == 2
    assert "pip install 'tensorprog[plot]'" in result.stderr
    assert not list(tmp_path.iterdir())


# --- colours ------------------------------------------------------------------------------------------

# Machado, Oliveira & Fernandes 2009, severity 1.0: linear RGB as people with one missing cone see it.
BLINDNESS = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
    "none": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
}


def linear(color: str) -> np.ndarray:
    value = np.array([int(color[k : k + 2], 16) / 255 for k in (1, 3, 5)])
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of linear RGB."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    ratio = to_xyz @ np.clip(rgb, 0, 1) / np.array([0.9505, 1.0, 1.089])
    f = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def contrast(one: str, other: str) -> float:
    """WCAG 2 contrast ratio."""
    a, b = sorted(float(np.array([0.2126, 0.7152, 0.0722]) @ linear(c)) for c in (one, other))
    return (b + 0.05) / (a + 0.05)


@pytest.mark.parametrize("theme", THEMES.values(), ids=lambda theme: theme.name)
def test_colours_are_legible_and_apart_for_the_colour_blind(theme: Theme) -> None:
    for text in (theme.ink, theme.muted):
        assert contrast(text, theme.ground) >= 4.5 and contrast(text, theme.card) >= 4.5
    for fill in (theme.falls, theme.grows, theme.card, theme.band):
        assert contrast(theme.ink, fill) >= 4.5
    marks = [theme.agrees, theme.inconclusive, theme.disagrees]
    assert all(contrast(mark, theme.ground) >= 3 for mark in marks)
    for matrix in BLINDNESS.values():
        for k, one in enumerate(marks):
            for other in marks[k + 1 :]:
                assert np.linalg.norm(lab(matrix @ linear(one)) - lab(matrix @ linear(other))) > 20
    colours = [getattr(theme, name) for name in theme.__slots__ if name not in ("name", "ramp")]
    assert len({*colours, *theme.ramp}) == len(colours) + 2


def test_light_and_dark_name_the_same_colours() -> None:
    assert LIGHT.__slots__ == DARK.__slots__
