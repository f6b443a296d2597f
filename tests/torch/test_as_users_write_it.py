"""Code as users write it: small modules, each with one thing that a reader of models must not get wrong."""

from __future__ import annotations

from functools import partial

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402, N812
from torch.utils.checkpoint import checkpoint  # noqa: E402

import tensorprog.torch as tpt  # noqa: E402
from tensorprog.errors import TensorProgError  # noqa: E402
from tensorprog.torch.model import derive_reading, read  # noqa: E402
from tensorprog.torch.routed import Routed  # noqa: E402
from tests.shared import tiers  # noqa: E402
from tests.torch.support import worst_difference  # noqa: E402

pytestmark = pytest.mark.torch
BATCH, TIME, SIZE = 6, 7, 12


def reals(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


ROWS, SEQUENCE = reals(BATCH, SIZE), reals(BATCH, TIME, SIZE)
CLASSES = torch.tensor([0, 2, 1, 1, 0, 2])


class Net(nn.Module):
    """Two layers, and `middle(h)` between them."""

    def __init__(self, n: int, middle=lambda h: h) -> None:
        super().__init__()
        self.a, self.b, self.out = nn.Linear(SIZE, 8 * n), nn.Linear(8 * n, 8 * n), nn.Linear(8 * n, 3)
        self.middle = middle
        self.double()

    def forward(self, x):
        return self.out(F.relu(self.b(self.middle(self.a(x)))))


def rates(build, inputs=ROWS) -> dict[str, str]:
    return {name: str(p.lr) for name, p in tpt.derive(build, inputs=inputs, optimizer="adam").params.items()}


def test_a_softmax_over_channels_is_refused_in_terms_of_the_model() -> None:
    with pytest.raises(TensorProgError, match="axis that grows") as caught:
        tpt.derive(lambda n: Net(n, lambda h: h.softmax(-1)), inputs=ROWS, optimizer="adam")
    assert "keeps its size" in caught.value.fix


# --- masks on weights ------------------------------------------------------------------------------------


class Masked(nn.Module):
    """A net whose weights a buffer masks: in a product, or (`aside`) in their own memory, past the gradients."""

    def __init__(self, n: int, masked: bool, aside: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in ((SIZE, 8 * n), (8 * n, 8 * n), (8 * n, 3)))
        self.masked, self.aside = masked, aside
        for k, layer in enumerate(self.layers):
            rows, columns = (torch.arange(size) % 3 for size in layer.weight.shape)
            self.register_buffer(f"mask{k}", (rows[:, None] >= columns).float())

    def forward(self, x):
        for k, layer in enumerate(self.layers):
            mask = self.get_buffer(f"mask{k}") if self.masked else 1
            if self.aside:
                layer.weight.data *= mask
            x = F.linear(torch.relu(x), layer.weight if self.aside else layer.weight * mask, layer.bias)
        return x


@pytest.mark.parametrize("aside", tiers([False, True], ["True"]))
def test_a_masked_weight_is_a_weight(aside) -> None:
    builders = [partial(Masked, masked=masked, aside=aside and masked) for masked in (False, True)]
    plain, masked = (tpt.derive(lambda n, b=b: b(n), inputs=ROWS.float(), optimizer="adam") for b in builders)
    assert masked.params == plain.params
    assert all(m.needed.exponents == () for m in masked.changes.multipliers)


# --- tokens that experts choose --------------------------------------------------------------------------


def by_where(f, h, weight, chosen, out, e):
    at, k = torch.where(chosen == e)
    out[at] += weight[at, k, None] * f(h[at])


def by_mask(f, h, weight, chosen, out, e):
    mask = chosen[:, 0] == e
    if mask.any():
        out[mask] = f(h[mask]) * weight[mask, 0].unsqueeze(-1)


def by_one_hot(f, h, weight, chosen, out, e):
    k, at = torch.where(F.one_hot(chosen, 4).permute(2, 1, 0)[e])
    out.index_add_(0, at, f(h[at]) * weight[at, k, None])


def by_nonzero(f, h, weight, chosen, out, e):
    place = (chosen.reshape(-1) == e).nonzero().squeeze(-1)
    out.index_add_(0, place // 2, f(h[place // 2]) * weight.reshape(-1)[place, None])


def means(f, h, weight, chosen, out, e):
    out += f(h[chosen[:, 0] == e]).mean(0)


class Experts(nn.Module):
    """A loop over experts, each of which finds its tokens."""

    def __init__(self, n: int, apply) -> None:
        super().__init__()
        self.first, self.router, self.last = nn.Linear(SIZE, 8 * n), nn.Linear(8 * n, 4), nn.Linear(8 * n, 3)
        self.experts, self.apply_expert = nn.ModuleList(nn.Linear(8 * n, 8 * n) for _ in range(4)), apply
        self.double()

    def forward(self, x):
        h = self.first(x)
        weight, chosen = self.router(h).softmax(-1).topk(2)
        out = torch.zeros_like(h)
        for e, expert in enumerate(self.experts):
            self.apply_expert(expert, h, weight, chosen, out, e)
        return self.last(h + out)


@pytest.mark.slow
@pytest.mark.parametrize("apply", [by_where, by_mask, by_one_hot, by_nonzero])
def test_experts_that_find_their_tokens_are_read_on_all_tokens(apply) -> None:
    reading = read(lambda n: Experts(n, apply), ROWS)
    assert worst_difference(reading) < 1e-12
    found = {k: (str(e.init_std), str(e.lr)) for k, e in derive_reading(reading, "adam").params.items()}
    assert found["experts.3.weight"] == ("n^-1/2", "n^-1") and found["router.weight"] == ("n^-1", "n^-1")


@pytest.mark.slow
def test_a_mean_over_the_tokens_of_an_expert_is_refused() -> None:
    with pytest.raises(TensorProgError, match="not the same if every token is found"):
        read(lambda n: Experts(n, means), ROWS)


@pytest.mark.slow
def test_what_is_misread_is_refused_behind_zeros_and_in_the_loss_too() -> None:
    def closed(n):
        model = Experts(n, means)
        nn.init.zeros_(model.last.weight)
        return model

    seen = []

    def noted(f, h, weight, chosen, out, e):
        by_where(f, h, weight, chosen, out, e)
        seen.append(h[chosen[:, 0] == e].sum())

    with pytest.raises(TensorProgError, match="`output` is not the same if every token is found"):
        read(closed, ROWS)
    with pytest.raises(TensorProgError, match="`loss` is not the same if every token is found"):
        read(lambda n: (Experts(n, noted), ROWS, lambda y: y.square().mean() + seen[-1]))
    with pytest.raises(TensorProgError, match=r"`the gradient of .*` is not the same"):
        read(lambda n: (Experts(n, noted), ROWS, lambda y: y.square().mean() + seen[-1] - seen[-1].detach()))


@pytest.mark.slow
def test_a_check_trains_what_the_model_as_it_stands_computes(monkeypatch) -> None:
    p = derive_reading(read(lambda n: Experts(n, by_where), ROWS), "adam")
    assert p.check([4, 8, 16], seeds=1, steps=1, lr=1e-3).rows
    kept = Routed._kept
    monkeypatch.setattr(Routed, "_kept", lambda self, at: None if kept(self, at) is None else kept(self, at) | True)
    with pytest.raises(TensorProgError, match="`loss` is not the same if every token is found"):
        p.check([4, 8, 16], seeds=1, steps=1, lr=1e-3)


def asserted(h):
    assert not torch.isnan(h).any()
    return h


def kept_from_overflow(h):
    return h / h.shape[-1] if (h.abs() > 1e6).any() else h


@pytest.mark.slow
def test_what_is_measured_in_a_model_is_no_choice_of_an_expert() -> None:
    assert rates(lambda n: Net(n, asserted)) == rates(lambda n: Net(n, kept_from_overflow)) == rates(Net)
    with pytest.raises(TensorProgError, match="not covered"):
        read(lambda n: Net(n, lambda h: h + h[h > 0].sum()), ROWS)


@pytest.mark.parametrize("op", tiers(["gt", "ge", "lt", "le"], ["le"]))
def test_a_comparison_has_the_values_of_pytorch_in_ties(op) -> None:
    """Row by row smaller than, equal to and larger than what it is compared with."""

    def chosen(h):
        other = h + (torch.arange(len(h)) % 3 - 1)[:, None]
        assert {*(h - other).sign().unique().tolist()} == {-1, 0, 1}
        return h * getattr(torch, op)(h, other) + h

    assert worst_difference(read(lambda n: Net(n, chosen), ROWS)) < 1e-12


# --- a forward of one's own, and a recomputed one --------------------------------------------------------


class Clipped(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * (x > 0)


class StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.sign()

    @staticmethod
    def backward(ctx, grad):
        return grad


@pytest.mark.slow
def test_what_is_below_a_function_of_ones_own_is_trained_as_if_it_stood_in_the_module():
    assert rates(lambda n: Net(n, Clipped.apply)) == rates(lambda n: Net(n, F.relu))


@pytest.mark.parametrize("reentrant", tiers([False, True], ["True"]))
def test_a_recomputed_part_is_trained_like_one_that_is_not(reentrant):
    again = lambda h: checkpoint(F.relu, h, use_reentrant=reentrant)  # noqa: E731
    assert rates(lambda n: Net(n, again)) == rates(lambda n: Net(n, F.relu))


def test_a_backward_that_is_not_the_derivative_is_refused_by_name():
    with pytest.raises(TensorProgError, match="backward of `StraightThrough`"):
        tpt.derive(lambda n: Net(n, StraightThrough.apply), inputs=ROWS)


def test_a_straight_through_estimate_by_detach_trains_what_is_below_it():
    build = lambda n: Net(n, lambda h: h + (h.sign() - h).detach())  # noqa: E731
    assert rates(build) == rates(lambda n: Net(n, torch.tanh))
    with pytest.raises(TensorProgError, match="comparison or sign"):
        tpt.derive(build, inputs=ROWS).to_tp()


@torch.jit.script
def gated(x):
    return x * torch.sigmoid(x)


@pytest.mark.slow
def test_what_is_below_a_function_of_torchscript_is_trained_like_the_same_in_python():
    assert rates(lambda n: Net(n, gated)) == rates(lambda n: Net(n, lambda x: x * torch.sigmoid(x)))


class Scores(nn.Module):
    """Products of queries and keys, summed by `dot`."""

    def __init__(self, n: int, dot) -> None:
        super().__init__()
        self.q, self.k, self.w = nn.Linear(SIZE, 8 * n), nn.Linear(SIZE, 8 * n), nn.Parameter(torch.randn(8 * n))
        self.dot = dot
        self.double()

    def forward(self, x):
        h = torch.tanh(self.q(x))
        return self.dot(h, self.w) + self.dot(h, self.k(x))


@pytest.mark.slow
def test_a_product_that_is_summed_afterwards_is_a_product():
    apart, whole = (tpt.derive(lambda n, dot=dot: Scores(n, dot), inputs=ROWS, optimizer="adam") for dot in (
        lambda a, b: (a * b).sum(-1), lambda a, b: torch.einsum("bi,bi->b", a, b.expand_as(a))))  # fmt: skip
    assert apart.params == whole.params
    assert worst_difference(apart.reading) < 1e-12


class Projected(Net):
    """A fixed random matrix between the layers, times `factor(n)`."""

    def __init__(self, n: int, factor) -> None:
        super().__init__(n, lambda h: torch.tanh(F.relu(h) @ self.fixed) * 1.0)
        self.register_buffer("fixed", torch.randn(8 * n, 8 * n).double() * factor(8 * n))


@pytest.mark.slow
def test_the_advice_for_a_product_that_grows_is_code_and_works():
    with pytest.raises(TensorProgError, match=r"grows like n\^1/2") as error:
        tpt.derive(lambda n: Projected(n, lambda size: 1.0), inputs=ROWS)
    assert "x.shape[-1] ** 0.5" in error.value.fix and "?" not in error.value.fix
    assert rates(lambda n: Projected(n, lambda size: size**-0.5))


# --- operations: the graph computes what the module does ---------------------------------------------------


def rotated(h):
    """Rotary positions by complex numbers."""
    angles = torch.outer(torch.arange(TIME, dtype=torch.float64), 1.0 / 10.0 ** torch.arange(2.0, dtype=torch.float64))
    pairs = torch.view_as_complex(h.reshape(*h.shape[:-1], -1, 2, 2))
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles)[:, None]).flatten(2)


def replaced(h):
    h = h.clone()
    h[:, 0] = 0.5
    h[:, 1:] += h[:, :-1].clone()
    return h


SHAPED = {
    "rotary": (rotated, SEQUENCE),
    "modulus": (lambda h: torch.view_as_complex(h.reshape(*h.shape[:-1], -1, 2)).abs().repeat(1, 1, 2), SEQUENCE),
    "fourier": (lambda h: torch.fft.fft(h, dim=1).real + h, SEQUENCE),
    "filtered": (lambda h: torch.fft.irfft(torch.fft.rfft(h, dim=1)[:, :2], n=TIME, dim=1), SEQUENCE),
    "replaced": (replaced, SEQUENCE),
    "chosen": (lambda h: torch.where(h > 0, h, -0.1 * h), ROWS),
    "masked": (lambda h: h.masked_fill(~((h < 0) | (h > 1)), 0.3), ROWS),
    "log_softmax": (lambda h: h + F.log_softmax(h.view(BATCH, -1, 4), -1).flatten(1), ROWS),
    "shuffled": (lambda h: F.pixel_shuffle(h.view(BATCH, -1, 2, 2), 2).flatten(1)
                 + F.pixel_unshuffle(h.view(BATCH, -1, 2, 2), 2).flatten(1), ROWS),
    "expm1": (torch.expm1, ROWS),
    "padded": (lambda h: F.pad(h.mT, (1, -2), value=0.3).mT, SEQUENCE),
    "resized": (lambda h: F.interpolate(h.mT, 4).mT + F.adaptive_avg_pool1d(h.mT, 4).mT
                + F.interpolate(h.mT, scale_factor=0.7, mode="linear").mT, SEQUENCE),
    "largest": (lambda h: F.max_pool2d(h.mT, (1, 3), (1, 2), (0, 1), ceil_mode=True).mT
                - F.max_pool1d(h.mT, 2, 1, 1).mT[:, ::2], SEQUENCE),
    "averaged": (lambda h: F.avg_pool2d(h.mT, (1, 3), (1, 2), (0, 1), ceil_mode=True, count_include_pad=False).mT
                 + F.avg_pool2d(h.mT, (1, 3), (1, 2), (0, 1), ceil_mode=True, divisor_override=4).mT, SEQUENCE),
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPED)
def test_the_graph_computes_what_the_module_computes(name):
    middle, inputs = SHAPED[name]
    assert worst_difference(read(lambda n: Net(n, middle), inputs)) < 1e-12


class SpectralLayer(nn.Module):
    """A Fourier neural operator's layer: a complex matrix at every low frequency."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.a, self.out = nn.Linear(SIZE, 4 * n), nn.Linear(4 * n, 3)
        self.w = nn.Parameter(torch.randn(4 * n, 4 * n, 3, dtype=torch.complex128) / (4 * n))
        self.a.double(), self.out.double()

    def forward(self, x):
        z = torch.fft.rfft(self.a(x).transpose(1, 2))
        kept = torch.zeros_like(z)
        kept[:, :, :3] = torch.einsum("bix,iox->box", z[:, :, :3], self.w)
        return self.out(F.gelu(torch.fft.irfft(kept, n=TIME).transpose(1, 2)))


def test_a_complex_matrix_is_a_matrix():
    p = tpt.derive(SpectralLayer, inputs=SEQUENCE, optimizer="adam")
    assert worst_difference(p.reading) < 1e-12
    assert (str(p.params["w"].init_std), str(p.params["w"].lr)) == ("n^-1/2", "n^-1")


# --- results and losses -----------------------------------------------------------------------------------


class Returns(Net):
    """Gives back what `make` makes of the logits."""

    def __init__(self, n: int, make) -> None:
        super().__init__(n, torch.tanh)
        self.make = make

    def forward(self, x):
        return self.make(super().forward(x))


LOSSES = {
    "nested": lambda y: {"predictions": {"classes": y}, "features": [y * 2]},
    "smoothed": lambda y: F.cross_entropy(y, CLASSES, label_smoothing=0.1),
    "picked": lambda y: -F.log_softmax(y, -1).gather(1, CLASSES[:, None]).mean(),
    "log_softmax": lambda y: F.log_softmax(y, -1),
    "log_sum": lambda y: y.logsumexp(-1),
    "flattened": lambda y: F.cross_entropy(y.view(2, 3, 3).reshape(-1, 3), CLASSES),
    "squares": lambda y: F.mse_loss(y, ROWS[: len(y), :3]),
    "divergence": lambda y: F.kl_div(F.log_softmax(y, -1), ROWS[:, :3].softmax(-1), reduction="batchmean"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", tiers(LOSSES, ("nested",)))
def test_whatever_a_model_returns_its_exponents_are_those_of_its_logits(name):
    p = tpt.derive(lambda n: Returns(n, LOSSES[name]), inputs=ROWS, optimizer="adam")
    assert {k: str(v.lr) for k, v in p.params.items()} == rates(lambda n: Net(n, torch.tanh))
    assert worst_difference(p.reading) < 1e-7
    assert p.to_tp()
    assert p.lint().findings


class Pooled(nn.Module):
    """A weighted sum over positions, whose weights start at n^(-1/2), move by 1, and are normalised."""

    def __init__(self, n: int, norm) -> None:
        super().__init__()
        self.norm, self.enter, self.out = norm, nn.Linear(8, n), nn.Linear(n, 3)
        self.score = nn.Linear(n, 1, bias=False)

    def forward(self, x):
        h = torch.tanh(self.enter(x))
        return self.out((self.norm(self.score(h)) * h).sum(1))


def test_a_number_at_a_norm_hides_not_what_the_norm_takes_away():
    """Whatever the weights are before it, behind it they are of order 1."""
    p = tpt.derive(lambda n: Pooled(n, partial(F.normalize, dim=1)), torch.randn(4, 5, 8), "adamw")
    assert str(p.changes.parameter("out.weight").needed.lr) == "n^-1"


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_weight_is_used_where_it_meets_something_also_if_its_mean_is_taken_off(optimizer):
    """Weight standardisation behind a relu: w - mean(w) is a sum of one parameter alone, which asks for nothing."""

    class Standardised(Net):
        def __init__(self, n: int, centred: bool) -> None:
            super().__init__(n)
            self.centred = centred

        def forward(self, x):
            w = self.b.weight
            w = w - w.mean(1, keepdim=True) if self.centred else w
            return self.out(F.relu(F.linear(F.relu(self.a(x)), w / w.norm(dim=1, keepdim=True))))

    plain, centred = (tpt.derive(partial(Standardised, centred=on), ROWS, optimizer) for on in (False, True))
    assert {str(power) for p in (plain, centred) for power in p.derivation.multipliers.values()} == {"1"}
    assert {k: v.lr for k, v in centred.params.items()} == {k: v.lr for k, v in plain.params.items()}
