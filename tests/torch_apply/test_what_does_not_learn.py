"""What a module computes with and does not train: its state, random buffers, what no gradient reaches."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tensorprog.torch as tpt  # noqa: E402
from tensorprog.errors import TensorProgError  # noqa: E402
from tests.torch.wild import MODULES  # noqa: E402

pytestmark = pytest.mark.torch
WIDE = (32, 64, 128, 256)


@pytest.mark.slow
def test_the_state_that_a_module_keeps_is_the_same_at_every_pass():
    """Spectral norm moves its vectors at every pass, in training or not: that is no change of the parameters'."""
    build, inputs = MODULES["spectral_norm"]
    p = tpt.derive(build, inputs=inputs(), optimizer="adamw")
    report = p.check(WIDE, seeds=6, max_seeds=6, steps=1)
    assert not [row for row in report.rows if row.verdict == "disagrees"], str(report)


class Gated(nn.Module):
    """A gate without gradients; a projection that is not trained, as it was drawn."""

    def __init__(self, n, std):
        super().__init__()
        self.inp, self.gate, self.out = nn.Linear(8, n), nn.Linear(n, n), nn.Linear(n, 4)
        self.register_buffer("drawn", std(n) * torch.randn(n, n))

    def forward(self, x):
        x = torch.tanh(torch.tanh(self.inp(x)) @ self.drawn)
        with torch.no_grad():
            gate = torch.sigmoid(self.gate(x))
        return self.out(x * gate)


@pytest.mark.slow
def test_nothing_learns_where_no_gradient_passes():
    p = tpt.derive(lambda n: Gated(n, lambda n: n**-0.5), inputs=torch.randn(4, 8), optimizer="adamw")
    assert p.changes.parameter("gate.weight").needed.lr is None
    rows = p.check(WIDE, seeds=3, max_seeds=3, steps=1).rows
    row = next(r for r in rows if r.tensor == "gate.weight" and r.part == "change")
    assert (row.predicted, row.verdict) == (None, "agrees")


def test_a_random_buffer_counts_as_it_is_and_one_that_blows_up_is_an_error():
    """Nothing rescales it: the answer may not rest on another start."""
    with pytest.raises(TensorProgError, match=r"`mm` grows like n\^1/2 at initialisation"):
        tpt.derive(lambda n: Gated(n, lambda n: 1.0), inputs=torch.randn(4, 8), optimizer="adamw")
    small = tpt.derive(lambda n: Gated(n, lambda n: 1.0 / n), inputs=torch.randn(4, 8), optimizer="adamw")
    assert str(small.derivation.params["drawn"].init_std) == "n^-1"
