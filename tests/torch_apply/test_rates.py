"""The base learning rates at which a model of PyTorch is checked: as those of a program, and by the same rule."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tensorprog.torch as tpt  # noqa: E402
from tensorprog.coordcheck import calibrate  # noqa: E402
from tensorprog.torch.calibrate import _Calibration, base_rates  # noqa: E402
from tensorprog.torch.measure import Trained, spots  # noqa: E402
from tensorprog.torch.predicted import Predicted  # noqa: E402

pytestmark = pytest.mark.torch


class Attention(nn.Module):
    def __init__(self, n: int) -> None:
        super().__init__()
        self.first, self.last, self.scale = nn.Linear(8, 8 * n), nn.Linear(8 * n, 3), (8 * n) ** -0.5
        self.q, self.k, self.v = (nn.Linear(8 * n, 8 * n, bias=False) for _ in range(3))

    def forward(self, x: Any) -> Any:
        x = self.first(x)
        return self.last(x + (self.q(x) @ self.k(x).transpose(1, 2) * self.scale).softmax(-1) @ self.v(x))


@pytest.mark.slow
def test_no_first_update_is_larger_than_wanted_however_small_the_later_ones_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As for a program (tests/coordcheck/test_rates.py): the queries' gradients are aligned after the first step."""
    monkeypatch.setattr(calibrate, "STRENGTH", 0.01)
    x = torch.randn(4, 4, 8, generator=torch.Generator().manual_seed(0))
    p = tpt.derive(Attention, x, "sgd")
    assert {"q.weight", "k.weight"} <= calibrate.stages_of(p.derivation, factors=True)[1]
    trained = Trained(p, tuple(spots(p)), {"n": 2}).aligned({"n": 4})
    rates = base_rates(trained, {"n": 4})
    first = _Calibration(trained, {"n": 4}, Predicted(p, 2)).effects(0, {})
    assert set(first) == {name for name, _ in Attention(1).named_parameters()}
    assert max(rates(name, None) * effect for name, effect in first.items()) < 0.0101
