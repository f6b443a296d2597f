"""Linting says what is wrong with a model as it stands, by the exponents the calculus predicts for it, and no more."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tensorprog.torch as tpt  # noqa: E402
from tensorprog.cli import main  # noqa: E402
from tests.torch_apply import models  # noqa: E402

pytestmark = pytest.mark.torch


def findings(build, optimizer, inputs=None):
    return [(f.what, f.where, f.effect, f.exponent, f.tensor, f.part, f.step)
            for f in tpt.derive(build, inputs=inputs, optimizer=optimizer).lint().findings]  # fmt: skip


def test_a_perceptron_under_adam_with_one_learning_rate():
    """Hidden weights and readout learn n times too fast; the readout starts n^1/2 too large, which shows at the first
    update. Where the learning rate falls like 1/n so does what a decay takes per step; where gradients are n^-1, which
    is everywhere but at the readout, an epsilon for all widths rules the step."""
    vanishes = "its decay vanishes", "-1"
    assert findings(models.mlp, "adamw") == [
        ("lr", "hidden.weight", "grows", "1", "hidden: addmm", "change", 1),
        ("lr", "readout.weight", "grows", "1", "readout: addmm", "change", 1),
        ("weight decay", "hidden.weight", *vanishes, "hidden: addmm", "change", 1),
        ("weight decay", "readout.weight", *vanishes, "readout: addmm", "change", 1),
        *(("eps", f"{layer}.{name}", "its part vanishes", "-1", f"{layer}: addmm", "change", 1)
          for layer in ("first", "hidden") for name in ("weight", "bias")),
        ("init", "readout.weight", "grows", "1/2", "readout: addmm", "change", 1),
    ]  # fmt: skip


@pytest.mark.slow
def test_a_decay_or_an_epsilon_that_the_optimizer_does_not_have_is_not_found_wrong():
    """Adam's own decay is zero; SGD has no epsilon."""
    kinds = {optimizer: {f[0] for f in findings(models.mlp, optimizer)} for optimizer in ("adamw", "adam", "sgd")}
    assert kinds["adamw"] - kinds["adam"] == {"weight decay"}
    assert kinds["adam"] - kinds["sgd"] == {"eps"}


def test_an_epsilon_above_the_gradients_slows_adam_by_their_ratio():
    """The same by a witness without a calculus: Adam's first step of one weight, at gradients that shrink."""
    steps = []
    for n in (10, 1000):
        w = torch.zeros(1, dtype=torch.float64, requires_grad=True)
        w.grad = torch.full_like(w, 1e-6 / n)
        torch.optim.Adam([w], lr=1.0, eps=1.0).step()
        steps.append(-w.item())
    assert steps[0] / steps[1] == pytest.approx(100, rel=1e-3)


@pytest.mark.slow
def test_findings_of_one_epsilon_are_one_entry():
    text = str(tpt.derive(models.mlp, optimizer="adamw").lint())
    assert text.count("epsilon") == 1 and "first.weight and 3 more: epsilon scales like 1, must like n^-1" in text
    assert "fix: a parameter group with eps * (n / base_n) ** -1" in text


@pytest.mark.slow
def test_a_perceptron_under_sgd_with_one_learning_rate():
    """The first layer and the biases learn n times too slowly, which others hide; the readout too fast."""
    found = findings(models.mlp, "sgd")
    assert [f[:4] for f in found] == [
        ("lr", "readout.weight", "grows", "1"),
        ("lr", "first.weight", "its part vanishes", "-1"),
        ("lr", "first.bias", "its part vanishes", "-1"),
        ("lr", "hidden.bias", "its part vanishes", "-1"),
        ("init", "readout.weight", "grows", "1/2"),
    ]
    assert found[1][4] == "first: addmm" and found[3][4] == "hidden: addmm"


@pytest.mark.slow
def test_attention_at_one_over_root_d_is_found_at_the_scores():
    found = findings(lambda n: models.nanogpt(n, layers=1), "adamw")
    scores = next(f for f in found if f[0] == "multiplier" and "attn" in f[1])
    assert scores[2:5] == ("grows", "1/2", "h.0.attn: bmm")
    readout = next(f for f in found if f[0] == "multiplier" and "lm_head" in f[1])
    assert readout[2:] == ("grows", "1", "lm_head: mm", "init", 0)
    assert not [f for f in found if f[0] == "init"]  # fan-in initialisation is right


