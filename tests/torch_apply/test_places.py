"""A multiplier is put where the model already has a number for it, if that number is exactly it; else into a hook, or
into a weight where that is asked for and the optimizer's symmetry allows it."""

from __future__ import annotations

from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tensorprog.torch as tpt  # noqa: E402
from tensorprog.errors import TensorProgError  # noqa: E402
from tensorprog.torch.changes import Absorb, Attribute, ConfigField, InputHook, OutputHook  # noqa: E402
from tensorprog.torch.trial import Trial  # noqa: E402

pytestmark = pytest.mark.torch
VOCAB, TIME = 11, 5


class Tied(nn.Module):
    """A language model with a head that grows, and with numbers of its own at the scores and at the logits."""

    def __init__(self, n: int, how: str) -> None:
        super().__init__()
        self.how, self.scale, self.logit_scale = how, n**-0.5, 0.25
        self.config = SimpleNamespace(logits_scaling=4.0, temperature=0.5, dropout=0.1, layers=1)
        self.embed = nn.Embedding(VOCAB, n)
        self.q, self.k, self.v = (nn.Linear(n, n, bias=False) for _ in range(3))
        self.head = nn.Linear(n, VOCAB, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: Any) -> Any:
        x = self.embed(tokens)
        if self.how == "both":
            x = x * self.config.temperature
        scores = self.q(x) @ self.k(x).transpose(1, 2) * self.scale
        x = x + scores.softmax(-1) @ self.v(x)
        match self.how:
            case "config":
                return self.head(x) / self.config.logits_scaling
            case "square":
                return self.head(x) * self.logit_scale**2
            case "both":
                return self.head(x) * self.config.temperature
        return self.head(x)


def derived(how: str, optimizer: str = "adam") -> Any:
    tokens = torch.randint(VOCAB, (3, TIME), generator=torch.Generator().manual_seed(0))
    return tpt.derive(lambda n: Tied(4 * n, how), tokens, optimizer)


def places(p: Any, module: str) -> tuple[Any, ...]:
    (found,) = [m.places for m in p.changes.multipliers if m.module == module and m.places]
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("how", "first"), [
    pytest.param("config", ConfigField("logits_scaling", Fraction(-1)), marks=pytest.mark.slow),
    ("square", Attribute("", "logit_scale", Fraction(2))),
    pytest.param("both", OutputHook("head"), marks=pytest.mark.slow),  # the number stands at the embedding too
    ("none", OutputHook("head")),
])  # fmt: skip
def test_a_number_that_is_the_multiplier_takes_it_with_the_power_to_which_it_stands_there(how: str, first: Any) -> None:
    p = derived(how)
    assert places(p, "head")[0] == first
    torch.manual_seed(0)
    model, tokens = Tied(32, how), torch.randint(VOCAB, (2, TIME))
    start = [w.clone() for w in model.parameters()]
    held = (model.scale, model.logit_scale, dict(vars(model.config)))
    p.apply(model, base=2)
    by_hooks = Tied(32, how)
    by_hooks.load_state_dict(model.state_dict())
    by_hooks.head.register_forward_hook(lambda _, __, y: y * 8 / 32)
    by_hooks.scale = model.scale
    torch.testing.assert_close(model(tokens), by_hooks(tokens))
    assert model.scale == pytest.approx(held[0] * (8 / 32) ** 0.5)
    p.remove(model)
    assert held == (model.scale, model.logit_scale, vars(model.config))
    assert all(torch.equal(a, b) for a, b in zip(start, model.parameters(), strict=True))


