"""A number in the code behind a sum, a product or a homogeneous function that has a product of activations in it is
counted in, as it is right behind that product: scores / sqrt(d) are."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tensorprog.torch as tpt  # noqa: E402
from tensorprog.errors import TensorProgError  # noqa: E402
from tensorprog.torch.changes import Absorb, Attribute  # noqa: E402
from tensorprog.torch.trial import Trial  # noqa: E402
from tests.shared import n, tiers  # noqa: E402
from tests.torch.support import worst_difference  # noqa: E402

pytestmark = pytest.mark.torch
TIME, HALF = 7, Fraction(1, 2)
BETWEEN = {
    "nothing": lambda s, z, x: z,
    "a trained temperature": lambda s, z, x: z * s.temperature.exp(),
    "a trained bias": lambda s, z, x: z + s.bias,
    "both": lambda s, z, x: z * s.temperature.exp() + s.bias,
    "a mask": lambda s, z, x: z + s.mask,
    "a gate per token": lambda s, z, x: z * torch.sigmoid(s.gate(x)),
    "its own mean": lambda s, z, x: z - z.mean(-1, keepdim=True),
    "other scores": lambda s, z, x: z + s.other(x) @ s.k(x).transpose(1, 2),
    "data of every example": lambda s, z, x: z + s.seen,
    "a function": lambda s, z, x: torch.relu(z + s.bias),
    "its largest": lambda s, z, x: (z + s.bias) - (z + s.bias).amax(-1, keepdim=True),
    "itself": lambda s, z, x: z + torch.relu(z),
    "a detached one": lambda s, z, x: z - z.detach().mean(-1, keepdim=True),
}


class Attention(nn.Module):
    """One head that grows; something stands between its scores and their division by the root of its size."""

    def __init__(self, width: int, between: str) -> None:
        super().__init__()
        self.between, self.root = between, width**0.5
        self.first, self.last, self.gate = nn.Linear(5, width), nn.Linear(width, 3), nn.Linear(width, 1)
        self.q, self.k, self.v, self.other = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.temperature, self.bias = nn.Parameter(torch.zeros(())), nn.Parameter(torch.randn(TIME, TIME))
        self.register_buffer("mask", torch.full((TIME, TIME), -1e4).triu(1))

    def forward(self, x: Any) -> Any:
        self.seen, x = x[..., :1], self.first(x)
        scores = BETWEEN[self.between](self, self.q(x) @ self.k(x).transpose(1, 2), x) / self.root
        return self.last(x + scores.softmax(-1) @ self.v(x))


def derived(between: str) -> Any:
    x = torch.randn(4, TIME, 5, generator=torch.Generator().manual_seed(0))
    return tpt.derive(lambda n: Attention(8 * n, between), x, "adamw")


@pytest.mark.parametrize("between", tiers(BETWEEN, ["a mask", "a function"]))
def test_a_number_behind_sums_and_products_of_scores_is_counted_in(between: str) -> None:
    p = derived(between)
    scores = [m for m in p.changes.multipliers if m.kind == "product"]
    assert {(m.now, m.needed) for m in scores} == {(n(-HALF), n(-1))}
    if "bias" in p.params:  # divided too
        assert p.params["bias"].init_std == p.params["bias"].lr == n(HALF)


TWICE = {  # scores -> what reads them; the number that counts, where d is the size of the head
    "with smaller numbers": (lambda s, z, d: (z + s.bias) / d**0.5 + torch.tanh((z + s.bias) / d), n(-HALF)),
    "without a number": (lambda s, z, d: (z + s.bias) / d**0.5 + torch.tanh(z + s.bias), n(0)),
    "with two in a row": (lambda s, z, d: ((z + s.bias) / d**0.25 + s.mask) / d**0.25, n(-HALF)),
    "times itself": (lambda s, z, d: z * z / d**0.5, n(Fraction(-1, 4))),
    "times a function of itself": (lambda s, z, d: (z + s.bias) * torch.relu(z) / d, n(-HALF)),
    "and its square": (lambda s, z, d: (z * z + z) / d, n(-HALF)),
    "times its sign": (lambda s, z, d: z * torch.sign(z) / d**0.5, n(-HALF)),
    "and a sign of a multiple": (lambda s, z, d: z / d**0.5 + torch.sign(z * d), n(-HALF)),
    "leaky relu": (lambda s, z, d: nn.functional.leaky_relu(z, 0.2) / d**0.5, n(-HALF)),
    "prelu": (lambda s, z, d: nn.functional.prelu(z, s.temperature[None]) / d**0.5, n(-HALF)),
    "relu of both signs": (lambda s, z, d: (torch.relu(z) + torch.relu(-z)) / d**0.5, n(-HALF)),
    "softshrink": (lambda s, z, d: nn.functional.softshrink(z) / d**0.5, n(-HALF)),
    "clamped below": (lambda s, z, d: z.clamp(min=-5) / d**0.5, n(-HALF)),
    "where positive": (lambda s, z, d: z * (z > 0).to(z) / d**0.5, n(-HALF)),
    "where above a bias": (lambda s, z, d: torch.where(z > s.bias, z, torch.zeros_like(z)) / d**0.5, n(-HALF)),
    "masked where negative": (lambda s, z, d: z.masked_fill(z < 0, -1e9) / d**0.5, n(-HALF)),
    "masked below the third": (lambda s, z, d: z.masked_fill(z < z.topk(3)[0][..., -1:], -1e9) / d**0.5, n(-HALF)),
    "sorted": (lambda s, z, d: z.sort(-1)[0] / d**0.5, n(-HALF)),
    "the largest, sorted": (lambda s, z, d: z.topk(TIME)[0] / d**0.5, n(-HALF)),
    "and itself, clamped": (lambda s, z, d: (z + z.clamp(-5, 5)) / d**0.5, n(-HALF)),
    "where outside": (lambda s, z, d: torch.where((z < -5) | (z > 5), z, torch.zeros_like(z)) / d**0.5, n(-HALF)),
    "smaller where inside": (lambda s, z, d: torch.where(z.abs() < 5, 0.1 * z, z) / d**0.5, n(-HALF)),
    "below a number": (lambda s, z, d: z * (z < 5) / d**0.5, n(-HALF)),
    "above a number": (lambda s, z, d: nn.functional.threshold(z, 0.5, -3.0) / d**0.5, n(-HALF)),
    "where its relu is large": (lambda s, z, d: z * (torch.relu(z) > 0.1) / d**0.5, n(-HALF)),
    "in parts": (lambda s, z, d: torch.cat([z[..., :3] / d**0.5, z[..., 3:] / d], -1), n(-HALF)),
    "in parts, the first one smaller": (lambda s, z, d: torch.cat([z[..., :3] / d, z[..., 3:] / d**0.5], -1), n(-HALF)),
    "and its mean over the batch": (lambda s, z, d: (z + z.mean(0)) / d**0.5, n(-HALF)),
}


class Twice(Attention):
    def forward(self, x: Any) -> Any:
        x = self.first(x)
        scores = TWICE[self.between][0](self, self.q(x) @ self.k(x).transpose(1, 2), self.root**2)
        return self.last(x + scores.softmax(-1) @ self.v(x))


@pytest.mark.parametrize(
    "readers", tiers(TWICE, ["with two in a row", "where positive", "sorted", "and itself, clamped", "in parts"])
)
def test_of_several_numbers_behind_scores_the_largest_is_counted_in(readers: str) -> None:
    x = torch.randn(4, TIME, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    p = tpt.derive(lambda n: Twice(8 * n, readers).double(), x, "adamw")
    assert worst_difference(p.reading) < 1e-9
    assert [(m.now, m.needed) for m in p.changes.multipliers if m.kind == "product"] == [(TWICE[readers][1], n(-1))]


PARTS = slice(3), slice(3, None)
BEHIND = {  # functions that no number passes through
    "silu": lambda z, d: nn.functional.silu(z) / d**0.5,
    "elu": lambda z, d: nn.functional.elu(z) / d**0.5,
    "clamp": lambda z, d: z.clamp(-5, 5) / d**0.5,
    "times itself, clamped": lambda z, d: z * z.clamp(-5, 5) / d**0.5,
    "relu6": lambda z, d: nn.functional.relu6(z) / d**0.5,
    "hardswish": lambda z, d: nn.functional.hardswish(z) / d**0.5,
    "between steps": lambda z, d: z * (z < 5) * (z > -5) / d**0.5,
    "where small": lambda z, d: torch.where(z.abs() < 5, z, 0) / d**0.5,
    "where not large": lambda z, d: torch.where(z.abs() <= 5, z, 0) / d**0.5,
    "where both": lambda z, d: torch.where((z < 5) & (z > -5), z, 0) / d**0.5,
    "where the clamped is small": lambda z, d: torch.where(z.clamp(-6, 6).abs() <= 5, z, 0) / d**0.5,
    "between steps, part by part": lambda z, d: (
        torch.cat([z[..., k] * (z[..., k] < 5) * (z[..., k] > -5) for k in PARTS], -1) / d**0.5
    ),
    "a difference of steps": lambda z, d: (z * (z < 5) - z * (z < -5)) / d**0.5,
    "its own gate": lambda z, d: z * torch.sigmoid(z) / d**0.5,
    "logarithms of shares": lambda z, d: (z - z.logsumexp(-1, keepdim=True)) / d**0.5,
}


class Behind(Attention):
    def forward(self, x: Any) -> Any:
        x = self.first(x)
        z, d = self.q(x) @ self.k(x).transpose(1, 2), self.root**2
        scores = BEHIND[self.between](z, d) if self.between in BEHIND else self.early(z, d)
        return self.last(x + scores.softmax(-1) @ self.v(x))

    def early(self, z: Any, d: float) -> Any:
        return BEHIND[self.between.removesuffix(", early")](z / d**0.5, 1.0)


@pytest.mark.parametrize("function", tiers(BEHIND, ["silu", "clamp", "hardswish", "between steps"]))
def test_a_number_behind_a_function_that_it_cannot_pass_is_refused_with_advice_that_helps(function: str) -> None:
    x = torch.randn(4, TIME, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with pytest.raises(TensorProgError, match=r"`bmm` does vanishes like n\^-1/2, by the number at `div`") as error:
        tpt.derive(lambda n: Behind(8 * n, function).double(), x, "adamw")
    assert "right behind the product" in error.value.fix
    early = tpt.derive(lambda n: Behind(8 * n, f"{function}, early").double(), x, "adamw")
    assert [(m.now, m.needed) for m in early.changes.multipliers if m.kind == "product"] == [(n(-HALF), n(-1))]


class Branch(Attention):
    """What attention adds is small by a number of its own."""

    def forward(self, x: Any) -> Any:
        x = self.first(x)
        z = self.q(x) @ self.k(x).transpose(1, 2) / self.root
        if self.between == "gate":
            return self.last(x + torch.sigmoid(z.mean(-1, keepdim=True)) * self.v(x) / self.root)
        z = nn.functional.silu(z) / self.root if self.between == "late" else z
        return self.last(x + z.softmax(-1) @ self.v(x) / self.root)


@pytest.mark.parametrize("kind", ["softmax", "gate"])
def test_a_number_behind_another_product_is_not_that_of_the_scores(kind: str) -> None:
    p = tpt.derive(lambda n: Branch(8 * n, kind), torch.randn(4, TIME, 5), "adamw")
    assert [(m.now, m.needed) for m in p.changes.multipliers if m.kind == "product"] == [(n(-HALF), n(-1))]


def test_scores_that_vanish_in_front_of_another_product_with_a_number_are_refused() -> None:
    with pytest.raises(TensorProgError, match="`bmm` does vanishes like n"):
        tpt.derive(lambda n: Branch(8 * n, "late"), torch.randn(4, TIME, 5), "adamw")


class Normed(Attention):
    def forward(self, x: Any) -> Any:
        x = self.first(x)
        z = self.q(x) @ self.k(x).transpose(1, 2)
        scores = nn.functional.rms_norm(z, (TIME,)) + z / self.root
        return self.last(x + scores.softmax(-1) @ self.v(x))


def test_two_numbers_of_which_the_smaller_one_vanishes_beside_a_norm_are_refused() -> None:
    x = torch.randn(4, TIME, 5)
    with pytest.raises(TensorProgError, match="`bmm` is read with different numbers"):
        tpt.derive(lambda n: Normed(8 * n, ""), x, "adamw")


class Compared(Attention):
    def forward(self, x: Any) -> Any:
        x = self.first(x)
        z, other = ((q(x) @ self.k(x).transpose(1, 2)) / self.root for q in (self.q, self.other))
        return self.last(x + (z * (z > other)).softmax(-1) @ self.v(x))


def test_scores_that_are_compared_with_other_scores_keep_their_number() -> None:
    x = torch.randn(4, TIME, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    p = tpt.derive(lambda n: Compared(8 * n, "").double(), x, "adamw")
    assert worst_difference(p.reading) < 1e-9
    assert (n(-HALF), n(-1)) in {(m.now, m.needed) for m in p.changes.multipliers if m.kind == "product"}


class Function(Attention):
    def forward(self, x: Any) -> Any:
        x = self.first(x)
        z, bias = self.q(x) @ self.k(x).transpose(1, 2), torch.sigmoid(self.bias)
        scores = (z + bias) / self.root if self.between == "together" else z / self.root + bias
        return self.last(x + scores.softmax(-1) @ self.v(x))


def test_a_number_that_no_start_can_make_up_for_is_refused_with_advice_that_helps() -> None:
    x = torch.randn(4, TIME, 5)
    with pytest.raises(TensorProgError, match="`bias` grows like") as error:
        tpt.derive(lambda n: Function(8 * n, "together"), x, "adamw")
    assert "`z / d ** 0.5 + f(b)`" in error.value.fix and "shrinks" in error.value.why
    assert tpt.derive(lambda n: Function(8 * n, "apart"), x, "adamw").params["bias"].init_std == n(0)


class Weights(nn.Module):
    """Two sorts of scores from parameters without modules, and one number for both (XLNet)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.last, self.scale = nn.Linear(5, width), nn.Linear(width, 3), width**-0.5
        self.q, self.r, self.k, self.v = (nn.Parameter(torch.randn(width, width) / width**0.5) for _ in range(4))

    def forward(self, x: Any) -> Any:
        x = self.first(x)
        k = (x @ self.k).transpose(1, 2)
        return self.last((((x @ self.q) @ k + (x @ self.r) @ k) * self.scale).softmax(-1) @ (x @ self.v))


