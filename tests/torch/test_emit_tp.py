"""The text written from a module: it computes the same, derives to the same, and is short where the module repeats."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402, N812

import tensorprog as tp  # noqa: E402
import tensorprog.torch as tpt  # noqa: E402
from tensorprog.errors import TensorProgError  # noqa: E402
from tensorprog.exponents import Power  # noqa: E402
from tensorprog.printer import format_source  # noqa: E402
from tensorprog.torch.model import derive_reading  # noqa: E402
from tests.shared import tiers  # noqa: E402
from tests.torch.handwritten import CASES, NanoGPT, reals, tokens  # noqa: E402
from tests.torch.support import read64, reading_of, text_difference  # noqa: E402

pytestmark = pytest.mark.torch
QUICK = ("mlp",)


@pytest.mark.parametrize("name", tiers(CASES, QUICK))
def test_the_text_computes_what_the_graph_computes_and_derives_to_the_same(name: str) -> None:
    reading = reading_of(name)
    assert text_difference(reading) < 1e-12
    text = derive_reading(reading, "adamw").to_tp()
    assert format_source(text) == text


class Widths(nn.Module):
    """A gated block between embeddings, of two widths."""

    def __init__(self, hidden: int, ffn: int) -> None:
        super().__init__()
        self.enter, self.norm = nn.Embedding(7, 4 * hidden), nn.RMSNorm(4 * hidden)
        self.up, self.gate = (nn.Linear(4 * hidden, 4 * ffn, bias=False) for _ in range(2))
        self.down = nn.Linear(4 * ffn, 4 * hidden, bias=False)
        self.leave = nn.Linear(4 * hidden, 7, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.enter(x)
        h = self.norm(x)
        return self.leave(x + self.down(F.silu(self.up(h)) * self.gate(h)))


def test_of_several_widths_the_model_has_the_exponents_of_its_text() -> None:
    p = tpt.derive(Widths, torch.arange(6).reshape(2, 3), "adamw")
    text = tp.derive(tp.parse(p.to_tp()), "adamw", "table3")
    written = {short.replace("_", "."): one for short, one in text.params.items()}
    for name, one in p.params.items():
        if name in written:
            assert one == written[name], name
    eps = [str(p.params[f"{name}.weight"].eps) for name in ("enter", "up", "down")]
    assert eps == ["hidden^-1", "ffn^-1", "hidden^-1"]
    assert str(p.params["down.weight"].weight_decay) == "ffn"


@pytest.mark.parametrize("quantity", ["init_std", "lr", "weight_decay", "eps"])
def test_a_text_that_derives_to_another_exponent_is_told(quantity: str) -> None:
    p = tpt.derive(Widths, torch.arange(6).reshape(2, 3), "adamw")
    other = {"down.weight": replace(p.params["down.weight"], **{quantity: Power.of({"hidden": 3})})}
    wrong = replace(p.derivation, parametrization=replace(p.derivation.parametrization, params={**p.params, **other}))
    with pytest.raises(TensorProgError, match=r"would derive to other exponents: `down\.weight`"):
        replace(p, derivation=wrong).to_tp()


@pytest.mark.slow
def test_a_text_that_computes_something_else_is_told_from_the_graph() -> None:
    reading = reading_of("nanogpt_heads")
    assert text_difference(reading, lambda text: text.replace("= gelu(", "= relu(")) > 1e-3
    assert text_difference(reading, lambda text: text.replace("s <= t", "s < t")) > 1e-3


def text_of(build: Callable[[int], Any], inputs: Any) -> str:
    return tpt.derive(build, inputs, "adam").to_tp()


@pytest.mark.slow
def test_identical_layers_are_one_block_whatever_their_number() -> None:
    texts = {k: text_of(lambda n, k=k: NanoGPT(4 * n, n, layers=k), tokens(3, 6)) for k in (2, 5)}  # type: ignore[misc]
    assert texts[2].replace("repeat 2", "repeat 5") == texts[5]
    assert "# h.*\nblock Block(" in texts[5]
    assert "  h = Block(h)\n" in texts[5]


@pytest.mark.slow
def test_a_layer_that_differs_is_no_part_of_the_repeat() -> None:
    def build(n: int) -> nn.Module:
        model = NanoGPT(4 * n, n, layers=4)
        model.h[1].mlp[1] = nn.ReLU()
        return model

    text = text_of(build, tokens(3, 6))
    assert "repeat 2" in text and "repeat 4" not in text
    assert len(re.findall(r"^block Block", text, re.M)) == 1


@pytest.mark.slow
def test_the_number_of_layers_can_become_a_symbol() -> None:
    text = text_of(lambda n: NanoGPT(4 * n, n), tokens(3, 6))
    deep = text.replace("width n\n", "width n\ndepth L\n").replace("repeat 2", "repeat L")
    deep = re.sub(r"\+ (Attention|Sequential)\(", r"+ ?branch * \1(", deep)
    unknowns = tp.derive(tp.parse(deep), "adam").parametrization.unknowns
    (branch,) = [power for name, power in unknowns.items() if name.endswith("branch")]
    assert str(branch) == "L^-1"


class Attention(nn.Module):
    """Causal attention, with a scale of its own."""

    def __init__(self, n: int, scale: float | None = None) -> None:
        super().__init__()
        self.n, self.scale = n, scale
        self.q, self.k, self.v, self.o = (nn.Linear(8 * n, 8 * n, bias=False) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (f(x).unflatten(-1, (self.n, 8)).transpose(1, 2) for f in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=self.scale)
        return self.o(y.transpose(1, 2).flatten(2))


class OneBlock(nn.Module):
    def __init__(self, n: int, inner: nn.Module) -> None:
        super().__init__()
        self.first, self.inner, self.last = nn.Linear(5, 8 * n), inner, nn.Linear(8 * n, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.inner(self.first(x)))


def zero_bias(layer: nn.Linear) -> nn.Linear:
    nn.init.zeros_(layer.bias)
    return layer


@pytest.mark.parametrize(("inner", "call"), [
    pytest.param(Attention, "attention(first, heads = n, head_dim = 8, scale = 8^(-1/2), causal, bias = false)",
                 marks=pytest.mark.slow),
    (lambda n: nn.LayerNorm(8 * n), "layernorm(first)"),
    pytest.param(lambda n: nn.LayerNorm(8 * n, elementwise_affine=False), "layernorm(first, affine = false)",
                 marks=pytest.mark.slow),
    pytest.param(lambda n: nn.RMSNorm(8 * n, eps=1e-5), "rmsnorm(first)", marks=pytest.mark.slow),
    pytest.param(lambda n: zero_bias(nn.Linear(8 * n, 8 * n)), "linear(first, 8 n)", marks=pytest.mark.slow),
    pytest.param(
        lambda n: nn.Sequential(zero_bias(nn.Linear(8 * n, 24 * n)), nn.GELU(), zero_bias(nn.Linear(24 * n, 8 * n))),
        "mlp(first, 24 n)", marks=pytest.mark.slow),
    pytest.param(lambda n: nn.GELU(approximate="tanh"), "gelu_tanh(first)", marks=pytest.mark.slow),
])  # fmt: skip
def test_a_block_of_the_language_is_used_where_the_module_is_exactly_it(inner: Any, call: str) -> None:
    reading = read64(lambda n: OneBlock(n, inner(n)), reals(3, 6, 5))
    text = derive_reading(reading, "adam").to_tp()
    assert text.count("(first") == text.count(f" = {call}\n") == 1
    assert text_difference(reading) < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize(("inner", "block"), [
    pytest.param(lambda n: Attention(n, scale=0.3), "attention", marks=pytest.mark.slow),
    pytest.param(lambda n: nn.LayerNorm(8 * n, eps=1e-3), "layernorm", marks=pytest.mark.slow),
    (lambda n: nn.Linear(8 * n, 8 * n), "linear"),  # its bias starts at random
])  # fmt: skip
def test_what_differs_from_a_block_of_the_language_is_written_out(inner: Any, block: str) -> None:
    reading = read64(lambda n: OneBlock(n, inner(n)), reals(3, 6, 5))
    assert f"{block}(first)" not in (text := derive_reading(reading, "adam").to_tp())
    assert f"{block}(first, 8 n)" not in text and "heads =" not in text
    assert text_difference(reading) < 1e-12


@pytest.mark.slow
def test_parameters_that_two_layers_share_are_passed_to_the_block() -> None:
    class Shared(nn.Module):
        def __init__(self, n: int) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(5, n), nn.Linear(n, 3)
            self.layer = nn.Sequential(nn.Linear(n, n), nn.ReLU(), nn.Linear(n, n))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.first(x)
            for _ in range(3):
                x = x + self.layer(x)
            return self.last(x)

    reading = read64(Shared, reals(4, 5))
    text = derive_reading(reading, "adam").to_tp()
    assert len(re.findall(r"\blayer_0_weight\[", text.split("block")[0] + text.split("}")[-1])) == 1
    assert text_difference(reading) < 1e-12


@pytest.mark.slow
def test_names_that_mean_something_else_in_the_language_are_changed() -> None:
    def build(n: int) -> nn.Module:
        names = {"lambda": nn.Linear(5, n), "softmax": nn.ReLU(), "n": nn.Linear(n, n), "2-b": nn.ReLU(),
                 "linear": nn.Linear(n, n), "é" * 70: nn.ReLU(), "torch": nn.Linear(n, 3)}  # fmt: skip
        model = nn.Sequential()
        for name, module in names.items():
            model.add_module(name, module)
        return model

    reading = read64(build, reals(4, 5))
    assert text_difference(reading) < 1e-12
    assert derive_reading(reading, "adam").to_tp().isascii()


class SoftExperts(nn.Module):
    """Experts weighted by a softmax that is a line of its own, a logarithm and a root."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.first, self.router, self.last = nn.Linear(5, n), nn.Parameter(torch.randn(n, 4)), nn.Linear(n, 3)
        self.experts = nn.Parameter(torch.randn(4, n, n) * n**-0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.first(x)
        y = torch.einsum("ebd,be->bd", torch.einsum("bd,edf->ebf", h, self.experts), torch.softmax(h @ self.router, -1))
        return self.last(torch.sqrt(1 + torch.log(2 + torch.sigmoid(h + y))))


class Transposed(nn.Module):
    """A bare weight that is read by its rows, and by its columns."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(n, 5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(F.linear(x, self.w)) @ self.w


class SharedKey(nn.Module):
    """Heads that grow, with one key and value for all, from one projection, as in Falcon."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n, self.enter, self.out = n, nn.Embedding(7, 4 * n), nn.Linear(4 * n, 7)
        self.qkv, self.proj = nn.Linear(4 * n, 4 * n + 8), nn.Linear(4 * n, 4 * n)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.enter(x)
        y = self.qkv(x).view(*x.shape[:2], self.n + 2, 4)
        q, k, v = (part.transpose(1, 2) for part in (y[..., :-2, :], y[..., [-2], :], y[..., [-1], :]))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(x + self.proj(y.transpose(1, 2).reshape(x.shape)))


@pytest.mark.slow
@pytest.mark.parametrize("build", [SoftExperts, Transposed, SharedKey])
def test_bare_weights_are_written_as_they_are_used(build: Any) -> None:
    reading = read64(build, tokens(4, 5, below=7) if build is SharedKey else reals(4, 5))
    assert text_difference(reading) < 1e-12
    derive_reading(reading, "adam").to_tp()


def test_a_weight_used_through_its_transpose_has_a_multiplier_for_each_use() -> None:
    p = tpt.derive(Transposed, torch.randn(4, 5), "adam")
    assert [str(p.changes.multipliers[k].needed) for k in range(2)] == ["1", "n^-1"]
