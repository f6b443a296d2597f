"""Several widths that do not grow in proportion: which exponents depend on their order."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from tensorprog.api import check, derive
from tensorprog.architecture import parse
from tensorprog.coordcheck.calibrate import base_widths, width_ladder
from tensorprog.errors import TensorProgError
from tensorprog.exponents import Power, Units

RECTANGLES = """
width n, m
dim d = 8, c = 3
axis i: d, j: n, k: m, l: n, o: c
input x[i]
param E[j,i], A[k,j], B[l,k], R[o,l]
h[j] = E[j,i] x[i]
g[k] = A[k,j] tanh(h[j])
y[l] = B[l,k] tanh(g[k])
output f[o] = R[o,l] tanh(y[l])
loss mse(f)
"""
HALF = Fraction(1, 2)


def spectral_std(fan_out: str, fan_in: str, slower: str) -> Power:
    """fan_in^-1/2 min(1, (fan_out / fan_in)^1/2). Source: Yang, Simon, Bernstein 2023 (arXiv:2310.17813), eq. (8)."""
    std = Power.of({fan_in: -HALF})
    return std * Power.of({fan_out: HALF}) * Power.of({fan_in: -HALF}) if fan_out == slower else std


@pytest.mark.parametrize("order", [("m", "n"), ("n", "m")])
def test_rectangular_layers_have_the_spectral_initialisation(order: tuple[str, str]) -> None:
    found = derive(parse(RECTANGLES + f"regime {order[0]} << {order[1]}\n"), "adam", "table3")
    assert found.params["A"].init_std == spectral_std("m", "n", order[0])
    assert found.params["B"].init_std == spectral_std("n", "m", order[0])
    assert found.params["A"].lr == Power.of({"n": -1})
    assert found.params["B"].lr == Power.of({"m": -1})


def test_an_undeclared_order_is_told_piecewise() -> None:
    found = derive(parse(RECTANGLES), "adam", "table3")
    assert found.params["A"].init_std == Power.of({"n": -HALF})
    text = found.render()
    assert "init std of A = m^1/2 n^-1 if m << n" in text
    assert "init std of B = m^-1 n^1/2 if n << m" in text
    assert "otherwise" not in derive(parse(RECTANGLES + "regime n, m: proportional\n")).render()


def test_order_of_growth_is_lexicographic_between_groups() -> None:
    units = Units(("n",), ("m",), ("L",))
    sizes = [Power.of(p) for p in ({"n": 1}, {"n": HALF, "m": 9}, {"m": 1, "L": -7}, {"m": HALF}, {"L": 1}, {})]
    packed = [units.pack_power(size) for size in sizes]
    assert packed == sorted(packed, reverse=True)
    assert [units.unpack(size) for size in packed] == sizes
    together = Units(("n", "m"), ("L",))
    assert not together.grows(together.pack({"n": 1, "m": -1}))
    assert together.grows(together.pack({"n": 1, "m": -HALF}))


ORDERED = RECTANGLES + "regime n << m\n"


def test_one_of_several_ordered_widths_climbs_and_the_others_are_far_away() -> None:
    known = derive(parse(ORDERED))
    fast, slow = width_ladder(known, None, None), width_ladder(known, None, "n")
    assert (fast.axis, fast.sizes, fast.held) == (("m",), (128, 256, 512, 1024), {"n": 8})
    assert (slow.axis, slow.sizes, slow.held) == (("n",), (8, 16, 32, 64), {"m": 1024})
    assert base_widths(known, fast) == {"n": 8, "m": 32}
    assert base_widths(known, slow) == {"n": 2, "m": 2}
    power = Power.of({"m": -HALF, "n": 1})
    assert (fast.exponent(power), slow.exponent(power)) == (-HALF, 1)


def test_only_ordered_widths_climb_alone() -> None:
    with pytest.raises(TensorProgError, match="does not climb alone"):
        check(derive(parse(RECTANGLES)), climb="n")
    with pytest.raises(TensorProgError, match="does not climb alone"):
        check(derive(parse(ORDERED)), climb="k")


@pytest.mark.slow
@pytest.mark.parametrize("climb", ["n", "m"])
def test_ordered_widths_have_the_measured_exponents_one_by_one(climb: str) -> None:
    report = check(derive(parse(ORDERED), "adam"), climb=climb, steps=2, seeds=6)
    assert report.count("disagrees") == 0, str(report)
    assert report.count("agrees") >= 0.95 * len(report.rows), str(report)
    assert report.control is not None and report.control.caught


@pytest.mark.slow
def test_a_wrong_power_of_one_width_shows_on_its_own_ladder_alone() -> None:
    """The learning rate of A is too large by n^1/2; the ladder of m does not see it, that of n does."""
    known = derive(parse(ORDERED), "adam")
    rule = known.params["A"]
    assert rule.lr is not None
    params = {**known.params, "A": replace(rule, lr=rule.lr * Power.of({"n": HALF}))}
    wrong = replace(known.parametrization, name="lr of A ~ n^1/2", params=params)
    counts = {
        climb: check(known, parametrization=wrong, climb=climb, steps=1, seeds=6, control=False).count("disagrees")
        for climb in ("n", "m")
    }
    assert counts["m"] == 0
    assert counts["n"] >= 3
