"""Constrained solving with several widths: a linear programme over exponent vectors, ordered as sizes are."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import pytest

import tensorprog as tp
from tensorprog.classify import classify
from tensorprog.classify.regime import trainer_for
from tensorprog.errors import CalculusError
from tensorprog.exponents import Degrees, Power, Units
from tensorprog.optimizers.choice import choose
from tensorprog.programme import completion
from tensorprog.programme.complete import solve
from tensorprog.programme.completion import Completion
from tests.shared import tiers

F = Fraction
BODY = """
axis i: 4, j: n, k: m, c: 3
input x[i]
param U[j,i], W[k,j], V[c,k], b[k] = zeros
h[j] = relu(U[j,i] x[i])
g[k] = relu(W[k,j] h[j] + b[k])
output f[c] = V[c,k] g[k]
loss mse(f)
"""
REGIMES = ("regime n, m: proportional", "regime n << m", "regime m << n")
QUICK = {f"{regime}-adam" for regime in REGIMES}


def network(regime: str) -> tp.Architecture:
    return tp.parse(f"width n, m\n{regime}{BODY}")


def completed(regime: str, *fixes: str, optimizer: str = "adam") -> Completion:
    found = tp.derive(network(regime), optimizer, fixes=fixes)
    assert isinstance(found, Completion)
    return found


@pytest.mark.parametrize("groups", [(("n", "m"),), (("n",), ("m",)), (("n", "m"), ("p",))])
def test_numbers_of_exponents_keep_the_order_and_can_be_read_back(groups: tuple[tuple[str, ...], ...]) -> None:
    units = Units(*groups).finer(6)
    powers = [
        Power.of({s: F(a, 3), t: F(b, 7)}) for s, t in (("n", "m"), ("m", "n")) for a in (-4, 0, 5) for b in (-9, 2)
    ]
    for power in powers:
        assert units.power(units.number(power)) == power
        assert units.number(power**2) == 2 * units.number(power)
    fine = units.finer(42)
    assert sorted(powers, key=units.number) == sorted(powers, key=fine.pack_power)
    assert [units.sign(units.number(p)) > 0 for p in powers] == [fine.grows(fine.pack_power(p)) for p in powers]


@pytest.mark.parametrize(("regime", "optimizer"), tiers(product(REGIMES, ("sgd", "adam", "muon")), QUICK))
def test_with_nothing_fixed_it_is_what_the_local_solver_derives(regime: str, optimizer: str) -> None:
    """The same exponents, attributed to the same widths, by two ways; the programme starts from zero exponents."""
    trainer = completion.trainer_for(network(regime), choose(optimizer))
    found = solve(trainer, [], trainer.exponents)
    assert found.exponents == completion.derived_or_zero(network(regime), choose(optimizer), found.unknowns.trainer)
    assert not found.lost and found.trajectory.stable


def test_the_standard_start_by_hand() -> None:
    """init fan_in^-1/2, no multipliers, Adam. f sums m terms of V g, g moves by lr[W] n, and V starts at m^-1/2 and is
    aligned with the change of g: m m^-1/2 n lr[W] <= 1, so lr[W] = m^-1/2 n^-1 and W moves its use by m^-1/2."""
    found = completed("", "init = sp", "no multipliers")
    assert found.params["W"].init_std == Power.of({"n": F(-1, 2)})
    assert found.params["W"].lr == Power.of({"m": F(-1, 2), "n": -1})
    assert found.contribution("W") == Power.of({"m": F(-1, 2)})
    assert "at most Theta(1): lr[W] * init[V] <= m^-1 n^-1" in str(found)


@pytest.mark.parametrize("regime", REGIMES)
def test_one_rate_for_all_is_one_vector_and_costs_nothing_with_multipliers(regime: str) -> None:
    found = completed(regime, "lr = global")
    assert found.maximal and len({e.lr for e in found.params.values()}) == 1


@pytest.mark.parametrize("rate", ["n^-1", "m^-1", "n^-1/2 m^-1/2"])
def test_in_proportion_it_does_not_matter_which_width_a_rate_is_of(rate: str) -> None:
    """lr[W] = n^-1 is maximal, and so is every other rate of total degree -1: m / n neither grows nor vanishes."""
    assert completed(REGIMES[0], f"lr[W] = {rate}").maximal


@pytest.mark.slow
def test_in_an_order_of_the_widths_it_does_matter() -> None:
    """n << m: lr[W] = m^-1 is too small by m / n; m^-1 instead of n^-1 is too large where m << n."""
    found = completed(REGIMES[1], "lr[W] = m^-1", "multiplier[W] = 0")
    assert found.contribution("W") == Power.of({"n": 1, "m": -1})
    assert completed(REGIMES[1], "lr[W] = n^-1", "multiplier[W] = 0").maximal
    with pytest.raises(tp.TensorProgError, match="no stable completion"):
        completed(REGIMES[2], "lr[W] = m^-1", "multiplier[W] = 0", "init[U] = 0")


@pytest.mark.slow
def test_what_only_a_tie_forbids_and_no_order_allows_is_answered_by_degrees() -> None:
    """W starts too large by n^1/2 m^-1/2, and V by m / n; both are Theta(1), but no order of n and m allows both. What
    is fixed stays as it is said, and the degrees are those of the same network with m = n."""
    tie = ("init[U] = 0", "init[W] = m^-1/2", "lr[W] = n^-1", "init[V] = n^-1", "no multipliers")
    one = tp.derive(
        tp.parse(f"width n\n{BODY}".replace("k: m", "k: n")), "adam", fixes=[t.replace("m^", "n^") for t in tie]
    )
    found = completed(REGIMES[0], *tie)
    assert found.maximal and found.completed.certified
    assert found.params["W"].init_std == Power.of({"m": F(-1, 2)}) and found.params["V"].init_std == Power.of({"n": -1})
    for name, known in one.params.items():
        assert [power and power.degree for power in (found.params[name].init_std, found.params[name].lr)] == [
            power and power.degree for power in (known.init_std, known.lr)
        ]
    assert "possible only because of that" in str(found)
    with pytest.raises(tp.TensorProgError, match="no stable completion"):
        completed(REGIMES[0], *tie, "lr[V] = m^-1/2")  # too large, not by a tie


def test_a_number_does_not_say_of_which_width() -> None:
    with pytest.raises(tp.TensorProgError, match="does not say of which width"):
        completed("", "lr = -1")
    assert completed("", "lr = 0").params["W"].lr == Power()


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_stable_polygon_of_widths_in_proportion_is_that_of_one_width(optimizer: str) -> None:
    """Total degrees decide: with m = n it is the same network."""
    one = tp.parse(f"width n\n{BODY}".replace("k: m", "k: n"))
    axes = ("lr[W]", "init_std[V]")
    found, known = (classify(a, "sp", optimizer, F(-1), region=axes, constraints=True) for a in (network(""), one))
    assert found.region is not None and known.region is not None and found.region.exact
    assert found.region.vertices == known.region.vertices and len(known.region.vertices) > 3
    assert found.constraints is not None and known.constraints is not None
    assert {c.text() for c in found.constraints} == {c.text() for c in known.constraints}
    assert isinstance(Degrees(("n", "m")).finer(12), Degrees)


def test_widths_in_an_order_have_no_polygon_and_the_error_says_why() -> None:
    with pytest.raises(CalculusError) as caught:
        classify(network(REGIMES[1]), "sp", "adam", region=("lr[W]", "lr[V]"))
    assert "powers of m first" in caught.value.why
    assert trainer_for(network(REGIMES[1])).units.groups == (("m",), ("n",))


@pytest.mark.slow
def test_a_completion_of_two_widths_is_what_is_measured_and_a_wrong_exponent_is_caught() -> None:
    found = completed("", "init = sp", "no multipliers")
    report = tp.check(found, steps=2)
    assert report.exit_code == 0 and report.control is not None and report.control.caught
    assert tp.check(found, steps=2, overrides=["lr[W]=n^-1"], control=False).exit_code == 1
