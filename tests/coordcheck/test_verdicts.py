"""The check agrees with the derivation on every example, and catches what is wrong."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import product
from pathlib import Path

import pytest

from tensorprog.api import check
from tensorprog.architecture import parse
from tensorprog.coordcheck.looks import RATES
from tensorprog.coordcheck.run import CheckReport, Row
from tensorprog.derivation import Derivation
from tensorprog.exponents import Power
from tensorprog.optimizers import OPTIMIZERS
from tensorprog.parametrization import Parametrization
from tests.shared import derive, load, tiers

EXAMPLES = Path(__file__).parents[2] / "examples"
HALF = Power.of({"n": Fraction(1, 2)})


def rows(report: CheckReport, tensor: str, step: int) -> Row:
    return next(row for row in report.rows if (row.tensor, row.step) == (tensor, step))


def assert_agrees(report: CheckReport, share: float = 0.95) -> None:
    """Nothing disagrees, nearly everything is conclusive, and what is not says why."""
    assert not [row for row in report.rows if row.verdict == "disagrees"]
    undecided = [row for row in report.rows if row.verdict == "inconclusive"]
    assert all(row.reason for row in undecided)
    assert len(undecided) <= (1 - share) * len(report.rows)
    assert report.exit_code == 0


@pytest.mark.parametrize("backend", ["numpy", pytest.param("torch", marks=pytest.mark.torch)])
@pytest.mark.parametrize("body", ["output f[i] = tanh(x[i])", "param W[j,i] frozen\noutput f[j] = W[j,i] x[i]"])
def test_a_network_in_which_nothing_is_trained_stays_as_it_is(body: str, backend: str) -> None:
    text = f"width n\naxis i: n, j: n\ninput x[i]\n{body}\nloss mse(f)\n"
    report = check(parse(text), widths=[8, 16, 32], seeds=3, steps=1, backend=backend)
    assert report.verdict == "agrees"
    assert {row.predicted for row in report.rows if row.part == "change"} == {None}


@pytest.mark.parametrize(
    ("example", "optimizer"), tiers(product(("mlp", "rnn"), ("sgd", "adam", "muon")), ["mlp-adam"])
)
def test_small_examples_agree_on_every_row(example: str, optimizer: str) -> None:
    report = check(EXAMPLES / f"{example}.tp", optimizer, widths=[64, 128, 256, 512], seeds=6, steps=3)
    assert_agrees(report, share=1.0)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("example", ["moe", "lora", "llama", "llama_tied", "vit", "unet", "mamba", "dit"])
def test_further_examples_agree_after_one_update(example: str, optimizer: str) -> None:
    """One layer, one update: what starts at zero or vanishes (adapters, gates, routers) makes later steps chaotic at
    the learning rates at which everything moves visibly. Under SGD the sizes that the norms of `dit` divide by move by
    0.3%, and below width 128 mostly by the part that vanishes."""
    lowest = {"unet": 32, "lora": 128, "mamba": 128, "dit": 128}.get(example, 64)
    widths = [lowest, 2 * lowest, 4 * lowest, 8 * lowest]
    architecture = load(EXAMPLES / f"{example}.tp", {} if example in ("lora", "unet") else {"L": 1})
    assert_agrees(check(architecture, optimizer, widths=widths, seeds=6, max_seeds=18, steps=1), share=0.75)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("example", ["lstm", "gpt", "gpt_tied", "bert", "resnet"])
def test_large_examples_agree(example: str, optimizer: str) -> None:
    widths = [16, 32, 64, 128] if example == "resnet" else [64, 128, 256, 512]
    assert_agrees(
        check(EXAMPLES / f"{example}.tp", optimizer, widths=widths, seeds=6, max_seeds=18, steps=2), share=0.9
    )


@pytest.mark.slow
@pytest.mark.parametrize("example", ["lora", "unet", "moe", "dit"])
def test_nothing_disagrees_at_default_settings_where_narrow_networks_go_astray(example: str) -> None:
    """With the ladder, the rates, the seeds and the steps that `tpcalc check` takes by itself, under SGD."""
    report = check(EXAMPLES / f"{example}.tp", "sgd", control=False)
    assert_agrees(report, share=0.6)
    assert any(row.reason == RATES for row in report.rows)


def test_standard_parametrization_with_adam_blows_up_as_predicted() -> None:
    """One global learning rate: hidden features move like n, and the calculus says so; Yang & Hu 2021, section 5."""
    report = check(EXAMPLES / "mlp.tp", "adam", parametrization="sp", widths=[128, 256, 512, 1024], seeds=6, steps=1)
    assert report.exit_code == 1
    for tensor in ("h2", "x2", "W2", "W3", "f"):
        assert rows(report, tensor, 1).verdict == "disagrees", tensor
    for tensor, slope in (("h1", "0"), ("W2", "0"), ("h2", "1"), ("x2", "1"), ("W3", "0")):
        row = rows(report, tensor, 1)
        assert (row.calculus, row.calculus_verdict) == (slope, "agrees"), tensor


def test_standard_parametrization_with_sgd_is_lazy_as_predicted() -> None:
    """Learning rate 1/n, the largest stable one: features freeze (kernel regime); Tensor Programs IV, section 5."""
    report = check(EXAMPLES / "mlp.tp", "sgd", parametrization="sp", lr_exponent=Fraction(-1),
                   widths=[128, 256, 512, 1024], seeds=6, steps=1)  # fmt: skip
    assert report.exit_code == 1
    for tensor, slope in (("h1", "-3/2"), ("W1", "-3/2"), ("W2", "-3/2"), ("W3", "-1"), ("f", "0")):
        row = rows(report, tensor, 1)
        assert (row.calculus, row.calculus_verdict) == (slope, "agrees"), tensor
    for tensor in ("h1", "x1", "h2", "x2"):
        assert rows(report, tensor, 1).verdict == "disagrees", tensor


@pytest.mark.slow
def test_standard_parametrization_with_a_constant_sgd_rate_blows_up() -> None:
    report = check(EXAMPLES / "mlp.tp", "sgd", parametrization="sp", widths=[128, 256, 512, 1024, 2048], seeds=16,
                   max_seeds=16, steps=1)  # fmt: skip
    assert report.exit_code == 1
    for tensor, slope in (("h1", "-1/2"), ("h2", "1/2"), ("W3", "0")):
        row = rows(report, tensor, 1)
        assert (row.calculus, row.calculus_verdict) == (slope, "agrees"), tensor
    assert (rows(report, "f", 1).measured or 0) > 0.8


def test_neural_tangent_parametrization_freezes_the_features() -> None:
    """All hidden changes shrink like n^-1/2 while the output moves; Jacot et al. 2018, Tensor Programs IV."""
    report = check(EXAMPLES / "mlp.tp", "sgd", parametrization="ntp", widths=[128, 256, 512, 1024], seeds=6, steps=1)
    for tensor, slope in (("h1", "-1/2"), ("x1", "-1/2"), ("h2", "-1/2"), ("x2", "-1/2"), ("f", "0")):
        row = rows(report, tensor, 1)
        assert (row.calculus, row.calculus_verdict) == (slope, "agrees"), tensor


@pytest.mark.slow
@pytest.mark.parametrize(("param", "sign"), tiers(product(("W1", "W2", "W3"), (1, -1)), ("W2-1",)))
def test_one_wrong_learning_rate_is_caught(param: str, sign: int) -> None:
    """Negative control: one exponent put wrong by 1/2, up or down, makes the check disagree at that parameter, and
    the calculus, told the wrong exponent, predicts what is measured there."""
    derivation = derive(EXAMPLES / "mlp.tp", "adam")
    wrong = wrong_lr(derivation, param, HALF**sign)
    report = check(derivation, parametrization=wrong, widths=[64, 128, 256, 512], seeds=6, steps=1)
    row = rows(report, param, 1)
    assert report.exit_code == 1 and row.verdict == "disagrees" and row.calculus_verdict == "agrees"


def wrong_lr(derivation: Derivation, param: str, factor: Power) -> Parametrization:
    exponents = derivation.params[param]
    assert exponents.lr is not None
    params = {**derivation.params, param: replace(exponents, lr=exponents.lr * factor)}
    return replace(derivation.parametrization, name="wrong", params=params)


ATTENTION = """
width n
dim T = 6, d = 8, classes = 5, heads = 2
axis t: T, s: T, i: d, m: n, h: heads, e: n / 2, o: n, c: classes
input x[t,i]
param E[m,i], Wq[o,m], Wk[o,m], Wv[o,m], R[c,m]
z[t,m] = E[m,i] x[t,i]
q[t,o] = Wq[o,m] z[t,m]
k[t,o] = Wk[o,m] z[t,m]
v[t,o] = Wv[o,m] z[t,m]
qh[t,h,e] = q[t,(h e)]
kh[t,h,e] = k[t,(h e)]
vh[t,h,e] = v[t,(h e)]
scores[h,t,s] = ?scale{n^(-1/2)} * (qh[t,h,e] kh[s,h,e])
a[h,t,s] = softmax[s](scores[h,t,s])
y[t,h,e] = a[h,t,s] vh[s,h,e]
u[t,(h e)] = y[t,h,e]
output f[t,c] = R[c,m] u[t,m]
loss cross_entropy(f)
"""


@pytest.mark.slow
def test_a_wrong_attention_scale_is_caught_inside_the_block() -> None:
    """1/sqrt(d) instead of 1/d: invisible at the outputs at first, plain at the scores."""
    derivation = derive(parse(ATTENTION), "adam")
    assert derivation.multipliers["scale"] == Power.of({"n": -1})
    good = check(derivation, widths=[64, 128, 256, 512], seeds=6, steps=2)
    assert rows(good, "scores", 1).verdict == "agrees" and good.exit_code == 0
    unknowns = {**derivation.parametrization.unknowns, "scale": HALF**-1}
    wrong = replace(derivation.parametrization, name="1/sqrt(d)", unknowns=unknowns)
    bad = check(derivation, parametrization=wrong, widths=[64, 128, 256, 512], seeds=6, steps=1)
    row = rows(bad, "scores", 1)
    assert row.verdict == "disagrees" and (row.measured or 0) > 0.3


@pytest.mark.slow
def test_a_check_is_deterministic() -> None:
    one, two = (check(EXAMPLES / "mlp.tp", widths=[16, 32, 64], seeds=3, max_seeds=3, steps=1) for _ in range(2))
    assert one.to_json() == two.to_json()


def optimizers() -> list[object]:
    """All of them; in the quick tests one of every kind of size rule."""
    kinds: dict[object, str] = {}
    for name, row in sorted(OPTIMIZERS.items()):
        kinds.setdefault((row.normalisation, row.relative, bool(row.factor), row.uses_norm), name)
    quick = set(kinds.values())
    return [pytest.param(name, marks=() if name in quick else pytest.mark.slow) for name in sorted(OPTIMIZERS)]


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", optimizers())
def test_every_optimizer_agrees_in_two_forms(optimizer: str) -> None:
    """The size rule of each optimizer against its own NumPy step. (The norm of the whole gradient has parts that only
    vanish like n^-1/2 beside the others: one row may stay inconclusive at these widths.)"""
    widths = [32, 64, 128, 256] if optimizer == "shampoo" else [64, 128, 256, 512]  # it takes eigenvectors at each step
    share = 0.95 if OPTIMIZERS[optimizer].normalisation == "global" else 1.0
    for form in ("table8", "table9"):
        derivation = derive(EXAMPLES / "mlp.tp", optimizer, form)
        assert_agrees(check(derivation, widths=widths, seeds=5, steps=2 + OPTIMIZERS[optimizer].delay), share)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adopt", "adam_atan2", "sophia", "clipped_sgd", "sgdw", "sam"])
@pytest.mark.parametrize("example", ["rnn", "gpt"])
def test_optimizers_by_formulas_agree_on_recurrent_and_attentive_networks(example: str, optimizer: str) -> None:
    derivation = derive(EXAMPLES / f"{example}.tp", optimizer)
    widths = [64, 128, 256, 512] if example == "rnn" else [32, 64, 128, 256]
    steps = 1 + OPTIMIZERS[optimizer].delay
    assert_agrees(check(derivation, widths=widths, seeds=6, max_seeds=6, steps=steps, control=False), share=0.9)
