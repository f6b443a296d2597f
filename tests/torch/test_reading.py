"""What is read from a module is the module: the lowered graph computes the same numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

import tensorprog.torch as tpt  # noqa: E402
from tensorprog.errors import TensorProgError  # noqa: E402
from tensorprog.graph import Softmax  # noqa: E402
from tensorprog.torch.model import derive_reading, read  # noqa: E402
from tests.shared import tiers  # noqa: E402
from tests.torch.handwritten import CASES, MLP, NanoGPT, reals, tokens  # noqa: E402
from tests.torch.support import legal, read64, reading_of, worst_difference  # noqa: E402

pytestmark = pytest.mark.torch
QUICK = ("mlp", "lora", "weight_norm", "rmsnorm")


@pytest.mark.parametrize("name", tiers(CASES, QUICK))
def test_the_lowered_graph_computes_what_the_module_computes(name: str) -> None:
    reading = reading_of(name)
    legal(reading.lowered.graph)
    for point in (0, len(reading.points) - 2):
        assert worst_difference(reading, point) < 1e-12


def test_a_wrong_graph_is_told_from_the_module() -> None:
    reading = reading_of("mlp")
    other = read64(lambda n: WrongMLP(n), CASES["mlp"].inputs)
    swapped = replace(reading, lowered=other.lowered)
    assert worst_difference(swapped) > 1e-2


class WrongMLP(MLP):
    def forward(self, x: Any) -> Any:
        return self.l3(torch.relu(self.l2(torch.tanh(self.l1(x)))))


@pytest.mark.parametrize("name", tiers(CASES, QUICK))
def test_every_parameter_is_derived(name: str) -> None:
    reading = read64(CASES[name].build, CASES[name].inputs)  # its own: the changes try other values of the parameters
    changes = derive_reading(reading, "adam").changes
    assert {p.name for p in changes.parameters} == {n for n, _ in reading.module.named_parameters()}
    for p in changes.parameters:
        assert p.needed.lr is not None or not reading.trained[p.name]
        assert not p.refused


def test_tied_names_are_one_parameter() -> None:
    result = tpt.derive(lambda n: NanoGPT(4 * n, n), tokens(3, 6), "adam")
    change = result.changes.parameter("lm_head.weight")
    assert (change.name, change.aliases) == ("wte.weight", ("lm_head.weight",))


def test_sizes_are_exact_polynomials_of_the_builders_integers() -> None:
    def build(hidden: int, ffn: int) -> nn.Module:
        inner = 2 * ffn + 12
        return nn.Sequential(nn.Linear(8, hidden), nn.ReLU(), nn.Linear(hidden, inner), nn.ReLU(), nn.Linear(inner, 3))

    reading = read(build, reals(4, 8).float())
    shapes = {n: [str(a.dim) for a in p.axes] for n, p in reading.lowered.graph.parameters.items()}
    assert shapes["0.weight"] == ["hidden", "8"]
    assert shapes["2.weight"] == ["2 ffn + 12", "hidden"]
    assert shapes["4.weight"] == ["3", "2 ffn + 12"]


@pytest.mark.parametrize("batch", tiers([1, 2, 4], ["2"]))
def test_the_batch_is_told_from_the_sequence_whatever_its_size(batch: int) -> None:
    found = tpt.derive(lambda n: NanoGPT(4 * n, n), inputs=tokens(batch, 9))
    scores = [node for node in found.reading.lowered.graph.nodes if isinstance(node.op, Softmax)]
    assert [str(axis.dim) for axis in scores[0].axes[-2:]] == ["9", "9"]


def test_an_orthogonal_start_is_read_as_one() -> None:
    def build(n: int) -> nn.Module:
        model = nn.Sequential(nn.Linear(5, 4 * n), nn.Tanh(), nn.Linear(4 * n, 4 * n), nn.Tanh(), nn.Linear(4 * n, 3))
        nn.init.orthogonal_(model[2].weight, gain=2.0)
        return model

    now = tpt.derive(build, inputs=reals(6, 5).float()).reading.starts["2.weight"]
    assert str(now.power) == "n^-1/2" and now.exact


@pytest.mark.slow
def test_an_identity_is_no_matrix_of_equal_entries() -> None:
    """Those would add up what is centred to exactly zero."""

    def build(n: int, eye: bool) -> nn.Module:
        model = nn.Sequential(nn.Linear(5, 32 * n), nn.LayerNorm(32 * n), nn.Linear(32 * n, 32 * n, bias=False),
                              nn.Tanh(), nn.Linear(32 * n, 3))  # fmt: skip
        if eye:
            model[2].weight.data.copy_(torch.eye(32 * n))
        return model

    identity, plain = (tpt.derive(lambda n, eye=eye: build(n, eye), reals(6, 5).float()) for eye in (True, False))
    assert identity.params == plain.params
    assert str(identity.reading.starts["2.weight"].power) == "n^-1/2"


def test_dropout_is_the_identity() -> None:
    build = lambda n: nn.Sequential(nn.Linear(8, n), nn.ReLU(), nn.Dropout(0.3), nn.Linear(n, 3))  # noqa: E731
    graph = read(build, reals(4, 8).float()).lowered.graph
    assert {type(node.op).__name__ for node in graph.nodes} == {
        "Input",
        "Param",
        "Contract",
        "Add",
        "Scale",
        "Map",
        "Loss",
    }


class Runs(nn.Module):
    def __init__(self, n: int) -> None:
        super().__init__()
        self.inner = nn.Linear(8, n)
        self.pick = Running()

    def forward(self, x: Any) -> Any:
        return self.pick(self.inner(x))


class Running(nn.Module):
    def forward(self, x: Any) -> Any:
        return torch.cummax(x, 1).values


def test_an_unknown_operation_is_an_error_that_names_it_and_its_module() -> None:
    with pytest.raises(TensorProgError) as caught:
        read(Runs, reals(4, 8).float())
    assert "aten.cummax" in caught.value.message and "`pick` (Running)" in caught.value.message
    assert "@tensorprog.torch.rule" in caught.value.fix


def test_a_rule_of_ones_own_covers_an_operation() -> None:
    from tensorprog.torch.lower.registry import RULES

    try:
        tpt.rule("aten.cummax")(lambda low, call: (low.map(low.value(call["self"]), "relu"), None))
        graph = read(Runs, reals(4, 8).float()).lowered.graph
    finally:
        del RULES["cummax"]
    assert any(node.name == "pick.cummax" for node in graph.nodes)


def test_control_flow_that_varies_with_the_width_is_refused() -> None:
    build = lambda n: nn.Sequential(nn.Linear(8, n), *[nn.ReLU() for _ in range(n)], nn.Linear(n, 3))  # noqa: E731
    with pytest.raises(TensorProgError, match="does not do the same at all sizes"):
        read(build, reals(4, 8).float())


def test_a_size_that_is_rounded_is_looked_at_where_it_is_not() -> None:
    build = lambda n: nn.Sequential(nn.Linear(8, 8 * (n // 8)), nn.ReLU(), nn.Linear(8 * (n // 8), 3))  # noqa: E731
    reading = read(build, reals(4, 8).float())
    assert reading.points[0]["n"] == 24
    assert [str(a.dim) for a in reading.lowered.graph.parameters["0.weight"].axes] == ["n", "8"]


class Heads(nn.Module):
    """n / 2 heads of 4 channels, which lie in memory in another order than they are named in."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.heads, self.enter, self.leave = n // 2, nn.Linear(8, 2 * n), nn.Linear(2 * n, 3)

    def forward(self, x: Any) -> Any:
        heads = self.enter(x).view(*x.shape[:2], self.heads, 4).transpose(1, 2)
        return self.leave(heads.contiguous().transpose(1, 2).reshape(*x.shape[:2], -1))


