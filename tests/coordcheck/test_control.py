"""The negative control: a check that agrees has been seen to disagree where one exponent was put wrong."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tensorprog.api import check
from tensorprog.architecture import parse
from tensorprog.coordcheck import run
from tensorprog.coordcheck.control import put_wrong
from tensorprog.coordcheck.ladder import Ladder
from tensorprog.coordcheck.probes import probes
from tests.shared import derive, load, stack, tiers

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.tp"))
MLP = Path(__file__).parents[2] / "examples" / "mlp.tp"


ZERO_READOUT = """
width n
dim d = 8, classes = 4
axis i: d, j: n, k: n, c: classes
input x[i]
param A1[j,i], A2[k,j], A3[k,j], A4[k,j], A5[k,j], A6[k,j], O[c,k] = zeros
z[j] = relu(A1[j,i] x[i])
h[k] = A2[k,j] z[j] + A3[k,j] z[j] + A4[k,j] z[j] + A5[k,j] z[j] + A6[k,j] z[j]
output f[c] = O[c,k] h[k]
loss cross_entropy(f)
"""


@pytest.mark.parametrize("optimizer", tiers(["sgd", "adam", "muon"], ["adam"]))
def test_the_control_is_caught_in_an_activation(optimizer: str) -> None:
    control = check(MLP, optimizer, widths=[64, 128, 256, 512], seeds=5, steps=1).control
    assert control is not None and control.caught
    assert control.tensor not in derive(MLP).params
    assert control.measured is not None and abs(abs(control.measured) - 0.5) < 0.2
    assert control.derived != control.trained


def test_the_control_is_of_what_moves_by_then() -> None:
    """Behind a readout that starts at zero nothing but the readout moves in the first step."""
    report = check(parse(ZERO_READOUT), widths=[32, 64, 128], seeds=3, max_seeds=3, steps=1)
    assert report.control is not None and report.control.caught and report.control.param == "O"


def test_a_check_without_a_control_says_so() -> None:
    options: dict[str, Any] = {"widths": [16, 32, 64], "seeds": 3, "max_seeds": 3, "steps": 1}
    nothing = parse(ZERO_READOUT.replace("= zeros\n", "= zeros frozen\n"))
    assert "no negative control: no learning rate" in check(nothing, **options).render()
    assert "negative control" not in check(nothing, **options, control=False).render()


def test_a_control_that_is_not_caught_makes_the_check_inconclusive(monkeypatch: pytest.MonkeyPatch) -> None:
    """A check that is blind (everything measured follows the derived law) agrees with anything."""
    real = run.Runs.measure

    def blind(self: run.Runs, seeds: range) -> np.ndarray:
        return real(replace(self, parametrization=self.derivation.parametrization), seeds)

    monkeypatch.setattr(run.Runs, "measure", blind)
    options = {"widths": [64, 128, 256, 512], "seeds": 5, "steps": 1}
    report = check(MLP, **options)
    assert report.control is not None and not report.control.caught
    assert report.count("agrees") == len(report.rows)
    assert report.verdict == "inconclusive"
    assert "NOT caught" in report.render()
    assert check(MLP, control=False, **options).verdict == "agrees"


@pytest.mark.slow
def test_a_budget_buys_seeds_and_the_same_seeds_say_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small widths leave the output undecided, so that seeds are wanted to the end. The clock here makes every round of
    seeds last 0.1 s, however busy the machine is."""
    clock = itertools.count()
    monkeypatch.setattr(run, "time", SimpleNamespace(monotonic=lambda: 0.1 * next(clock)))
    options = {"widths": [16, 32, 64], "seeds": 3, "steps": 1, "batch": 2, "control": False}
    short = check(MLP, budget=1e-6, **options)
    long = check(MLP, budget=1.5, **options)
    assert short.seeds == 3 < long.seeds
    assert f"{long.seeds} seeds within a budget of 1.5 s" in long.render()
    again = check(MLP, **{**options, "max_seeds": long.seeds})
    assert again.seeds == long.seeds and again.rows == long.rows


@pytest.mark.parametrize("path", tiers(EXAMPLES, ("mlp", "rnn", "lora")))
def test_every_example_has_an_exponent_whose_error_shows(path: Path) -> None:
    derivation = derive(path)
    ladder = Ladder.of(derivation.widths, (64, 128, 256))
    wrong = put_wrong(derivation, probes(derivation), ladder)
    assert wrong is not None and wrong.probes and all(probe.param is None for probe in wrong.probes)
    assert wrong == put_wrong(derivation, probes(derivation), ladder)


LOOP = """repeat L {
  param W[k,j], O[j,k]
  z = layernorm(h)
  a[k] = W[k,j] z[j]
  h[j] = h[j] + O[j,k] tanh(a[k])
}"""


@pytest.mark.slow
def test_an_error_that_shows_in_its_own_use_is_not_hidden_behind_others() -> None:
    """Errors of W and O show, by the calculus, in more tensors than those of E: in the stream, where they are small for
    long."""
    report = check(parse(stack(LOOP)), "muon", depths=[2, 4, 8], widths=[32], seeds=3, max_seeds=3, steps=1)
    assert report.control is not None and report.control.param == "E" and report.control.caught


@pytest.mark.slow
def test_a_control_hidden_behind_what_others_do_is_caught_at_a_larger_rate() -> None:
    """Of values that move because x does; at the calibrated rate alone, eight seeds do not show it."""
    control = check(load(MLP.with_name("llama.tp")), "adam", max_seeds=5, steps=1).control
    assert control is not None and control.caught and control.times > 1 and "it does not show" in str(control)
