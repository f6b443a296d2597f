"""Random networks as judges: the machinery, negative controls, and a sample of the campaign."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from benchmarks.agreement import evidence, shrink
from benchmarks.agreement.campaign import campaign_program
from benchmarks.agreement.parametrizations import perturbed
from benchmarks.agreement.trial import judged, trial
from tensorprog.api import derive
from tensorprog.architecture import parse
from tensorprog.exponents import Power

WIDTHS = np.array([64.0, 128.0, 256.0, 512.0])


def sizes(power: float, transient: float = 0.0, noise: float = 0.1, seeds: int = 16) -> evidence.Floats:
    """r^2 = n^(2 power) (1 + transient n^-1/2), times noise and a constant of every seed."""
    rng = np.random.default_rng(0)
    clean = WIDTHS**power * np.sqrt(1 + transient / np.sqrt(WIDTHS))
    return np.asarray(clean[:, None] * np.exp(noise * rng.standard_normal((4, seeds)) + rng.standard_normal(seeds)))


def verdict(power: float, predicted: float, **shape: float) -> str:
    return evidence.judge(WIDTHS, sizes(power, **shape), predicted, bound=False, final=True).verdict


@pytest.mark.parametrize("power", [-1.0, -0.5, 0.0, 0.5])
def test_a_clean_power_agrees_with_itself_only(power: float) -> None:
    assert verdict(power, power) == "agrees"
    assert verdict(power, power + 0.5) == "disagrees"
    assert verdict(power, power - 0.5) == "disagrees"


def test_a_transient_is_not_a_smaller_power() -> None:
    assert verdict(0.0, 0.0, transient=30.0) == "agrees"
    assert verdict(0.0, -0.5, transient=30.0) != "agrees"


def test_noise_is_inconclusive_and_bounds_hold_from_above_only() -> None:
    assert verdict(0.0, 0.5, noise=3.0) == "inconclusive"
    for power, expected in ((-1.0, "agrees"), (0.5, "disagrees")):
        found = evidence.judge(WIDTHS, sizes(power), 0.0, bound=True, final=True)
        assert found.verdict == expected


def drawn(rng: np.random.Generator, power: float, seeds: int) -> evidence.Floats:
    """Sizes [width, seed] of a law with parts that vanish like n^-1/2 and n^-1, of either sign, and 5 to 50% noise."""
    while True:
        square = 1 + rng.uniform(-0.9, 3) * np.sqrt(64 / WIDTHS) + rng.uniform(-0.9, 3) * 64 / WIDTHS
        if square.min() > 0.05:
            noise = rng.choice([0.05, 0.2, 0.5]) * rng.standard_normal((len(WIDTHS), seeds))
            return np.asarray((WIDTHS**power * np.sqrt(square))[:, None] * np.exp(noise))


def test_how_often_the_judge_is_wrong() -> None:
    """A wrong exponent agrees in at most 3% of cases, a true one never disagrees; half a power off is never silent:
    what does not disagree at once is inconclusive, mostly as a miss."""
    rng = np.random.default_rng(0)
    for seeds in (8, 24):
        shares = {}
        for power in (-0.5, 0.0, 0.5):
            found = [evidence.judge(WIDTHS, drawn(rng, power, seeds), 0.0, bound=False, final=True) for _ in range(120)]
            shares[power] = {v: sum(e.verdict == v for e in found) / 120 for v in ("agrees", "disagrees")}
        assert shares[0.0]["disagrees"] == 0 and shares[0.0]["agrees"] > 0.6
        assert max(shares[-0.5]["agrees"], shares[0.5]["agrees"]) <= 0.03
        assert seeds < 24 or min(shares[-0.5]["disagrees"], shares[0.5]["disagrees"]) > 0.25


@pytest.mark.parametrize(("p", "degrees", "t"), [(0.05, 5, 2.5706), (0.05, 15, 2.1314), (0.001, 15, 4.0728),
                                                 (0.01, 1, 63.657), (0.01, 2, 9.9248)])  # fmt: skip
def test_students_quantiles(p: float, degrees: int, t: float) -> None:
    assert math.isclose(evidence.student(p, degrees), t, rel_tol=1e-3)


def test_networks_and_parametrizations_follow_from_their_number() -> None:
    texts = [campaign_program(k) for k in range(100)]
    assert texts == [campaign_program(k) for k in range(100)]
    assert len(set(texts)) == len(texts)
    found = derive(parse(texts[0]), "sgd")
    assert perturbed(found, 5) == perturbed(found, 5)
    assert perturbed(found, 5)[0] != found.parametrization


def test_shrinking_keeps_the_finding_and_drops_the_rest() -> None:
    """What is kept: a refusal for the given reason."""
    source = """
width n
dim d = 8, classes = 5, T = 3
axis i: d, j: n, k: n, c: classes, t: T
input x[t,i]
param E[j,i], W[k,j], M[k,j], g[j] = ones, V[c,j]
z[t,j] = gelu(E[j,i] x[t,i])
h[k,j] = sigmoid(M[k,j]) * W[k,j]
y[t,k] = z[t,k] + h[k,j] z[t,j]
u[t,j] = y[t,j] * g[j]
m[j] = mean[t](u[t,j])
output f[c] = V[c,j] m[j]
loss cross_entropy(f)
"""
    why = "an orthogonalised update is sized for a finite sum of outer products of vectors"
    small = shrink.shrink(source, shrink.refused("muon", why))
    assert shrink.refused("muon", why)(small)
    assert len(small.splitlines()) < len(source.strip().splitlines())
    assert "g[j]" not in small and "gelu" not in small and "W[" not in small


@pytest.mark.slow
def test_a_wrong_exponent_disagrees() -> None:
    """Negative control: a network judged against the exponents of another parametrization."""
    found = derive(parse(campaign_program(0)), "sgd")
    name = next(n for n, e in found.params.items() if e.init_std is not None and e.lr is not None)
    wrong = replace(found.params[name], init_std=found.params[name].init_std * Power.of({"n": Fraction(1, 2)}))
    used = replace(found.parametrization, params={**found.params, name: wrong})
    assert judged(found, used, ladder=((64, 128, 256, 512), 24), expected=found.parametrization).counts["disagrees"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1, 3, 4, 6, 7, 9, 10])
def test_a_sample_of_the_campaign(number: int) -> None:
    """No tensor of these networks, in derived and in wrong parametrizations, disagrees; wrong exponents do."""
    found = trial(number, ladders=1)
    assert not found.refused
    assert not [row for row in found.rows if row.verdict == "disagrees"]
    assert found.counts["agrees"] > 0.7 * (found.counts["agrees"] + found.counts["inconclusive"])
    assert not found.wrong or not found.control or found.control.get("disagrees")