class Table9(nn.Module):
    """A perceptron with the multipliers of Tensor Programs V, table 9, in its code: in muP for SGD as it stands."""

    def __init__(self, n):
        super().__init__()
        self.n, self.enter = n, nn.Linear(6, n, bias=False)
        self.hidden, self.leave = nn.Linear(n, n, bias=False), nn.Linear(n, 3, bias=False)
        for layer in (self.enter, self.hidden, self.leave):
            nn.init.normal_(layer.weight, std=n**-0.5)

    def forward(self, x):
        x = torch.relu(self.enter(x) * self.n**0.5)
        return self.leave(torch.relu(self.hidden(x))) * self.n**-0.5


@pytest.mark.slow
def test_nothing_is_said_of_a_model_in_mup_and_applying_changes_nothing():
    p = tpt.derive(Table9, inputs=torch.randn(4, 6), optimizer="sgd")
    assert p.lint().findings == () and p.lint().exit_code == 0 and not p.changes.needed
    model = Table9(32)
    before = [w.clone() for w in model.parameters()]
    with pytest.warns(tpt.AppliedWarning, match="in muP for sgd already"):
        groups = p.apply(model, base=4, lr=0.3)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert [g["lr"] for g in groups] == [0.3]
    assert findings(Table9, "adam", torch.randn(4, 6))  # for another optimizer it is not


SOURCE = """
import torch
def build(n):
    return torch.nn.Sequential(torch.nn.Linear(4, n), torch.nn.ReLU(), torch.nn.Linear(n, 2)), torch.randn(5, 4)
"""


def test_the_command_prints_the_findings_and_how_to_mend_them(tmp_path: Path, capsys):
    path = tmp_path / "my_model.py"
    path.write_text(SOURCE)
    assert main(["lint", f"{path}:build", "--optimizer", "adam"]) == 1
    text = capsys.readouterr().out
    assert "n^1  2.weight: its learning rate scales like 1, must like n^-1" in text
    assert "2: addmm blows up after 1 update: n^1" in text and "fix: " in text
    assert main(["lint", f"{path}:build", "--optimizer", "adam", "--format", "json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["schema"] == 1 and {f["what"] for f in report["findings"]} == {"lr", "init", "eps"}
    assert main(["lint", f"{path}:nothing"]) == 2
    assert "has no function" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["mlp", pytest.param("nanogpt", marks=pytest.mark.slow)])
def test_each_line_says_what_applying_does(name):
    """Its factor at a width is the one by which apply changes the same quantity there."""
    build, n, base = getattr(models, name), 24, 8
    p = tpt.derive(build, optimizer="adamw")
    torch.manual_seed(0)
    model = build(n)[0]
    before = {k: float(w.detach().norm()) for k, w in model.named_parameters()}
    groups = p.apply(model, base=base, lr=1.0, weight_decay=1.0, eps=1.0)
    after = {k: float(w.detach().norm()) for k, w in model.named_parameters()}
    group = {k: g for g in groups for k in g["param_names"]}
    kinds = set()
    for f in p.lint().findings:
        line, kinds = f.fix.replace("base_n", str(base)), kinds | {f.what}
        if f.what == "multiplier":
            factor = line.rpartition(" by ")[2]
            assert f"{f.where}: times {eval(factor, {'n': n}):.6g}" in "\n".join(groups.done)
        elif f.what == "init":
            factor = line.partition(f"{f.where}.mul_(")[2].removesuffix(")")
            assert eval(factor, {"n": n}) == pytest.approx(after[f.where] / before[f.where], rel=1e-5)
        else:
            setting, _, factor = line.removeprefix("a parameter group with ").partition(" * ")
            assert eval(factor, {"n": n}) == pytest.approx(group[f.where][setting])
    assert kinds >= {"lr", "init", "weight decay", "eps"} if name == "mlp" else kinds >= {"lr", "multiplier"}


class LinearAttention(torch.nn.Module):
    """Its scores are divided by the norm behind them."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.q, self.k, self.v = (torch.nn.Linear(6, 4 * n) for _ in range(3))
        self.norm, self.out = torch.nn.LayerNorm(4 * n), torch.nn.Linear(4 * n, 3)

    def forward(self, x):
        return self.out(self.norm(self.q(x) @ self.k(x).mT @ self.v(x)))


@pytest.mark.slow
def test_a_factor_that_a_norm_divides_away_is_no_finding():
    p = tpt.derive(LinearAttention, torch.randn(2, 5, 6), "adam")
    (scores,) = p.changes.multipliers
    assert p.derivation.parametrization.unknowns[scores.name].degree < 0 and scores.factor.degree == 0
    assert {f.what for f in p.lint().findings} == {"init", "eps", "lr"}
