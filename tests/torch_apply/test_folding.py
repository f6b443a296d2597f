"""What a folded model computes is what the applied one did; a weight that cannot take a factor is left alone."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tensorprog.torch as tpt  # noqa: E402
from tensorprog.errors import TensorProgError  # noqa: E402
from tensorprog.torch.changes import InputHook, OutputHook  # noqa: E402
from tests.shared import tiers  # noqa: E402

pytestmark = pytest.mark.torch
TOKENS = torch.randint(17, (4, 7), generator=torch.Generator().manual_seed(0))


class Attending(nn.Module):
    """`nn.MultiheadAttention` with heads that grow, called in the ways people call it."""

    def __init__(self, n: int, how: str) -> None:
        super().__init__()
        self.how = how
        self.embed, self.out = nn.Embedding(17, 8 * n), nn.Linear(8 * n, 17)
        other = {"kdim": 8 * n + 8 * n, "vdim": 8 * n} if how == "other sizes" else {}
        self.mix = nn.MultiheadAttention(8 * n, 2, batch_first=True, **other)

    def forward(self, tokens: Any) -> Any:
        x = self.embed(tokens)
        match self.how:
            case "by position":
                y = self.mix(x, x, x, need_weights=False)
            case "by name":
                y = self.mix(query=x, key=x, value=x, need_weights=False)
            case "other sizes":
                y = self.mix(x, torch.cat([x, x], -1), value=x)
        return self.out(x + y[0])


@pytest.mark.parametrize("how", tiers(["by position", "by name", "other sizes"], ["by name"]))
def test_the_factor_of_a_multihead_attention_meets_its_keys_however_it_is_called(how: str) -> None:
    p = tpt.derive(lambda n: Attending(n, how), TOKENS, "adamw")
    (scores,) = p.changes.multipliers
    assert InputHook("mix", 1) in scores.places
    model = Attending(8, how)
    for bias in (model.mix.in_proj_bias, model.mix.out_proj.bias):
        nn.init.normal_(bias)
    plain = deepcopy(model)
    p.apply(model, base=2)
    (hook,) = model.mix._forward_pre_hooks.values()
    assert hook.factor == 0.5
    applied = model(TOKENS)
    p.fold(model)
    assert not model.mix._forward_pre_hooks
    torch.testing.assert_close(model(TOKENS), applied)
    stock = Attending(8, how)
    stock.load_state_dict(model.state_dict())
    torch.testing.assert_close(stock(TOKENS), applied)
    with torch.no_grad():  # a control: at other scores it computes something else
        plain.out.load_state_dict(model.out.state_dict())
    assert not torch.allclose(plain(TOKENS), applied, atol=1e-3)


class Shared(Attending):
    """Something else reads the projection of the attention, too: a second attention, a layer, or the code itself."""

    def __init__(self, n: int, reader: str) -> None:
        super().__init__(n, "by position")
        self.reader = reader
        self.other: Any = None
        if reader == "attention":
            self.other = nn.MultiheadAttention(8 * n, 2, batch_first=True)
            self.other.in_proj_weight = self.mix.in_proj_weight
        elif reader == "layer":
            self.other = nn.Linear(8 * n, 24 * n, bias=False)
            self.other.weight = self.mix.in_proj_weight

    def forward(self, tokens: Any) -> Any:
        x = self.embed(tokens)
        x = x + self.mix(x, x, x, need_weights=False)[0]
        match self.reader:
            case "attention" | "itself":
                x = x + (self.other or self.mix)(x, x, x, need_weights=False)[0]
            case "layer":
                x = x + torch.tanh(self.other(x))[..., : x.shape[-1]]
            case "code":
                x = x + torch.tanh(x @ self.mix.in_proj_weight.T[:, x.shape[-1] : 2 * x.shape[-1]])
        return self.out(x)


@pytest.mark.parametrize("reader", tiers(["attention", "layer", "code", "itself"], ["layer"]))
def test_a_factor_is_not_folded_into_a_projection_that_something_else_reads(reader: str) -> None:
    p = tpt.derive(lambda n: Shared(n, reader), TOKENS, "adamw")
    model = Shared(8, reader)
    p.apply(model, base=2)
    before = model(TOKENS)
    if reader == "itself":  # a control: called twice, it has the factor in both calls
        p.fold(model)
        torch.testing.assert_close(model(TOKENS), before)
    else:
        with pytest.raises(TensorProgError, match="cannot be folded"):
            p.fold(model)
        assert torch.equal(model(TOKENS), before)


class Buffered(nn.Module):
    """An embedding that the code reads as the readout, too."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.embed, self.mid = nn.Embedding(17, 8 * n), nn.Linear(8 * n, 8 * n)
        self.register_buffer("scale", torch.tensor((8 * n) ** 0.5))
        nn.init.normal_(self.embed.weight, std=(8 * n) ** -0.5)

    def forward(self, tokens: Any) -> Any:
        x = self.embed(tokens) * self.scale
        return nn.functional.linear(x + torch.relu(self.mid(x)), self.embed.weight) / self.scale**2


