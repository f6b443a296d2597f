"""Architectures whose exponents a rule by name or by the position of an axis gets wrong: right here after applying.

The numbers are known: under Adam a weight that sums n terms of the features has initial spread n^-1/2 and learning rate
n^-1, if it feeds features; a readout has n^-1 and n^-1; one that sums nothing that grows has 1 and 1.
"""

from __future__ import annotations

import copy

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tensorprog.torch as tpt  # noqa: E402
from tensorprog.torch.rescale import rescale, undo  # noqa: E402
from tests.torch_apply import models  # noqa: E402

pytestmark = pytest.mark.torch
BASE, RATIO = 4, 3.0


def applied(build, inputs=None, optimizer="adam"):
    """Name -> (factor on the initial spread, learning rate over the base's), and the multipliers' factors."""
    p = tpt.derive(build, inputs=inputs, optimizer=optimizer)
    torch.manual_seed(0)
    built = build(int(BASE * RATIO))
    model = built[0] if isinstance(built, tuple) else built
    before = {name: w.detach().clone() for name, w in model.named_parameters()}
    groups = p.apply(model, base=BASE, lr=1.0)
    rates = {name: g["lr"] for g in groups for name in g["param_names"]}
    found = {}
    for name, w in model.named_parameters():
        size = before[name].norm()
        found[name] = (float(w.detach().norm() / size) if size else None, rates[name])
    return found, p, model


def power(exponent):
    return pytest.approx(RATIO**exponent, rel=1e-5)


@pytest.mark.slow
def test_the_spread_of_a_tied_embedding_does_not_grow():
    """Its gradient as an embedding wants entries of order 1; its use as a readout gets a factor, not its weights."""
    found, _, model = applied(lambda n: models.nanogpt(n, layers=1))
    assert found["wte.weight"] == (power(0), power(0))
    hidden = torch.randn(2, model.ln_f.normalized_shape[0])
    torch.testing.assert_close(model.lm_head(hidden), hidden @ model.wte.weight.T / RATIO)


@pytest.mark.slow
def test_the_fan_in_of_a_transposed_convolution_is_its_first_axis():
    """Weight [in, out, k]: in is summed. Here in grows and out does not: a readout."""

    def build(n):
        return nn.Sequential(nn.Conv1d(3, 2 * n, 3), nn.ReLU(), nn.ConvTranspose1d(2 * n, 5, 3))

    found, *_ = applied(build, torch.randn(4, 3, 9))
    assert found["0.weight"][1] == power(0) and found["2.weight"][1] == power(-1)
    p = tpt.derive(build, inputs=torch.randn(4, 3, 9), optimizer="adam")
    assert str(p.changes.parameter("2.weight").needed.init_std) == "n^-1"
    assert str(p.changes.parameter("0.weight").needed.init_std) == "1"


class Experts(nn.Module):
    """A mixture of a fixed number of experts, whose weights are one tensor of three axes."""

    def __init__(self, n):
        super().__init__()
        self.enter, self.gate, self.leave = nn.Linear(7, n), nn.Linear(n, 3), nn.Linear(n, 5)
        self.up, self.down = nn.Parameter(torch.randn(3, n, 2 * n)), nn.Parameter(torch.randn(3, 2 * n, n))

    def forward(self, x):
        x = self.enter(x)
        weights = torch.softmax(self.gate(x), -1)
        every = torch.relu(torch.einsum("bn,enm->bem", x, self.up))
        return self.leave(x + torch.einsum("be,bem,emn->bn", weights, every, self.down))


def test_experts_in_one_tensor_of_three_axes_are_matrices():
    found, *_ = applied(lambda n: Experts(2 * n), torch.randn(4, 7))
    for name in ("up", "down"):
        assert found[name] == (power(-0.5), power(-1))
    assert found["leave.weight"][1] == power(-1) and found["enter.weight"][1] == power(0)


def test_a_convolutional_readout_is_a_readout():
    """No layer is declared to be one: nn.Conv2d from the features to the classes."""

    def build(n):
        return nn.Sequential(nn.Conv2d(3, 2 * n, 3), nn.ReLU(), nn.Conv2d(2 * n, 10, 1), nn.AdaptiveAvgPool2d(1))

    found, p, _ = applied(build, torch.randn(4, 3, 6, 6))
    assert found["2.weight"][1] == power(-1)
    assert str(p.changes.parameter("2.weight").needed.init_std) == "n^-1"
    assert str(p.changes.parameter("0.weight").needed.init_std) == "1"


class Recurrent(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.lstm, self.leave = nn.LSTM(5, 2 * n, batch_first=True), nn.Linear(2 * n, 4)

    def forward(self, x):
        return self.leave(self.lstm(x)[0][:, -1])


def test_input_weights_and_biases_of_an_lstm_keep_their_spread():
    """PyTorch starts all of them with n^-1/2. Only the recurrent weight sums n terms."""
    found, *_ = applied(Recurrent, torch.randn(3, 4, 5))
    assert found["lstm.weight_hh_l0"] == (power(0), power(-1))  # n^-1/2 already
    assert found["lstm.weight_ih_l0"] == (power(0.5), power(0))  # n^-1/2 now, 1 is right
    assert found["lstm.bias_ih_l0"] == (power(0.5), power(0))
    assert found["leave.weight"] == (power(-0.5), power(-1))


@pytest.mark.slow
def test_a_deep_copy_is_trained_like_the_original():
    """What must change hangs on the module and on the groups, not on tensors that a copy loses."""
    build = lambda n: models.nanogpt(n, layers=1)  # noqa: E731
    p = tpt.derive(build, optimizer="adam")
    torch.manual_seed(0)
    model, inputs, loss = build(12)
    p.apply(model, base=BASE)
    runs = []
    for each in (model, copy.deepcopy(model)):
        with pytest.warns(tpt.AppliedWarning):
            optimizer = torch.optim.Adam(p.apply(each, base=BASE, lr=1e-2))
        losses = []
        for _ in range(3):
            value = loss(each(*inputs))
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            losses.append(value.item())
        runs.append(losses)
    assert runs[0] == runs[1]


@pytest.mark.parametrize("build", [
    pytest.param(lambda n: models.nanogpt(n, layers=1), id="gpt", marks=pytest.mark.slow),
    pytest.param(models.mlp, id="mlp"),
    pytest.param(Recurrent, id="lstm", marks=pytest.mark.slow),
])  # fmt: skip
def test_a_target_equal_to_the_base_is_no_change(build):
    inputs = torch.randn(3, 4, 5) if build is Recurrent else None
    p = tpt.derive(build, inputs=inputs, optimizer="adam")
    torch.manual_seed(0)
    built = build(8)
    model = built[0] if isinstance(built, tuple) else built
    before = copy.deepcopy(model.state_dict())
    groups = p.apply(model, base=8, lr=0.1)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert {g["lr"] for g in groups} == {0.1}
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_a_weight_can_be_multiplied_by_any_number_and_is_put_back_to_the_last_bit():
    """A factor is not rounded to the weight's own precision first: the error would be more than one bit."""
    generator = torch.Generator().manual_seed(0)
    for factor in torch.linspace(0.01, 3, 40, dtype=torch.float64).tolist():
        weight = torch.randn(2000, generator=generator)
        before = weight.clone()
        done = rescale("w", weight, factor)
        undo(done, weight)
        assert torch.equal(weight, before)
