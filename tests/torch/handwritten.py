"""Small models written by hand, each `build(n)` with its inputs: what the quick tests read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

BATCH, TIME, VOCAB = 3, 6, 23


@dataclass(frozen=True)
class Case:
    """`build(n)`, and the inputs of its module."""

    build: Callable[..., Any]
    inputs: Any
    float_inputs: bool = False


def tokens(*shape: int, below: int = VOCAB) -> torch.Tensor:
    return torch.randint(0, below, shape, generator=torch.Generator().manual_seed(5))


def reals(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(6), dtype=torch.float64)


class MLP(nn.Module):
    def __init__(self, n: int) -> None:
        super().__init__()
        self.l1, self.l2, self.l3 = nn.Linear(64, n), nn.Linear(n, n), nn.Linear(n, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.l3(F.relu(self.l2(F.relu(self.l1(x)))))


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.c_attn, self.c_proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, t, c = x.shape
        q, k, v = self.c_attn(x).split(c, dim=2)
        q, k, v = (y.view(b, t, self.heads, c // self.heads).transpose(1, 2) for y in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.c_proj(y.transpose(1, 2).contiguous().view(b, t, c))


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class NanoGPT(nn.Module):
    """Fused query, key and value; head and embedding tied or not; heads or their size grow."""

    def __init__(self, width: int, heads: int, layers: int = 2, tied: bool = True) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(VOCAB, width), nn.Embedding(16, width)
        self.h = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.ln_f = nn.LayerNorm(width)
        self.lm_head = nn.Linear(width, VOCAB, bias=False)
        if tied:
            self.lm_head.weight = self.wte.weight

    def forward(self, idx: torch.Tensor) -> torch.Tensor:
        x = self.wte(idx) + self.wpe(torch.arange(idx.shape[1]))
        for block in self.h:
            x = block(x)
        return self.lm_head(self.ln_f(x))


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.Module], n: int) -> None:
        super().__init__()
        self.rnn, self.head = kind(8, n, batch_first=True), nn.Linear(n, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.rnn(x)[0][:, -1])


class UNet(nn.Module):
    def __init__(self, n: int) -> None:
        super().__init__()
        self.stem, self.down = nn.Conv2d(3, n, 3, padding=1), nn.Conv2d(n, 2 * n, 3, stride=2, padding=1)
        self.norm1, self.norm2 = nn.GroupNorm(1, n), nn.GroupNorm(1, 2 * n)
        self.up = nn.ConvTranspose2d(2 * n, n, 2, stride=2)
        self.join, self.head = nn.Conv2d(2 * n, n, 3, padding=1), nn.Conv2d(n, 5, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = F.silu(self.norm1(self.stem(x)))
        b = F.silu(self.norm2(self.down(a)))
        return self.head(F.silu(self.join(torch.cat([a, self.up(b)], dim=1))))


class LoRA(nn.Module):
    def __init__(self, n: int, rank: int = 4) -> None:
        super().__init__()
        self.inp, self.frozen, self.out = nn.Linear(8, n), nn.Linear(n, n, bias=False), nn.Linear(n, 5)
        self.frozen.weight.requires_grad_(False)
        self.A, self.B = nn.Parameter(torch.randn(rank, n) * n**-0.5), nn.Parameter(torch.zeros(n, rank))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.inp(x))
        return self.out(F.relu(self.frozen(x) + 2.0 * (x @ self.A.T @ self.B.T)))


class WeightNorm(nn.Module):
    def __init__(self, n: int) -> None:
        super().__init__()
        self.a = nn.utils.parametrizations.weight_norm(nn.Linear(8, n))
        self.b = nn.utils.parametrizations.weight_norm(nn.Linear(n, n))
        self.c = nn.Linear(n, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.c(torch.tanh(self.b(torch.tanh(self.a(x)))))


class Residual(nn.Module):
    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(before, after, 3, stride, 1, bias=False),
                                  nn.Conv2d(after, after, 3, 1, 1, bias=False))  # fmt: skip
        self.bn1, self.bn2 = nn.BatchNorm2d(after), nn.BatchNorm2d(after)
        self.down = None
        if before != after:
            self.down = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (x if self.down is None else self.down(x)))


class ResNet(nn.Module):
    def __init__(self, n: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, n, 3, 1, 1, bias=False), nn.BatchNorm2d(n), nn.ReLU())
        self.blocks = nn.Sequential(Residual(n, n, 1), Residual(n, 2 * n, 2), Residual(2 * n, 4 * n, 2))
        self.fc = nn.Linear(4 * n, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(F.adaptive_avg_pool2d(self.blocks(self.stem(x)), 1).flatten(1))


class RMSNormByHand(nn.Module):
    def __init__(self, n: int) -> None:
        super().__init__()
        self.inp, self.gain, self.out = nn.Linear(8, n), nn.Parameter(torch.ones(n)), nn.Linear(n, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.silu(self.inp(x))
        x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.gain
        return self.out(x)


class Encoder(nn.Module):
    def __init__(self, n: int) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8 * n, 2, 16 * n, batch_first=True)
        self.inp, self.out = nn.Linear(8, 8 * n), nn.Linear(8 * n, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.layer(self.inp(x)))


class WritesInPlace(nn.Module):
    """A state kept in one tensor, step by step, and a token that replaces the first position."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.inp, self.mix, self.out = nn.Linear(8, n), nn.Linear(n, n), nn.Linear(n, 5)
        self.token = nn.Parameter(torch.randn(n))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.inp(x)
        h[:, 0] = self.token
        states = torch.zeros(x.shape[0], x.shape[1] + 1, h.shape[2], dtype=x.dtype)
        for t in range(x.shape[1]):
            states[:, t + 1] = torch.tanh(h[:, t] + self.mix(states[:, t]))
        h = F.relu(h, inplace=True)
        return self.out(states[:, 1:] + h)


CASES: dict[str, Case] = {
    "writes_in_place": Case(WritesInPlace, reals(BATCH, TIME, 8), True),
    "mlp": Case(MLP, reals(4, 64), True),
    "nanogpt_heads": Case(lambda n: NanoGPT(4 * n, n), tokens(BATCH, TIME)),
    "nanogpt_head_dim": Case(lambda n: NanoGPT(4 * n, 2, tied=False), tokens(BATCH, TIME)),
    "lstm": Case(lambda n: Recurrent(nn.LSTM, n), reals(BATCH, TIME, 8), True),
    "gru": Case(lambda n: Recurrent(nn.GRU, n), reals(BATCH, TIME, 8), True),
    "rnn": Case(lambda n: Recurrent(nn.RNN, n), reals(BATCH, TIME, 8), True),
    "encoder_layer": Case(Encoder, reals(BATCH, TIME, 8), True),
    "unet": Case(UNet, reals(BATCH, 3, 8, 8), True),
    "lora": Case(LoRA, reals(BATCH, 8), True),
    "weight_norm": Case(WeightNorm, reals(BATCH, 8), True),
    "resnet": Case(ResNet, reals(BATCH, 3, 8, 8), True),
    "rmsnorm": Case(RMSNormByHand, reals(BATCH, 8), True),
}
