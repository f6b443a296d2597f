"""What a mean, a softmax or a loss takes away exactly is no part of a gradient, however large it looks."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import pytest

import tensorprog as tp
from benchmarks.agreement import trial
from benchmarks.agreement.family import Look
from tensorprog.calculus.cuts import Cuts
from tensorprog.calculus.vanishing import Left, Vanishing

FOUND = Path(__file__).parent / "found"
FILES = [
    ("bias_before_a_batch_norm", "s", "adam"),
    ("bias_before_a_mean_of_positions", "s", "adam"),
    ("bias_before_a_regrouped_mean", "s", "adam"),
    ("bias_of_all_keys", "s", "adam"),
    ("shift_of_all_classes", "w", "lamb"),
]
SEEN = patch.object(Vanishing, "left", lambda *_: Left.ALL)
BATCH = (FOUND / "bias_before_a_batch_norm.tp").read_text()


def change(text: str, tensor: str, optimizer: str) -> str:
    return str(tp.derive(tp.parse(text), optimizer).tensor(tensor)[1])


@pytest.mark.parametrize(("name", "tensor", "optimizer"), FILES)
def test_what_is_left_beside_a_sum_that_is_zero_moves_by_order_one(name: str, tensor: str, optimizer: str) -> None:
    text = (FOUND / f"{name}.tp").read_text()
    assert change(text, tensor, optimizer) == change(text, tensor, "lion") == "1"
    assert change(text, tensor, "sgd") == "n^-1/2"
    with SEEN:
        assert change(text, tensor, optimizer) == "n^-1/2"


@pytest.mark.parametrize(
    ("old", "new"),
    [("m[j] = h[j] - mean[batch](h[j])", "m[j] = h[j] - 0.5 * mean[batch](h[j])"),  # not all of it
     ("m[j] = h[j] - mean[batch](h[j])", "m[j] = h[j] - mean[batch](E[j,i] x[i])"),  # the mean of something else
     ("+ b[j]", "+ b[j] * x[0]")],  # not alike in all examples
)  # fmt: skip
def test_what_is_not_taken_away_is_not_left_out(old: str, new: str) -> None:
    text = BATCH.replace(old, new)
    assert text != BATCH
    assert change(text, "s", "adam") == "n^-1/2"


@pytest.mark.parametrize(
    ("written", "left"),
    [("2 * h[j] - 2 * mean[batch](h[j])", "1"),
     ("mean[batch](h[j]) - h[j]", "1"),
     ("0.5 * (h[j] - 0.5 * mean[batch](h[j])) - 0.25 * mean[batch](h[j])", "1"),
     ("u[j] + v[j] - mean[batch](u[j]) - mean[batch](v[j])", "1"),
     ("2 * h[j] - mean[batch](h[j])", "n^-1/2"),
     ("0.5 * (h[j] - 0.5 * mean[batch](h[j])) - 0.5 * mean[batch](h[j])", "n^-1/2")],
)  # fmt: skip
def test_a_mean_is_taken_away_however_it_is_written(written: str, left: str) -> None:
    text = BATCH.replace("h[j] - mean[batch](h[j])", written)
    text = text.replace("h[j] = E[j,i] x[i] + b[j]", "u[j] = E[j,i] x[i]\nv[j] = 2 * b[j]\nh[j] = u[j] + v[j]")
    assert change(text, "s", "adam") == left


def test_which_sums_are_zero_is_read_off_the_graph() -> None:
    program = tp.parse(BATCH).program
    sums = Vanishing(program, Cuts(program))
    (m,) = [node.id for node in program.nodes if node.name == "m"]
    assert sums.zeros[m] == {frozenset({0})}
    (loss,) = [node.id for node in program.nodes if node.name == "d f"]
    assert sums.zeros[loss] == {frozenset({1})}
    assert [sums.left(program.grads[name]) for name in ("V", "b")] == [Left.ALL, Left.PART]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "tensor", "optimizer"), FILES)
def test_with_what_is_zero_counted_training_disagrees(name: str, tensor: str, optimizer: str) -> None:
    """The control for the agreement of these files in test_found."""
    with SEEN:
        derivation = tp.derive(FOUND / f"{name}.tp", optimizer)
        found = trial.judged(derivation, derivation.parametrization, looks=(Look(24),))
    assert any(row.verdict == "disagrees" and row.tensor == tensor for row in found.rows)
