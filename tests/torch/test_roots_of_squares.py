"""A root of squares and a number of order 1 is no norm: where the squares vanish, the root is that of the number."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tensorprog.torch as tpt  # noqa: E402
from tests.shared import n as power  # noqa: E402
from tests.torch.support import worst_difference  # noqa: E402

pytestmark = pytest.mark.torch


class Scale(nn.Module):
    """A positive scale of a distribution, from a readout without a bias (time series models of transformers)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(5, width), nn.LayerNorm(width), nn.Linear(width, 1)
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Any) -> Any:
        y = self.last(self.norm(self.first(x)))
        scale = (y + torch.sqrt(torch.square(y) + 9.0)) / 2
        return ((x[:, :1] - y) / scale) ** 2 + scale.log()


def test_a_square_plus_of_a_readout_that_vanishes_is_read() -> None:
    x = torch.randn(4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    p = tpt.derive(lambda n: Scale(16 * n).double(), x, "adamw")
    assert worst_difference(p.reading) < 1e-9
    assert p.params["last.weight"].lr == power(-1)
    assert p.params["last.weight"].init_std == power(-1)


@pytest.mark.slow
def test_every_tensor_behaves_as_derived_and_not_unmodified() -> None:
    p = tpt.derive(lambda n: Scale(16 * n), torch.randn(4, 5, generator=torch.Generator().manual_seed(0)), "adamw")
    assert p.check((4, 8, 16, 32), seeds=3, steps=1).verdict != "disagrees"
    assert p.check((4, 8, 16, 32), seeds=2, steps=1, unmodified=True).verdict == "disagrees"
