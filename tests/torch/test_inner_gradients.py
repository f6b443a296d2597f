"""Gradients inside of a model, as of a gradient penalty: derivatives of functions and convolutions are operations."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tensorprog.torch as tpt  # noqa: E402
from tensorprog.errors import TensorProgError  # noqa: E402
from tests.shared import tiers  # noqa: E402
from tests.torch.support import legal, read64, worst_difference  # noqa: E402

pytestmark = pytest.mark.torch


class Critic(nn.Module):
    """What a critic thinks of x, and how far the norm of its gradient is from 1."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Any) -> Any:
        x = x.clone().requires_grad_(True)
        y = self.layers(x)
        (slope,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        return y, ((slope.flatten(1).norm(2, 1) - 1) ** 2).mean()


def perceptron(act: Callable[[], nn.Module], n: int) -> Critic:
    return Critic(nn.Linear(6, 8 * n), act(), nn.Linear(8 * n, 8 * n), act(), nn.Linear(8 * n, 1))


def convolutions(n: int, middle: Callable[..., nn.Module] = nn.Conv2d, size: int = 4, **options: Any) -> Critic:
    first, second = nn.Conv2d(1, 8 * n, 4, 2, 1), middle(8 * n, 8 * n, **options)
    act = partial(nn.LeakyReLU, 0.2)
    return Critic(first, act(), second, act(), nn.Flatten(), nn.Linear(size * size * 8 * n, 1))


ROWS, IMAGES = (torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
                for shape in ((6, 6), (3, 1, 8, 8)))  # fmt: skip
FUNCTIONS = {
    "leaky": partial(nn.LeakyReLU, 0.2), "elu": nn.ELU, "elu_half": partial(nn.ELU, 0.5), "selu": nn.SELU,
    "celu": partial(nn.CELU, 0.7), "hardtanh": nn.Hardtanh, "relu6": nn.ReLU6,
}  # fmt: skip
CRITICS = {
    **{name: (partial(perceptron, act), ROWS) for name, act in FUNCTIONS.items()},
    "convolution": (partial(convolutions, kernel_size=3, padding=1), IMAGES),
    "groups": (partial(convolutions, kernel_size=3, padding=1, groups=2), IMAGES),
    "strided": (partial(convolutions, kernel_size=3, stride=2, padding=1, size=2), IMAGES),
    "transposed": (
        partial(convolutions, middle=nn.ConvTranspose2d, kernel_size=4, stride=2, padding=1, size=8),
        IMAGES,
    ),
}


@pytest.mark.parametrize("name", tiers(CRITICS, ("elu_half", "selu", "celu", "relu6", "groups")))
def test_the_graph_computes_the_penalty(name: str) -> None:
    build, inputs = CRITICS[name]
    reading = read64(build, inputs)
    legal(reading.lowered.graph)
    assert worst_difference(reading) < 1e-12 and worst_difference(reading, 2) < 1e-12


def test_the_gradient_of_a_convolutions_weight_is_refused() -> None:
    class Inner(nn.Module):
        def __init__(self, n: int) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, n, 3)

        def forward(self, x: Any) -> Any:
            (g,) = torch.autograd.grad(self.conv(x).square().sum(), self.conv.weight, create_graph=True)
            return g.square().mean()

    with pytest.raises(TensorProgError, match="convolution_backward") as caught:
        tpt.derive(lambda n: Inner(8 * n), IMAGES.float(), "adamw")
    assert "weight inside the model" in caught.value.why