@pytest.mark.slow
def test_one_number_behind_two_products_takes_the_factor_of_both() -> None:
    """Multiplied at its place once, although each could be absorbed into a weight of its own."""
    p = tpt.derive(lambda n: Weights(8 * n), torch.randn(4, TIME, 5), "adamw")
    first, second = p.changes.multipliers
    assert first.places == second.places == (Attribute("", "scale"), Absorb("k"))
    assert (first.shared_with, second.shared_with) == ("", first.name)
    model = Weights(64)
    p.apply(model, base=2)
    assert model.scale == 64**-0.5 / 2


@pytest.mark.parametrize("between", tiers(BETWEEN, ["both"]))
def test_the_graph_computes_what_the_model_does(between: str) -> None:
    x = torch.randn(4, TIME, 5, dtype=torch.float64)
    p = tpt.derive(lambda n: Attention(8 * n, between).double(), x)
    assert worst_difference(p.reading) < 1e-9


@pytest.mark.slow
def test_every_tensor_behaves_as_derived_and_not_without_the_multiplier() -> None:
    p = derived("both")
    widths = (32, 64, 128, 256)
    report = p.check(widths, seeds=4, steps=1)
    assert report.verdict != "disagrees", str(report)
    wrong = p.check(widths, seeds=4, steps=1, keep=["bmm"])
    assert "(top): div" in {row.tensor for row in wrong.rows if row.verdict == "disagrees"}


class Beside(Attention):
    """Some scores beside squares of others, which a softmax sees before them; or scores over their largest."""

    def forward(self, x: Any) -> Any:
        x = self.first(x)
        z, other = (q(x) @ self.k(x).transpose(1, 2) for q in (self.q, self.other))
        if self.between == "squares":
            scores = torch.cat([torch.relu(z[..., :3]), other[..., 3:] ** 2], -1) / self.root
        else:
            scores = z / z.abs().amax(-1, keepdim=True) + other / self.root
        return self.last(x + scores.softmax(-1) @ self.v(x))


@pytest.mark.parametrize(("beside", "idle"), [("squares", [False, False]), ("largest", [True, False])])
def test_a_product_is_without_effect_only_if_no_factor_shows(beside: str, idle: list[bool]) -> None:
    x = torch.randn(4, TIME, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    reading = tpt.derive(lambda n: Beside(8 * n, beside).double(), x, "adam").reading
    assert [Trial(reading).idle(name) for name in reading.lowered.products] == idle
