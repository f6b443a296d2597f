"""Multipliers of modules that are called several times, and of weights that belong to no module of their own."""

from __future__ import annotations

import copy
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

import tensorprog.torch as tpt  # noqa: E402
from tensorprog.errors import TensorProgError  # noqa: E402
from tensorprog.torch.changes import Absorb, OutputHook  # noqa: E402

pytestmark = pytest.mark.torch
BASE, WIDE = 4, 32


class Attention(nn.Module):
    """Heads that grow; its weights in layers, or its own."""

    def __init__(self, n: int, layers: bool) -> None:
        super().__init__()
        self.factor = 1  # no number that the derivation could take for the scale
        made = [nn.Linear(n, n, bias=False) for _ in range(4)]
        self.layers = nn.ModuleList(made) if layers else None
        self.weights = None if layers else nn.ParameterList([w.weight.detach() for w in made])

    def forward(self, x: Any) -> Any:
        each = self.weights if self.layers is None else self.layers
        q, k, v = (torch.einsum("btc,dc->btd", x, w) if self.layers is None else w(x) for w in list(each)[:3])
        out = functional.scaled_dot_product_attention(q * self.factor, k, v)
        return out @ each[3].T if self.layers is None else each[3](out)


class Recurrent(nn.Module):
    """The same attention as often as wanted, and a tied readout behind every turn."""

    def __init__(self, n: int, turns: int, layers: bool) -> None:
        super().__init__()
        self.turns, self.embed, self.attention = turns, nn.Embedding(11, n), Attention(n, layers)
        self.norm, self.head = nn.LayerNorm(n), nn.Linear(n, 11, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: Any) -> Any:
        x, logits = self.embed(tokens), []
        for _ in range(self.turns):
            x = x + self.attention(self.norm(x))
            logits.append(self.head(x))
        return torch.stack(logits)


TOKENS = torch.arange(24).reshape(4, 6) % 11


def derived(turns: int, layers: bool) -> Any:
    return tpt.derive(lambda n: Recurrent(n, turns, layers), TOKENS, "adamw")


def losses(model: Any, groups: Any, steps: int = 4) -> list[float]:
    optimizer, found = torch.optim.AdamW(groups), []
    for _ in range(steps):
        loss = functional.cross_entropy(model(TOKENS).flatten(0, 2), TOKENS.repeat(model.turns, 1, 1).flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found


@pytest.mark.slow
@pytest.mark.parametrize("layers", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_one_place_serves_all_calls_and_gets_the_factor_once(layers: bool) -> None:
    """As if the code had the factors itself; weights without a module absorb theirs."""
    p = derived(2, layers)
    scores = [m for m in p.changes.multipliers if m.kind == "product"]
    place = OutputHook("attention.layers.0") if layers else Absorb("attention.weights.0")
    assert [m.places[0] for m in scores] == [place] * 2 and scores[1].shared_with == scores[0].name
    torch.manual_seed(0)
    model = Recurrent(WIDE, 2, layers).double()
    theirs = copy.deepcopy(model)
    ours = p.apply(model, base=BASE, lr=1e-2, eps=1e-4)
    assert sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()) == 1 + layers
    theirs.attention.factor = (WIDE / BASE) ** -0.5
    groups = p.apply(theirs, base=BASE, lr=1e-2, eps=1e-4, keep=[scores[0].name])
    assert losses(model, ours) == pytest.approx(losses(theirs, groups), rel=1e-9)


@pytest.mark.slow
def test_a_weight_without_a_module_does_not_absorb_where_gradients_are_clipped() -> None:
    p = derived(1, False)
    with pytest.raises(TensorProgError, match="global gradient norm, which is clipped"):
        p.apply(Recurrent(WIDE, 1, False), base=BASE, clip=1.0)


@pytest.mark.slow
@pytest.mark.parametrize("layers", [True, False])
def test_every_tensor_behaves_as_derived(layers: bool) -> None:
    p = derived(2, layers)
    fixes = [f.fix for f in p.lint().findings if f.what == "multiplier"]  # one of the scores, one of the readout
    assert len(fixes) == 2 and any("its lr by" in fix for fix in fixes) is not layers
    report = p.check((32, 64, 128, 256), seeds=3, steps=2)
    assert report.verdict != "disagrees", str(report)
    assert any("softmax" in row.tensor for row in report.rows)
