"""Every operation of an applied model behaves as derived; a wrong exponent shows at the operation that it spoils."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

import tensorprog.torch as tpt  # noqa: E402
from tensorprog import TensorProgError  # noqa: E402
from tests.shared import tiers  # noqa: E402
from tests.torch_apply import models  # noqa: E402

pytestmark = pytest.mark.torch


def disagreeing(report):
    return {row.tensor for row in report.rows if row.verdict == "disagrees"}


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", tiers(["adamw", "sgd"], ["adamw"]))
def test_an_applied_perceptron_agrees_everywhere_and_an_unmodified_one_does_not(optimizer):
    p = tpt.derive(models.mlp, optimizer=optimizer)
    report = p.check(widths=(64, 128, 256, 512), seeds=4, max_seeds=6, steps=2)
    assert report.verdict == "agrees" and report.seeds <= 6, str(report)
    with pytest.raises(TensorProgError, match="4 seeds to begin with are more than the 3 allowed"):
        p.check(seeds=4, max_seeds=3)
    assert {row.tensor for row in report.rows} >= {"first.weight", "(top): relu #2", "readout: addmm"}
    spoiled = p.check(widths=(64, 128, 256, 512), seeds=4, steps=1, unmodified=True)
    assert {"readout: addmm", "hidden.weight" if optimizer == "adamw" else "first: addmm"} <= disagreeing(spoiled)


@pytest.mark.slow
def test_attention_left_at_one_over_root_d_is_caught_at_the_softmax_and_only_there():
    """The outputs of the modules do not show it: their verdicts are those of the right model."""
    p = tpt.derive(lambda n: models.nanogpt(n, layers=1, fused=False), optimizer="adamw")
    widths = (32, 64, 128, 256)
    scores = next(m.name for m in p.changes.multipliers if m.kind == "product")
    wrong = p.check(widths=widths, lr=3e-3, keep=[scores])
    caught = [row for row in wrong.rows if "softmax" in row.tensor and row.part == "change"]
    assert all(row.verdict == "disagrees" and row.measured > 0.2 for row in caught) and caught
    right = p.check(widths=widths, lr=3e-3)
    assert not disagreeing(right), str(right)
    modules = {"h.0.attn.c_proj: addmm", "h.0.up: addmm", "h.0.down: addmm", "ln_f: native_layer_norm", "lm_head: mm"}
    assert not disagreeing(wrong) & modules and modules <= {row.tensor for row in wrong.rows}


@pytest.mark.slow
def test_a_wrong_learning_rate_of_one_matrix_is_caught_at_its_own_result():
    p = tpt.derive(lambda n: models.nanogpt(n, layers=1, fused=False), optimizer="adamw")
    report = p.check(widths=(32, 64, 128), seeds=4, steps=1, keep=["h.0.up.weight"])
    assert "h.0.up: addmm" in disagreeing(report)
    assert not disagreeing(report) & {"h.0.attn.q: addmm", "wte: embedding"}
