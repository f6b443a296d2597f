"""Reading a model that is too large stops with one error, before the memory is full."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tensorprog.torch as tpt  # noqa: E402
from tensorprog.errors import TensorProgError  # noqa: E402
from tensorprog.torch import recorder, runs  # noqa: E402

pytestmark = pytest.mark.torch


class Cell(nn.Module):
    def __init__(self, n: int) -> None:
        super().__init__()
        self.inp, self.hidden = nn.Linear(5, n), nn.Linear(n, n)

    def forward(self, x: Any, h: Any) -> Any:
        return torch.tanh(self.inp(x) + self.hidden(h))


class Loop(nn.Module):
    """A loop over time."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n, self.cell, self.out = n, Cell(n), nn.Linear(n, 3)

    def forward(self, x: Any) -> Any:
        h = x.new_zeros(len(x), self.n)
        for k in range(x.shape[1]):
            h = self.cell(x[:, k], h)
        return self.out(h)


def test_a_long_loop_is_refused_with_its_module_and_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "MOST_OPERATIONS", 100)
    tpt.derive(Loop, torch.randn(4, 5, 5))
    with pytest.raises(TensorProgError, match="takes more than 100 operations: it was stopped in `cell") as caught:
        tpt.derive(Loop, torch.randn(4, 100, 5))
    assert "shorter sequences" in caught.value.fix and "100 so far" in caught.value.why


def test_a_run_whose_tensors_take_too_much_room_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = torch.randn(4, 5, 5)
    monkeypatch.setattr(recorder, "MOST_BYTES", 2**14)
    tpt.derive(Loop, inputs)
    with pytest.raises(TensorProgError, match="GiB of tensors"):
        tpt.derive(Loop, inputs, widths=[32, 64, 96, 128])


@pytest.mark.slow
def test_wider_and_wider_models_are_not_tried_beyond_the_room_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """A size that follows no law is looked for at larger widths, at which it may: but not at any price."""
    built = []

    def rounded(n: int) -> Any:
        built.append(n)
        return nn.Sequential(nn.Linear(5, pow(3, n, 101) + n), nn.Linear(pow(3, n, 101) + n, 3))

    with pytest.raises(TensorProgError, match="follows no law"):
        tpt.derive(rounded, torch.randn(4, 5))
    assert max(built) == 640
    built.clear()
    monkeypatch.setattr(runs, "MOST_BYTES", 2**14)
    with pytest.raises(TensorProgError, match="no law"):
        tpt.derive(rounded, torch.randn(4, 5))
    assert max(built) < 640
    with pytest.raises(TensorProgError, match=r"the model at n=50 would take about .* GiB"):
        tpt.derive(Loop, torch.randn(4, 5, 5), widths=[10, 20, 50, 100])


def test_a_large_model_is_read_at_smaller_widths(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = torch.randn(4, 5, 5)
    weights = sum(4 * (n * n + 10 * n + 3) for n in runs.WIDTHS)
    monkeypatch.setattr(runs, "MOST_BYTES", weights // 2)
    p = tpt.derive(lambda n: Loop(n), inputs)
    assert tuple(point["n"] for point in p.reading.points[:-1]) == runs.SMALLER
    monkeypatch.undo()
    assert str(tpt.derive(lambda n: Loop(n), inputs)) == str(p)
    monkeypatch.setattr(runs, "MOST_BYTES", 100)
    with pytest.raises(TensorProgError, match="the model at n=5 would take about"):
        tpt.derive(lambda n: Loop(n), inputs)
