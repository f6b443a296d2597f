"""Operations inside a small network: the graph gives what the module gives, at more than one width."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402, N812

import tensorprog.torch as tpt  # noqa: E402
from tensorprog.errors import TensorProgError  # noqa: E402
from tests.shared import tiers  # noqa: E402
from tests.torch.support import legal, read64, worst_difference  # noqa: E402

pytestmark = pytest.mark.torch
ROWS = torch.randn(6, 12, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


class Net(nn.Module):
    """Two layers; `end(h, y)` of the features h and the seven results y."""

    def __init__(self, n: int, end: Callable[[Any, Any], Any]) -> None:
        super().__init__()
        self.a, self.b, self.out, self.end = nn.Linear(12, 8 * n), nn.Linear(8 * n, 8 * n), nn.Linear(8 * n, 7), end

    def forward(self, x: Any) -> Any:
        h = F.relu(self.b(F.relu(self.a(x))))
        return self.end(h, self.out(h))


def pairs(y: Any) -> Any:
    """Matrices, [6, 7, 7]."""
    return y[:, :, None] * y[:, None].tanh()


def images(y: Any) -> Any:
    return pairs(y)[:, None].expand(6, 2, 7, 7)


def complex_of(y: Any) -> Any:
    return y + 1j * y.roll(1, -1)


def plane(z: Any) -> Any:
    """Both parts, and a modulus."""
    return torch.cat([z.real, z.imag, z.abs()], -1)


def written(h: Any, y: Any) -> Any:
    """A norm that is kept from zero in place, without gradients."""
    norm = h.norm(dim=-1, keepdim=True).clone()
    with torch.no_grad():
        norm.clamp_min_(1e-8)
    return (h / norm).sum(-1) + y[:, 0]


def sampled(h: Any, y: Any) -> Any:
    """Images read at places that are computed, some of them outside."""
    places, image = 1.3 * pairs(y).view(-1, 1)[: len(y) * 24].view(len(y), 4, 3, 2).tanh(), images(y)
    turned = F.grid_sample(image, F.affine_grid(y[:, :6].view(-1, 2, 3), [6, 2, 3, 4], align_corners=False),
                           padding_mode="border", align_corners=False)  # fmt: skip
    return F.grid_sample(image, places, align_corners=True).mT + turned


def reduced(y: Any, how: str, **options: Any) -> Any:
    at = torch.tensor([0, 0, 2, 2, 2, 3])[: len(y), None].expand_as(y)
    return y[:4].square().scatter_reduce(0, at, y, how, **options)


TARGET = ROWS[:, :7]
NEIGHBOURS = torch.sparse_coo_tensor([[0, 1, 2, 3, 0], [1, 2, 3, 0, 2]], torch.arange(1.0, 6.0).double(), (4, 6),
                                     check_invariants=True)  # fmt: skip
OPERATIONS = {
    "cosine_similarity": lambda h, y: F.cosine_similarity(h[:, None], h.roll(1, 0)[:, None], dim=-1),
    "written without gradients": written,
    "huber_loss": lambda h, y: F.huber_loss(y, TARGET[: len(y)], delta=0.3),
    "smooth_l1_loss": lambda h, y: F.smooth_l1_loss(y, TARGET[: len(y)], beta=0.5),
    "binary_cross_entropy": lambda h, y: F.binary_cross_entropy(torch.sigmoid(y), TARGET.abs().clamp(max=1)),
    "pos_weight": lambda h, y: F.binary_cross_entropy_with_logits(y, TARGET.sign(), pos_weight=TARGET[0].abs()),
    "soft_margin_loss": lambda h, y: F.soft_margin_loss(y, TARGET.sign()),
    "gaussian_nll_loss": lambda h, y: F.gaussian_nll_loss(y[:, :3], TARGET[:, :3], F.softplus(y[:, 3:6]) + 0.01),
    "cosine_embedding_loss": lambda h, y: F.cosine_embedding_loss(y, TARGET, torch.ones(6, dtype=torch.float64)),
    "entropy": lambda h, y: -(y.softmax(-1) * y.softmax(-1).log()).sum(-1) - y.sigmoid().log().sum(-1),
    "logarithms": lambda h, y: torch.log1p(y.exp()) + torch.log2(1 + y * y) + (3 * y.exp()).log(),
    "powers": lambda h, y: (1 + y * y) ** 0.7 + (1 + y * y) ** -2 + 1.5**y + torch.exp2(y) + y.exp() ** y,
    "roots": lambda h, y: (1 + y.exp()).sqrt() + (2 - y.tanh()).rsqrt(),
    "prod": lambda h, y: y.prod(-1) + torch.cumprod(y.sigmoid(), -1).sum(-1),
    "argmin": lambda h, y: F.one_hot(y.argmin(-1), 7).to(y) * y + F.one_hot(y.max(-1).indices, 7),
    "scatter over numbers": lambda h, y: torch.full_like(y, 2.0).scatter(1, y.topk(2).indices, y.topk(2).values),
    "scatter over -inf": lambda h, y: torch.full_like(y, -torch.inf).scatter(1, y.topk(2).indices, y[:, :2]).sigmoid(),
    "index_put": lambda h, y: y.index_put((torch.tensor([1, 3]),), y[:2] ** 2),
    "scatter_reduce": lambda h, y: reduced(y, "sum", include_self=False) + reduced(y, "mean") * reduced(y, "amin"),
    "scatter_reduce, largest": lambda h, y: reduced(y, "amax", include_self=False) + reduced(y, "amax"),
    "index_copy": lambda h, y: y.index_copy(0, torch.tensor([1, 3]), y[:2] ** 2),
    "index_put at pairs": lambda h, y: y.index_put((torch.tensor([[1], [3]]), torch.tensor([0, 2])), y[:2, :2] ** 2),
    "index_add, times a number": lambda h, y: y.index_add(0, torch.tensor([1, 3]), y[:2] ** 2, alpha=0.3),
    "grid_sample": sampled,
    "sparse": lambda h, y: torch.sparse.mm(NEIGHBOURS, y) + NEIGHBOURS @ y.tanh(),
    "tril": lambda h, y: torch.tril(pairs(y), -1) + torch.triu(pairs(y)),
    "triangular": lambda h, y: torch.linalg.solve_triangular(2 * torch.eye(7) + pairs(y), pairs(y), upper=False),
    "unitriangular": lambda h, y: torch.linalg.solve_triangular(pairs(y), pairs(y), upper=True, unitriangular=True),
    "cdist": lambda h, y: torch.cdist(y, TARGET) + torch.cdist(y, TARGET, p=1),
    "reflect": lambda h, y: F.pad(images(y), (2, 1, 1, 3), mode="reflect"),
    "replicate": lambda h, y: F.pad(images(y), (3, 0, 2, 2), mode="replicate"),
    "unfold": lambda h, y: F.unfold(images(y), (3, 2), padding=1, stride=2),
    "fold": lambda h, y: F.fold(F.unfold(images(y), (3, 2), padding=1, stride=2), (7, 7), (3, 2), padding=1, stride=2),
    "the largest of one": lambda h, y: y[..., None].topk(1)[0][..., 0] + y[..., None].sort(-1)[1][..., 0] * y,
    "a group of one, chosen": lambda h, y: torch.zeros(len(y), 1).to(y).scatter(1, y[:, :1].topk(1)[1], y[:, :1]) * y,
    "read where one is the largest": lambda h, y: y[..., None].gather(2, y[..., None].argmax(-1, keepdim=True)),
    "complex numbers": lambda h, y: plane(complex_of(y) * (2 - 1j) + y[:, :1] - 3j),
    "a complex exponential": lambda h, y: plane(torch.exp(-y.exp() + 1j * y)),
    "a complex quotient": lambda h, y: plane((1 + 2j) / (complex_of(y) + 3) + y / (y + 2j)),
    "parts and polar": lambda h, y: plane(torch.complex(y, h[:, :7]) + torch.polar(y.exp(), y)),
    "complex sums": lambda h, y: plane(complex_of(y).sum(-1, True) * complex_of(y).mean(0) - (1 - 1j * y).sum()),
    "complex, side by side": lambda h, y: plane(torch.cat([complex_of(y), 1j * y], -1).reciprocal()),
    "overlapping chunks": lambda h, y: pairs(y).as_strided((6, 2, 10, 2, 3), (49, 14, 1, 7, 0), 5),
    "in place": lambda h, y: (2 * y).as_strided_((7, 6), (1, 7)) + y.T,
    "adaptive_max_pool2d": lambda h, y: F.adaptive_max_pool2d(images(y)[..., :6, :], (3, 1)),
    "a tensor of one number": lambda h, y: torch.zeros(7, 7) * y[:, :, None] + torch.ones(7, 7) + y[:, None, :1],
    "a sum of squares in another order": lambda h, y: (pairs(y).mT * pairs(y).mT).sum(1).add(1e-6).rsqrt(),
}  # fmt: skip


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_graph_of_an_operation_computes_it(name: str) -> None:
    reading = read64(lambda n: Net(n, OPERATIONS[name]), ROWS)
    legal(reading.lowered.graph)
    assert worst_difference(reading) < 1e-12 and worst_difference(reading, 2) < 1e-12


class Cosine(nn.Module):
    """Classes by the angle with trained vectors."""

    def __init__(self, n: int, similarity: Callable[[Any, Any], Any]) -> None:
        super().__init__()
        self.a, self.w, self.similarity = nn.Linear(12, 8 * n), nn.Parameter(torch.randn(3, 8 * n)), similarity

    def forward(self, x: Any) -> Any:
        return self.similarity(self.a(x)[:, None], self.w[None])


@pytest.mark.parametrize("optimizer", tiers(["adam", "sgd"], ["adam"]))
def test_a_cosine_similarity_is_a_product_of_normalised_vectors(optimizer: str) -> None:
    normal = partial(F.normalize, dim=-1)
    forms = partial(F.cosine_similarity, dim=-1), lambda a, b: (normal(a) * normal(b)).sum(-1)
    one, two = (tpt.derive(lambda n, f=f: Cosine(n, f), ROWS.float(), optimizer).params for f in forms)
    assert one == two
    assert str(one["w"].init_std) == "1" and str(one["w"].lr) == {"adam": "1", "sgd": "n"}[optimizer]


def test_a_logarithm_of_what_vanishes_is_refused() -> None:
    class Vanishing(nn.Module):
        def __init__(self, n: int) -> None:
            super().__init__()
            self.a, self.out = nn.Linear(12, 8 * n), nn.Linear(8 * n, 3, bias=False)

        def forward(self, x: Any) -> Any:
            return torch.log(self.out(torch.relu(self.a(x))) ** 2)

    with pytest.raises(TensorProgError, match=r"a logarithm of .* which starts like n\^-1"):
        tpt.derive(Vanishing, ROWS.float())


class Scaled(nn.Module):
    """An embedding times the root of its width, a buffer in bfloat16, and the same weights to read out."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.e, self.b = nn.Embedding(11, 16 * n), nn.Linear(16 * n, 16 * n)
        self.register_buffer("scale", torch.tensor((16.0 * n) ** 0.5, dtype=torch.bfloat16))

    def forward(self, x: Any) -> Any:
        return torch.relu(self.b(torch.relu(self.e(x) * self.scale.float()))) @ self.e.weight.T


