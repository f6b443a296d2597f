"""Small models as their users would write them: `build(n)` gives (module, inputs, loss)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

VOCAB, BATCH, TIME = 31, 4, 7


class MLP(nn.Module):
    def __init__(self, n: int) -> None:
        super().__init__()
        self.first, self.hidden, self.readout = nn.Linear(16, n), nn.Linear(n, n), nn.Linear(n, 10)
        for layer in (self.first, self.hidden, self.readout):
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Any) -> Any:
        return self.readout(torch.relu(self.hidden(torch.relu(self.first(x)))))


def mlp(n: int) -> tuple[nn.Module, Any, Callable[[Any], Any]]:
    classes = torch.randint(10, (BATCH,))
    return MLP(n), torch.randn(BATCH, 16), lambda out: functional.cross_entropy(out, classes)


class Attention(nn.Module):
    """Causal self-attention without an attribute that holds its scale; one projection or three."""

    def __init__(self, n: int, heads: int, fused: bool) -> None:
        super().__init__()
        self.heads, self.fused = heads, fused
        if fused:
            self.c_attn = nn.Linear(n, 3 * n)
        else:
            self.q, self.k, self.v = (nn.Linear(n, n) for _ in range(3))
        self.c_proj = nn.Linear(n, n)

    def forward(self, x: Any) -> Any:
        b, t, n = x.shape
        parts = self.c_attn(x).split(n, dim=2) if self.fused else (self.q(x), self.k(x), self.v(x))
        q, k, v = (y.view(b, t, self.heads, n // self.heads).transpose(1, 2) for y in parts)
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.c_proj(y.transpose(1, 2).reshape(b, t, n))


class Block(nn.Module):
    def __init__(self, n: int, heads: int, fused: bool) -> None:
        super().__init__()
        self.ln_1, self.attn, self.ln_2 = nn.LayerNorm(n), Attention(n, heads, fused), nn.LayerNorm(n)
        self.up, self.down = nn.Linear(n, 4 * n), nn.Linear(4 * n, n)

    def forward(self, x: Any) -> Any:
        x = x + self.attn(self.ln_1(x))
        return x + self.down(functional.gelu(self.up(self.ln_2(x))))


class NanoGPT(nn.Module):
    """A GPT whose embedding is its readout too."""

    def __init__(
        self, n: int, heads: int = 2, layers: int = 2, tied: bool = True, std: float | None = None, fused: bool = True,
        vocab: int = VOCAB, time: int = TIME,
    ) -> None:  # fmt: skip
        """`std`: of all weights alike, as in GPT-2 (default: 1 for embeddings, fan-in to the power -1/2 for others)."""
        super().__init__()
        self.std = std
        self.wte, self.wpe = nn.Embedding(vocab, n), nn.Embedding(time, n)
        self.h = nn.ModuleList(Block(n, heads, fused) for _ in range(layers))
        self.ln_f, self.lm_head = nn.LayerNorm(n), nn.Linear(n, vocab, bias=False)
        self.apply(self._start)
        if tied:
            self.lm_head.weight = self.wte.weight

    def _start(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=self.std or math.sqrt(1 / module.in_features))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=self.std or 1.0)

    def forward(self, idx: Any) -> Any:
        x = self.wte(idx) + self.wpe(torch.arange(idx.shape[1], device=idx.device))
        for block in self.h:
            x = block(x)
        return self.lm_head(self.ln_f(x))


def nanogpt(n: int, **options: Any) -> tuple[nn.Module, Any, Callable[[Any], Any]]:
    tokens = torch.randint(VOCAB, (BATCH, TIME + 1))

    def loss(out: Any) -> Any:
        return functional.cross_entropy(out.reshape(-1, VOCAB), tokens[:, 1:].reshape(-1))

    return NanoGPT(n, **options), (tokens[:, :-1],), loss
