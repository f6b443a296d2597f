"""Multipliers of products that are divided: most are not needed, and one that is stands where it can be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402, N812

import tensorprog.torch as tpt  # noqa: E402
from tensorprog.torch.changes import UNIT, InputHook  # noqa: E402
from tests.shared import tiers  # noqa: E402
from tests.torch.support import read64, worst_difference  # noqa: E402

pytestmark = pytest.mark.torch
GENERATOR = torch.Generator().manual_seed(3)
SEQUENCE, ROWS = torch.randn(6, 7, 12, generator=GENERATOR), torch.randn(6, 12, generator=GENERATOR)


class Attention(nn.Module):
    """Positive queries and keys of a growing size."""

    def __init__(self, n: int, weights: Callable[[Any, Any], Any]) -> None:
        super().__init__()
        self.a, self.qkv, self.out, self.weights = (
            nn.Linear(12, 8 * n),
            nn.Linear(8 * n, 24 * n),
            nn.Linear(8 * n, 3),
            weights,
        )

    def forward(self, x: Any) -> Any:
        x = self.a(x)
        q, k, v = self.qkv(x).chunk(3, -1)
        return self.out(x + self.weights(F.elu(q) + 1, F.elu(k) + 1) @ v)


def masked(q: Any, k: Any) -> Any:
    scores = torch.tril(q @ k.mT)
    return scores / (scores.sum(-1, keepdim=True) + 1e-6)


WEIGHTS = {
    "a sum of keys": lambda q, k: torch.tril(q @ k.mT) / ((q * k.cumsum(1)).sum(-1, keepdim=True) + 1e-6),
    "their own sum": masked,
    "norms": lambda q, k: (q @ k.mT) / (q.norm(dim=-1, keepdim=True) * k.norm(dim=-1)[:, None]),
}  # fmt: skip


@pytest.mark.parametrize("name", tiers(WEIGHTS, ["norms"]))
def test_scores_that_are_divided_need_no_multiplier(name: str) -> None:
    build = lambda n: Attention(n, WEIGHTS[name])  # noqa: E731
    p = tpt.derive(build, SEQUENCE, "adam")
    assert all(m.factor == UNIT for m in p.changes.multipliers)
    assert {str(p.params[w].lr) for w in ("qkv.weight", "out.weight")} == {"n^-1"}
    assert worst_difference(read64(build, SEQUENCE.double())) < 1e-6


class Head(nn.Module):
    """A normalised projection to a fixed size, without a bias: it vanishes at the start, and what normalises it sees
    what it has become."""

    def __init__(self, n: int, normal: Callable[[Any], Any]) -> None:
        super().__init__()
        self.a, self.b, self.out = nn.Linear(12, 8 * n), nn.Linear(8 * n, 8 * n), nn.Linear(8 * n, 16, bias=False)
        self.normal = normal

    def forward(self, x: Any) -> Any:
        return self.normal(self.out(torch.relu(self.b(torch.relu(self.a(x))))))


@pytest.mark.slow
def test_a_projection_that_is_normalised_to_length_one_is_one_that_a_layer_norm_reads() -> None:
    lengths, norms = (tpt.derive(lambda n, f=f: Head(n, f), ROWS, "adam").params for f in (
        lambda y: F.normalize(y, dim=-1), lambda y: F.layer_norm(y, (16,))))  # fmt: skip
    assert lengths == norms and str(lengths["out.weight"].lr) == "n^-1"


class Interactions(nn.Module):
    """Products of embeddings, beside these themselves (DLRM)."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.e, self.low, self.top = nn.Embedding(11, 8 * n), nn.Linear(12, 8 * n), nn.Linear(8 * n + 3, 1)

    def forward(self, x: Any, tokens: Any) -> Any:
        z = torch.cat([self.low(x)[:, None], self.e(tokens)], 1)
        i, j = torch.tril_indices(3, 3, -1)
        return self.top(torch.cat([z[:, 0], (z @ z.mT)[:, i, j]], 1))


@pytest.mark.slow
def test_the_products_of_embeddings_are_scaled_where_a_layer_reads_them() -> None:
    tokens = torch.randint(0, 11, (6, 2), generator=GENERATOR)
    (found,) = [m for m in tpt.derive(Interactions, (ROWS, tokens)).changes.multipliers if m.kind == "product"]
    assert str(found.factor) == "n^-1"
    place = found.places[0]
    assert isinstance(place, InputHook) and (place.module, place.axis, str(place.start)) == ("top", -1, "8 n")


class Normalised(nn.Module):
    """Classes by products with vectors of length one."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.a, self.w = nn.Linear(12, 8 * n), nn.Parameter(torch.randn(5, 8 * n))

    def forward(self, x: Any) -> Any:
        return F.linear(torch.relu(self.a(x)), F.normalize(self.w, dim=-1))


def test_a_weight_that_is_normalised_has_a_multiplier_instead_of_a_start() -> None:
    changes = tpt.derive(Normalised, ROWS).changes
    (found,) = changes.multipliers
    assert (str(found.now), str(found.needed)) == ("n^-1/2", "n^-1") and found.places
    assert str(changes.parameter("w").needed.lr) == "1"


class Unit(nn.Module):
    """A readout of states of norm 1 by rows of norm 1, times a trained gain and a number."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.a, self.head, self.gain = nn.Linear(12, 8 * n), nn.Linear(8 * n, 3), nn.Parameter(torch.ones(3))

    def forward(self, x: Any) -> Any:
        h, rows = (z / z.norm(dim=-1, keepdim=True) for z in (self.a(x), self.head.weight))
        return F.linear(h, rows) * self.gain * h.shape[-1] ** 0.5


def test_a_number_behind_a_gain_of_normalised_products_is_counted_in() -> None:
    p = tpt.derive(Unit, ROWS, "adam")
    (product,) = p.changes.multipliers
    assert (str(product.now), str(product.needed)) == ("n^-1/2", "n^-1")  # the norms are n^1/2 each
    assert worst_difference(read64(Unit, ROWS.double())) < 1e-12