def test_a_number_that_was_rounded_to_bfloat16_has_its_law() -> None:
    found = tpt.derive(Scaled, torch.randint(0, 11, (6, 7), generator=torch.Generator().manual_seed(1)), "adam")
    assert str(found.params["e.weight"].init_std) == "n^-1/2"


class Slope(nn.Module):
    """The derivative of a network by its input, as in a physics-informed loss; `cut`: with a part that is detached."""

    def __init__(self, n: int, function: Callable[[Any], Any], cut: bool = False) -> None:
        super().__init__()
        self.a, self.b, self.out = nn.Linear(12, 8 * n), nn.Linear(8 * n, 8 * n), nn.Linear(8 * n, 1)
        self.function, self.cut = function, cut

    def forward(self, x: Any) -> Any:
        x = x.detach().requires_grad_()
        h = self.function(self.a(x))
        y = self.out(torch.tanh(self.b(h) + (h.detach() if self.cut else h)))
        (slope,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        return slope


class AttentionSlope(nn.Module):
    """The derivative of an attention block by its input, or of the logarithm of a softmax."""

    def __init__(self, n: int, logarithm: bool) -> None:
        super().__init__()
        self.first, self.value, self.last = nn.Linear(12, 8 * n), nn.Linear(8 * n, 8 * n), nn.Linear(8 * n, 1)
        self.scores, self.logarithm = nn.Linear(8 * n, 3), logarithm

    def forward(self, x: Any) -> Any:
        x = x.detach().requires_grad_()
        h = self.first(x)
        weights = self.scores(h).log_softmax(-1) if self.logarithm else self.scores(h).softmax(-1)
        y = self.last(self.value(h)) * weights.square()
        (slope,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        return slope


@pytest.mark.parametrize("logarithm", [False, True])
def test_a_second_derivative_passes_through_a_softmax(logarithm: bool) -> None:
    p = tpt.derive(lambda n: AttentionSlope(n, logarithm).double(), ROWS, "adam")
    assert worst_difference(p.reading) < 1e-12
    rates = [str(p.params[name].lr) for name in ("scores.weight", "scores.bias", "value.weight", "first.bias")]
    assert rates == ["1", "1", "n^-1", "1"]
    scores = next(m for m in p.changes.multipliers if m.param == "scores.weight")
    assert str(scores.needed) == "n^-1"  # where it sums; going back it does not


class Glow(nn.Module):
    def __init__(self, n: int, function: Callable[[Any], Any]) -> None:
        super().__init__()
        self.first, self.mix = nn.Linear(12, 8 * n), nn.Linear(8 * n, 8 * n, bias=False)
        self.function = function

    def forward(self, x: Any) -> Any:
        return self.mix(self.first(x)).square().mean() - self.function(self.mix.weight)


@pytest.mark.parametrize(("function", "message"), [(lambda w: torch.linalg.slogdet(w)[1], "determinant"),
                                                   (lambda w: (w * 1j).tanh().abs().sum(), "complex n")])  # fmt: skip
def test_what_is_not_covered_is_named(function: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(TensorProgError) as error:
        tpt.derive(lambda n: Glow(n, function), ROWS.float(), "adam")
    assert message in str(error.value)


@pytest.mark.parametrize(
    "function", [torch.tanh, *(pytest.param(f, marks=pytest.mark.slow) for f in (torch.sigmoid, torch.exp))]
)
def test_a_second_derivative_passes_through_what_autograd_saved(function: Callable[[Any], Any]) -> None:
    """Biases have a gradient through the slope of the functions behind them alone."""
    for cut in (False, True):
        p = tpt.derive(lambda n, cut=cut: Slope(n, function, cut).double(), ROWS, "adam")
        assert worst_difference(p.reading) < 1e-12
        assert [str(p.params[name].lr) for name in ("a.bias", "b.bias", "b.weight")] == ["1", "1", "n^-1"]
        assert "out.bias" not in p.params
