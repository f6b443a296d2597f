"""A parameter that starts at logarithms, such as the decays of a state space, has no power of the width: its measured
size is what `apply` keeps."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tensorprog.torch as tpt  # noqa: E402
from tensorprog.errors import TensorProgError  # noqa: E402
from tensorprog.exponents import Power  # noqa: E402
from tensorprog.torch.apply import apply  # noqa: E402
from tensorprog.torch.laws import Laws  # noqa: E402
from tensorprog.torch.rescale import size_of  # noqa: E402
from tests.shared import n as power  # noqa: E402

pytestmark = pytest.mark.torch


def rms(values: Any) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


@pytest.mark.parametrize(("size", "law", "logarithm"), [
    (lambda n: rms(np.log(np.arange(1, 4 * n + 1))), Power(), True),
    (lambda n: 2 + math.log(n), Power(), True),
    (lambda n: n + 4, power("1/2"), False),  # on its way to n
    (lambda n: (n + 1) ** 0.5, power("1/2"), False),
    (lambda n: (n + 1) ** -0.5, power("-1/2"), False),
    (lambda n: (n + 12) ** -0.5, Power(), False),
    (lambda n: rms(np.linspace(0, 1, n)), Power(), False),
])  # fmt: skip
def test_logarithms_are_told_from_powers_and_from_what_is_close_to_them(
    size: Callable[[int], float], law: Power, logarithm: bool
) -> None:
    laws = Laws([{"n": n} for n in (3, 5, 7, 10)])
    values = [size(point["n"]) for point in laws.points]
    assert (laws.trend(values), laws.logarithmic(values)) == (law, logarithm)


class Decaying(nn.Module):
    """A recurrence whose channels forget at rates 1, 2, .., n, learned as logarithms."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(4, n), nn.Linear(n, 3)
        self.rates = nn.Parameter(torch.log(torch.arange(1.0, n + 1)))

    def forward(self, x: Any) -> Any:
        state, inputs = 0.0, self.embed(x)
        for t in range(x.shape[1]):
            state = state * torch.exp(-0.1 * torch.exp(self.rates)) + inputs[:, t]
        return self.head(state)


def derived() -> Any:
    torch.manual_seed(0)
    return tpt.derive(lambda n: Decaying(4 * n), torch.randn(5, 3, 4), "adam")


@pytest.mark.slow
def test_applying_gives_the_size_that_it_has_at_the_base() -> None:
    p = derived()
    assert p.changes.parameter("rates").measured and not p.changes.parameter("embed.weight").measured
    for n in (2, 16):
        model = Decaying(4 * n)
        start = model.rates.detach().clone()
        with pytest.raises(TensorProgError, match="how large `rates` is at the base"):
            apply(p.changes, Decaying(4 * n), base=3)
        p.apply(model, base=2)
        assert rms(model.rates.detach().numpy()) == pytest.approx(rms(np.log(np.arange(1, 9))), rel=1e-6)
        torch.testing.assert_close(model.rates / model.rates[-1], start / start[-1])
        assert torch.equal(model.rates, start) is (n == 2)
        if n != 2:
            p.remove(model)
            assert torch.equal(model.rates, start)
    kept = Decaying(64)
    p.apply(kept, base=2, keep=["rates"])
    assert torch.equal(kept.rates, start)
    (finding,) = (f for f in p.lint().findings if f.where == "rates" and f.what == "init")
    assert finding.now == "a logarithm" and "size that they have at the base" in " ".join(str(p).split())


def test_the_size_at_the_base_can_be_given_and_zeros_have_none() -> None:
    p, model, zeros = derived(), Decaying(16), Decaying(16)
    p.apply(model, base=2, starts={"rates": 0.5})
    assert rms(model.rates.detach().numpy()) == pytest.approx(0.5, rel=1e-6)
    nn.init.zeros_(zeros.rates)
    with pytest.raises(TensorProgError, match="`rates` is zero"):
        p.apply(zeros, base=2)
    p.apply(zeros, base=2, rescale_init=False)
    assert size_of("z", torch.tensor([3 + 4j, 5j])) == pytest.approx(5)


@pytest.mark.slow
def test_every_tensor_behaves_as_derived_and_not_where_the_rates_are_kept() -> None:
    p = derived()
    assert p.check([8, 16, 32, 64], seeds=3, steps=2).verdict != "disagrees"
    kept = p.check([8, 16, 32, 64], seeds=3, steps=1, keep=["rates"])
    wrong = {row.tensor: row.measured for row in kept.rows if row.verdict == "disagrees" and row.part == "init"}
    assert wrong["(top): exp"] == pytest.approx(1, abs=0.1)