def test_a_factor_of_one_use_is_not_folded_into_the_weight_that_the_code_uses_twice() -> None:
    p = tpt.derive(Buffered, TOKENS, "adamw")
    (use,) = [m for m in p.changes.multipliers if m.places]
    assert use.places[0] == OutputHook("embed")
    model = Buffered(8)
    p.apply(model, base=2)
    before = model(TOKENS)
    with pytest.raises(TensorProgError, match=r"cannot be folded[^$]*nothing else"):
        p.fold(model)
    assert torch.equal(model(TOKENS), before)


class Scored(nn.Module):
    """Scores from a fused projection, and a tied readout."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.embed, self.qkv = nn.Embedding(17, 8 * n), nn.Linear(8 * n, 24 * n, bias=False)
        self.head = nn.Linear(8 * n, 17, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: Any) -> Any:
        x = self.embed(tokens)
        q, k, v = self.qkv(x).chunk(3, -1)
        return self.head(x + (q @ k.transpose(1, 2) * q.shape[-1] ** -0.5).softmax(-1) @ v)


@pytest.mark.slow
def test_a_model_of_few_digits_has_the_places_that_it_has_in_full_precision() -> None:
    full, short = (tpt.derive(lambda n, t=t: Scored(n).to(t), TOKENS, "adamw").changes.multipliers
                   for t in (torch.float32, torch.bfloat16))  # fmt: skip
    assert [m.places for m in short] == [m.places for m in full]
    assert all(m.places for m in short if m.factor != tpt.changes.UNIT)


class Learning(nn.Module):
    """A tied readout: its factor is all that is applied."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(17, 8 * n), nn.Linear(8 * n, 17, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: Any) -> Any:
        return self.head(torch.tanh(self.embed(tokens)))


def test_removing_after_training_is_refused_though_no_weight_was_rescaled() -> None:
    p = tpt.derive(Learning, TOKENS, "adam")
    model = Learning(8)
    before = model(TOKENS)
    p.apply(model, base=2)
    p.remove(model)
    assert torch.equal(model(TOKENS), before)
    groups = p.apply(model, base=2, lr=1e-3)
    assert groups.done == ("head (embed.weight): times 0.25, hook on the output of head",)
    model(TOKENS).square().mean().backward()
    torch.optim.Adam(groups).step()
    with pytest.raises(TensorProgError, match="have moved since"):
        p.remove(model)


def two_layers(n: int) -> Any:
    return torch.nn.Sequential(torch.nn.Linear(5, 8 * n), torch.nn.Linear(8 * n, 3))


@pytest.mark.parametrize(("build", "inputs"), [(Learning, TOKENS), (two_layers, torch.ones(2, 5))])
def test_a_model_that_was_converted_is_not_said_to_have_moved(build: Any, inputs: Any) -> None:
    """Where only a hook was applied, and where weights were rescaled."""
    p = tpt.derive(build, inputs, "adam")
    model = build(8)
    p.apply(model, base=2)
    with pytest.raises(TensorProgError, match=r"was torch.float32 when .* and is torch.bfloat16"):
        p.remove(model.to(torch.bfloat16))


class OwnNorm(nn.Module):
    def __init__(self, n: int, shift: float) -> None:
        super().__init__()
        self.shift, self.weight = shift, nn.Parameter(torch.ones(n) - shift)

    def forward(self, x: Any) -> Any:
        return (self.shift + self.weight) * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)


class TiedBehindOwnNorm(nn.Module):
    """A tied readout behind a norm of someone's own, whose gain is `shift + weight`."""

    def __init__(self, n: int, shift: float) -> None:
        super().__init__()
        self.embed, self.mix, self.norm = nn.Embedding(17, n), nn.Linear(n, n), OwnNorm(n, shift)
        self.head = nn.Linear(n, 17, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: Any) -> Any:
        x = self.embed(tokens)
        return self.head(self.norm(x + torch.relu(self.mix(x))))


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_a_norm_of_ones_own_takes_the_factor_if_its_output_is_proportional_to_its_weight(shift: float) -> None:
    p = tpt.derive(lambda n: TiedBehindOwnNorm(8 * n, shift), TOKENS, "adamw")
    model = TiedBehindOwnNorm(32, shift)
    p.apply(model, base=2)
    applied = model(TOKENS)
    p.fold(model)
    torch.testing.assert_close(model(TOKENS), applied)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert (model.head.weight is model.embed.weight) == (shift == 0), "else the readout takes it, untied"
