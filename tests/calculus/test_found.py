"""Programs that random networks were reduced to: each was once refused, or predicted wrongly.

The first line of a file names the optimizer and says what was wrong. All of them derive, settle on the same exponents
however often they are asked, and no tensor disagrees with training.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.agreement import trial
from tensorprog.api import derive
from tensorprog.calculus.analysis import largest

FOUND = sorted((Path(__file__).parent / "found").glob("*.tp"))


def optimizer(path: Path) -> str:
    return path.read_text().removeprefix("# ").split(".")[0]


@pytest.mark.parametrize("path", FOUND, ids=lambda p: p.stem)
def test_reduced_programs_derive(path: Path) -> None:
    """Every trained parameter contributes Theta(1) where it is used, and nothing that is consumed grows."""
    found = derive(path, optimizer(path))
    for _, node in found.architecture.graph.outputs:
        assert largest(found.solution.snapshot.change[node]) == 0
    assert all(found.params[name].lr is not None for name in found.architecture.program.updates)


@pytest.mark.slow
@pytest.mark.parametrize("path", FOUND, ids=lambda p: p.stem)
def test_reduced_programs_agree_with_training(path: Path) -> None:
    derivation = derive(path, optimizer(path))
    counts, rows = trial.judged(derivation, derivation.parametrization, ladder=((64, 128, 256, 512), 16))
    assert not counts["disagrees"], [row for row in rows if row.verdict == "disagrees"]
    assert counts["agrees"] > counts["inconclusive"]


def test_a_circle_of_demands_ends_in_the_larger_one() -> None:
    """A may start at n^-1 only: once the adapter's B is trained, E's steps carry A, and A meets them aligned."""
    path = next(p for p in FOUND if p.stem == "tied_below_an_adapter")
    params = derive(path, "sgd", "table8").params
    assert str(params["A"].multiplier) == "n^-1"
    assert str(params["E"].lr) == "n"


def test_a_normalised_tensor_never_grows() -> None:
    """u = y * rms_scale(y) has entries of order 1 before and after y grows, so what reads it is a readout, n^-1."""
    found = derive(next(p for p in FOUND if p.stem == "norm_of_a_small_start"), "muon")
    assert [str(size) for size in found.tensor("u")] == ["1", "1"]
    assert str(found.params["V"].multiplier) == "n^-1"
