"""Masks that are data: what they select, and what is written where they are, is what the module computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402, N812

import tensorprog.torch as tpt  # noqa: E402
from tensorprog.errors import TensorProgError  # noqa: E402
from tests.shared import n as power  # noqa: E402
from tests.shared import tiers  # noqa: E402
from tests.torch.support import worst_difference  # noqa: E402

pytestmark = pytest.mark.torch
BATCH, TIME = 4, 7


def written(h: Any, place: Any, values: Any) -> Any:
    new = torch.zeros_like(h)
    new[place] = values
    return new


class Net(nn.Module):
    def __init__(self, width: int, use: Callable[..., Any]) -> None:
        super().__init__()
        self.embed, self.hidden, self.last = nn.Embedding(11, width), nn.Linear(width, width), nn.Linear(width, 3)
        self.use = use
        self.register_buffer("odd", torch.arange(TIME) % 2 == 1)

    def forward(self, x: Any, mask: Any) -> Any:
        return self.last(self.use(self, torch.tanh(self.hidden(self.embed(x))), mask))


def f(net: Any, h: Any) -> Any:
    return torch.relu(net.hidden(h))


USES: dict[str, Callable[..., Any]] = {
    "selects tokens": lambda s, h, m: f(s, h[m]),
    "selects examples": lambda s, h, m: f(s, h[m[:, 0]]),
    "selects times by a buffer": lambda s, h, m: f(s, h[:, s.odd]),
    "with a number": lambda s, h, m: f(s, h[m[:, 0], 2]),
    "by where": lambda s, h, m: f(s, h[torch.where(m)]),
    "masked_select": lambda s, h, m: f(s, torch.masked_select(h, m[..., None]).view(-1, h.shape[-1])),
    "writes tokens": lambda s, h, m: h + written(h, m, f(s, h[m])),
    "writes a row": lambda s, h, m: h + written(h, m, s.embed.weight[3]),
    "masked_scatter": lambda s, h, m: h.masked_scatter(m[..., None], f(s, h[m])),
    "masked_scatter, expanded": lambda s, h, m: h.masked_scatter(m[..., None].expand_as(h), f(s, h)),
    "masked_scatter of a parameter": lambda s, h, m: h.masked_scatter(m[..., None], s.embed.weight[3].expand_as(h)),
    "masked_scatter of a token": lambda s, h, m: h.masked_scatter(m[..., None], s.hidden.bias.expand_as(h)),
}


def inputs() -> dict[str, Any]:
    g = torch.Generator().manual_seed(0)
    mask = torch.rand(BATCH, TIME, generator=g) < 0.5
    mask[0, 0], mask[1, 0] = True, False
    return {"x": torch.randint(0, 11, (BATCH, TIME), generator=g), "mask": mask}


@pytest.mark.parametrize("use", tiers(USES, ["selects tokens", "writes tokens", "masked_scatter of a token"]))
def test_the_graph_selects_and_writes_as_the_module(use: str) -> None:
    p = tpt.derive(lambda n: Net(16 * n, USES[use]).double(), inputs(), "adamw")
    assert max(worst_difference(p.reading), worst_difference(p.reading, 1)) < 1e-9
    assert p.params["hidden.weight"].lr == p.params["last.weight"].lr == power(-1)


def test_a_shifted_mask_is_another_computation() -> None:
    """The control of the one above."""
    reading = tpt.derive(lambda n: Net(16 * n, USES["writes tokens"]).double(), inputs(), "adamw").reading
    for arrays in reading.lowered.data.values():
        arrays[0][...] = arrays[0][::-1].copy()
    assert worst_difference(reading) > 1e-3


REFUSED = {
    "selects nothing": (lambda s, h, m: f(s, h[m & ~m]), "its mask selects nothing in these inputs"),
    "by activations": (lambda s, h, m: f(s, h[h[..., 0] > 0]), "sizes"),
    "positions that grow": (lambda s, h, m: h[..., torch.arange(h.shape[-1]).flip(0)], "along an axis that grows"),
}


@pytest.mark.parametrize("use", REFUSED)
def test_what_has_no_fixed_size_is_refused_by_name(use: str) -> None:
    with pytest.raises(TensorProgError, match=REFUSED[use][1]):
        tpt.derive(lambda n: Net(16 * n, REFUSED[use][0]), inputs(), "adamw")


class Masked(Net):
    """The loss of masked tokens alone."""

    def forward(self, x: Any, mask: Any) -> Any:
        h = torch.tanh(self.hidden(self.embed(x)))
        return F.cross_entropy(self.last(h + written(h, mask, f(self, h[mask])))[mask], x[mask] % 3)


@pytest.mark.slow
def test_every_tensor_of_a_masked_loss_behaves_as_derived_and_not_unmodified() -> None:
    p = tpt.derive(lambda n: Masked(16 * n, f), inputs(), "adamw")
    report = p.check((4, 8, 16, 32), seeds=3, steps=1)
    assert report.verdict != "disagrees" and sum(r.verdict == "agrees" for r in report.rows) > 15, str(report)
    assert p.check((4, 8, 16, 32), seeds=2, steps=1, unmodified=True).verdict == "disagrees"
