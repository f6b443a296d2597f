"""The slopes that Tensor Programs predicts for a perceptron of three layers, measured part by part.

tanh, a loss whose derivative is a constant, one step, five seeds. Source: Yang & Hu 2021 (Tensor Programs IV,
arXiv:2011.14522), sections 3 and 5, and Everett et al. 2024 (arXiv:2407.05872) for the parts of the readout."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from tensorprog.api import check
from tensorprog.architecture import parse
from tensorprog.coordcheck.report import CheckReport, Row
from tensorprog.coordcheck.statistics import Slope, fit, fits_two_powers
from tests.shared import derive, perceptron, tiers

TANH = perceptron(64, 8, "tanh", "mean")
WIDTHS = (128, 256, 512, 1024, 2048)
COLUMNS = (("x1", "change"), ("x2", "change"), ("f", "W.dx"), ("f", "dW.x"), ("f", "change"), ("f", "init"))
HALF = Fraction(1, 2)
STANDARD_INIT = {"form": "table3", "overrides": ["init[W3]=-1/2", "lr[W1]=0", "lr[W2]=-1", "lr[W3]=-1"]}
LAWS: Mapping[str, tuple[str, dict[str, Any], tuple[Fraction | int, ...]]] = {
    "standard initialisation, adam at muP's rates": ("adam", STANDARD_INIT, (0, 0, HALF, 0, HALF, 0)),
    "muP, sgd": ("sgd", {}, (0, 0, 0, 0, 0, -HALF)),
    "muP, adam": ("adam", {}, (0, 0, 0, 0, 0, -HALF)),
    "standard, sgd at 1/n": (
        "sgd",
        {"parametrization": "sp", "lr_exponent": Fraction(-1)},
        (-3 * HALF, -HALF, 0, 0, 0, 0),
    ),
    "neural tangent, sgd": ("sgd", {"parametrization": "ntp"}, (-HALF, -HALF, 0, 0, 0, 0)),
}


def row(report: CheckReport, tensor: str, part: str) -> Row:
    return next(r for r in report.rows if (r.tensor, r.part) == (tensor, part))


@pytest.mark.slow
@pytest.mark.parametrize("case", LAWS)
def test_the_known_slopes_are_predicted_and_measured(case: str) -> None:
    optimizer, chosen, law = LAWS[case]
    options = {key: value for key, value in chosen.items() if key != "form"}
    derivation = derive(parse(TANH), optimizer, chosen.get("form"))
    report = check(derivation, widths=WIDTHS, seeds=5, max_seeds=5, steps=1, also=["split"], **options)
    for (tensor, part), exponent in zip(COLUMNS, law, strict=True):
        found = row(report, tensor, part)
        assert (found.calculus, found.calculus_verdict) == (str(exponent), "agrees"), (tensor, part)
        interval = next((i for i in intervals(found) if i.low <= exponent <= i.high), None)
        assert interval is not None, (tensor, part, intervals(found))
        others = {Fraction(k, 4) for k in range(-12, 13)} - {exponent}
        assert not any(interval.low <= other <= interval.high for other in others), (tensor, part, interval)
    assert report.exit_code == (0 if case.startswith("muP") else 1)


def intervals(row: Row) -> list[Slope]:
    """The 95% intervals of the slope: of a power law, then of what lasts of a power law and a part that vanishes."""
    found = fit(np.array(WIDTHS, dtype=float), np.array(row.rms, dtype=float))
    return [slope for slope in (found.line, found.rest) if slope is not None]


@pytest.mark.slow
def test_the_change_of_the_output_under_adam_is_a_sum_of_two_laws() -> None:
    """In the standard initialisation f changes by W.dx, like n^1/2, and by dW.x, like 1: no power law, so that a line
    through its sizes is less steep than n^1/2 at any width that can be trained. Both powers are in it."""
    optimizer, chosen, _ = LAWS["standard initialisation, adam at muP's rates"]
    report = check(derive(parse(TANH), optimizer, chosen["form"]), widths=WIDTHS, seeds=20, max_seeds=20, steps=1,
                   overrides=chosen["overrides"])  # fmt: skip
    sizes, widths = np.array(row(report, "f", "change").rms, dtype=float), np.array(WIDTHS, dtype=float)
    line = fit(widths, sizes).line
    assert line.low > 0.25 and line.high < 0.5
    assert fits_two_powers(widths, sizes, lower=0, upper=0.5)
    for upper in (0.25, 1):
        assert not fits_two_powers(widths, sizes, lower=0, upper=upper)


@pytest.mark.slow
def test_laziness_depends_on_the_optimizer() -> None:
    """Standard parametrization at the learning rate 1/n: under SGD the features stand still and the output moves (a
    kernel regime); under Adam the features move, and what they do to the output grows like n^1/2. (In the change of the
    output itself a part of order 1 still hides that at these widths.)

    Source: Yang & Littwin 2023 (Tensor Programs IVb, arXiv:2308.01814), section 2; Everett et al. 2024."""
    laws = {"adam": {("x2", "change"): "0", ("f", "W.dx"): "1/2", ("f", "dW.x"): "0"},
            "sgd": {("x2", "change"): "-1/2", ("f", "W.dx"): "0", ("f", "dW.x"): "0"}}  # fmt: skip
    for optimizer, law in laws.items():
        report = check(derive(parse(TANH), optimizer), parametrization="sp", lr_exponent=Fraction(-1), steps=1,
                       widths=[128, 256, 512, 1024, 2048], seeds=5, max_seeds=5, also=["split"])  # fmt: skip
        for (tensor, part), exponent in law.items():
            found = row(report, tensor, part)
            assert (found.calculus, found.calculus_verdict) == (exponent, "agrees"), (optimizer, tensor, part)
            assert found.measured is not None and abs(found.measured - float(Fraction(exponent))) < 0.15


def test_the_parts_of_a_product_show_what_its_sum_hides() -> None:
    """A hidden matrix that hardly learns: the change of its product still follows the change of its input."""
    derivation = derive(parse(TANH), "adam")
    report = check(derivation, overrides=["lr[W2]=-3/2"], widths=[64, 128, 256, 512], seeds=5, max_seeds=5, steps=1,
                   also=["split"])  # fmt: skip
    assert row(report, "h2", "change").verdict == "agrees"
    alone = row(report, "h2", "dW.x")
    assert (alone.verdict, alone.calculus, alone.calculus_verdict) == ("disagrees", "-1/2", "agrees")
    assert report.fault is not None and (report.fault.param, report.fault.quantity) == ("W2", "lr")


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", tiers(["sgd", "adam", "muon"], ["adam"]))
def test_spectral_norms_and_updates_scale_as_their_terms_say(optimizer: str) -> None:
    """Matrices start random and change by a finite rank; Yang, Simon & Bernstein 2023 (arXiv:2310.17813): in muP both
    have the norm (fan out / fan in)^1/2."""
    report = check(parse(TANH), optimizer, "table3", widths=[64, 128, 256, 512], seeds=5, steps=2,
                   also=["spectral", "updates"])  # fmt: skip
    for tensor, exponent in (("W1", HALF), ("W2", 0), ("W3", -HALF)):
        for part in ("spectral init", "spectral change"):
            found = row(report, tensor, part)
            assert (found.predicted, found.verdict) == (str(exponent), "agrees"), (tensor, part)
        assert row(report, tensor, "update").verdict == "agrees"
