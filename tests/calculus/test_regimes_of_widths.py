"""Several widths that do not grow in proportion: which exponents depend on their order."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from tensorprog.api import check, derive
from tensorprog.architecture import parse
from tensorprog.calculus.forms import parametrize
from tensorprog.coordcheck.calibrate import base_widths, width_ladder
from tensorprog.coordcheck.predict import Predictor
from tensorprog.coordcheck.probes import Probe
from tensorprog.errors import TensorProgError
from tensorprog.exponents import Power, Units
from tests.shared import tiers

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


STACK = """
depth L
axis i: 5
input x0[i]
x = linear(x0, n)
repeat L { x = x + ?b * mlp(rmsnorm(x), hidden = HIDDEN, act = relu) }
output f = readout(rmsnorm(x), 7)
loss mse(f)
"""
RATES = {"adam": ["n^-1", "m^-1"], "sgd": ["L m n^-1", "L m^-1 n"], "muon": ["m^1/2 n^-1/2", "m^-1/2 n^1/2"]}


@pytest.mark.parametrize("widths", tiers(["n, m", "m, n"], ["n, m"]))
@pytest.mark.parametrize("optimizer", tiers(list(RATES), ["adam"]))
def test_a_stack_with_two_widths_in_proportion_has_the_powers_of_one_with_one(widths: str, optimizer: str) -> None:
    """A tie between the widths that is broken alike in every layer is no growth with the depth. Learning rates are
    attributed as in both orders: under Adam each to its own fan-in."""
    one = derive(parse("width n" + STACK.replace("HIDDEN", "4 n")), optimizer)
    two = derive(parse(f"width {widths}{STACK.replace('HIDDEN', 'm')}"), optimizer)
    assert not two.note
    assert str(two.multipliers["b"]) == "L^-1"
    for name, there in one.params.items():
        here = two.params[name]
        for mine, theirs in ((here.init_std, there.init_std), (here.lr, there.lr), (here.multiplier, there.multiplier)):
            assert (mine is None) == (theirs is None)
            assert mine is None or (mine["n"] + mine["m"], mine["L"]) == (
                theirs and theirs["n"],
                theirs and theirs["L"],
            )
    assert [str(two.params[f"layers.*.mlp.W{k}"].lr) for k in (1, 2)] == RATES[optimizer]
    assert [str(two.params[f"layers.*.mlp.W{k}"].init_std) for k in (1, 2)] == ["n^-1/2", "m^-1/2"]
    assert f"reasons give sizes as powers of {widths[0]}" in two.explain("layers.*.mlp.W2", "lr")
    assert set(two.to_json()["parameters"]["layers.*.mlp.W1"]["lr"]) == {"n", "m", "L"}


@pytest.mark.slow
def test_initial_sizes_that_let_gradients_grow_from_layer_to_layer_are_mended_on_few_layers() -> None:
    """With far fewer heads than features, values that start at fan_in^-1/2 are too large: W^T makes gradients grow."""
    text = (Path(__file__).parents[2] / "examples" / "llama.tp").read_text().replace("width n", "width n, h")
    text = text.replace("heads = n / d_head, groups = n / (4 d_head)", "heads = 4 h, groups = h")
    found = derive(parse(text + "regime h << n\n"), "adam")
    assert not found.note
    assert found.params["layers.*.grouped_query_attention.Wv"].init_std == spectral_std("h", "n", "h")
    assert str(found.multipliers["branch"]) == "L^-1"


TWO_STACKS = (
    """width n, m
