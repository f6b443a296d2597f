"""A parameter that only rounding errors move, lifted by an optimizer that normalises, does not disagree with standing
still; one that learns does."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tensorprog.torch as tpt  # noqa: E402
from tensorprog.torch.measure import Trained, spots  # noqa: E402
from tensorprog.torch.nodecheck import _base, _ladder  # noqa: E402
from tensorprog.torch.predicted import Predicted  # noqa: E402
from tensorprog.torch.rounding import only_rounding  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.slow]


class Mixing(nn.Module):
    """A layer across tokens, whose bias is the same for all channels, and a norm over channels behind it."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.embed, self.mix, self.norm, self.head = nn.Linear(6, n), nn.Linear(5, 5), nn.LayerNorm(n), nn.Linear(n, 3)

    def forward(self, x: Any) -> Any:
        x = self.embed(x)
        return self.head(self.norm(x + self.mix(x.transpose(1, 2)).transpose(1, 2)))


def derived() -> Any:
    torch.manual_seed(0)
    return tpt.derive(lambda n: Mixing(8 * n), torch.randn(4, 5, 6), "adam")


def test_what_rounding_errors_alone_move_agrees_with_standing_still() -> None:
    report = derived().check([4, 8, 16, 32], seeds=2, steps=2)
    rows = {row.step: row for row in report.rows if row.tensor == "mix.bias"}
    assert report.verdict != "disagrees"
    assert rows[2].predicted is None and rows[2].reason == "zero but for rounding errors, as predicted"
    assert min(x for rung in rows[2].rms for x in rung) > 0.01  # a step of Adam all the same


def test_what_learns_is_not_taken_for_rounding() -> None:
    """If the calculus said of everything that it does not move, only that bias would be excused."""
    p, predicted = derived(), SimpleNamespace(at=lambda probe, step: SimpleNamespace(exponent=None))
    ladder = _ladder(p, (4, 8))
    trained = Trained(p, tuple(spots(p)), _base(ladder)).aligned(ladder.rungs[0])
    values = trained.sizes(ladder.rungs[0], 0, 0.1, 2)[..., None, None]
    excused = only_rounding(trained, values, predicted, ladder, lambda *_: 0.1)
    assert {trained.spots[k].probe.name for k, _ in excused} == {"mix.bias"}
    assert only_rounding(trained, values, Predicted(p, 2), ladder, lambda *_: 0.1) == excused
