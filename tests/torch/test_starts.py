"""How parameters start, as read from constructors: complex numbers, and random numbers with a mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tensorprog.torch as tpt  # noqa: E402
from tensorprog.errors import TensorProgError  # noqa: E402

pytestmark = pytest.mark.torch
ROWS = torch.randn(5, 3, generator=torch.Generator().manual_seed(3))


class Complex(nn.Module):
    """Three complex matrices, with a function of real and imaginary parts between."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Parameter(torch.randn(*shape, dtype=torch.cfloat) / shape[1] ** power)
                                  for *shape, power in ((n, 3, 0.0), (n, n, 0.5), (2, n, 1.0)))  # fmt: skip

    def forward(self, x: Any) -> Any:
        z = torch.complex(x, torch.zeros_like(x)) @ self.a.T
        z = torch.complex(torch.relu(z.real), torch.relu(z.imag)) @ self.b.T
        return torch.view_as_real(z @ self.c.T)


def test_complex_matrices_start_and_scale_like_real_ones() -> None:
    p = tpt.derive(lambda n: Complex(8 * n), ROWS, "adamw")
    assert {c.name: str(c.init_now) for c in p.changes.parameters} == {"a": "1", "b": "n^-1/2", "c": "n^-1"}
    found = {name: (str(w.init_std), str(w.lr)) for name, w in p.params.items()}
    assert found == {"a": ("1", "1"), "b": ("n^-1/2", "n^-1"), "c": ("n^-1", "n^-1")}
    assert not p.changes.multipliers


@pytest.mark.slow
def test_complex_matrices_do_as_predicted() -> None:
    report = tpt.derive(lambda n: Complex(8 * n), ROWS, "adamw").check((8, 16, 32, 64), seeds=2, steps=1)
    assert not report.count("disagrees"), str(report)


class Filled(nn.Module):
    def __init__(self, n: int, fill: Callable[..., Any], rows: int = 1) -> None:
        super().__init__()
        self.inp, self.out = nn.Linear(3, n), nn.Linear(n if rows else 4, 2)
        self.w = nn.Parameter(fill(n if rows else 4, n) / n)

    def forward(self, x: Any) -> Any:
        return self.out(torch.relu(torch.relu(self.inp(x)) @ self.w.T))


SYMMETRIC = {
    "shifted": lambda *shape: 2 * torch.rand(*shape) - 1,
    "truncated": lambda *shape: nn.init.trunc_normal_(torch.empty(*shape), std=0.02, a=-0.04, b=0.04),
    "a small mean": lambda *shape: torch.empty(*shape).normal_(0.1, 1.0),
}
WITH_A_MEAN = {"rand": torch.rand, "complex": lambda *s: torch.rand(*s, dtype=torch.cfloat).real,
               "absolute": lambda *s: torch.randn(*s).abs()}  # fmt: skip


@pytest.mark.parametrize("name", SYMMETRIC)
def test_a_matrix_without_a_mean_is_random_however_it_is_made(name: str) -> None:
    p = tpt.derive(lambda n: Filled(8 * n, SYMMETRIC[name]), ROWS, "adamw")
    assert str(p.params["w"].init_std) == "n^-1/2"


@pytest.mark.parametrize("name", WITH_A_MEAN)
def test_a_matrix_with_a_mean_is_refused_if_both_of_its_axes_grow(name: str) -> None:
    """Its mean makes n of what random numbers make n^1/2 of."""
    with pytest.raises(TensorProgError, match="`w` starts at have a mean") as caught:
        tpt.derive(lambda n: Filled(8 * n, WITH_A_MEAN[name]), ROWS, "adamw")
    assert "2 * torch.rand" in caught.value.fix
    tpt.derive(lambda n: Filled(8 * n, WITH_A_MEAN[name], 0), ROWS, "adamw")