depth L, M
axis i: 5, j: n, k: m
input x[i]
param E[j,i], Q[k,j], V[4,k]
h[j] = E[j,i] x[i]
repeat L {
  param W1[k,j], W2[j,k]
  y[k] = relu(W1[k,j] h[j])
  h[j] = h[j] + ?a * (W2[j,k] y[k])
}
g[k] = Q[k,j] h[j]
repeat M {
  param U1[j,k], U2[k,j]
  z[j] = relu(U1[j,k] g[k])
  g[k] = g[k] + ?b * (U2[k,j] z[j])
}
output f[4] = V[4,k] g[k]
loss mse(f)
""".replace("[4,k]", "[o,k]")
    .replace("f[4]", "f[o]")
    .replace("axis i: 5", "axis o: 4, i: 5")
)


NO_ORDER = """width n, m
depth M = 3
dim d = 8, classes = 4
axis i: d, j: n, k: m, c: classes
input x[i]
param W0[j,i]
h[j] = W0[j,i] x[i]
param P[k,j]
g[k] = P[k,j] h[j]
repeat M {
  param U1[j,k], U2[k,j]
  y[j] = relu(U1[j,k] g[k])
  g[k] = g[k] + U2[k,j] y[j]
}
param V[c,k]
output f[c] = V[c,k] g[k]
loss cross_entropy(f)
"""


@pytest.mark.slow
def test_two_depths_are_not_one_where_two_widths_are() -> None:
    found = derive(parse(TWO_STACKS), "sgd")
    assert not found.note
    assert {k: str(v) for k, v in found.multipliers.items()} == {"a": "L^-1", "b": "M^-1"}
    assert [str(found.params[f"layers_2.*.U{k}"].lr) for k in (1, 2)] == ["M m^-1 n", "M m n^-1"]


def test_all_forms_of_attributed_exponents_are_one_training_run() -> None:
    arch = parse("width n, m" + STACK.replace("HIDDEN", "m"))
    starts, rates = set(), set()
    for form in ("table3", "table8", "table9", "unit"):
        W2 = derive(arch, "adam", form).params["layers.*.mlp.W2"]
        assert W2.init_std is not None and W2.lr is not None
        starts.add(W2.multiplier * W2.init_std)
        rates.add(W2.multiplier * W2.lr)
    assert [len(starts), len(rates)] == [1, 1]
    assert str(starts.pop()) == "m^-1/2"


@pytest.mark.parametrize("optimizer", tiers(["adam", "sgd"], ["sgd"]))
def test_widths_that_have_no_answer_in_an_order_are_not_told_apart(optimizer: str) -> None:
    """Nothing is taken from the one order that has an answer; sizes that run away in the other are no error."""
    text = derive(parse(NO_ORDER), optimizer).render()
    assert "grow in proportion, and are not told apart: all are n" in text


@pytest.mark.slow
def test_at_a_finite_depth_rates_belong_to_the_widths_they_have_in_both_orders() -> None:
    """Only monomials change, no degree: what is predicted in proportion for the two is the same."""
    source = f"width n, m{STACK.replace('HIDDEN', 'm').replace('?b * ', '')}".replace("depth L", "depth L = 4")
    found = derive(parse(source.replace("repeat L", "repeat 4")), "sgd")
    assert {str(found.params[f"layers.{k}.mlp.W1"].lr) for k in range(4)} == {"m n^-1"}
    assert str(found.params["linear.W"].lr) == "n"
    plain = parametrize(found.solution, found.form)
    assert str(plain.params["linear.W"].lr) == "m^2 n^-1"  # as ties are broken: of the same degree
    one, other = Predictor(found, plain, 1), Predictor(found, found.parametrization, 1)
    for node in found.architecture.graph.nodes:
        powers = [predictor.at(Probe(node.name, node.id), 1).exponent for predictor in (one, other)]
        assert powers[0] == powers[1] or (powers[0] and powers[1] and powers[0].degree == powers[1].degree)


def test_an_order_of_some_widths_leaves_the_others_in_proportion_to_the_fastest() -> None:
    found = derive(
        parse(RECTANGLES.replace("n, m", "n, m, p").replace("l: n", "l: p") + "regime m << p\n"), "adam", "table3"
    )
    assert found.params["A"].init_std == spectral_std("m", "n", "m")


@pytest.mark.slow
def test_a_stack_with_two_widths_follows_its_exponents_in_width_and_depth() -> None:
    found = derive(parse("width n, m" + STACK.replace("HIDDEN", "m")), "adam")
    for ladder in ({"steps": 2}, {"steps": 2, "depths": (4, 8, 16, 32)}):
        report = check(found, seeds=6, **ladder)  # type: ignore[arg-type]
        assert report.count("disagrees") == 0, str(report)
        assert report.control is not None and report.control.caught


@pytest.mark.parametrize("widths", ["n, m", "m, n"])
def test_the_norm_of_the_gradient_of_widths_in_proportion_has_no_preference(widths: str) -> None:
    """That of W is (n / m)^1/2 and that of V is (m / n)^1/2: together 1. In an order of the widths one is larger."""
    text = f"""
width {widths}
axis i: 5, j: n, k: m, c: 3
input x[i]
param U[j,i], W[k,j], V[j,k], R[c,j]
h[j] = relu(U[j,i] x[i])
g[k] = relu(W[k,j] h[j])
y[j] = V[j,k] g[k]
output f[c] = R[c,j] y[j]
loss mse(f)
"""
    assert derive(parse(text), "adam").gradient_norm == Power()
    ordered = derive(parse(text.replace("\naxis", "\nregime m << n\naxis", 1)), "adam")
    half = Fraction(1, 2)
    assert ordered.gradient_norm == Power.of({"n": half, "m": -half})


@pytest.mark.slow
def test_the_norm_of_the_first_gradient_is_of_the_same_widths_under_every_optimizer() -> None:
    """That of the projection behind the heads, (H e / n)^1/2 L^-1/2. Under SGD rates differ in orders of the widths,
    and so do later gradients."""
    text = """
width n, ff, e, H
depth L
dim vocab = 8, T = 4
input tokens[t] in vocab
x = embedding(tokens, n) + positions(T, n)
repeat L {
  x = x + ?branch * attention(layernorm(x), heads = H, head_dim = e, scale = ?, causal)
  x = x + ?branch * mlp(layernorm(x), hidden = ff)
}
output f = readout(layernorm(x), vocab)
loss cross_entropy(f)
"""
    half = Fraction(1, 2)
    expected = Power.of({"H": half, "e": half, "n": -half, "L": -half})
    for optimizer in ("sgd", "adam"):
        assert derive(parse(text), optimizer).gradient_norm == expected
