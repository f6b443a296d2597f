"""Rows of applied models whose law is there but does not show: excused where the operands tell so, and only there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tensorprog.torch as tpt  # noqa: E402
from tensorprog.coordcheck.ladder import Ladder  # noqa: E402
from tensorprog.coordcheck.looks import RATES, WIDER  # noqa: E402
from tensorprog.coordcheck.probes import Probe  # noqa: E402
from tensorprog.coordcheck.report import Row  # noqa: E402
from tensorprog.torch.looks import second_looks  # noqa: E402
from tensorprog.torch.predicted import Predicted  # noqa: E402

pytestmark = pytest.mark.torch
WIDE = (32, 64, 128, 256)


def of(report, tensor, part="change"):
    return next(row for row in report.rows if row.tensor == tensor and row.part == part)


class Loud(nn.Module):
    """A readout whose products are many times larger than its bias in every network that is trained here."""

    def __init__(self, n):
        super().__init__()
        self.inp, self.out, self.next = nn.Linear(8, n), nn.Linear(n, 4), nn.Linear(4, 4, bias=False)

    def forward(self, x):
        y = self.out(10 * torch.tanh(self.inp(x)))
        return self.next(y), y.topk(2).values


@pytest.mark.slow
def test_a_first_output_beside_a_bias_is_hidden_and_not_wrong():
    """The product starts at n^-1/2; the bias, which lasts, is the smaller one on the whole ladder. A linear map of both
    shows no more of it, nor does a choice of the largest."""
    p = tpt.derive(Loud, inputs=torch.randn(4, 8, generator=torch.Generator().manual_seed(1)), optimizer="adamw")
    report = p.check(WIDE, seeds=6, max_seeds=6, steps=1)
    for tensor in ("out: addmm", "next: mm", "(top): topk"):
        row = of(report, tensor, "init")
        assert (row.predicted, row.verdict) == ("0", "inconclusive") and row.measured < -0.3 and "hidden" in row.reason


class Shared(nn.Module):
    """A readout whose update is shared by all positions of a sequence."""

    def __init__(self, n):
        super().__init__()
        self.inp, self.out = nn.Linear(256, n), nn.Linear(n, 4, bias=False)

    def forward(self, x):
        return self.out(torch.tanh(self.inp(x)))


@pytest.mark.slow
@pytest.mark.parametrize(("positions", "verdict"), [(1, "agrees"), (1000, "inconclusive")])
def test_the_more_positions_share_an_update_the_less_of_it_is_aligned_with_each(positions, verdict):
    given = torch.randn(2, positions, 256, generator=torch.Generator().manual_seed(1))
    p = tpt.derive(Shared, inputs=given, optimizer="adamw")
    row = of(p.check((4, 8, 16, 32), seeds=6, max_seeds=6, steps=1), "out: mm")
    assert (row.predicted, row.verdict, "hidden" in row.reason) == ("0", verdict, verdict != "agrees"), row


@pytest.mark.slow
def test_a_sum_that_is_too_large_is_never_excused():
    """The same readout with the learning rate of every width is n^1/2 or n too large, however many positions."""
    given = torch.randn(2, 200, 256, generator=torch.Generator().manual_seed(1))
    p = tpt.derive(Shared, inputs=given, optimizer="adamw")
    row = of(p.check(WIDE, seeds=6, max_seeds=6, steps=1, keep=["out.weight"]), "out: mm")
    assert row.verdict == "disagrees" and row.measured > 0.2


class Scaled(nn.Module):
    """A tied readout, whose multiplier is a number behind it."""

    def __init__(self, n):
        super().__init__()
        self.embed, self.mid = nn.Embedding(11, n), nn.Linear(n, n)
        self.head = nn.Linear(n, 11, bias=False)
        self.head.weight, self.logit_scale = self.embed.weight, 0.5

    def forward(self, x):
        x = self.embed(x)
        return self.head(x + torch.tanh(self.mid(x))) * self.logit_scale


@pytest.mark.slow
def test_a_product_before_the_number_that_its_multiplier_is_put_into_is_not_judged():
    p = tpt.derive(Scaled, inputs=torch.tensor([[1, 2, 3], [4, 5, 6]]), optimizer="adamw")
    (moved,) = (m for m in p.changes.multipliers if m.places)
    assert type(moved.places[0]).__name__ == "Attribute"
    report = p.check(WIDE, seeds=3, max_seeds=3, steps=1)
    assert "head: mm" in report.left_out and of(report, "(top): mul", "init").verdict != "disagrees"
    assert not [row for row in report.rows if row.verdict == "disagrees"]


class TwoSmall(nn.Module):
    """A product of two small results: a change of order n^-1/2, and the product of two changes, of order 1."""

    def __init__(self, n):
        super().__init__()
        self.inp, self.b, self.c = nn.Linear(8, n), nn.Linear(n, 6, bias=False), nn.Linear(n, 6, bias=False)

    def forward(self, x):
        x = torch.tanh(self.inp(x))
        return (self.b(x) * self.c(x)).sum(-1)


def test_a_product_of_changes_is_known_to_be_of_second_order():
    p = tpt.derive(TwoSmall, inputs=torch.randn(4, 8), optimizer="adamw")
    (node,) = {s.node for s in p.reading.lowered.sites if s.op == "mul"}
    found = Predicted(p, 1).at(Probe("product", node), 1)
    assert (str(found.exponent), str(found.first)) == ("1", "n^-1/2")


class RunningMaximum(nn.Module):
    """A softmax over the past, kept from overflow by a running maximum that starts at almost minus infinity; its
    results are written one by one."""

    def __init__(self, n):
        super().__init__()
        self.inp, self.key, self.value, self.out = (nn.Linear(a, b) for a, b in ((8, n), (n, n), (n, n), (n, 5)))

    def forward(self, x):
        x = self.inp(x)
        keys, values = self.key(x), self.value(x)
        above = below = torch.zeros_like(keys[:, 0])
        top, found = below - 1e38, torch.empty_like(values)
        for t in range(x.shape[1]):
            new = torch.maximum(top, keys[:, t])
            old, weight = torch.exp(top - new), torch.exp(keys[:, t] - new)
            above, below, top = old * above + weight * values[:, t], old * below + weight, new
            found[:, t] = above / below
        return self.out(found)


@pytest.mark.slow
def test_a_maximum_that_starts_at_minus_infinity_is_what_it_is_compared_with():
    """Everything of the first position that is exactly 0 or 1 is known to be; and what is read of a tensor that is
    written part by part counts under its own name."""
    inputs = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(2))
    p = tpt.derive(RunningMaximum, inputs=inputs, optimizer="adamw")
    report = p.check(WIDE, seeds=3, max_seeds=6, steps=1)
    assert not [row for row in report.rows if row.verdict == "disagrees"], str(report)
    assert of(report, "(top): div #3", "init").verdict == "agrees"
    assert not [row for row in report.rows if "assemble" in row.tensor]


class Routed(nn.Module):
    """Scores of experts, of which two are chosen and divided by their sum."""

    def __init__(self, n, experts):
        super().__init__()
        self.inp, self.gate, self.out = nn.Linear(8, 8 * n), nn.Linear(8 * n, experts, bias=False), nn.Linear(8 * n, 5)
        self.experts = nn.Parameter(torch.randn(experts, 8 * n, 8 * n) / (8 * n) ** 0.5)

    def forward(self, x):
        h = torch.relu(self.inp(x))
        scores = torch.sigmoid(self.gate(h))
        best, chosen = scores.topk(2, -1)
        weights = torch.zeros_like(scores).scatter(1, chosen, best / best.sum(-1, keepdim=True))
        return self.out(torch.einsum("be,edf,bd->bf", weights, self.experts, h))


@pytest.mark.slow
@pytest.mark.parametrize("experts", [4, 2])
def test_scores_divided_by_their_sum_move_against_each_other_where_all_are_chosen(experts):
    given = torch.randn(12, 8, generator=torch.Generator().manual_seed(1))
    p = tpt.derive(lambda n: Routed(n, experts), inputs=given, optimizer="adamw")
    row = of(p.check((8, 16, 32, 64), seeds=4, steps=1), "(top): sum")
    assert row.predicted == "0" and row.verdict != "disagrees"
    assert ("nearly cancel" in row.reason, row.measured < -0.4) == (experts == 2, experts == 2), row


def test_what_disagrees_is_looked_at_again_at_smaller_rates_and_further_up():
    """A first change that falls at these rates only, a start that does so on this ladder only, and a change that always
    disagrees."""
    rows = {(k, t): Row("", t, part, "0", -0.5, -0.6, -0.4, "disagrees")
            for k, t, part in ((0, 1, "change"), (1, 0, "init"), (2, 1, "change"))}  # fmt: skip
    ladder, seen = Ladder.of(("n",), (8, 16)), []

    def measure(rungs, rates):
        seen.append((rungs.sizes, rates("w", None)))
        return np.zeros((3, 2, 2, len(rungs.rungs), 1))

    def judged(values, rungs):
        assert values.shape[3] == len(rungs.rungs)
        right = (0, 1) if rungs == ladder else (1, 0)
        return {**rows, right: replace(rows[right], verdict="agrees")}

    for climb, wanted in ((False, [RATES, "", ""]), (True, [RATES, WIDER, ""])):
        found = second_looks(rows, np.zeros((3, 2, 2, 2, 1)), ladder, lambda *_: 1.0, measure, judged, climb=climb)
        assert [row.reason for row in found.values()] == wanted
        assert [row.verdict for row in found.values()] == ["inconclusive" if why else "disagrees" for why in wanted]
    assert seen == [((8, 16), 0.25), ((8, 16), 0.25), ((32,), 1.0)]
    fine = {at: replace(row, verdict="agrees") for at, row in rows.items()}
    assert second_looks(fine, np.zeros(0), ladder, lambda *_: 1.0, measure, judged, climb=True) is fine
