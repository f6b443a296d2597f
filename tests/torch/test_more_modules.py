"""Modules of PyTorch beyond the first cases: lowered to what they compute; and what is predicted of fused matrices."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

import tensorprog.torch as tpt  # noqa: E402
from tensorprog.coordcheck.predict import Predictor  # noqa: E402
from tensorprog.coordcheck.probes import Probe  # noqa: E402
from tensorprog.dims import BATCH_SYMBOL  # noqa: E402
from tensorprog.errors import TensorProgError  # noqa: E402
from tensorprog.torch.alignment import align  # noqa: E402
from tensorprog.torch.laws import Laws  # noqa: E402
from tensorprog.torch.predicted import Predicted  # noqa: E402
from tests.shared import tiers  # noqa: E402
from tests.torch.handwritten import CASES  # noqa: E402
from tests.torch.support import legal, read64, worst_difference  # noqa: E402
from tests.torch.wild import MODULES  # noqa: E402

pytestmark = pytest.mark.torch
QUICK = ("bilinear", "conv1d", "embedding_bag", "mha_head_dim", "einsum", "norm_of_a_transpose", "crop_and_pad",
         "spectral_norm", "act_prelu", "act_celu", "act_selu", "act_softshrink", "act_hardshrink",
         "act_hardswish")  # fmt: skip


@pytest.mark.parametrize("name", QUICK)
def test_the_graph_of_a_module_computes_what_the_module_computes(name: str) -> None:
    build, inputs = MODULES[name]
    given = inputs()
    reading = read64(build, given.double() if given.is_floating_point() else given)
    legal(reading.lowered.graph)
    assert worst_difference(reading) < 1e-12


@pytest.mark.parametrize("name", ["orthogonal"])
def test_a_module_that_is_not_covered_is_refused_by_operation_and_module(name: str) -> None:
    build, inputs = MODULES[name]
    with pytest.raises(TensorProgError, match=r"`aten\.tril` in `b\..*` is not covered"):
        tpt.derive(build, inputs=inputs(), optimizer="adam")


@pytest.mark.slow
@pytest.mark.parametrize("name", tiers(["nanogpt_head_dim", "encoder_layer"], ["nanogpt_head_dim"]))
def test_the_scores_of_a_fused_projection_are_a_sum_of_independent_terms(name: str) -> None:
    """Query and key are slices of one matrix, independent of one another: before their multiplier the first scores are
    1, and only their change is n^1/2. The matrix as one would allow n^1/2 for both."""
    case = CASES[name]
    inputs = case.inputs.float() if case.float_inputs else case.inputs
    p = tpt.derive(case.build, inputs=inputs, optimizer="adamw")
    node = next(iter(p.reading.lowered.products.values()))
    found, scores = Predicted(p, 1), Probe("scores", node)
    assert [str(found.at(scores, step).exponent) for step in (0, 1)] == ["1", "n^1/2"]
    whole = Predictor(p.derivation, p.derivation.parametrization, 1, p.derivation.solution.exponents)
    assert [str(whole.at(scores, step).exponent) for step in (0, 1)] == ["n^1/2", "n^1/2"]


@pytest.mark.slow
def test_a_matrix_beside_its_own_norm_has_no_scale_whatever_stands_with_the_norm() -> None:
    """W = V (g / |V|): the entries of W are n^-1/2 and move by n^-1. So g is n^1/2 and moves as far, V moves by n^-1/2
    of itself."""
    build, inputs = MODULES["whole_weight_norm"]
    p = tpt.derive(build, inputs=inputs(), optimizer="adamw")
    length, matrix = (p.derivation.params[f"b.parametrizations.weight.original{k}"] for k in (0, 1))
    assert [str(x) for x in (length.init_std, length.lr)] == ["n^1/2", "n^1/2"]
    assert str(matrix.lr / matrix.init_std) == "n^-1/2"
    report = p.check((32, 64, 128, 256), seeds=3, max_seeds=6, steps=1)
    assert not [row for row in report.rows if row.verdict == "disagrees"], str(report)


def test_operations_are_matched_from_both_ends_of_their_module() -> None:
    read = [("t", "a"), ("mm", "a"), ("split", "b"), ("mul", "b"), ("softmax", "b"), ("mm", "a")]
    ours = [
        ("t", "a"),
        ("mm", "a"),
        ("split", "b"),
        ("t", "b"),
        ("mm", "b"),
        ("mul", "b"),
        ("softmax", "b"),
        ("mm", "a"),
    ]
    assert align(ours, read).place == {0: 0, 1: 1, 2: 2, 5: 3, 6: 4, 7: 5}
    assert align(read, read).place == {k: k for k in range(6)}


def test_numbers_that_go_up_and_down_have_no_trend() -> None:
    laws = Laws([{"n": n, BATCH_SYMBOL: 3} for n in (3, 5, 7, 10)])
    assert laws.trend([0.149, 0.252, 0.218, 0.310]) is None and laws.erratic([0.149, 0.252, 0.218, 0.310])
    assert str(laws.trend([1.0, 1.3, 1.55, 1.85])) == "n^1/2"
