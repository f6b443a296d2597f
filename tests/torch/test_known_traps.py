"""What a table of roles (input, hidden, output) by shapes and fan-ins gets silently wrong, derived from the graph."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from tensorprog.exponents import Power  # noqa: E402
from tensorprog.torch.changes import Changes  # noqa: E402
from tensorprog.torch.model import derive  # noqa: E402
from tests.shared import tiers  # noqa: E402
from tests.torch.handwritten import CASES, NanoGPT, reals, tokens  # noqa: E402

pytestmark = pytest.mark.torch
ONE, INVERSE = Power(), Power.of({"n": -1})
HALF = Power.of({"n": Fraction(-1, 2)})


def changes(build: Callable[..., Any], inputs: Any, optimizer: str = "adam") -> Changes:
    return derive(build, inputs.float() if inputs.is_floating_point() else inputs, optimizer).changes


def needed(found: Changes, name: str) -> tuple[Power | None, Power | None]:
    parameter = found.parameter(name)
    return parameter.needed.init_std, parameter.needed.lr


def test_a_tied_embedding_keeps_its_size_and_gets_a_multiplier_at_the_readout() -> None:
    found = changes(lambda n: NanoGPT(4 * n, n, tied=True), tokens(3, 6))
    assert needed(found, "wte.weight") == (ONE, ONE)
    (head,) = [m for m in found.multipliers if m.param == "wte.weight" and m.factor != ONE]
    assert (head.module, head.factor) == ("lm_head", INVERSE)
    assert head.places


def test_a_transposed_convolution_sums_over_its_first_axis() -> None:
    """PyTorch's `_calculate_fan_in_and_fan_out` takes the second axis of its weight for the fan-in."""

    def build(n: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, n, 1), nn.ReLU(), nn.ConvTranspose2d(n, 4, 2, stride=2))

    found = changes(build, reals(3, 3, 4, 4))
    assert needed(found, "2.weight") == (INVERSE, INVERSE)  # [n, 4, 2, 2]: a readout
    assert needed(found, "0.weight") == (ONE, ONE)


