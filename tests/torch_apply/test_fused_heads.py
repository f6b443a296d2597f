"""Queries, keys and values of one projection that lie head by head, or are the channels of a convolution."""

from __future__ import annotations

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tensorprog.torch as tpt  # noqa: E402
from tensorprog.dims import Dim  # noqa: E402
from tensorprog.torch.place_text import place_text  # noqa: E402
from tensorprog.torch.trial import Trial  # noqa: E402

pytestmark = pytest.mark.torch
HEADS = 2


class Attention(nn.Module):
    """Its scores are divided by sqrt(d); `halves` of that are what it takes."""

    def __init__(self, n, halves=2):
        super().__init__()
        self.halves = halves
        self.enter, self.qkv, self.out = self.made(5, 8 * n), self.made(8 * n, 24 * n), nn.Linear(8 * n, 3)

    def made(self, fan_in, fan_out):
        return nn.Linear(fan_in, fan_out)

    def forward(self, x):  # [example, position, channel]
        q, k, v = self.parts(x)  # [example, head, position, channel]
        a = torch.softmax(q @ k.transpose(-1, -2) * self.halves / 2 / q.shape[-1] ** 0.5, -1) @ v
        return self.out(torch.tanh(a.transpose(1, 2).flatten(2)))


class HeadByHead(Attention):
    def parts(self, x):
        y = self.qkv(self.enter(x)).unflatten(-1, (HEADS, -1))
        return y.transpose(1, 2).chunk(3, -1)


class EntryByEntry(Attention):
    def parts(self, x):
        y = self.qkv(self.enter(x)).unflatten(-1, (HEADS, -1, 3))
        return y.permute(4, 0, 2, 1, 3).unbind(0)


class Image(Attention):
    """Channels first; queries, keys and values one after another."""

    def made(self, fan_in, fan_out):
        return nn.Conv2d(fan_in, fan_out, 1)

    def parts(self, x):
        y = self.qkv(self.enter(x.transpose(1, 2).unflatten(-1, (2, 2)))).flatten(2)
        return [z.unflatten(1, (HEADS, -1)).transpose(-1, -2) for z in y.chunk(3, 1)]


class Diffusion(Attention):
    """As in guided diffusion: heads beside examples, positions of an image in one axis."""

    def made(self, fan_in, fan_out):
        return nn.Conv1d(fan_in, fan_out, 1)

    def parts(self, x):
        h = self.enter(x.transpose(1, 2)).unflatten(-1, (2, 2))
        y = self.qkv(torch.tanh(h).flatten(2)).reshape(len(x) * HEADS, -1, 4)
        return [z.unflatten(0, (len(x), HEADS)).transpose(-1, -2) for z in y.split(y.shape[1] // 3, 1)]


class Rotated(Attention):
    """Rotary positions behind the one projection: halves are turned, and put together."""

    def parts(self, x):
        q, k, v = (z.unflatten(-1, (HEADS, -1)).transpose(1, 2) for z in self.qkv(self.enter(x)).chunk(3, -1))
        return self.turned(q), self.turned(k), v

    def turned(self, z):
        angles = torch.arange(4.0)[:, None] / 3 ** torch.arange(z.shape[-1] // 2)
        a, b = z.chunk(2, -1)
        return torch.cat([a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos()], -1)


FOUND = {
    HeadByHead: "hook on the output of qkv[.., 0:4 n] in each of 2 equal parts",
    EntryByEntry: "hook on the output of qkv[.., 0:1] in each of 8 n equal parts",
    Image: "hook on the output of qkv[.., 0:8 n, :, :]",
    Diffusion: "hook on the output of qkv[.., 0:4 n, :] in each of 2 equal parts",
    Rotated: "hook on the output of qkv[.., 0:8 n]",
}


@pytest.mark.parametrize("build", FOUND)
def test_the_factor_of_scores_meets_the_queries_wherever_they_lie(build):
    p = tpt.derive(build, inputs=torch.randn(3, 4, 5), optimizer="adamw")
    [scores] = p.changes.multipliers
    [place] = scores.places
    assert place_text(place) == FOUND[build]
    trial = Trial(p.reading)
    for wrong in (replace(place, blocks=place.blocks * Dim.of(2)), replace(place, axis=-2 if place.axis == -1 else -1)):
        assert not trial.works([scores.name], wrong)

    model, x = build(8), torch.randn(3, 4, 5)
    wanted = build(8, halves=1)  # (8 / 2)^-1/2
    wanted.load_state_dict(model.state_dict())
    before = model(x)
    p.apply(model, base=2, rescale_init=False)
    torch.testing.assert_close(model(x), wanted(x))
    assert not torch.allclose(before, wanted(x), rtol=1e-3)
    p.fold(model)
    assert not any(module._forward_hooks for module in model.modules())
    torch.testing.assert_close(model(x), wanted(x))
