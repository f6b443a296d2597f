"""Parametrizations whose tensors keep their sizes while learning goes wrong: the check fails, and names what is at
fault. Each is a mistake that a plot of sizes alone does not show."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import pytest

from tensorprog.api import check
from tensorprog.architecture import parse
from tensorprog.coordcheck.report import CheckReport, Fault
from tensorprog.errors import TensorProgError
from tests.shared import derive, perceptron

WIDTHS = [64, 128, 256, 512]
PERCEPTRON = perceptron(32, 10)
TRANSFORMER = """
width n
dim vocab = 24, context = 8
input tokens[t] in vocab
x = embedding(tokens, n) + positions(context, n)
x = x + attention(layernorm(x), heads = 2, head_dim = n / 2, scale = ?{n^(-1/2)}, causal)
x = x + mlp(layernorm(x), hidden = n, act = gelu)
output logits = readout(layernorm(x), vocab)
loss cross_entropy(logits)
"""


def fault(text: str, optimizer: str, overrides: Sequence[str] = (), form: str | None = None, **options: Any) -> Fault:
    """What is at fault in a check that must fail."""
    derivation = derive(parse(text), optimizer, form)
    report = check(
        derivation, overrides=overrides, widths=WIDTHS, seeds=6, max_seeds=6, steps=1, control=False, **options
    )
    assert report.exit_code == 1 and report.fault is not None
    assert str(report.fault) in report.render()
    assert_sizes_look_fine(report)
    return report.fault


def assert_sizes_look_fine(report: CheckReport) -> None:
    """No activation is larger than Theta(1) at the start, and none moves by more than Theta(1): nothing blows up."""
    for row in report.rows:
        if row.part in ("init", "change") and row.measured is not None and row.tensor[0] not in "WbEg":
            assert row.measured < 0.2, row.tensor


def test_the_neural_tangent_parametrization_with_sgd_is_the_fault_of_the_first_learning_rate() -> None:
    found = fault(PERCEPTRON, "sgd", parametrization="ntp")
    assert (found.tensor, found.part) == ("h1", "change")
    assert (found.param, found.quantity, found.trained, found.repaired) == ("W1", "lr", "1", "n^1/2")


def test_adam_with_one_learning_rate_over_the_width_freezes_the_first_layer() -> None:
    found = fault(PERCEPTRON, "adam", ["lr[*]=-1"], form="table3")
    assert (found.param, found.quantity, found.trained, found.repaired) == ("W1", "lr", "n^-1", "1")


def test_standard_parametrization_with_a_small_sgd_rate_is_the_fault_of_the_first_learning_rate() -> None:
    found = fault(PERCEPTRON, "sgd", parametrization="sp", lr_exponent=Fraction(-1))
    assert (found.param, found.quantity, found.trained, found.repaired) == ("W1", "lr", "n^-1", "n^1/2")


@pytest.mark.slow
def test_a_constant_epsilon_of_adam_is_named() -> None:
    text = PERCEPTRON + "optimizer adam(eps = 1e-3)\n"
    found = fault(text, "adam", ["eps[*]=0"])
    assert (found.param, found.quantity, found.trained, found.repaired) == ("W1", "eps", "1", "n^-1")
    assert check(parse(text), widths=WIDTHS, seeds=6, steps=1, control=False).verdict == "agrees"


@pytest.mark.slow
def test_a_constant_coupled_weight_decay_of_adam_is_named() -> None:
    """The activations of one step look fine; the change of W2, met with the initial features, does not."""
    text = PERCEPTRON + "optimizer adam(weight_decay = 0.1)\n"
    found = fault(text, "adam", ["weight_decay[*]=0"], also=["split"])
    assert (found.tensor, found.part) == ("h2", "dW.x")
    assert (found.param, found.quantity, found.trained, found.repaired) == ("W2", "weight_decay", "1", "n^-1/2")
    right = check(parse(text), widths=WIDTHS, seeds=6, max_seeds=6, steps=1, control=False, also=["split"])
    assert {row.part for row in right.rows if row.verdict != "agrees"} <= {"dW.dx"} and right.exit_code == 0


@pytest.mark.slow
def test_attention_over_the_root_of_the_width_is_named_in_a_transformer() -> None:
    derivation = derive(parse(TRANSFORMER), "adam")
    (name,) = derivation.multipliers
    assert str(derivation.multipliers[name]) == "n^-1"
    options: dict[str, Any] = {"widths": [32, 64, 128, 256], "seeds": 6, "max_seeds": 6, "steps": 1, "control": False}
    report = check(derivation, overrides=[f"multiplier[?{name}]=-1/2"], **options)
    assert report.exit_code == 1 and report.fault is not None
    found = report.fault
    assert (found.param, found.quantity, found.trained, found.repaired) == (f"?{name}", "multiplier", "n^-1/2", "n^-1")
    right = check(derivation, **options)
    assert right.exit_code == 0 and right.fault is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lr", "sets no exponent"),
        ("rate[W1]=-1", "no quantity `rate`"),
        ("lr[W9]=-1", "no parameter `W9`"),
        ("lr[W1]=m^2", "is no power of a width"),
        ("lr[W1]=1/11", "out of the ordinary"),
        ("init[b1]=1", "has no init"),
        ("multiplier[?x]=1", "no multiplier `?x`"),
    ],
)
def test_an_override_that_means_nothing_is_refused(text: str, message: str) -> None:
    program = PERCEPTRON.replace("W3[c,k]\n", "W3[c,k]\nparam b1[j] = zeros\n").replace("x[i]\nx1", "x[i] + b1[j]\nx1")
    with pytest.raises(TensorProgError) as error:
        check(parse(program), overrides=[text], widths=WIDTHS)
    assert message in error.value.message + error.value.why and (error.value.fix or error.value.why)


def test_with_several_widths_an_override_names_one() -> None:
    text = PERCEPTRON.replace("width n", "width n, m").replace("k: n", "k: m")
    with pytest.raises(TensorProgError, match="which width"):
        check(parse(text), overrides=["lr[W1]=-1"], widths=WIDTHS)
    report = check(parse(text), overrides=["lr[W1]=n^-1/2 m^-1/2"], widths=WIDTHS, seeds=3, max_seeds=3, steps=1)
    assert report.fault is not None and report.fault.param == "W1"
