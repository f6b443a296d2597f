"""Slopes and verdicts on data whose law is known."""

from __future__ import annotations

import numpy as np
import pytest

from tensorprog.coordcheck.statistics import Slope, fit, pooled, verdict

WIDTHS = np.array([64.0, 128.0, 256.0, 512.0])


def samples(exponent: float, seeds: int, noise: float, rng: np.random.Generator, transient: float = 0.0) -> np.ndarray:
    """rms [width, seed] of a power law with log-normal noise; mean squares times 1 + transient * 64 / n."""
    law = WIDTHS**exponent * np.sqrt(1 + transient * 64 / WIDTHS)
    return law[:, None] * np.exp(noise * rng.standard_normal((len(WIDTHS), seeds)))


def test_an_exact_power_law_is_found_exactly() -> None:
    found = fit(WIDTHS, np.repeat(3 * WIDTHS[:, None] ** -0.5, 4, axis=1)).line
    assert found.value == pytest.approx(-0.5) and found.high - found.low < 1e-9


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(600):
        found = fit(WIDTHS, samples(-0.5, 8, 0.3, rng)).line
        hits += found.low <= -0.5 <= found.high
    assert 0.92 <= hits / 600 <= 0.98


def test_one_seed_gives_no_interval_and_no_verdict() -> None:
    found = fit(WIDTHS, 2 * WIDTHS[:, None] ** 0.0).line
    assert verdict(0.0, found) == "inconclusive"


def test_verdicts_are_equivalence_tests() -> None:
    assert verdict(0.0, Slope(0.05, -0.05, 0.15)) == "agrees"
    assert verdict(0.0, Slope(0.05, -0.25, 0.35)) == "inconclusive"
    assert verdict(0.0, Slope(0.5, 0.4, 0.6)) == "disagrees"
    assert verdict(0.0, Slope(0.2, 0.19, 0.21)) == "inconclusive"


def test_a_transient_is_told_from_a_wrong_exponent() -> None:
    """1 + 3 (64 / n) decays to a constant: the slope beyond the transient is near 0; n^-1/4 stays one."""
    rng = np.random.default_rng(1)
    decaying = fit(WIDTHS, samples(0.0, 8, 0.01, rng, transient=3.0))
    assert decaying.line.value < -0.1
    assert decaying.beyond is not None
    assert abs(decaying.beyond.value) < 0.1
    assert decaying.drift > 0
    quarter = fit(WIDTHS, samples(-0.25, 8, 0.01, rng))
    assert quarter.line.value == pytest.approx(-0.25, abs=0.03)
    assert quarter.beyond is None
    assert quarter.drift == 0


def test_pooled_sizes_are_those_of_the_mean_square_and_their_intervals_hold_the_truth() -> None:
    """95% intervals of the size at one width: over many repetitions they hold it 90 to 99% of the time."""
    generator = np.random.default_rng(3)
    rms = 2.0 * np.sqrt(generator.chisquare(40, size=(400, 8)) / 40)  # 400 widths of a constant law, 8 seeds
    value, half = pooled(rms)
    assert np.allclose(value, np.log2(np.sqrt(np.mean(rms**2, axis=1))))
    assert 0.90 < np.mean(np.abs(value - 1.0) < half) < 0.99
    assert np.all(np.isinf(pooled(rms[:, :1])[1]))
