"""One tensor whose ranges need two learning rates: a multiplier on one of them, and it trains like two tensors."""

from __future__ import annotations

import copy

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tensorprog.torch as tpt  # noqa: E402
from tensorprog.errors import TensorProgError  # noqa: E402
from tests.shared import tiers  # noqa: E402
from tests.torch_apply.test_apply import train  # noqa: E402

pytestmark = pytest.mark.torch
BASE, WIDE = 8, 32
OPTIMIZERS = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}


class Joined(nn.Module):
    """One matrix for the hidden state and the time."""

    def __init__(self, n):
        super().__init__()
        self.inp, self.mid, self.out = nn.Linear(5, n), nn.Linear(n + 1, n), nn.Linear(n, 3)

    def forward(self, x):
        return self.out(torch.relu(self.mid(torch.cat([torch.relu(self.inp(x)), x[:, :1] ** 2], -1))))


class Apart(nn.Module):
    """A matrix for each."""

    def __init__(self, n):
        super().__init__()
        self.inp, self.mid, self.time = nn.Linear(5, n), nn.Linear(n, n), nn.Linear(1, n, bias=False)
        self.out = nn.Linear(n, 3)

    def forward(self, x):
        return self.out(torch.relu(self.mid(torch.relu(self.inp(x))) + self.time(x[:, :1] ** 2)))


class Rows(Joined):
    """Outputs of two kinds, with a bias or without."""

    def __init__(self, n, bias=False):
        super().__init__(n)
        self.mid, self.few, self.many = nn.Linear(n, n + 4, bias=bias), nn.Linear(4, 3), nn.Linear(n, 3)

    def forward(self, x):
        many, few = torch.relu(self.mid(torch.relu(self.inp(x)))).split([self.many.in_features, 4], -1)
        return self.many(many) + self.few(few)


def inputs():
    return torch.randn(16, 5, generator=torch.Generator().manual_seed(1))


def wide(build=Joined):
    torch.manual_seed(0)
    return build(WIDE)


@pytest.mark.parametrize("optimizer", tiers(OPTIMIZERS, ["adamw"]))
def test_it_trains_like_two_tensors_with_two_learning_rates(optimizer):
    one, x = wide().double(), inputs().double()
    settings = {"lr": 0.1, "eps": None} if optimizer == "sgd" else {"lr": 0.01, "eps": 1e-30}
    groups = tpt.derive(Joined, inputs(), optimizer).apply(one, BASE, weight_decay=0.1, **settings)
    two = Apart(WIDE).double()
    groups_two = tpt.derive(Apart, inputs(), optimizer).apply(two, BASE, weight_decay=0.1, **settings)
    factor = {"adamw": WIDE / BASE, "sgd": (WIDE / BASE) ** 0.5}[optimizer]
    with torch.no_grad():
        for name in ("inp.weight", "inp.bias", "mid.bias", "out.weight", "out.bias"):
            two.get_parameter(name).copy_(one.get_parameter(name))
        two.mid.weight.copy_(one.mid.weight[:, :WIDE])
        two.time.weight.copy_(one.mid.weight[:, WIDE:] * factor)
    assert len({g["lr"] for g in groups for name in g["param_names"] if name == "mid.weight"}) == 1
    plain = copy.deepcopy(one)
    plain.mid._forward_pre_hooks.clear()

    def curve(model, groups):
        return train(model, [x], lambda y: y.square().mean() + y.sum(), OPTIMIZERS[optimizer](groups), steps=6)

    wanted = curve(two, groups_two)
    assert curve(one, groups) == pytest.approx(wanted, rel=1e-9)
    assert curve(plain, plain.parameters()) != pytest.approx(wanted, rel=1e-3)


@pytest.mark.parametrize(("build", "optimizer"), [(Joined, "adamw"), (Rows, "sgd")])
def test_at_the_base_nothing_changes_and_it_is_undone_and_folded(build, optimizer):
    x = inputs()
    p = tpt.derive(build, x, optimizer)
    base = build(BASE)
    before = base(x)
    assert not p.apply(base, BASE, lr=0.1).done and torch.equal(base(x), before)
    model, fresh = wide(build), wide(build)
    p.apply(model, BASE, lr=0.1)
    assert model.mid._forward_hooks or model.mid._forward_pre_hooks
    applied, folded = model(x), copy.deepcopy(model)
    p.fold(folded)
    assert not folded.mid._forward_hooks and not folded.mid._forward_pre_hooks
    torch.testing.assert_close(folded(x), applied)
    p.remove(model)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), fresh.parameters(), strict=True))
    assert torch.equal(model(x), fresh(x))


@pytest.mark.slow
def test_where_no_such_multiplier_is_right_the_rows_are_named():
    p = tpt.derive(Joined, inputs(), "adamw")
    with pytest.raises(TensorProgError, match=r"mid.weight\[:, n:n \+ 1\][\s\S]*which is clipped"):
        p.apply(wide(), BASE, lr=0.1, clip=1.0)
    with pytest.raises(TensorProgError, match=r"`mid.weight` needs two learning rates: .*32 to 33 \(of axis 1\): 1"):
        p.apply(wide(), BASE, lr=0.1, keep=["mid.weight[:, n:n + 1]"])
    kept = wide()
    p.apply(kept, BASE, lr=0.1, keep=["mid.weight"])
    assert not kept.mid._forward_pre_hooks and torch.equal(kept.mid.weight, wide().mid.weight)
    biased = tpt.derive(lambda n: Rows(n, bias=True), inputs(), "sgd")  # a bias too
    with pytest.raises(TensorProgError, match=r"`mid.weight` needs two learning rates: 0 to 32 \(of axis 0\)"):
        biased.apply(wide(lambda n: Rows(n, bias=True)), BASE, lr=0.1)


@pytest.mark.slow
def test_every_tensor_behaves_as_derived():
    report = tpt.derive(Joined, inputs(), "adamw").check((32, 64, 128, 256), seeds=4, steps=2)
    assert report.verdict == "agrees", str(report)
