"""The check of a user's own module: its measured exponents are the known ones, at every node."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from tensorprog.cli import main  # noqa: E402
from tensorprog.torch.building import construct  # noqa: E402
from tensorprog.torch.modulecheck import check_module  # noqa: E402
from tensorprog.torch.nodes import recording  # noqa: E402
from tests.torch_apply import models  # noqa: E402

pytestmark = pytest.mark.torch
LADDER = (64, 128, 256, 512)


def worst(report, place, part="change"):
    """The measured exponents of a place's changes, or of its start."""
    return [row.measured for row in report.rows if row.place == place and row.part == part]


def test_every_node_of_attention_is_seen_with_its_module_and_views_are_not():
    built = construct(lambda n: models.nanogpt(n), 8)
    seen = []
    with recording(built.module, lambda node, tensor: seen.append((node, tuple(tensor.shape)))):
        built.outputs()
    names = [node.name for node, _ in seen]
    assert "h.1.attn: softmax" in names or "h.1.attn: safe_softmax" in names
    assert "lm_head: mm" in names and "h.0.attn: bmm #2" in names and "h.0.ln_1: native_layer_norm" in names
    assert len(names) == len(set(names))
    assert not [n for n in names if any(v in n for v in ("view", "transpose", "split", "arange", "tril"))]


@pytest.mark.slow
def test_standard_parametrization_under_sgd_has_the_known_exponents():
    """One learning rate for all: the first layer's features move by n^-1/2, the second's by n^1/2, logits by n."""
    report = check_module(models.mlp, "sgd", lr=0.02, widths=LADDER, steps=1)
    assert worst(report, "first: addmm") == [pytest.approx(-0.5, abs=0.15)]
    assert worst(report, "hidden: addmm") == [pytest.approx(0.5, abs=0.2)]
    assert worst(report, "readout: addmm") == [pytest.approx(1.0, abs=0.2)]
    assert worst(report, "hidden.weight", "init") == [pytest.approx(-0.5, abs=0.02)]
    assert report.exit_code == 1
    verdicts = {row.place: row.verdict for row in report.wrong}
    assert verdicts["readout: addmm"] == "grows" and verdicts["first: addmm"] == "stands still"
    assert report.wrong[0].place == "readout: addmm"  # the worst comes first
    assert [row.place for row in report.first] == ["hidden: addmm", "first: addmm"]  # where each way to fail begins


def mup_adam(parameters):
    """Adam's learning rates for `models.mlp`, by hand: 1 for the first layer and the biases, 1/n for what sums n."""
    groups = [{"params": [p], "lr": 0.02 if p.ndim < 2 or p.shape[1] == 16 else 0.02 * 64 / p.shape[1]}
              for p in parameters]  # fmt: skip
    return torch.optim.Adam(groups)


def mup_mlp(n):
    module, inputs, loss = models.mlp(n)
    with torch.no_grad():
        module.readout.weight.mul_(n**-0.5)
    return module, inputs, loss


@pytest.mark.slow
def test_nothing_is_wrong_with_a_network_in_mup():
    report = check_module(mup_mlp, mup_adam, widths=LADDER, steps=2)
    assert report.wrong == () and report.exit_code == 0, str(report)


def test_the_same_network_with_one_learning_rate_blows_up_at_the_hidden_layer():
    report = check_module(mup_mlp, "adam", lr=0.02, widths=LADDER, steps=1)
    assert report.first[0].place == "hidden: addmm" and report.first[0].verdict == "grows"


@pytest.mark.parametrize(("divisor", "also_read", "wrong"), [("n", False, []), ("1", False, ["(top): mul"]),
                                                             ("n", True, ["0: addmm"])])  # fmt: skip
def test_a_value_that_is_only_multiplied_by_a_number_is_judged_behind_it(divisor, also_read, wrong):
    """A sum of n terms that is divided by n at once is no blow-up; it is one undivided, or read by something else."""

    class Readout(torch.nn.Module):
        def __init__(self, n):
            super().__init__()
            self.add_module("0", torch.nn.Linear(n, 3))
            torch.nn.init.constant_(self._modules["0"].weight, 1.0)
            self.factor = 1 / n if divisor == "n" else 1.0

        def forward(self, x):
            y = self._modules["0"](x)
            z = y.t().contiguous().t() * self.factor
            return torch.tanh(z) + (0 * torch.tanh(y) if also_read else 0)

    report = check_module(lambda n: (Readout(n), torch.ones(2, n)), "sgd", lr=1e-3, widths=LADDER, seeds=2, steps=1)
    assert [row.place for row in report.wrong if row.verdict == "grows" and row.part == "init"] == wrong, str(report)


@pytest.mark.parametrize(
    ("extra", "kind"), [(lambda h: 0 * h.view(-1).square().mean(), "value"), (lambda h: 0, "scaled")]
)
def test_what_the_loss_reads_is_judged(extra, kind):
    class Read(torch.nn.Module):
        def __init__(self, n):
            super().__init__()
            self.layer = torch.nn.Linear(6, n)

        def forward(self, x):
            self.seen = self.layer(x)
            return torch.tanh(self.seen * 0.5).mean(-1)

    def build(n):
        model = Read(n)
        return model, torch.ones(2, 6), lambda y: y.mean() + extra(model.seen)

    report = check_module(build, "sgd", lr=1e-3, widths=LADDER, seeds=2, steps=1)
    assert {row.kind for row in report.rows if row.place == "layer: addmm"} == {kind}


