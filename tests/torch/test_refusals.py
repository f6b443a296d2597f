"""What is refused says where, why, and what to write instead; what it says to write is read."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tensorprog.torch as tpt  # noqa: E402
from tensorprog.errors import TensorProgError  # noqa: E402
from tests.shared import n as power  # noqa: E402

pytestmark = pytest.mark.torch


class Channels(nn.Module):
    """Attention to places, by what their channels have (CBAM), or to channels."""

    def __init__(self, n: int, by: str) -> None:
        super().__init__()
        self.first, self.gate, self.last, self.by = (
            nn.Conv2d(3, 8 * n, 3),
            nn.Conv2d(1, 1, 3, padding=1),
            nn.Linear(8 * n, 3),
            by,
        )

    def forward(self, x: Any) -> Any:
        h = torch.relu(self.first(x))
        if self.by == "softmax":
            return self.last((h * h.softmax(1)).mean((2, 3)))
        seen = h.amax(1, keepdim=True) if self.by == "max" else h.mean(1, keepdim=True)
        return self.last((h * torch.sigmoid(self.gate(seen))).mean((2, 3)))


def test_a_maximum_over_channels_is_refused_and_a_mean_is_read() -> None:
    x = torch.randn(3, 3, 6, 6)
    with pytest.raises(TensorProgError, match="does not cover `topk") as error:
        tpt.derive(lambda n: Channels(n, "max"), x, "adamw")
    assert "few of its entries decide" in error.value.why and "x.mean(dim)" in error.value.fix
    assert tpt.derive(lambda n: Channels(n, "mean"), x, "adamw").params
    with pytest.raises(TensorProgError, match="softmax along an axis that grows") as error:
        tpt.derive(lambda n: Channels(n, "softmax"), x, "adamw")
    assert "more heads" in error.value.fix


class Queries(nn.Module):
    """Learned queries that two norms read before they meet the input (BLIP-2)."""

    def __init__(self, n: int, start: float) -> None:
        super().__init__()
        self.queries = nn.Parameter(start * torch.randn(1, 4, 16 * n))
        self.norms = nn.ModuleList(nn.LayerNorm(16 * n) for _ in range(2))
        self.seen, self.of = (nn.MultiheadAttention(16 * n, 2 * n, batch_first=True) for _ in range(2))
        self.first, self.last = nn.Linear(5, 16 * n), nn.Linear(16 * n, 3)
        if not start:
            nn.init.zeros_(self.queries)

    def forward(self, x: Any) -> Any:
        h = self.norms[0](self.queries.expand(len(x), -1, -1))
        h = self.norms[1](h + self.of(h, h, h)[0])
        x = self.first(x)
        return self.last(h + self.seen(h, x, x)[0])


@pytest.mark.slow
def test_queries_that_start_at_zero_in_front_of_two_norms_are_refused_and_random_ones_read() -> None:
    x = torch.randn(3, 6, 5)
    with pytest.raises(TensorProgError, match="grows like n") as error:
        tpt.derive(lambda n: Queries(n, 0), x, "adamw")
    assert "starts at zero" in error.value.why and "a random start" in error.value.fix
    assert tpt.derive(lambda n: Queries(n, 0.02), x, "adamw").params["queries"].lr == power(0)


class Sorted(nn.Module):
    """All tokens, sorted by their experts (JetMoE)."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.first, self.router, self.last = nn.Linear(5, 8 * n), nn.Linear(8 * n, 4), nn.Linear(8 * n, 3)

    def forward(self, x: Any) -> Any:
        h = self.first(x)
        return self.last(h[self.router(h).argmax(-1).sort().indices])


def test_tokens_sorted_by_their_experts_are_refused_with_what_is_read() -> None:
    with pytest.raises(TensorProgError, match=r"`aten\.sort`") as error:
        tpt.derive(Sorted, torch.randn(80, 5), "adamw")
    assert "every expert on all tokens" in error.value.fix


class Uneven(nn.Module):
    def __init__(self, n: int) -> None:
        super().__init__()
        self.first, self.even = nn.Linear(5, 8 * n), n % 2 == 0

    def forward(self, x: Any) -> Any:
        h = self.first(x)
        return h.tanh() if self.even else h.relu()


def test_operations_that_differ_in_the_model_itself_are_named_there() -> None:
    with pytest.raises(TensorProgError, match="`relu` in the model itself at"):
        tpt.derive(Uneven, torch.randn(4, 5), "adamw", widths=(3, 4, 5, 7))