class Experts(nn.Module):
    """Weights [expert, in, out] of finitely many experts, mixed with equal weights."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.inp, self.out = nn.Linear(8, n), nn.Linear(n, 5)
        self.bank = nn.Parameter(torch.randn(4, n, n) * n**-0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.relu(self.inp(x))
        return self.out(torch.relu(torch.einsum("bi,eij->bej", h, self.bank)).mean(1))


def test_a_bank_of_experts_is_a_matrix_for_each() -> None:
    found = changes(Experts, reals(3, 8))
    assert needed(found, "bank") == (HALF, INVERSE)


def test_a_convolutional_readout_is_a_readout() -> None:
    build = lambda n: nn.Sequential(nn.Conv2d(3, n, 3, padding=1), nn.ReLU(), nn.Conv2d(n, 7, 3, padding=1))  # noqa: E731
    found = changes(build, reals(3, 3, 6, 6))
    assert needed(found, "2.weight") == (INVERSE, INVERSE)


@pytest.mark.parametrize("cell", tiers(["lstm", "gru", "rnn"], ["rnn"]))
def test_the_input_weights_and_biases_of_a_recurrent_net_are_not_hidden_matrices(cell: str) -> None:
    case = CASES[cell]
    found = changes(case.build, case.inputs)
    assert needed(found, "rnn.weight_ih_l0") == (ONE, ONE)
    assert needed(found, "rnn.bias_ih_l0") == (ONE, ONE)
    assert needed(found, "rnn.weight_hh_l0") == (HALF, INVERSE)


def test_a_depthwise_convolution_is_a_vector() -> None:
    def build(n: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, n, 1), nn.Conv2d(n, n, 3, padding=1, groups=n), nn.ReLU(), nn.Conv2d(n, 5, 1))

    found = changes(build, reals(3, 3, 4, 4))
    assert needed(found, "1.weight") == (ONE, ONE)


@pytest.mark.slow
def test_attention_with_a_growing_head_dim_needs_a_smaller_scale_and_with_more_heads_none() -> None:
    grown = changes(lambda n: NanoGPT(4 * n, 2), tokens(3, 6))
    scores = [m for m in grown.multipliers if m.kind == "product"]
    assert len(scores) == 2
    assert all((m.now, m.needed) == (HALF, INVERSE) and m.places for m in scores)
    more = changes(lambda n: NanoGPT(4 * n, n), tokens(3, 6))
    assert not [m for m in more.multipliers if m.kind == "product"]


def test_a_target_as_wide_as_the_base_needs_nothing_that_it_does_not_have() -> None:
    found = changes(CASES["mlp"].build, CASES["mlp"].inputs)
    for p in found.parameters:
        assert p.init_factor.ratio({"n": 64}, {"n": 64}) == 1.0
        assert p.needed.lr is not None and p.needed.lr.ratio({"n": 64}, {"n": 64}) == 1.0


@pytest.mark.slow
def test_a_model_in_the_right_parametrization_needs_no_other_start() -> None:
    """The reading itself says so: what is now is what is needed."""

    def build(n: int) -> nn.Module:
        model = nn.Sequential(nn.Linear(8, n, bias=False), nn.ReLU(), nn.Linear(n, 5, bias=False))
        nn.init.normal_(model[0].weight, std=0.3)
        nn.init.normal_(model[2].weight, std=2.0 / n)
        return model

    found = changes(build, reals(3, 8))
    assert [p.init_factor for p in found.parameters] == [ONE, ONE]
    standard = changes(lambda n: nn.Sequential(nn.Linear(8, n), nn.ReLU(), nn.Linear(n, 5)), reals(3, 8))
    assert standard.parameter("2.weight").init_factor == HALF


class PooledByAProbe(nn.Module):
    """A learned query that reads all tokens: the fused projection makes both the query and what it meets."""

    def __init__(self, n: int, heads: int | None = None) -> None:
        super().__init__()
        self.embed, self.norm, self.out = nn.Linear(5, 16 * n), nn.LayerNorm(16 * n), nn.Linear(16 * n, 5)
        self.probe = nn.Parameter(torch.randn(1, 1, 16 * n))
        self.attention = nn.MultiheadAttention(16 * n, heads or n, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.norm(self.embed(x))
        pooled, _ = self.attention(self.probe.expand(len(x), 1, -1), h, h)
        return self.out(pooled[:, 0])


@pytest.mark.parametrize(("optimizer", "matrix"), [("sgd", ONE), ("adam", INVERSE)])
def test_a_projection_that_a_query_shares_with_what_it_meets_keeps_its_start(optimizer: str, matrix: Power) -> None:
    """Keys and values would start at n^-1/2 if the query were seen beside them as before the matrix had its size."""
    found = derive(PooledByAProbe, torch.randn(3, 4, 5), optimizer)
    assert needed(found.changes, "attention.in_proj_weight") == (HALF, matrix)
    assert needed(found.changes, "probe")[0] == ONE


@pytest.mark.parametrize(("optimizer", "matrix"), [("sgd", ONE), ("adam", INVERSE)])
def test_larger_heads_of_a_trained_query_get_the_scale_of_any_attention(optimizer: str, matrix: Power) -> None:
    """As the matrix is in query and key, its size cannot settle that of their product: nothing settled."""
    found = derive(lambda n: PooledByAProbe(n, 2), torch.randn(3, 4, 5), optimizer).changes
    assert needed(found, "attention.in_proj_weight") == (HALF, matrix)
    assert [m.needed for m in found.multipliers if m.module == "attention" and m.factor != ONE] == [INVERSE]


@pytest.mark.slow
@pytest.mark.parametrize("heads", [None, 2])
def test_such_a_projection_is_measured(heads: int | None) -> None:
    derived = derive(lambda n: PooledByAProbe(n, heads), torch.randn(3, 4, 5), "sgd")
    report = derived.check(widths=(4, 8, 16, 32), steps=2)
    assert report.count("disagrees") == 0, str(report)