@pytest.mark.slow
def test_a_weight_without_a_bias_can_take_the_factor_of_the_scores_and_trains_alike() -> None:
    p = derived("none")
    assert Absorb("q.weight") in places(p, "") and isinstance(places(p, "")[0], Attribute)
    torch.manual_seed(0)
    tokens, models = torch.randint(VOCAB, (4, TIME)), [Tied(32, "none").double() for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    for model, absorb in zip(models, (False, True), strict=True):
        optimizer = torch.optim.Adam(p.apply(model, base=2, lr=1e-2, eps=1e-4, absorb=absorb))
        for _ in range(5):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten()).backward()
            optimizer.step()
    assert models[1].scale == 32**-0.5 and models[0].scale != 32**-0.5
    torch.testing.assert_close(models[1](tokens), models[0](tokens), rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_with_a_clipped_norm_nothing_is_absorbed() -> None:
    p = derived("none")
    model = Tied(32, "none")
    p.apply(model, base=2, absorb=True, clip=1.0)
    assert model.scale != 32**-0.5  # in the attribute instead


@pytest.mark.slow
def test_a_tied_weight_cannot_absorb_the_factor_of_one_use() -> None:
    assert not any(isinstance(place, Absorb) for place in places(derived("none"), "head"))


@pytest.mark.slow
def test_of_two_hooks_that_are_right_the_one_on_the_smaller_tensor_is_used() -> None:
    p = derived("none")
    assert {OutputHook("head"), InputHook("head")} <= set(places(p, "head"))
    wide, narrow = Tied(32, "none"), Tied(8, "none")
    done = p.apply(wide, base=1).done, p.apply(narrow, base=1).done
    assert [next(line for line in lines if "hook" in line).rpartition("hook on the ")[2] for lines in done] == [
        "output of head", "input of head"]  # fmt: skip


class Turned(torch.nn.Module):
    """Attention in the model's own code, whose queries and keys are turned by their positions."""

    def __init__(self, n):
        super().__init__()
        self.query, self.key, self.out = (torch.nn.Linear(8, 2 * n), torch.nn.Linear(8, 2 * n), torch.nn.Linear(8, 4))

    def forward(self, x: Any) -> Any:
        angle = torch.arange(x.shape[1], dtype=x.dtype)[:, None]
        query, key = (self._turned(layer(x), angle) for layer in (self.query, self.key))
        return self.out(torch.softmax(query @ key.transpose(1, 2) / query.shape[-1] ** 0.5, -1) @ x)

    @staticmethod
    def _turned(x, angle):
        a, b = x.chunk(2, -1)
        return torch.cat([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], -1)


def test_a_product_in_the_code_of_the_model_itself_finds_its_place_through_rotations():
    p = tpt.derive(Turned, inputs=torch.randn(2, 3, 8), optimizer="adamw")
    (product,) = p.changes.multipliers
    assert OutputHook("query") in product.places


class Packed(nn.Module):
    """Attention as in timm: query, key and value are one matrix, seen as (3, heads, dim), and no number is held."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.embed, self.qkv, self.out = nn.Linear(8, 4 * n), nn.Linear(4 * n, 12 * n), nn.Linear(4 * n, 3)

    def forward(self, x: Any) -> Any:
        x = self.embed(x)
        q, k, v = self.qkv(x).reshape(*x.shape[:2], 3, 2, -1).permute(2, 0, 3, 1, 4).unbind(0)
        x = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape)
        return self.out(x)


def test_the_factor_of_scores_goes_to_the_channels_of_the_query() -> None:
    p = tpt.derive(Packed, inputs=torch.randn(3, TIME, 8), optimizer="adamw")
    (place, *_) = places(p, "")
    assert isinstance(place, OutputHook) and (place.module, str(place.start), str(place.stop)) == ("qkv", "0", "4 n")
    model, x = Packed(16), torch.randn(2, TIME, 8)
    p.apply(model, base=4)
    applied = model(x)
    p.fold(model)
    torch.testing.assert_close(model(x), applied)


class Inline(nn.Module):
    """A language model whose readout is its embedding, in its own code, and which returns its loss."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.embed, self.mid, self.norm = nn.Embedding(VOCAB, n), nn.Linear(n, n), nn.LayerNorm(n)
        self.bias = nn.Parameter(torch.zeros(VOCAB))

    def forward(self, tokens: Any) -> Any:
        x = self.embed(tokens)
        x = self.norm(x + self.mid(torch.relu(x)))
        logits = nn.functional.linear(x[:, :-1], self.embed.weight, self.bias)
        return nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


def inline() -> Any:
    tokens = torch.randint(VOCAB, (3, TIME), generator=torch.Generator().manual_seed(0))
    return tpt.derive(Inline, tokens, "adamw")


def test_the_factor_of_a_tied_readout_in_the_code_goes_to_what_it_reads() -> None:
    """All of it: of the positions that are cut off, not of channels of the same numbers. Without a hook on the output,
    which is the loss."""
    p = inline()
    assert places(p, "") == (OutputHook("norm"),)
    tokens = torch.randint(VOCAB, (3, TIME), generator=torch.Generator().manual_seed(0))
    model, base = Inline(32), Inline(4)
    before = base(tokens)
    p.apply(base, base=4)
    assert torch.equal(base(tokens), before) and not base.norm._forward_hooks
    p.apply(model, base=4)
    applied = model(tokens)
    p.fold(model)
    torch.testing.assert_close(model(tokens), applied)
    assert not model.norm._forward_hooks


@pytest.mark.slow
def test_a_tied_readout_in_the_code_behaves_as_derived() -> None:
    report = inline().check((32, 64, 128, 256), seeds=3, steps=2)
    assert report.verdict == "agrees", str(report)


class Transposed(nn.Module):
    """An autoencoder whose decoder is the encoder's matrix, in its own code."""

    def __init__(self, n: int, function: Any, hidden: bool) -> None:
        super().__init__()
        self.function, self.encoder, self.bias = function, nn.Linear(20, n), nn.Parameter(torch.zeros(20))
        self.mid = nn.Linear(n, n) if hidden else nn.Identity()

    def forward(self, x: Any) -> Any:
        return nn.functional.linear(self.function(self.mid(self.encoder(x))), self.encoder.weight.t(), self.bias)


def transposed(function: Any, hidden: bool) -> Any:
    x = torch.randn(6, 20, generator=torch.Generator().manual_seed(0))
    return x, tpt.derive(lambda n: Transposed(n, function, hidden), x, "adamw")


@pytest.mark.slow
def test_behind_a_function_that_passes_factors_on_a_hook_before_it_is_the_multiplier() -> None:
    """relu(k x) is k relu(x), and tanh(k x) is not k tanh(x)."""
    x, p = transposed(torch.relu, True)
    assert places(p, "") == (OutputHook("mid"),)
    assert not any(m.places for m in transposed(torch.tanh, True)[1].changes.multipliers)
    model = Transposed(32, torch.relu, True)
    p.apply(model, base=4)
    applied = model(x)
    p.fold(model)
    torch.testing.assert_close(model(x), applied)


def test_a_factor_is_not_folded_into_a_weight_that_is_read_elsewhere() -> None:
    x, p = transposed(torch.relu, False)
    model = Transposed(32, torch.relu, False)
    p.apply(model, base=4)
    assert model.encoder._forward_hooks and torch.isfinite(model(x)).all()
    with pytest.raises(TensorProgError, match="cannot be folded"):
        p.fold(model)
    assert model.encoder._forward_hooks


@pytest.mark.slow
@pytest.mark.parametrize("hidden", [False, True])
def test_what_stands_between_a_hook_and_its_use_is_left_out_of_the_check(hidden: bool) -> None:
    report = transposed(torch.relu, hidden)[1].check((32, 64, 128, 256), seeds=3, steps=2)
    assert report.verdict != "disagrees", str(report)
    assert [name.partition(" #")[0] for name in report.left_out] == ["(top): relu"]


class Standardised(nn.Linear):
    """A weight over its own spread, as in BiT."""

    def forward(self, x: Any) -> Any:
        w = self.weight - self.weight.mean(1, keepdim=True)
        return nn.functional.linear(x, w * (w.square().mean(1, keepdim=True) + 1e-6).rsqrt())


class Cancelled(nn.Module):
    """Two such layers: behind the first a norm takes its multiplier away, behind the second a residual sum does not."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.inp, self.out, self.norm = nn.Linear(6, n), nn.Linear(n, 3), nn.LayerNorm(n)
        self.mix1, self.mix2 = Standardised(n, n, bias=False), Standardised(n, n, bias=False)

    def forward(self, x: Any) -> Any:
        x = self.inp(x)
        return self.out(x + self.mix2(torch.relu(self.norm(self.mix1(x)))))


@pytest.mark.slow
def test_a_layer_finds_a_place_though_none_of_its_like_does() -> None:
    p = tpt.derive(lambda n: Cancelled(8 * n), torch.randn(4, 6))
    found = {m.module: (str(m.needed), bool(m.places)) for m in p.changes.multipliers if m.kind == "product"}
    assert found == {"mix1": ("1", False), "mix2": ("n^-1/2", True)}


class Normed(nn.GroupNorm):
    def __init__(self, n: int) -> None:
        super().__init__(2, n)
        self.act = nn.ReLU()

    def forward(self, x: Any) -> Any:
        return self.act(super().forward(x))


class Preactivated(nn.Module):
    """The first norm is read twice, the third once: `conv1` and `conv3` have other places."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.norm1, self.norm3 = Normed(n), Normed(n)
        self.conv1, self.conv3, self.down = (Standardised(n, n, bias=False) for _ in range(3))

    def forward(self, x: Any) -> Any:
        h = self.norm1(x)
        return self.down(h) + self.conv3(self.norm3(self.conv1(h)))


@pytest.mark.slow
def test_a_place_is_not_taken_over_from_a_layer_whose_input_is_read_by_others_too() -> None:
    def build(n: int) -> Any:
        return nn.Sequential(nn.Linear(8, 4 * n), Preactivated(4 * n), Preactivated(4 * n), nn.Linear(4 * n, 3))

    p = tpt.derive(build, torch.randn(6, 8), "adam")
    trial = Trial(p.reading)
    tried = [trial.works([m.name], place) for m in p.changes.multipliers for place in m.places]
    assert len(tried) > 4 and all(tried)
