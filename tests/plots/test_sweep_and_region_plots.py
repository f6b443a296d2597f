"""Transfer curves show every run or say that it left the picture; regions are drawn at their exact vertices."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from tensorprog.architecture import load
from tensorprog.classify import classify
from tensorprog.cli import main
from tensorprog.plots import (
    DARK,
    Mark,
    Optimum,
    Region,
    Run,
    Sweep,
    render,
    stable_plane,
    stable_region,
    transfer_curves,
)
from tensorprog.plots.sweep import nice

HALF = Fraction(1, 2)


def made_up() -> Sweep:
    """Parabolas in log2: the optimum stays at 2^-7 under `derived`, and halves with the size under `sp`; the largest
    values diverge."""
    runs, optima = [], []
    for name, drift in (("derived", 0), ("sp", -1)):
        for doubling, size in enumerate((32, 64, 128)):
            best = -7 + drift * doubling
            for k in range(-11, -3):
                loss = None if k - best > 3 else 2.0 ** (-1 - 0.1 * doubling + 0.1 * (k - best) ** 2)
                runs += [Run(name, size, 2.0**k, seed, loss and loss * (1 + 0.01 * seed)) for seed in range(2)]
            optima.append(Optimum(name, size, 2.0**best, 2.0 ** (best - 0.1), 2.0 ** (best + 0.1), 2.0 ** (-1.0)))
    return Sweep("a $title$", "learning rate", "n", tuple(runs), tuple(optima), (("sp", "drift -1"),))


def test_every_run_is_in_the_mean_of_its_line_or_a_cross() -> None:
    sweep = made_up()
    figure = transfer_curves(sweep)
    assert len(figure.axes) == 2
    for axes, name in zip(figure.axes, ("derived", "sp"), strict=True):
        lines = [container.lines[0] for container in axes.containers]
        crosses = sum(len(np.atleast_1d(line.get_xdata())) for line in axes.lines if line.get_marker() == "x")
        drawn = 0
        for line, size in zip(lines, (32, 64, 128), strict=True):
            for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True):
                losses = [r.loss for r in sweep.runs if (r.parametrization, r.size, r.value) == (name, size, x)]
                assert y == pytest.approx(np.exp2(np.mean(np.log2(np.array(losses, dtype=float)))))
                drawn += y <= axes.get_ylim()[1]
        assert drawn + crosses == 3 * 8
        stars = [line for line in axes.lines if line.get_marker() == "*"]
        best = [star.get_xdata()[0] for star in stars]
        assert best == [o.value for o in sweep.optima if o.parametrization == name]
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()


@pytest.mark.slow
def test_transfer_curves_are_the_same_bytes_and_survive_having_no_finite_run() -> None:
    assert render(transfer_curves(made_up())) == render(transfer_curves(made_up()))
    lost = Sweep("t", "learning rate", "n", (Run("derived", 32, 0.5, 0, None), Run("derived", 32, 1.0, 0, None)))
    assert b"diverged" in render(transfer_curves(lost, DARK), text=True)


def test_ticks_are_round_numbers_inside_the_range() -> None:
    for low, high in ((0.2, 1.1), (0.031, 0.04), (1e-4, 12.0), (2.31, 2.36)):
        ticks = nice(low, high)
        assert 2 <= len(ticks) <= 6
        assert all(low <= tick <= high for tick in ticks)
        assert max(len(f"{tick:.4g}") for tick in ticks) <= 6


def test_regions_are_drawn_at_their_vertices() -> None:
    corners = ((Fraction(0), Fraction(0)), (Fraction(1), Fraction(0)), (HALF, Fraction(1)))
    regions = [Region("stable $x$", corners), Region("edge", corners[:2], "maximal")]
    figure = stable_region(regions, [Mark("muP", (HALF, HALF))], "a", "c", "A slice")
    (axes,) = figure.axes
    assert [tuple(p) for p in axes.patches[0].get_xy()[:-1]] == [(float(a), float(b)) for a, b in corners]
    picture = render(figure, text=True)
    assert picture == render(stable_region(regions, [Mark("muP", (HALF, HALF))], "a", "c", "A slice"), text=True)
    for word in (b"stable $x$", b"edge", b"muP", b"A slice"):
        assert word in picture


def test_a_picture_of_a_region_ends_where_the_region_was_cut() -> None:
    """A side of the polygon where it was cut is no boundary of what is stable: it lies on the frame of the picture."""
    corners = ((Fraction(-2), Fraction(0)), (Fraction(1), Fraction(0)), (Fraction(1), Fraction(1)))
    seen = (Fraction(-2), Fraction(-2)), (Fraction(2), Fraction(2))
    (axes,) = stable_region([Region("stable", corners)], [], "a", "c", seen=seen).axes
    assert axes.get_xlim()[0] == -2 and axes.get_xlim()[1] > 1
    assert axes.get_ylim()[0] < 0 and axes.get_ylim()[1] > 1


def test_a_plane_in_which_nothing_is_stable_says_so() -> None:
    """And shows how far it was looked at. Behind a random readout what the other hidden layer does is too much."""
    found = classify(load("examples/mlp.tp"), "sp", "adam", Fraction(-1), region=("lr[W1]", "lr[W3]"), advice=False)
    assert found.region is not None and not found.region.vertices
    figure = stable_plane(found)
    (axes,) = figure.axes
    assert "nothing here is stable" in [text.get_text() for text in axes.texts] and not axes.patches
    assert axes.get_xlim()[0] <= -3 and axes.get_xlim()[1] >= 1


def test_the_plane_of_a_classification_has_the_polygon_s_vertices_and_is_written_whole(tmp_path: Path) -> None:
    """`classify --region X,Y --save FILE`: the polygon that the text tells, and the parametrization as a mark."""
    command = ["classify", "examples/mlp.tp", "--optimizer", "adam", "--lr", "-1", "--region", "lr[W2],init_std[W3]"]
    assert main([*command, "--save", str(tmp_path / "plane.svg")]) == 0
    assert b"</svg>" in (tmp_path / "plane.svg").read_bytes()
    found = classify(
        load("examples/mlp.tp"), "sp", "adam", Fraction(-1), region=("lr[W2]", "init_std[W3]"), advice=False
    )
    assert found.region is not None
    (axes,) = stable_plane(found).axes
    assert [tuple(p) for p in axes.patches[0].get_xy()[:-1]] == [(float(x), float(y)) for x, y in found.region.vertices]
    words = render(stable_plane(found, DARK), text=True)
    assert b"exponent of lr[W2]" in words and b"mlp.tp under adam" in words
    assert main(["classify", "examples/mlp.tp", "--save", str(tmp_path / "no.svg")]) == 2
    assert not (tmp_path / "no.svg").exists()
