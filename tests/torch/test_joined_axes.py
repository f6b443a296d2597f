"""An axis that is a growing part and a finite part side by side, n + 1: a matrix that sums over it is two."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402, N812

import tensorprog.torch as tpt  # noqa: E402
from tensorprog.errors import TensorProgError  # noqa: E402
from tensorprog.torch.model import derive_reading  # noqa: E402
from tests.shared import tiers  # noqa: E402
from tests.torch.support import legal, read64, worst_difference  # noqa: E402

pytestmark = pytest.mark.torch
relu = torch.relu


def same(x: Any) -> Any:
    return x


class Joined(nn.Module):
    """A layer of the hidden state and the time side by side, with something between."""

    def __init__(self, n: int, between: Callable[[Any], Any] = same) -> None:
        super().__init__()
        self.inp, self.mid, self.out, self.between = nn.Linear(5, n), nn.Linear(n + 1, n), nn.Linear(n, 3), between

    def forward(self, x: Any, t: Any) -> Any:
        return self.out(relu(self.mid(self.between(torch.cat([relu(self.inp(x)), t], -1)))))


class Apart(nn.Module):
    """The same with a layer for each."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.inp, self.mid, self.time, self.out = nn.Linear(5, n), nn.Linear(n, n), nn.Linear(1, n), nn.Linear(n, 3)

    def forward(self, x: Any, t: Any) -> Any:
        return self.out(relu(self.mid(relu(self.inp(x))) + self.time(t)))


class Images(nn.Module):
    """The time as a channel beside the others, the same at every pixel."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.inp, self.mid, self.out = nn.Conv2d(3, n, 3), nn.Conv2d(n + 1, n, 3, padding=1), nn.Linear(n, 3)

    def forward(self, x: Any, t: Any) -> Any:
        h = relu(self.inp(x.reshape(-1, 3, 5, 5)))
        h = torch.cat([h, t[:, :, None, None].expand(-1, 1, 3, 3)], 1)
        return self.out(relu(self.mid(h)).mean((2, 3)))


BUILDS = {
    "joined": Joined,
    "relu": lambda n: Joined(n, relu),
    "sigmoid, doubled": lambda n: Joined(n, lambda h: 2 * torch.sigmoid(h)),
    "a gate of its own": lambda n: Joined(n, lambda h: h * torch.tanh(h)),
    "images": Images,
    "a norm": lambda n: Joined(n, lambda h: F.layer_norm(h, (h.shape[-1],))),
}


def inputs(name: str) -> Any:
    g = torch.Generator().manual_seed(0)
    return torch.randn(4, 75 if name == "images" else 5, generator=g), torch.randn(4, 1, generator=g)


@pytest.mark.parametrize("name", tiers(BUILDS, ("relu",)))
def test_its_two_parts_scale_like_two_matrices(name: str) -> None:
    reading = read64(BUILDS[name], tuple(t.double() for t in inputs(name)))
    legal(reading.lowered.graph)
    assert worst_difference(reading) < 1e-12 and worst_difference(reading, 2) < 1e-12
    found = derive_reading(reading, "adamw").changes.parameter("mid.weight").parts
    wanted = tpt.derive(Apart, inputs("apart"), "adamw").changes
    assert [str(part.stop) for part in found] == ["n", "n + 1"]
    assert [part.needed for part in found] == [wanted.parameter(f"{w}.weight").needed for w in ("mid", "time")]


class Cell(nn.Module):
    """A recurrence on the input and the state side by side, which starts as `start(h)` of the state's size."""

    def __init__(self, n: int, start: Callable[[Any], Any], state_first: bool = False) -> None:
        super().__init__()
        self.n, self.start, self.cell, self.out = n, start, nn.Linear(2 + n, n), nn.Linear(n, 3)
        self.state_first = state_first

    def forward(self, x: Any) -> Any:
        h = self.start(x.new_zeros(len(x), self.n))
        for t in range(2):
            parts = [h, x[:, 2 * t : 2 * t + 2]] if self.state_first else [x[:, 2 * t : 2 * t + 2], h]
            h = torch.tanh(self.cell(torch.cat(parts, -1)))
        return self.out(h)


@pytest.mark.parametrize("start", [same, torch.ones_like], ids=["zeros", "ones"])
@pytest.mark.parametrize("state_first", [False, True])
def test_a_state_of_one_value_beside_data_is_a_part_of_its_own(start: Any, state_first: bool) -> None:
    reading = read64(lambda n: Cell(4 * n, start, state_first), inputs("cell")[0].double())
    assert worst_difference(reading) < 1e-12 and worst_difference(reading, 2) < 1e-12
    parts = derive_reading(reading, "adamw").changes.parameter("cell.weight").parts
    scales = {str(p.stop - p.start): (str(p.needed.init_std), str(p.needed.lr)) for p in parts}
    assert scales == {"2": ("1", "1"), "4 n": ("n^-1/2", "n^-1")}


