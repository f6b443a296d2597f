"""Several widths that grow apart, several optimizers at once, convolutions and norms: applied, undone, folded."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tensorprog.torch as tpt  # noqa: E402
from tensorprog.errors import TensorProgError  # noqa: E402
from tensorprog.optimizers.table import optimizer as defined  # noqa: E402
from tensorprog.torch.optimizers import torch_optimizer  # noqa: E402
from tests.torch_apply import models  # noqa: E402

pytestmark = pytest.mark.torch


class Block(nn.Module):
    def __init__(self, hidden, ffn):
        super().__init__()
        self.enter, self.up, self.down = nn.Linear(5, hidden), nn.Linear(hidden, ffn), nn.Linear(ffn, hidden)
        self.norm, self.leave = nn.LayerNorm(hidden), nn.Linear(hidden, 3)

    def forward(self, x):
        x = self.enter(x)
        return self.leave(self.norm(x + self.down(torch.relu(self.up(x)))))


@pytest.fixture(scope="module")
def two_widths():
    return tpt.derive(Block, inputs=torch.randn(4, 5), optimizer="adamw")


def test_independent_widths_each_count_where_they_are_summed(two_widths):
    model = Block(hidden=24, ffn=160)
    before = {name: w.detach().clone() for name, w in model.named_parameters()}
    groups = two_widths.apply(model, base={"hidden": 8, "ffn": 16}, lr=1.0)
    rates = {name: g["lr"] for g in groups for name in g["param_names"]}
    assert groups.sizes == {"hidden": 24, "ffn": 160}
    assert rates["up.weight"] == pytest.approx(1 / 3) and rates["down.weight"] == pytest.approx(1 / 10)
    assert rates["enter.weight"] == 1 and rates["leave.weight"] == pytest.approx(1 / 3)
    torch.testing.assert_close(model.leave.weight, before["leave.weight"] * 3**-0.5)  # n^-1/2 now, n^-1 needed
    assert torch.equal(model.down.weight, before["down.weight"])
    with pytest.raises(TensorProgError, match="the base needs a whole number for each of hidden, ffn"):
        two_widths.apply(Block(24, 160), base={"hidden": 8})


@pytest.mark.slow
def test_both_widths_grow_in_the_check(two_widths):
    report = two_widths.check(widths={"hidden": (32, 64, 128, 256), "ffn": (64, 128, 256, 512)}, seeds=4, steps=2)
    assert report.verdict != "disagrees", str(report)
    assert {row.tensor for row in report.rows} >= {"up: addmm", "leave: addmm"}


def test_muon_and_the_optimizer_of_its_vectors_have_groups_of_their_own():
    p = tpt.derive(models.mlp, optimizer="muon")
    model, inputs, loss = models.mlp(24)
    with pytest.raises(TensorProgError, match="two optimizers need two learning rates"):
        p.apply(model, base=8, lr=0.02)
    groups = p.apply(model, base=8, lr={"muon": 0.02, "adam": 1e-3})
    muon, adam = groups.of("muon"), groups.of("adam")
    assert sorted(name for g in muon for name in g["param_names"]) == [
        "first.weight",
        "hidden.weight",
        "readout.weight",
    ]
    optimizers = [torch.optim.Muon(muon), torch.optim.Adam(adam)]
    rates = {name: g["lr"] for g in groups for name in g["param_names"]}
    hidden = str(p.changes.parameter("hidden.weight").needed.lr)
    assert rates["hidden.weight"] == 0.02 and hidden == "1"
    assert rates["first.weight"] == pytest.approx(0.02 * 3**0.5) and rates["first.bias"] == 1e-3
    loss(model(inputs)).backward()
    for optimizer in optimizers:
        optimizer.step()


@pytest.mark.parametrize("name", ["muon", "muon_match_rms"])
def test_the_muon_of_pytorch_steps_as_the_one_that_was_derived(name):
    """Left to itself it multiplies steps of tall matrices by the root of their shape."""
    p = tpt.derive(models.mlp, optimizer=name)
    moved = []
    for make in (torch.optim.Muon, lambda groups: torch_optimizer(name, groups)):
        torch.manual_seed(0)
        model, inputs, loss = models.mlp(64)
        rates = {c.optimizer: 0.02 for c in p.changes.parameters}
        optimizer = make(p.apply(model, base=8, lr=rates, weight_decay=0.0).of(name))
        before = [w.detach().clone() for w in model.parameters()]
        loss(model(inputs)).backward()
        optimizer.step()
        moved.append([float((w.detach() - old).norm()) for w, old in zip(model.parameters(), before, strict=True)])
    assert moved[0][0] and moved[0] == pytest.approx(moved[1], rel=0.25)  # one in bfloat16; the factor is 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["muon", "lion", "shampoo"])
def test_optimizers_that_pytorch_lacks_are_checked_too(name):
    report = tpt.derive(models.mlp, optimizer=name).check(widths=[32, 64, 128, 256], seeds=2, steps=2)
    assert report.verdict != "disagrees", str(report)


def test_an_optimizer_of_ones_own_is_applied_and_checked():
    signs = defined("optimizer signs(lr = 0.1) { step = sign(g) }")
    p = tpt.derive(models.mlp, optimizer=signs)
    groups = p.apply(models.mlp(24)[0], base=8)
    rates = {name: g["lr"] for g in groups for name in g["param_names"]}
    assert rates["hidden.weight"] == pytest.approx(0.1 / 3) and rates["first.weight"] == 0.1
    assert p.lint().findings[0].exponent == "1"
    report = p.check(widths=[16, 32, 64], seeds=1, steps=1)
    assert report.optimizer == "signs" and not {"hidden: addmm"} - {row.tensor for row in report.rows}


def test_an_optimizer_that_wants_a_second_gradient_cannot_be_checked():
    with pytest.raises(TensorProgError, match="`sam` cannot be trained here"):
        torch_optimizer("sam", [torch.ones(2, 2, requires_grad=True)])


class TiedConvolutions(nn.Module):
    """Attention of growing size over a few positions, between convolutions and batch norm."""

    def __init__(self, n):
        super().__init__()
        self.enter, self.norm = nn.Conv1d(3, n, 3, padding=1), nn.BatchNorm1d(n)
        self.q, self.k, self.leave = nn.Conv1d(n, n, 1), nn.Conv1d(n, n, 1), nn.Conv1d(n, 4, 1)
        self.scale = n**-0.5

    def forward(self, x):
        x = torch.relu(self.norm(self.enter(x)))
        scores = torch.einsum("bct,bcs->bts", self.q(x), self.k(x)) * self.scale
        return self.leave(torch.einsum("bts,bcs->bct", scores.softmax(-1), x))


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_shampoo_goes_on_where_a_gradient_is_no_number(wrong):
    weight, other = (torch.ones(3, 2, requires_grad=True) for _ in range(2))
    optimizer = torch_optimizer("shampoo", [weight, other])
    weight.grad, other.grad = torch.full((3, 2), 0.5), torch.full((3, 2), 0.5)
    weight.grad[0, 0] = wrong
    optimizer.step()
    assert weight.isnan().all() and other.isfinite().all()


@pytest.mark.slow
def test_an_attribute_takes_the_factor_and_folding_moves_it_into_a_convolution():
    inputs = torch.randn(4, 3, 6)
    p = tpt.derive(lambda n: TiedConvolutions(2 * n), inputs=inputs, optimizer="adam")
    torch.manual_seed(0)
    model = TiedConvolutions(24)
    p.apply(model, base=4, lr=1e-3)
    assert model.scale == pytest.approx(24**-0.5 * 3**-0.5)
    expected = model(inputs)
    p.fold(model)
    assert model.scale == 24**-0.5
    torch.testing.assert_close(model(inputs), expected)
    stock = TiedConvolutions(24)
    stock.load_state_dict(model.state_dict())
    torch.testing.assert_close(stock(inputs), expected)
    again = TiedConvolutions(24)
    start = [w.clone() for w in again.parameters()]
    p.apply(again, base=4)
    p.remove(again)
    assert again.scale == 24**-0.5
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), start, strict=True))
