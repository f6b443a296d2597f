"""Verdicts that depend on the optimizer, largest learning rates, and what to change."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import pytest

import tensorprog as tp
from tensorprog.classify import classify
from tensorprog.classify.needed import changed, maximal
from tensorprog.classify.regime import trainer_for
from tensorprog.exponents import Power
from tensorprog.parametrizations import NAMED
from tests.shared import load, tiers

HALF = Fraction(1, 2)
MLP = load("examples/mlp.tp")


def test_laziness_depends_on_the_optimizer() -> None:
    """SP at learning rate 1/n: a kernel regime for SGD (Tensor Programs IV, Table 1); Adam learns features while the
    logits grow like n^1/2, first at step 1, because the update of the features is aligned with the readout."""
    sgd = classify(MLP, "sp", "sgd", Fraction(-1))
    assert (sgd.regime, sgd.r) == ("kernel", HALF)
    adam = classify(MLP, "sp", "adam", Fraction(-1))
    assert adam.regime == "unstable" and adam.feature_learning
    assert adam.growth is not None
    assert (adam.growth.tensor, adam.growth.step, adam.growth.exponent) == ("f", 1, Power.of({"n": HALF}))
    moved = {m.tensor: m.change for m in adam.features}
    assert moved["x2"] == Power() and moved["x1"] == Power.of({"n": -1})
    text = adam.render()
    assert "unstable: `f` (line 14) grows like n^1/2 at step 1" in text and "feature learning" in text


@pytest.mark.parametrize(
    ("name", "optimizer", "rate"),
    [
        ("sp", "sgd", -1),  # Tensor Programs IV: 2 a + c >= 1 at the readout
        ("ntp", "sgd", 0),  # Jacot et al. 2018: the tangent kernel has a limit at a constant rate
        ("mfp", "sgd", 1),
        ("sp", "adam", Fraction(-3, 2)),  # the readout of size n^-1/2, aligned with features moved by n * lr
        ("ntp", "adam", -1),
    ],
)
def test_the_largest_stable_global_learning_rate(name: str, optimizer: str, rate: Fraction) -> None:
    found = classify(MLP, name, optimizer)
    assert found.rate_factor is not None and found.global_rate is not None and found.rate_sharp
    assert found.global_rate + found.rate_factor == rate
    assert classify(MLP, name, optimizer, Fraction(rate)).stable
    assert not classify(MLP, name, optimizer, Fraction(rate) + Fraction(1, 12)).stable


CHANGED = [(name, "mlp", optimizer) for name in NAMED for optimizer in ("sgd", "adam", "adafactor")]
CHANGED += [("ntp", "gpt", "adam"), ("mfp", "gpt_tied", "sgd"), ("sp", "lstm", "adafactor")]
QUICK = {f"{name}-mlp-{optimizer}" for name in NAMED for optimizer in ("sgd", "adam")}


@pytest.mark.parametrize(("name", "example", "optimizer"), tiers(CHANGED, QUICK))
def test_what_is_to_change_makes_it_maximal_and_all_of_it_is_needed(name: str, example: str, optimizer: str) -> None:
    architecture = load(f"examples/{example}.tp")
    found = classify(architecture, name, optimizer)
    assert isinstance(found.changes, tuple)
    assert found.maximal == (not found.changes)
    trainer = trainer_for(architecture, optimizer)
    assert maximal(trainer, changed(trainer, found.parametrization, found.changes))
    patterns = {(c.name.replace("layers.0", "layers.1"), c.quantity) for c in found.changes}
    for pattern in sorted(patterns)[:3]:
        fewer = [c for c in found.changes if (c.name.replace("layers.0", "layers.1"), c.quantity) != pattern]
        assert not maximal(trainer, changed(trainer, found.parametrization, fewer))


@pytest.mark.parametrize("optimizer", tiers(["sgd", "momentum", "adam", "lion", "adafactor", "lamb"], {"adam", "lion"}))
def test_the_published_table_is_maximal(optimizer: str) -> None:
    """Tensor Programs V, Table 8, as data by fan-in and fan-out, is what the calculus derives for these examples."""
    for example in ("mlp", "rnn", "gpt") if optimizer in ("sgd", "adam") else ("mlp",):
        assert classify(load(f"examples/{example}.tp"), "mup", optimizer).maximal, example


def test_the_published_table_does_not_know_of_tied_weights() -> None:
    """Read by fan-in, the tied embedding has no readout: the file's own multiplier n^-1/2 is too large, and is the one
    thing to change."""
    found = classify(load("examples/gpt_tied.tp"), "mup", "adam")
    assert found.growth is not None and found.growth.tensor == "logits" and found.rate_factor is None
    assert isinstance(found.changes, tuple)
    assert [(c.name, c.after) for c in found.changes] == [("output", Power.of({"n": -1}))]


def test_nothing_is_trained_nothing_moves() -> None:
    """A frozen readout of size n^-1 and a learning rate that is too small: trivial; the start of h is reported."""
    text = MLP.source
    found = classify(tp.parse(text), "ntp", "sgd", Fraction(-2))
    assert (found.regime, found.stable) == ("trivial", True)


OWN = """
like = "sp"
lr = "-1"
[parameters]
"W*" = { init_std = "-1/2" }
W1 = { init_std = 0, lr = "n^1" }
W3 = { multiplier = "n^-1/2", lr = 0 }
"""


def test_a_parametrization_of_ones_own(tmp_path: Path) -> None:
    """Later lines win; one learning rate on the command line wins over those of the file."""
    path = tmp_path / "mine.toml"
    path.write_text(OWN)
    found = classify(MLP, str(path), "sgd")
    params = found.parametrization.params
    n = lambda e: Power.of({"n": Fraction(e)})  # noqa: E731
    assert found.parametrization.name == "mine"
    assert (params["W1"].init_std, params["W1"].lr) == (n(0), n(1))
    assert (params["W2"].init_std, params["W2"].lr) == (n(-HALF), n(-1))
    assert (params["W3"].multiplier, params["W3"].init_std, params["W3"].lr) == (n(-HALF), n(-HALF), n(0))
    assert params["b1"].lr == n(-1)
    other = classify(MLP, str(path), "sgd", Fraction(-3))
    assert {e.lr for e in other.parametrization.params.values()} == {n(-3)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("like = 'pp'", "unknown parametrization `pp`"),
        ("[parameters]\nW9 = { lr = 0 }", "no parameter matches `W9`"),
        ("[parameters]\nW1 = { rate = 0 }", "a parameter has no `rate`"),
        ("[parameters]\nb1 = { init_std = 1 }", "`b1` starts at zero"),
        ("[parameters]\nW1 = 3", "`W1` needs a table"),
        ("[parameters]\nW1 = { lr = 0.5 }", "`lr = 0.5` is no exponent"),
        ("[parameters]\nW1 = { lr = 'm^2' }", "`lr = m^2` is no exponent"),
        ("[multipliers]\nscale = -1", "the program has no multiplier `?scale`"),
        ("lr = 'n^99999999999'", "`lr = n^99999999999` is no exponent"),
        ("lr = 1000000", "`lr = 1000000` is no exponent"),
        (f"lr = {'9' * 5000}", "not a TOML file"),
        (f"lr = {'[' * 5000}", "not a TOML file"),
        ("lrs = 3", "unknown key `lrs`"),
        ("parameters = 3", "`parameters` is not a table"),
        ("[[", "not a TOML file"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(tp.TensorProgError, match=re.escape(message)) as caught:
        classify(MLP, str(path), "sgd")
    assert caught.value.fix or "TOML" in message


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_check_measures_the_laziness(optimizer: str) -> None:
    """SP at learning rate 1/n, trained: every tensor does what the classifier says, for both optimizers; the logits
    grow like n^1/2 under Adam and stay under SGD, the features move under Adam only."""
    derivation = tp.derive(MLP, optimizer)
    report = tp.check(derivation, parametrization="sp", lr_exponent=Fraction(-1), steps=1, seeds=6, max_seeds=24)
    assert not [row for row in report.rows if row.calculus_verdict == "disagrees"]
    rows = {(row.tensor, row.part): row for row in report.rows}
    f, x2 = rows["f", "change"], rows["x2", "change"]
    assert f.calculus == ("1/2" if optimizer == "adam" else "0")
    if (
        optimizer == "adam"
    ):  # at these widths the Theta(1) part still bends the slope: it is seen to grow, not yet how fast
        assert f.low is not None and f.low > 0.1
    else:
        assert f.calculus_verdict == "agrees"
    assert x2.calculus == ("0" if optimizer == "adam" else "-1/2") and x2.calculus_verdict == "agrees"
