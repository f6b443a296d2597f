"""A number in the code behind a sum of products with parameters is counted into their starts, as right behind them."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tensorprog.torch as tpt  # noqa: E402
from tests.shared import n as power  # noqa: E402
from tests.shared import tiers  # noqa: E402
from tests.torch.support import worst_difference  # noqa: E402

pytestmark = pytest.mark.torch
TIME, HALF = 7, Fraction(1, 2)


class Net(nn.Module):
    """What of an input projection is read, and by which number it is multiplied."""

    def __init__(self, width: int, use: str, exponent: float) -> None:
        super().__init__()
        self.first, self.words, self.last = nn.Linear(5, width), nn.Embedding(3, width), nn.Linear(width, 3)
        self.second = nn.Linear(5, width)
        self.place, self.hidden = nn.Parameter(torch.randn(TIME, width)), nn.Linear(width, width)
        self.use, self.factor = USES[use], width**exponent

    def forward(self, x: Any) -> Any:
        h = self.use(self, x, self.factor)
        return self.last(torch.tanh(self.hidden(torch.tanh(h + self.place[: h.shape[1]]))))


USES: dict[str, Callable[..., Any]] = {
    "with a bias": lambda s, x, c: s.first(x) * c,
    "and places": lambda s, x, c: (s.first(x) + s.place) * c,
    "in heads": lambda s, x, c: (s.first(x).unflatten(-1, (4, -1)) * c).flatten(-2),
    "beside words": lambda s, x, c: torch.cat([s.words.weight.expand(len(x), -1, -1), s.first(x)], 1)[:, 2:8] * c,
    "less places": lambda s, x, c: (s.first(x) - s.place) * c,
    "less another": lambda s, x, c: (s.first(x) - 0.5 * s.second(x)) * c,
    "at some places": lambda s, x, c: torch.where(torch.arange(TIME)[:, None] < 3, s.first(x), s.words.weight[0]) * c,
}  # fmt: skip


def derived(use: str, exponent: float, dtype: Any = torch.float64) -> Any:
    x = torch.randn(4, TIME, 5, generator=torch.Generator().manual_seed(0), dtype=dtype)
    return tpt.derive(lambda n: Net(16 * n, use, exponent).to(dtype), x, "adamw")


@pytest.mark.parametrize("use", tiers(USES, ["with a bias", "beside words", "less another"]))
@pytest.mark.parametrize("exponent", [0.5, -0.5])
def test_a_number_behind_a_sum_is_counted_into_its_parts(use: str, exponent: float) -> None:
    p = derived(use, exponent)
    assert max(worst_difference(p.reading), worst_difference(p.reading, 1)) < 1e-9
    assert {p.params[k].lr for k in ("first.weight", "first.bias")} == {power(-Fraction(exponent))}
    assert p.params["first.weight"].init_std == power(-Fraction(exponent))
    assert p.params["hidden.weight"].lr == power(-1)


class Residual(Net):
    """The number is behind a sum with what other layers read: it stays where it is."""

    def forward(self, x: Any) -> Any:
        h = torch.tanh(self.first(x))
        return self.last(h + torch.tanh(h + h * h) * self.factor)


def test_what_others_read_or_functions_make_keeps_its_number() -> None:
    x = torch.randn(4, TIME, 5)
    p = tpt.derive(lambda n: Residual(16 * n, "with a bias", -0.5), x, "adamw")
    assert p.params["first.weight"].lr == p.params["first.bias"].lr == power(0)


class Injected(Net):
    """An input that two layers read, each behind one number with its own product; or a function that none reaches."""

    def forward(self, x: Any) -> Any:
        h, other = torch.tanh(self.first(x)), self.second(x)
        if self.use is USES["and places"]:
            other = torch.tanh(other)
        h = torch.tanh((self.hidden(h) + other) * self.factor)
        return self.last(torch.tanh((self.again(h) + other) * self.factor))

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.again = nn.Linear(self.hidden.in_features, self.hidden.in_features)


def test_all_that_is_added_takes_the_number_or_nothing_does() -> None:
    x = torch.randn(4, TIME, 5)
    every = tpt.derive(lambda n: Injected(16 * n, "with a bias", -0.5), x, "adamw")
    assert [every.params[f"{k}.weight"].lr for k in ("second", "hidden", "last")] == [
        power(HALF),
        power(-HALF),
        power(-1),
    ]
    none = tpt.derive(lambda n: Injected(16 * n, "and places", -0.5), x, "adamw")
    assert [none.params[f"{k}.weight"].lr for k in ("second", "hidden", "last")] == [power(0), power(-1), power(-HALF)]


@pytest.mark.slow
def test_every_tensor_behaves_as_derived_and_not_unmodified() -> None:
    p = derived("with a bias", 0.5, torch.float32)
    report = p.check((4, 8, 16, 32), seeds=3, steps=2)
    assert report.verdict != "disagrees", str(report)
    assert "mul" in {r.tensor.split(": ")[-1] for r in p.check((4, 8, 16, 32), seeds=2, steps=1, unmodified=True).rows
                     if r.verdict == "disagrees"}  # fmt: skip