def test_a_reshape_that_copies_at_some_widths_only_is_one_operation() -> None:
    """One head is a view of its tensor, several are copied."""
    reading = read(Heads, reals(2, 5, 8).float(), widths=(2, 4, 6, 8))
    assert [str(a.dim) for a in reading.lowered.graph.parameters["leave.weight"].axes] == ["3", "2 n"]


class Filled(nn.Module):
    """Writes two halves into memory that it has asked for, as keys with a part that turns do."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.a, self.b, self.out = nn.Linear(5, 4 * n), nn.Linear(5, 4 * n), nn.Linear(8 * n, 2)

    def forward(self, x: Any) -> Any:
        half = self.a(x)
        whole = half.new_empty(*half.shape[:-1], 2 * half.shape[-1])
        whole[..., : half.shape[-1]] = half
        whole[..., half.shape[-1] :] = self.b(x)
        return self.out(torch.relu(whole))


@pytest.mark.slow
def test_what_memory_was_used_for_before_does_not_matter() -> None:
    """PyTorch is told to fill memory that nobody has written to with NaN."""
    filled = torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    try:
        found = tpt.derive(Filled, torch.ones(3, 5), "adam")
    finally:
        torch.use_deterministic_algorithms(False)
        torch.utils.deterministic.fill_uninitialized_memory = filled
    assert str(found) == str(tpt.derive(Filled, torch.ones(3, 5), "adam"))
    assert all(leaf.tensor.isfinite().all() for leaf in found.reading.zipped.first.leaves.values())


@pytest.mark.parametrize(("loss", "said"), [
    (lambda y: y, r"a tensor of shape \(4, 3\)"), (lambda y: y.detach().sum(), "detached"),
    (lambda _: None, "NoneType"),
    (lambda y: y.square().mean(), ""), (lambda y: y.square().mean()[None], ""),
])  # fmt: skip
def test_a_loss_that_is_no_number_that_can_be_trained_is_refused(loss: Any, said: str) -> None:
    build = lambda n: (torch.nn.Linear(8 * n, 3), torch.randn(4, 8 * n), loss)  # noqa: E731
    if said:
        with pytest.raises(TensorProgError, match=f"not a scalar tensor[^$]*{said}"):
            tpt.derive(build)
    else:
        assert tpt.derive(build).params["weight"].lr is not None
