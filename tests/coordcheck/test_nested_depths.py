"""Exponents of nested depths, measured: both grow together."""

from __future__ import annotations

import pytest

from tensorprog.api import check
from tensorprog.architecture import parse
from tests.calculus.test_nested_depths import DEPTHS, NETWORKS
from tests.shared import derive, stack

MEASURED = ("one matrix", "two matrices", "a stream of its own", "a block of both", "tied inside",
            "a weight of the outer one", "weights of both", "a tensor of the outer one", "post-norm")  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("case", MEASURED)
def test_every_size_has_the_exponent_of_both_depths_together(case: str, optimizer: str) -> None:
    derivation = derive(parse(stack(NETWORKS[case][0], DEPTHS)), optimizer)
    report = check(derivation, depths=(2, 4, 8), widths=[32], seeds=6, steps=2)
    assert report.count("disagrees") == 0, str(report)
    assert report.count("agrees") >= 0.6 * len(report.rows), str(report)
    assert report.control is not None and report.control.caught


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "put", "tensor"),
    [
        ("one matrix", "lr[layers.*.layers.*.W]=L^-1/2 M^1/2 n^-1", "layers.*.layers.*.h"),
        ("one matrix", "multiplier[?b]=L^-1/2", "layers.*.layers.*.h"),
        ("a stream of its own", "lr[layers.*.layers.*.W]=M^1/2 n^-1", "layers.*.layers.*.z"),
        ("tied inside", "multiplier[?b]=L^-1/2 M^-1/2", "layers.*.layers.*.h"),
    ],
)
def test_an_exponent_of_the_inner_depth_that_is_put_wrong_is_caught(case: str, put: str, tensor: str) -> None:
    derivation = derive(parse(stack(NETWORKS[case][0], DEPTHS)), "adam")
    report = check(derivation, overrides=[put], depths=(2, 4, 8), widths=[32], seeds=6, steps=1, control=False)
    assert tensor in {row.tensor for row in report.rows if row.verdict == "disagrees"}, str(report)
