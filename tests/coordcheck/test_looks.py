"""What disagrees must do so in typical entries of typical networks, at other learning rates and further up, too."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tensorprog.api import check, derive
from tensorprog.architecture import load, parse
from tensorprog.arrays import rms
from tensorprog.coordcheck import run
from tensorprog.coordcheck.looks import ASTRAY, EPSILON, FEW, HIDDEN, RATES, WIDER
from tensorprog.coordcheck.measure import TAIL, typical_rms
from tensorprog.coordcheck.report import Row
from tensorprog.exponents import Power
from tests.shared import stack, tiers

HALF = Fraction(1, 2)

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


def row(monkeypatch: pytest.MonkeyPatch, bend: Any, seeds: int = 6, widths: Any = WIDTHS) -> Row:
    """The row of the features of an MLP whose measured sizes [rung, seed] are bent: `bend(look, sizes, widths)`, where
    `look` is "" at first, then "typical", "slower", "wider" or "raised"."""
    first: list[run.Runs] = []

    def look(runs: run.Runs) -> str:
        first.append(runs)
        if runs.typical:
            return "typical"
        if runs.rates != first[0].rates:
            less = all(rate < first[0].rates[name] for name, rate in runs.rates.items())
            return "slower" if less else "raised"
        return "wider" if runs.ladder != first[0].ladder else ""

    def measure(self: run.Runs, seeds: range) -> np.ndarray:
        values, now = MEASURE(self, seeds), look(self)
        for k, probe in enumerate(self.probes):
            if probe.name == "x2":
                values[k, 1] = bend(now, values[k, 1], self.ladder.points[:, None])
        return values

    monkeypatch.setattr(run.Runs, "measure", measure)
    options: dict[str, Any] = {"widths": widths, "seeds": seeds, "max_seeds": seeds, "steps": 1, "control": False}
    report = check(EXAMPLES / "mlp.tp", "sgd", **options)
    return next(row for row in report.rows if (row.tensor, row.step) == ("x2", 1))


@pytest.mark.parametrize("kind", tiers(["typical", "slower", "wider"], ("typical",)))
def test_growth_that_is_not_seen_in_a_second_look_is_no_disagreement(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def bend(look: str, sizes: np.ndarray, n: np.ndarray) -> np.ndarray:
        if look == "wider":
            return np.asarray(sizes * (n / 2) ** 0.5)
        return np.asarray(sizes if look == kind else sizes * n**0.5)

    found = row(monkeypatch, bend, widths=None)
    assert (found.verdict, found.reason) == ("inconclusive", {"typical": FEW, "slower": RATES, "wider": WIDER}[kind])


@pytest.mark.slow
def test_a_change_that_agrees_where_a_rate_that_carries_it_is_raised_is_no_disagreement(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = row(monkeypatch, lambda look, sizes, n: sizes if look == "raised" else sizes * n**-0.5)
    assert (found.verdict, found.reason) == ("inconclusive", HIDDEN)


def test_what_grows_faster_than_predicted_is_not_excused_by_raising_a_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    found = row(monkeypatch, lambda look, sizes, n: sizes if look == "raised" else sizes * n**0.5)
    assert found.verdict == "disagrees"


@pytest.mark.slow
def test_nothing_wider_is_trained_than_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    found = row(monkeypatch, lambda look, sizes, n: sizes if look == "wider" else sizes * n**-0.5)
    assert found.verdict == "disagrees"


@pytest.mark.slow
def test_growth_of_all_entries_of_all_networks_still_disagrees(monkeypatch: pytest.MonkeyPatch) -> None:
    assert row(monkeypatch, lambda _, sizes, n: sizes * n**0.5, widths=None).verdict == "disagrees"


@pytest.mark.slow
@pytest.mark.parametrize(("param", "error"), tiers([("W1", HALF), ("W2", -HALF), ("W3", HALF)], ("W1-1/2",)))
def test_no_look_excuses_a_wrong_prediction(param: str, error: Fraction) -> None:
    """Trained with one learning rate that the calculus knows nothing of."""
    derivation = derive(EXAMPLES / "mlp.tp", "sgd")
    rule = derivation.params[param]
    assert rule.lr is not None
    params = {**derivation.params, param: replace(rule, lr=rule.lr * Power.of({"n": error}))}
    wrong = replace(derivation, parametrization=replace(derivation.parametrization, params=params))
    report = check(wrong, widths=WIDTHS, seeds=6, max_seeds=6, steps=2, control=False)
    assert (param, 1) in {(row.tensor, row.step) for row in report.rows if row.verdict == "disagrees"}


STACK = stack("repeat L {\n param W[k,m], V[m,j]\n y[k] = W[k,m] relu(V[m,j] h[j])\n h[k] = h[k] + ?b * y[k]\n}")


@pytest.mark.slow
@pytest.mark.parametrize(("lasts", "verdict"), [(4, "inconclusive"), (1, "disagrees")])
def test_a_ladder_of_depths_is_looked_at_one_rung_further_up(
    monkeypatch: pytest.MonkeyPatch, lasts: int, verdict: str
) -> None:
    """What falls like L^-1/2, where L^0 is predicted, and on the rung above is `lasts`^1/2 times as large as that."""

    def measure(self: run.Runs, seeds: range) -> np.ndarray:
        values = MEASURE(self, seeds)
        depth = self.ladder.points[:, None]
        for k, probe in enumerate(self.probes):
            if probe.name == "layers.*.y":
                values[k, 1] *= np.where(depth > 16, depth / lasts, depth) ** -0.5
        return values

    monkeypatch.setattr(run.Runs, "measure", measure)
    options: dict[str, Any] = {"widths": [16], "seeds": 6, "max_seeds": 6, "steps": 1, "control": False}
    report = check(parse(STACK), "sgd", depths=[2, 4, 8, 16], **options)
    found = next(row for row in report.rows if (row.tensor, row.step) == ("layers.*.y", 1))
    assert (found.verdict, found.reason == WIDER) == (verdict, verdict == "inconclusive")


@pytest.mark.slow
@pytest.mark.parametrize("error", [HALF, -HALF])
def test_no_look_excuses_a_wrong_power_of_the_depth(error: Fraction) -> None:
    derivation = derive(parse(STACK), "sgd")
    params = {name: replace(e, lr=e.lr * Power.of({"L": error})) if "*" in name and e.lr is not None else e
              for name, e in derivation.params.items()}  # fmt: skip
    wrong = replace(derivation, parametrization=replace(derivation.parametrization, params=params))
    report = check(wrong, depths=[4, 8, 16, 32], seeds=6, max_seeds=6, steps=2, control=False)
    disagreeing = {row.tensor for row in report.rows if row.verdict == "disagrees"}
    assert disagreeing >= {"layers.*.W", "layers.*.V"}


@pytest.mark.slow
def test_a_quarter_of_the_networks_astray_at_the_foot_is_no_disagreement(monkeypatch: pytest.MonkeyPatch) -> None:
    def bend(_: str, sizes: np.ndarray, n: np.ndarray) -> np.ndarray:
        strays = np.arange(sizes.shape[1]) < sizes.shape[1] // ASTRAY
        return np.asarray(sizes * np.where(strays, (WIDTHS[-1] / n) ** 1.5, 1))

    assert row(monkeypatch, bend, seeds=12).reason == FEW
    monkeypatch.setattr(run, "second_looks", lambda _, rows, *others, **options: rows)
    assert row(monkeypatch, bend, seeds=12).verdict == "disagrees"


@pytest.mark.slow
def test_trained_gates_of_a_state_space_model_have_tails() -> None:
    """Nine entries in ten of the change of bd after two steps of SGD are as large at any width; the largest grow."""
    report = check(load(EXAMPLES / "mamba.tp", {"L": 1}), "sgd", widths=[128, 256, 512, 1024], seeds=6, steps=2)
    assert not [row for row in report.rows if row.verdict == "disagrees"]
    found = next(row for row in report.rows if (row.tensor, row.step) == ("layers.0.selective_ssm.bd", 2))
    assert found.measured is not None and found.measured > 0.3
    assert found.reason == FEW


VANISHING = """
width n
axis i: 8, j: n, k: n, c: 3
input x[i]
param U[j,i], W[k,j], V[c,k]
h[j] = U[j,i] x[i]
s[j] = relu(h[j]) / n
y[j] = s[j] * rms_scale[j](s[j])
g[k] = tanh(W[k,j] y[j])
output f[c] = V[c,k] g[k]
loss mse(f)
"""


@pytest.mark.parametrize("optimizer", tiers(["adam", "sgd"], ("adam",)))
def test_where_the_epsilon_of_a_norm_takes_over_the_rows_name_it(
    monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    """And only what is right without it is excused: what grows with and without it disagrees."""

    def grows(self: run.Runs, seeds: range) -> np.ndarray:
        values = MEASURE(self, seeds)
        at = next((k for k, probe in enumerate(self.probes) if probe.name == "g"), None)
        if at is not None:
            values[at, 1] *= self.ladder.points[:, None] ** 2
        return values

    monkeypatch.setattr(run.Runs, "measure", grows)
    options: dict[str, Any] = {"widths": WIDTHS, "seeds": 6, "max_seeds": 6, "steps": 1, "control": False}
    rows = check(parse(VANISHING), optimizer, **options).rows
    excused = {(row.tensor, row.step) for row in rows if row.reason == EPSILON.format("the norm of `s` (1e-05)")}
    assert {("[invrms(s)]", 0), ("y", 0)} <= excused
    assert [(row.tensor, row.step) for row in rows if row.verdict == "disagrees"] == [("g", 1)]
    wide = parse(VANISHING.replace("rms_scale[j](s[j])", "rms_scale[j](s[j], eps = 1e-30)"))
    assert not any("eps" in row.reason for row in check(wide, optimizer, **options).rows)
