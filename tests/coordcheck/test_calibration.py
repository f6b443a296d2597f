"""The statistics of a check say how often they are wrong, and are wrong as often as they say."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from tensorprog.coordcheck import judge
from tensorprog.coordcheck.ladder import Ladder
from tensorprog.coordcheck.predict import Prediction
from tensorprog.coordcheck.probes import Probe
from tensorprog.coordcheck.statistics import fit, lines
from tensorprog.exponents import Power

LADDERS = ((64, 128, 256, 512), (128, 256, 512, 1024, 2048))
REPETITIONS = 20_000


def noise(kind: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Factors of the root mean square: log-normal ones, or those of a tensor of `kind` independent Gaussian entries."""
    if kind.startswith("log-normal"):
        return np.exp(float(kind.split()[1]) * rng.standard_normal(shape))
    entries = int(kind.split()[0])
    return np.sqrt(rng.chisquare(entries, shape) / entries)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["log-normal 0.05", "log-normal 0.3", "4 entries", "16 entries"])
@pytest.mark.parametrize("seeds", [3, 5, 6, 10, 20])
def test_95_per_cent_intervals_hold_the_truth_in_93_to_97_per_cent(kind: str, seeds: int) -> None:
    rng = np.random.default_rng(seeds)
    for ladder in LADDERS:
        widths = np.array(ladder, dtype=np.float64)
        rms = widths[:, None] ** -0.5 * noise(kind, (REPETITIONS, len(ladder), seeds), rng)
        slope, half = lines(widths, rms)
        assert 0.93 <= np.mean(np.abs(slope + 0.5) <= half) <= 0.97, ladder


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [5, 10, 20])
def test_tensors_of_a_single_entry_are_covered_nearly_as_often(seeds: int) -> None:
    """The heaviest noise there is: one Gaussian number for each network."""
    widths = np.array(LADDERS[0], dtype=np.float64)
    slope, half = lines(widths, noise("1 entries", (REPETITIONS, 4, seeds), np.random.default_rng(1)))
    assert 0.925 <= np.mean(np.abs(slope) <= half) <= 0.975


def test_many_lines_at_once_are_the_lines_one_by_one() -> None:
    widths = np.array(LADDERS[0], dtype=np.float64)
    rms = noise("4 entries", (7, 4, 5), np.random.default_rng(2))
    slope, half = lines(widths, rms)
    for k in range(7):
        one = fit(widths, rms[k]).line
        assert (one.value, one.high - one.value) == pytest.approx((slope[k], half[k]))


def verdicts(truth: float, kind: str, repetitions: int, transient: float = 0.0) -> Counter[str]:
    """What the whole procedure says of a power law, when 0 is predicted: 5 seeds, and more while they are wanted."""
    ladder, rng = Ladder.of(("n",), (128, 256, 512, 1024)), np.random.default_rng(3)
    law = ladder.points**truth * np.sqrt(1 + transient * ladder.points[0] / ladder.points)
    found: Counter[str] = Counter()
    for _ in range(repetitions):
        values = np.zeros((4, 0))
        while values.shape[1] < 20:
            values = np.concatenate([values, law[:, None] * noise(kind, (4, 5), rng)], axis=1)
            row = judge.row(Probe("x", 0), 1, Prediction(Power()), None, values, ladder, judge.Limits())
            if not judge.wants_seeds(row, values.shape[1]):
                break
        found[row.verdict] += 1
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["log-normal 0.1", "log-normal 0.3", "4 entries", "1 entries"])
def test_verdicts_are_wrong_as_rarely_as_is_said(kind: str) -> None:
    """A true prediction disagrees in less than 0.5 per cent; a wrong one agrees in less than 10 per cent right at the
    tolerance (where it hardly matters), in 3 per cent a quarter away, and hardly ever a half away."""
    repetitions = 600
    assert verdicts(0.0, kind, repetitions)["disagrees"] <= 0.005 * repetitions
    assert verdicts(0.2, kind, repetitions)["agrees"] <= 0.10 * repetitions
    assert verdicts(0.25, kind, repetitions)["agrees"] <= 0.03 * repetitions
    assert verdicts(-0.5, kind, repetitions)["agrees"] <= 0.003 * repetitions


@pytest.mark.slow
def test_precise_measurements_decide() -> None:
    """With the noise of most tensors a true exponent agrees, and one wrong by a half disagrees."""
    assert verdicts(0.0, "log-normal 0.1", 300)["agrees"] >= 297
    assert verdicts(0.5, "log-normal 0.1", 300)["disagrees"] >= 290


@pytest.mark.slow
@pytest.mark.parametrize("transient", [0.5, 1.0, 3.0])
def test_a_transient_is_not_taken_for_a_wrong_exponent(transient: float) -> None:
    """Mean squares of 1 + transient * 128 / n: the exponent is 0, and the check says so or says that it cannot tell."""
    found = verdicts(0.0, "log-normal 0.1", 300, transient)
    assert found["disagrees"] <= 0.03 * 300
