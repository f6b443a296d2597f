"""The negative control: a check that agrees has been seen to disagree where one exponent was put wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tensorprog.api import check, derive
from tensorprog.coordcheck import run
from tensorprog.coordcheck.control import put_wrong
from tensorprog.coordcheck.ladder import Ladder
from tensorprog.coordcheck.probes import probes

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.tp"))
MLP = Path(__file__).parents[2] / "examples" / "mlp.tp"


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "muon"])
def test_the_control_is_caught_in_an_activation(optimizer: str) -> None:
    control = check(MLP, optimizer, widths=[64, 128, 256, 512], seeds=5, steps=1).control
    assert control is not None and control.caught
    assert control.tensor not in derive(MLP).params
    assert control.measured is not None and abs(abs(control.measured) - 0.5) < 0.2
    assert control.derived != control.trained


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


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_has_an_exponent_whose_error_shows(path: Path) -> None:
    derivation = derive(path)
    ladder = Ladder.of(derivation.widths, (64, 128, 256))
    wrong = put_wrong(derivation, probes(derivation), ladder)
    assert wrong is not None and wrong.probes and all(probe.param is None for probe in wrong.probes)
    assert wrong == put_wrong(derivation, probes(derivation), ladder)
