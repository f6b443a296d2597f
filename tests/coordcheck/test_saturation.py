"""A bounded function under-reads what grows: what stands behind it never agrees."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from tensorprog.api import check
from tensorprog.architecture import parse
from tensorprog.coordcheck.ladder import Ladder
from tensorprog.coordcheck.probes import arguments, probes
from tensorprog.coordcheck.saturation import DULL, saturated, spread_degree
from tests.shared import derive, perceptron, tiers

SATURATED = tiers(product(("tanh", "sigmoid"), ("1/2", "1")), ("tanh-1", "sigmoid-1/2"))
BUMP = "fn bump(z) = z / (1 + z^2)"


def network(act: str) -> str:
    return BUMP + perceptron(32, 8, act, "mean")


@pytest.mark.parametrize("act", ["tanh", "sigmoid", "erf", "hardtanh", "sin", "bump"])
def test_bounded_functions_are_known_by_their_facts(act: str) -> None:
    derivation = derive(parse(network(act)), "adam")
    assert len(arguments(derivation)) == 2


@pytest.mark.parametrize("act", ["relu", "gelu", "square", "identity", "softplus"])
def test_unbounded_functions_do_not_saturate(act: str) -> None:
    assert not arguments(derive(parse(network(act)), "adam"))


def test_a_function_is_saturated_where_its_values_stop_spreading() -> None:
    assert spread_degree(np.tanh, 0.1) > 0.95
    assert spread_degree(np.tanh, 4.0) < 0.2 < DULL
    assert spread_degree(lambda x: np.maximum(x, 0), 4.0) == pytest.approx(1.0)


@pytest.mark.parametrize(("act", "exponent"), SATURATED)
def test_behind_a_saturated_function_nothing_agrees(act: str, exponent: str) -> None:
    """The first layer blows up like n^1/2 or n: h1 says so, and what stands behind tanh(h1) must not agree, however
    flat it looks."""
    text = network(act)
    report = check(parse(text), "adam", overrides=[f"lr[W1]={exponent}"], widths=[64, 128, 256, 512], seeds=6,
                   max_seeds=6, steps=2, control=False)  # fmt: skip
    at = {(row.tensor, row.part, row.step): row for row in report.rows}
    assert at["h1", "change", 1].verdict == "disagrees"
    for tensor in ("x1", "h2", "x2", "f"):
        assert at[tensor, "change", 1].verdict != "agrees"
        assert not at[tensor, "init", 0].reason.startswith("saturated")
    assert all(row.verdict != "agrees" for row in report.rows if row.step == 2)
    assert any(row.reason.startswith("saturated: the argument `h1`") for row in report.rows)


def test_a_stable_network_is_not_called_saturated() -> None:
    report = check(parse(network("tanh")), "adam", widths=[64, 128, 256, 512], seeds=6, steps=2)
    assert report.verdict == "agrees"


@pytest.mark.parametrize("rounded", [False, True])
def test_a_change_that_is_nothing_but_rounding_errors_saturates_nothing(rounded: bool) -> None:
    derivation, ladder = derive(parse(network("tanh")), "adam"), Ladder.of(("n",), (64, 128, 256), {})
    places = probes(derivation, ())
    values = np.full((len(places), 2, 3, 2), 5.0)  # of everything: the argument of tanh, too, is far out
    h1 = next(k for k, probe in enumerate(places) if probe.name == "h1" and probe.kind == "value")
    values[h1, 1] = 1e-8 * np.array([[1.0, 1.0], [2.0, 2.1], [4.0, 3.9]])
    found = saturated(derivation, ladder, places, values, {(h1, 1)} if rounded else ())
    assert found == ({} if rounded else {1: found[1]})
