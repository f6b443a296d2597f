"""The scale of an attention kernel: changed while the module that calls it runs, forward and backward, or refused."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn.functional import scaled_dot_product_attention  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402

import tensorprog.torch as tpt  # noqa: E402
from tensorprog.errors import TensorProgError  # noqa: E402
from tensorprog.torch.apply import apply  # noqa: E402
from tensorprog.torch.changes import AttentionScale, OutputHook  # noqa: E402
from tensorprog.torch.placing import scaled_attention  # noqa: E402

pytestmark = pytest.mark.torch


class Attention(nn.Module):
    """`again`: None, or whether the kernel is called once more going backward, by a checkpoint of either kind."""

    def __init__(self, n: int, again: bool | None = None, scale: float | None = None) -> None:
        super().__init__()
        self.qkv, self.again, self.scale_of = nn.Linear(n, 3 * n), again, (scale,)

    def mixed(self, q: Any, k: Any, v: Any) -> Any:
        return scaled_dot_product_attention(q, k, v, scale=self.scale_of[0])

    def forward(self, x: Any) -> Any:
        parts = self.qkv(x).chunk(3, -1)
        return self.mixed(*parts) if self.again is None else checkpoint(self.mixed, *parts, use_reentrant=self.again)


X = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))


def attention(**options: Any) -> Attention:
    torch.manual_seed(0)
    return Attention(8, **options)


def gradient(module: nn.Module, x: Any = X) -> tuple[Any, Any]:
    module.zero_grad()
    out = module(x)
    out.square().sum().backward()
    return out, module.qkv.weight.grad


@pytest.mark.parametrize("scale", [None, 0.7])
def test_the_kernel_gets_its_scale_times_the_factor_forward_and_backward(scale: float | None) -> None:
    module, plain = attention(scale=scale), attention(scale=scale)
    wanted = attention(scale=0.25 * (scale or 8**-0.5))
    handles = scaled_attention(module, 0.25)
    again = copy.deepcopy(module), pickle.loads(pickle.dumps(module))
    for one in (module, *again):
        assert all(map(torch.equal, gradient(one), gradient(wanted)))
        assert torch.equal(checkpoint(one, X, use_reentrant=False), wanted(X))  # around the whole module
    with pytest.raises(RuntimeError):
        module(X[..., 1:])
    assert torch.equal(plain(X), attention(scale=scale)(X))  # nothing is left behind by a failure
    for handle in handles:
        handle.remove()
    assert torch.equal(module(X), plain(X)) and not torch.equal(again[0](X), plain(X))


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_kernel_that_the_module_itself_recomputes_is_refused(reentrant: bool) -> None:
    module = attention(again=reentrant)
    gradient(module)
    scaled_attention(module, 0.25)
    with pytest.raises(TensorProgError, match="recomputed by the module"):
        module(X)
    with torch.no_grad():
        assert torch.equal(module(X), attention(scale=0.25 * 8**-0.5)(X))  # nothing is recomputed


class Net(nn.Module):
    def __init__(self, n: int, again: bool | None) -> None:
        super().__init__()
        self.embed, self.attention, self.head = nn.Linear(4, n), Attention(n, again), nn.Linear(n, 3)

    def forward(self, x: Any) -> Any:
        return self.head(self.attention(self.embed(x)))


@pytest.mark.slow
@pytest.mark.parametrize("again", [None, False])
def test_it_is_the_place_where_a_kernel_is_called_and_a_hook_where_that_is_recomputed(again: bool | None) -> None:
    p = tpt.derive(lambda n: Net(4 * n, again), torch.randn(6, 5, 4), "adamw")
    (change,) = (m for m in p.changes.multipliers if m.places)
    assert (AttentionScale("attention") in change.places) is (again is None)
    models, hooked = [], change.places[again is None :][:1]
    assert isinstance(hooked[0], OutputHook)
    for places in (change.places, hooked):
        torch.manual_seed(0)
        model = Net(32, again).double()
        multipliers = tuple(replace(m, places=places) if m is change else m for m in p.changes.multipliers)
        groups = apply(replace(p.changes, multipliers=multipliers), model, base=2, lr=1e-2, eps=1e-3)
        optimizer = torch.optim.AdamW(groups)
        for _ in range(4):
            optimizer.zero_grad()
            model(X[..., :4].double()).square().sum().backward()
            optimizer.step()
        models.append(model)
    torch.testing.assert_close(models[0](X[..., :4].double()), models[1](X[..., :4].double()), rtol=1e-9, atol=1e-12)
    assert not any("disagrees" in row.verdict for row in p.check([8, 16, 32], seeds=2, steps=1).rows)