@pytest.mark.parametrize(("scale", "wrong"), [(lambda n: n**-0.5, []), (lambda n: 1.0, ["(loss): div"])])
def test_what_only_the_loss_computes_is_judged(scale, wrong):
    """Similarities of features: they grow where their scale is that of independent ones."""

    def build(n):
        layer = torch.nn.Linear(6, n)
        torch.nn.init.normal_(layer.weight)

        def loss(z):
            scores = (z @ z.T) * scale(n) / n**0.5
            return torch.tanh(scores).mean() + scores.abs().mean()

        return layer, torch.randn(8, 6), loss

    report = check_module(build, "sgd", lr=1e-3, widths=LADDER, seeds=3, steps=1)
    grown = {row.place for row in report.rows if row.verdict == "grows" and row.part == "init"}
    assert [place for place in ("(loss): div",) if place in grown] == wrong, report.render(every=True)
    assert any(row.place == "(loss): tanh" for row in report.rows)


@pytest.mark.parametrize(("read", "kind"), [(lambda c, h: h / c, "scaled"), (lambda c, h: c * h, "scaled"),
                                            (lambda c, h: c / h, "value")])  # fmt: skip
def test_a_number_that_is_divided_by_a_value_does_not_scale_it(read, kind):
    class Read(torch.nn.Module):
        def __init__(self, n):
            super().__init__()
            self.layer = torch.nn.Linear(6, n)
            self.register_buffer("c", torch.tensor(2.0))

        def forward(self, x):
            return torch.tanh(read(self.c, self.layer(x))).mean(-1)

    report = check_module(lambda n: (Read(n), torch.ones(2, 6)), "sgd", lr=1e-3, widths=LADDER, seeds=2, steps=1)
    assert {row.kind for row in report.rows if row.place == "layer: addmm"} == {kind}


def test_masked_entries_do_not_hide_the_scores():
    """An attention mask of minus infinity is no overflow."""

    def build(n):
        scores = torch.nn.Linear(8, 8, bias=False)
        mask = torch.full((8, 8), float("-inf")).triu(1)

        class Masked(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.scores = scores

            def forward(self, x):
                return torch.softmax(self.scores(x) + mask, -1)

        return Masked(), torch.randn(8, 8)

    report = check_module(build, "sgd", lr=0.1, widths=(1, 2), seeds=2, steps=1)
    assert not [row for row in report.rows if row.verdict == "overflows"]
    assert worst(report, "(top): add", "init") == [pytest.approx(0, abs=1e-9)]


def test_networks_that_do_different_things_are_refused():
    from tensorprog.errors import TensorProgError

    def deeper(n):
        return torch.nn.Sequential(*(torch.nn.Linear(4, 4) for _ in range(n))), torch.randn(2, 4)

    with pytest.raises(TensorProgError, match="do not compute the same"):
        check_module(deeper, "sgd", widths=(2, 3), seeds=1)


class Fails(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        raise ValueError("not written yet")


class NoStep(torch.optim.SGD):
    def step(self, closure=None):
        raise KeyError("state")


@pytest.mark.parametrize(("change", "loss", "optimizer", "message"), [
    ("cpu", lambda y: Fails.apply(y).mean(), "sgd", "the backward pass fails at 2: ValueError: not written yet"),
    ("cpu", lambda y: y.mean(), lambda ps: NoStep(ps, lr=1e-3), "the optimizer's step fails at 2: KeyError"),
    ("cpu", lambda y: y.mean(), lambda ps: {}["none"], "making the optimizer fails at 2: KeyError"),
    ("meta", lambda y: y.mean(), "sgd", "`weight` has no values: it is on the meta device")])  # fmt: skip
def test_what_the_users_own_code_raises_in_training_is_told_as_such(change, loss, optimizer, message):
    from tensorprog.errors import TensorProgError

    with pytest.raises(TensorProgError, match=message):
        check_module(lambda n: (torch.nn.Linear(4, n).to(change), torch.ones(2, 4).to(change), loss), optimizer,
                     widths=(2, 3), seeds=1)  # fmt: skip


SOURCE = """
import torch
def build(n):
    return torch.nn.Sequential(torch.nn.Linear(4, n), torch.nn.ReLU(), torch.nn.Linear(n, 1)), torch.randn(2, 4)
def number(n):
    return 3
def broken(n):
    raise ValueError("no such width")
"""


def test_the_command_prints_json_and_fails_where_something_grows(tmp_path: Path, capsys):
    path = tmp_path / "my_model.py"
    path.write_text(SOURCE)
    code = main(["check", "--module", f"{path}:build", "--optimizer", "adam", "--lr", "0.05", "--widths",
                 "32,64,128,256", "--steps", "1", "--seeds", "3", "--format", "json"])  # fmt: skip
    report = json.loads(capsys.readouterr().out)
    assert code == 1 and report["schema"] == 1
    assert report["first"][0]["place"] == "2: addmm" and report["first"][0]["verdict"] == "grows"
    assert {"place", "kind", "order", "step", "part", "measured", "low", "high", "verdict"} == set(report["rows"][0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--module", "{path}:nothing"], "has no function `nothing`"),
        (["--module", "{path}"], "does not name a function"),
        (["--module", "{path}:number"], "returns int, not a module"),
        (["--module", "{path}:broken"], "ValueError: no such width"),
        (["--module", "{path}:build", "--form", "unit"], "--form has no meaning with --module"),
        (["--module", "{path}:build", "--widths", "8,4"], "must be at least two, increasing"),
        (["--module", "{path}:build", "--optimizer", "adm"], "unknown optimizer `adm`"),
        (["x.tp", "--module", "{path}:build"], "--module takes the place of FILE"),
        ([], "there is nothing to check"),
    ],
)
def test_bad_arguments_are_refused_in_one_message(tmp_path: Path, capsys, arguments, message):
    path = tmp_path / "my_model.py"
    path.write_text(SOURCE)
    assert main(["check", *(a.format(path=path) for a in arguments)]) == 2
    assert message in capsys.readouterr().err
