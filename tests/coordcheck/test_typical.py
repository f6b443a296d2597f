"""What disagrees must do so in the typical entries of typical networks, too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tensorprog.api import check
from tensorprog.architecture import load
from tensorprog.arrays import rms
from tensorprog.coordcheck import run
from tensorprog.coordcheck.measure import TAIL, typical_rms
from tensorprog.coordcheck.report import Row
from tensorprog.coordcheck.typical import ASTRAY, FEW

EXAMPLES = Path(__file__).parents[2] / "examples"
WIDTHS = (64, 128, 256, 512)
MEASURE = run.Runs.measure


def test_the_largest_entries_along_growing_axes_are_left_out_at_every_other_place() -> None:
    x = np.random.default_rng(0).standard_normal((3, 4 * TAIL, 2))
    spiked = x.copy()
    spiked[:, 7, :] = 1e9
    assert typical_rms(spiked, [1]) == pytest.approx(typical_rms(x, [1]), rel=0.05)
    assert typical_rms(x * [1.0, 1e3], [1]) == pytest.approx(1e3 * typical_rms(x[..., 1:], [1]) / 2**0.5, rel=1e-4)
    assert typical_rms(x[:, : TAIL - 1], [1]) == pytest.approx(rms(x[:, : TAIL - 1]))


@pytest.mark.parametrize("growth", [-0.5, 0.5])
def test_an_exponent_of_typical_entries_is_that_of_all(growth: float) -> None:
    rng = np.random.default_rng(1)
    sizes = [typical_rms(rng.standard_normal((n, n)) * n**growth, [0, 1]) for n in WIDTHS]
    assert np.polyfit(np.log2(WIDTHS), np.log2(sizes), 1)[0] == pytest.approx(growth, abs=0.02)


def row(monkeypatch: pytest.MonkeyPatch, bend: Any, seeds: int = 6) -> Row:
    """The row of the features of an MLP whose measured sizes [rung, seed] are bent: `bend(typical, sizes, widths)`."""

    def measure(self: run.Runs, seeds: range) -> np.ndarray:
        values = MEASURE(self, seeds)
        for k, probe in enumerate(self.probes):
            if probe.name == "x2":
                values[k, 1] = bend(self.typical, values[k, 1], self.ladder.points[:, None])
        return values

    monkeypatch.setattr(run.Runs, "measure", measure)
    options: dict[str, Any] = {"widths": WIDTHS, "seeds": seeds, "max_seeds": seeds, "steps": 1, "control": False}
    report = check(EXAMPLES / "mlp.tp", "sgd", **options)
    return next(row for row in report.rows if (row.tensor, row.step) == ("x2", 1))


def test_growth_of_a_few_entries_is_no_disagreement(monkeypatch: pytest.MonkeyPatch) -> None:
    found = row(monkeypatch, lambda typical, sizes, n: sizes if typical else sizes * n**0.5)
    assert (found.verdict, found.reason) == ("inconclusive", FEW)


def test_growth_of_all_entries_of_all_networks_still_disagrees(monkeypatch: pytest.MonkeyPatch) -> None:
    assert row(monkeypatch, lambda _, sizes, n: sizes * n**0.5).verdict == "disagrees"


@pytest.mark.slow
def test_a_quarter_of_the_networks_astray_at_the_foot_is_no_disagreement(monkeypatch: pytest.MonkeyPatch) -> None:
    def bend(_: bool, sizes: np.ndarray, n: np.ndarray) -> np.ndarray:
        strays = np.arange(sizes.shape[1]) < sizes.shape[1] // ASTRAY
        return np.asarray(sizes * np.where(strays, (WIDTHS[-1] / n) ** 1.5, 1))

    assert row(monkeypatch, bend, seeds=12).reason == FEW
    monkeypatch.setattr(run, "second_look", lambda _, rows, *others: rows)
    assert row(monkeypatch, bend, seeds=12).verdict == "disagrees"


@pytest.mark.slow
def test_trained_gates_of_a_state_space_model_have_tails() -> None:
    """Nine entries in ten of the change of bd after two steps of SGD are as large at any width; the largest grow."""
    report = check(load(EXAMPLES / "mamba.tp", {"L": 1}), "sgd", widths=[128, 256, 512, 1024], seeds=6, steps=2)
    assert not [row for row in report.rows if row.verdict == "disagrees"]
    found = next(row for row in report.rows if (row.tensor, row.step) == ("layers.0.selective_ssm.bd", 2))
    assert found.measured is not None and found.measured > 0.3
    assert found.reason == FEW
