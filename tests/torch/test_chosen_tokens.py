"""Positions that depend on activations: what is read, written and counted by them is what the module computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402, N812

import tensorprog.torch as tpt  # noqa: E402
from tensorprog.errors import TensorProgError  # noqa: E402
from tensorprog.torch.verified import require_same  # noqa: E402
from tests.torch.support import legal, read64, worst_difference  # noqa: E402

pytestmark = pytest.mark.torch
ROWS = torch.randn(7, 8, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
EXPERTS = 3


class Experts(nn.Module):
    """`mix(experts, h, weight, chosen, p)`: what experts make of the features h; p: all weights, of which two are
    chosen."""

    def __init__(self, n: int, mix: Callable[..., Any]) -> None:
        super().__init__()
        self.first, self.router, self.last = nn.Linear(8, 4 * n), nn.Linear(4 * n, EXPERTS), nn.Linear(4 * n, 3)
        self.experts, self.mix = nn.ModuleList(nn.Linear(4 * n, 4 * n) for _ in range(EXPERTS)), mix

    def forward(self, x: Any) -> Any:
        h = torch.tanh(self.first(x))
        p = self.router(h).softmax(-1)
        return self.last(h + self.mix(self.experts, h, *p.topk(2), p))


def weighted(experts: Any, h: Any, weights: Any) -> Any:
    return sum(weights[:, e : e + 1] * f(h) for e, f in enumerate(experts))


def shared(experts: Any, h: Any, weight: Any, chosen: Any, p: Any) -> Any:
    """Several ways of counting."""
    first, second = chosen.unbind(-1)
    both = (chosen[..., None] == torch.arange(EXPERTS)).any(1).to(h.dtype)
    wide = torch.cat([p, 2 * p], -1).topk(2).indices
    doubled = F.one_hot(wide % EXPERTS, EXPERTS).sum(1) + wide // EXPERTS @ torch.ones(2, 1, dtype=torch.int64)
    table = torch.linspace(-1, 1, EXPERTS + 1, dtype=h.dtype)
    return weighted(experts, h, both + doubled) * table[first + 1, None] + h * table[second - 1, None]


def sparsemax(experts: Any, h: Any, weight: Any, chosen: Any, p: Any) -> Any:
    """How many are taken is counted, and is the position of the threshold."""
    ordered = (4 * p).sort(-1, descending=True).values
    sums = ordered.cumsum(-1)
    count = (1 + torch.arange(1, EXPERTS + 1) * ordered > sums).sum(-1, keepdim=True)
    return weighted(experts, h, (4 * p - (sums.gather(-1, count - 1) - 1) / count).clamp(min=0))


def capacity(experts: Any, h: Any, weight: Any, chosen: Any, p: Any) -> Any:
    """Every expert has four places, which are given in turn."""
    mask = F.one_hot(chosen[:, 0], EXPERTS).to(h.dtype)
    place = (mask.cumsum(0) - 1) * mask
    kept = (place < 4).to(h.dtype) * mask
    dispatch = kept[..., None] * F.one_hot(place.long().clamp(max=3), 4).to(h.dtype)
    inner = torch.stack([f(x) for f, x in zip(experts, torch.einsum("tec,td->ecd", dispatch, h), strict=True)])
    return torch.einsum("tec,ecd->td", dispatch * p[..., None], inner)


def two_axes(experts: Any, h: Any, weight: Any, chosen: Any, p: Any) -> Any:
    out, at = torch.zeros(len(h), EXPERTS, h.shape[1], dtype=h.dtype), torch.arange(len(h))
    out[at, chosen[:, 0]] = experts[0](h)
    out.index_put_((at, chosen[:, 1]), experts[1](h) * weight[:, 1:], accumulate=True)
    return out.sum(1) + out[:, 1]


def silenced(experts: Any, h: Any, weight: Any, chosen: Any, p: Any) -> Any:
    y = experts[0](h)
    y[chosen[:, 0] == 1] = 0.5
    return y


@pytest.mark.parametrize("mix", [shared, sparsemax, capacity, two_axes, silenced])
def test_whole_numbers_that_depend_on_activations_are_read_as_what_they_are(mix: Callable[..., Any]) -> None:
    reading = read64(lambda n: Experts(n, mix), ROWS)
    legal(reading.lowered.graph)
    assert worst_difference(reading) < 1e-12


def test_numbers_that_are_rounded_are_refused() -> None:
    with pytest.raises(TensorProgError, match=r"it reads what `aten\._to_copy` gives, which is rounded"):
        read64(lambda n: Experts(n, lambda f, h, w, c, p: f[0](h) * (10 * p).long()[:, :1]), ROWS)


# --- loops over experts: how they write ------------------------------------------------------------------


def loop(write: Callable[..., None]) -> Callable[..., Any]:
    def mix(experts: Any, h: Any, weight: Any, chosen: Any, p: Any) -> Any:
        out = torch.zeros_like(h)
        for e, expert in enumerate(experts):
            write(out, (chosen == e).any(-1), p[:, e : e + 1], expert, h)
        return out

    return mix


def by_keywords(out: Any, mask: Any, p: Any, f: Any, h: Any) -> None:
    (at,) = torch.where(mask)
    out.index_add_(dim=0, index=at, source=f(h[at]) * p[at])


def by_index_put(out: Any, mask: Any, p: Any, f: Any, h: Any) -> None:
    (at,) = torch.where(mask)
    out.index_put_((at,), f(h[at]) * p[at], accumulate=True)


def by_index_copy(out: Any, mask: Any, p: Any, f: Any, h: Any) -> None:
    at = torch.where(mask)[0]
    out.index_copy_(0, at, out[at] + f(h[at]) * p[at])


def by_scatter_add(out: Any, mask: Any, p: Any, f: Any, h: Any) -> None:
    at = mask.nonzero().expand(-1, h.shape[1])
    out.scatter_add_(0, at, f(h.gather(0, at)) * p[at[:, 0]])


def by_scatter(out: Any, mask: Any, p: Any, f: Any, h: Any) -> None:
    at = mask.nonzero().expand(-1, h.shape[1])
    out.scatter_(0, at, out.gather(0, at) + f(h.gather(0, at)) * p[at[:, 0]])


def by_masked_scatter(out: Any, mask: Any, p: Any, f: Any, h: Any) -> None:
    chosen = h.masked_select(mask[:, None]).view(-1, h.shape[1])
    out.masked_scatter_(mask[:, None], out[mask] + f(chosen) * p[mask])


def by_two_masks(out: Any, mask: Any, p: Any, f: Any, h: Any) -> None:
    out[mask, :] += f(h[mask, :]) * p[mask, 0:1]


WRITES = [by_keywords, by_index_put, by_index_copy, by_scatter_add, by_scatter, by_masked_scatter, by_two_masks]


@pytest.mark.slow
@pytest.mark.parametrize("write", WRITES)
def test_whichever_way_experts_write_the_exponents_are_the_same(write: Callable[..., None]) -> None:
    found, plain = (tpt.derive(lambda n, m=m: Experts(n, m).double(), ROWS, "adam") for m in (loop(write), dense))
    assert worst_difference(found.reading) < 1e-12
    assert found.params == plain.params


def dense(experts: Any, h: Any, weight: Any, chosen: Any, p: Any) -> Any:
    return weighted(experts, h, p * torch.zeros_like(p).scatter(1, chosen, 1.0))


def by_rows_of_a_slice(out: Any, mask: Any, p: Any, f: Any, h: Any) -> None:
    out[mask, : h.shape[1] // 2] = f(h[mask])[:, : h.shape[1] // 2]


def by_halves(out: Any, mask: Any, p: Any, f: Any, h: Any) -> None:
    out[mask] = f(torch.cat([h[mask], h[:0]]) + torch.zeros(int(mask.sum()), h.shape[1]))


@pytest.mark.slow
@pytest.mark.parametrize(("write", "said"), [(by_rows_of_a_slice, "`__setitem__` in `the model` writes to tokens"),
                                             (by_halves, "fails if every token is found")])  # fmt: skip
def test_a_way_of_writing_that_is_not_followed_is_refused_by_name(write: Callable[..., None], said: str) -> None:
    with pytest.raises(TensorProgError, match=said):
        read64(lambda n: Experts(n, loop(write)), ROWS)


@pytest.mark.parametrize(("trained", "said"), [
    ((True, True), ""), ((False, False), ""), ((False, True), ""), ((True, False), "the gradient is not the same"),
])  # fmt: skip
def test_a_gradient_that_only_the_model_as_it_stands_has_is_a_difference(trained: tuple[bool, bool], said: str) -> None:
    """`trained`: whether a backward pass is possible as it stands, and where every token is found."""
    module, turns = nn.Linear(8, 1), iter(trained)

    def run() -> list[tuple[str, Any]]:
        loss = module(ROWS.float()).square().mean()
        return [("loss", loss if next(turns) else loss.detach())]

    if said:
        with pytest.raises(TensorProgError, match=said):
            require_same(module, run, frozenset())
    else:
        require_same(module, run, frozenset())


def test_another_number_of_results_is_a_difference() -> None:
    module, counts = nn.Linear(8, 1), iter((1, 2))
    with pytest.raises(TensorProgError, match="what it returns is not the same"):
        require_same(module, lambda: [(str(k), module(ROWS.float()).sum()) for k in range(next(counts))], frozenset())
