"""A bias in front of a norm that takes a mean: the mean takes it away, and the norm divides by what is left."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tensorprog.torch as tpt  # noqa: E402
from tensorprog.errors import CalculusError  # noqa: E402
from tensorprog.torch.lower import Lowering  # noqa: E402
from tests.shared import tiers  # noqa: E402
from tests.torch.support import read64, worst_difference  # noqa: E402

pytestmark = pytest.mark.torch
ROWS = torch.randn(8, 12, generator=torch.Generator().manual_seed(3))


def by_hand(z: Any) -> Any:
    """As in VICReg."""
    z = z - z.mean(0)
    return z / torch.sqrt(z.var(0, unbiased=False) + 1e-5)


NORMS: dict[str, Callable[[], Callable[[Any], Any]]] = {
    "batch": lambda: nn.BatchNorm1d(4, affine=False),
    "by hand": lambda: by_hand,
}


class Projector(nn.Module):
    """A projection of n features to 4, which a norm reads; as in SimCLR, BYOL and Barlow Twins."""

    def __init__(self, n: int, norm: Callable[[], Callable[[Any], Any]], bias: bool = True) -> None:
        super().__init__()
        self.a, self.p, self.o = nn.Linear(12, 8 * n), nn.Linear(8 * n, 4, bias=bias), nn.Linear(4, 3)
        self.norm = norm()

    def forward(self, x: Any) -> Any:
        return self.o(torch.relu(self.norm(self.p(torch.relu(self.a(x))))))


@pytest.mark.parametrize("name", tiers(NORMS, ["by hand"]))
def test_a_bias_that_a_mean_takes_away_counts_for_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with_bias = lambda n: Projector(n, NORMS[name])  # noqa: E731
    p, q = (tpt.derive(b, ROWS, "sgd") for b in (with_bias, lambda n: Projector(n, NORMS[name], bias=False)))
    assert {k: v for k, v in p.params.items() if k != "p.bias"} == dict(q.params)
    assert str(p.params["p.weight"].lr) == "n^-3/2"  # the norm divides by n^-1/2
    reasons = {c.name: c.reasons for c in p.changes.parameters}
    assert reasons["p.bias"]["lr"] == "no gradient reaches it"
    assert worst_difference(read64(with_bias, ROWS.double())) < 1e-12
    assert "p_bias" not in p.to_tp()
    monkeypatch.setattr(Lowering, "_without_what_means_take", lambda _, values: values)
    with pytest.raises(CalculusError, match="invrms"):  # sizes alone do not see that it cancels
        tpt.derive(with_bias, ROWS, "sgd")


class Square(nn.Module):
    """A matrix z of n x n features, with a bias along its rows."""

    def __init__(self, n: int, take: Callable[[Any], Any]) -> None:
        super().__init__()
        self.a, self.gain, self.bias = nn.Linear(12, n), nn.Parameter(torch.randn(n)), nn.Parameter(torch.randn(n))
        self.take = take

    def forward(self, x: Any) -> Any:
        z = torch.relu(self.a(x))[:, :, None] * self.gain + self.bias
        return torch.tanh(self.take(z)).mean((1, 2))


@pytest.mark.parametrize(("take", "taken"), [
    (lambda z: z - z.mean(1, keepdim=True), True), (lambda z: z.mT - z.mean(1)[:, :, None], True),
    (lambda z: z.mT - z.mean(1, keepdim=True), False), (lambda z: z - z.mean(1)[:, :, None], False),
    (lambda z: z.mT + (z - z.mean(1, keepdim=True)), False),
])  # fmt: skip
def test_a_mean_takes_a_bias_away_only_where_it_is_spread_over_what_it_was_taken_from(take: Any, taken: bool) -> None:
    build = lambda n: Square(n, take)  # noqa: E731
    assert worst_difference(read64(build, ROWS.double())) < 1e-12
    found = tpt.derive(build, ROWS, "sgd").changes
    reasons = {c.name: c.reasons for c in found.parameters}
    assert (reasons["bias"]["lr"] == "no gradient reaches it") == taken


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_projector_behaves_as_derived(optimizer: str) -> None:
    p = tpt.derive(lambda n: Projector(n, NORMS["batch"]), ROWS, optimizer)
    widths = (8, 16, 32, 64)
    assert p.check(widths, seeds=4, steps=2).verdict != "disagrees"
    assert p.check(widths, seeds=4, steps=1, unmodified=True).verdict == "disagrees"