@pytest.mark.parametrize("state_first", [False, True])
def test_data_that_are_zero_beside_a_state_of_zeros_are_data(state_first: bool) -> None:
    rows = inputs("cell")[0]
    for zero in ([0.0, 1, 1, 1, 1], [1.0, 0, 1, 1, 1]):
        x = rows * torch.tensor(zero)
        parts = tpt.derive(lambda n: Cell(4 * n, same, state_first), x, "adamw").changes.parameter("cell.weight").parts
        assert {str(p.stop - p.start) for p in parts} == {"2", "4 n"}


def test_a_random_state_beside_data_cannot_be_told_apart() -> None:
    with pytest.raises(TensorProgError, match="pads to another order of size"):
        tpt.derive(lambda n: Cell(4 * n, torch.randn_like), inputs("cell")[0])


def test_a_matrix_that_makes_such_an_axis_is_not_cut_by_it() -> None:
    """Only what is put together of unlike parts is; the outputs of one layer are alike, however many."""

    class Wide(Joined):
        def __init__(self, n: int) -> None:
            super().__init__(n)
            self.between = nn.Sequential(nn.Linear(n + 1, n + 1), nn.ReLU())

    found = tpt.derive(Wide, inputs("wide"), "adamw").changes
    assert [part.axis for part in found.parameter("between.0.weight").parts] == [1, 1]
    assert not found.parameter("mid.weight").parts


class Rotated(nn.Module):
    """Outputs of two kinds, of which the few are cut again, as rotary positions do."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n, self.inp, self.both = n, nn.Linear(5, n), nn.Linear(n, 5 * n + 4, bias=False)
        self.many, self.few = nn.Linear(5 * n, 3), nn.Linear(4, 3)

    def forward(self, x: Any, t: Any) -> Any:
        many, few = self.both(relu(self.inp(x))).split([5 * self.n, 4], -1)
        turned = few * torch.cos(t) + torch.cat([-few[:, 2:], few[:, :2]], -1) * torch.sin(t)
        return self.many(relu(many)) + self.few(turned)


def test_a_part_that_is_cut_again_into_parts_that_grow_alike_stays_one() -> None:
    reading = read64(Rotated, tuple(t.double() for t in inputs("rotated")))
    assert worst_difference(reading) < 1e-12
    found = derive_reading(reading, "adamw").changes.parameter("both.weight").parts
    assert [str(part.stop) for part in found] == ["5 n", "5 n + 4"]


class Widths(nn.Module):
    """Two widths side by side, normalised together; `residual`: around the next layer."""

    def __init__(self, n: int, m: int, residual: bool) -> None:
        super().__init__()
        self.a, self.b, self.norm, self.residual = nn.Linear(5, n), nn.Linear(5, m), nn.LayerNorm(n + m), residual
        self.mid, self.out = nn.Linear(n + m, n + m if residual else n), nn.Linear(n + m if residual else n, 3)

    def forward(self, x: Any) -> Any:
        h = torch.cat([self.a(x), self.b(x)], -1)
        y = relu(self.mid(self.norm(h)))
        return self.out(h + y if self.residual else y)


@pytest.mark.slow
def test_a_norm_over_two_widths_has_a_range_of_gains_for_each() -> None:
    reading = read64(lambda n, m: Widths(8 * n, 8 * m, False), inputs("widths")[0].double())
    legal(reading.lowered.graph)
    assert worst_difference(reading) < 1e-12 and worst_difference(reading, 2) < 1e-12
    found = derive_reading(reading, "sgd").changes
    assert [str(part.needed.lr) for part in found.parameter("norm.weight").parts] == ["n", "m"]
    assert [str(part.needed.init_std) for part in found.parameter("mid.weight").parts] == ["n^-1/2", "m^-1/2"]


def test_a_residual_stream_of_two_widths_is_refused_with_a_remedy() -> None:
    with pytest.raises(TensorProgError, match="pads to another order of size") as error:
        tpt.derive(lambda n, m: Widths(8 * n, 8 * m, True), inputs("widths")[0])
    assert "one number" in error.value.fix
    tpt.derive(lambda n: Widths(8 * n, 16 * n, True), inputs("widths")[0])
