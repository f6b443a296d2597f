"""The learning rates of a check: large enough to be seen, and not so large that narrow networks explode."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import pytest

from tensorprog.api import check
from tensorprog.architecture import parse
from tensorprog.coordcheck import calibrate, run
from tensorprog.coordcheck.report import Row
from tensorprog.interpret import Interpreter
from tests.shared import derive, load

EXAMPLES = Path(__file__).parents[2] / "examples"
MLP = """
width n
dim d = 8, c = 3
axis i: d, j: n, k: n, o: c
input x[i]
param E[j,i], W[k,j], V[o,k]
h[j] = E[j,i] x[i]
output f[o] = V[o,k] tanh(W[k,j] tanh(h[j]))
loss mse(f)
"""


def rates(strength: float, patch: pytest.MonkeyPatch) -> dict[str, float]:
    patch.setattr(calibrate, "STRENGTH", strength)
    return calibrate.base_rates(derive(parse(MLP), "sgd"), {"n": 32}, {"n": 8}, batch=4)


def test_rates_that_let_the_loss_rise_are_halved_all_together(monkeypatch: pytest.MonkeyPatch) -> None:
    weak, usual, wild = (rates(strength, monkeypatch) for strength in (0.02, 0.2, 20.0))
    assert usual == pytest.approx({name: 10 * rate for name, rate in weak.items()})
    halvings = {math.log2(1000 * weak[name] / rate) for name, rate in wild.items()}
    assert len({round(x, 6) for x in halvings}) == 1
    assert min(halvings) == pytest.approx(round(min(halvings))) and min(halvings) >= 3


@pytest.mark.slow
@pytest.mark.parametrize("example", ["lora", "mamba"])
def test_narrow_networks_stay_in_hand_for_two_updates_of_sgd(example: str) -> None:
    """Everything starts near zero in adapters and maps of a scan, and moves at once. What is left are second-order
    effects hidden behind first-order ones, in a few rows."""
    report = check(derive(load(EXAMPLES / f"{example}.tp"), "sgd"), seeds=6, max_seeds=6, steps=2, control=False)
    assert all(max(map(max, row.rms)) < 100 for row in report.rows)
    assert report.count("disagrees") <= 0.05 * len(report.rows), str(report)


GATED = """
width n
dim d = 8, c = 3
axis i: d, j: n, k: n, o: c
input x[i]
param E[j,i], g[j], W[k,j], V[o,k]
h[j] = E[j,i] x[i]
s[] = g[j] h[j]
y[k] = h[k] + s[] W[k,j] tanh(h[j])
output f[o] = V[o,k] y[k]
loss mse(f)
"""


def test_what_a_gate_hides_at_the_start_has_its_turn_when_the_gate_has_moved() -> None:
    """g h starts at n^(-1/2) and moves by 1: what W does shows after the first step only."""
    derivation = derive(parse(GATED), "adam")
    assert calibrate.stages_of(derivation) == [{"E", "g", "W", "V"}]
    assert calibrate.stages_of(derivation, factors=True) == [{"E", "g", "V"}, {"W"}]


ATTENTION = """
width n
axis i: 8, j: n, o: 3, t: 4
input x[t,i]
param E[j,i], V[o,j]
h[t,j] = E[j,i] x[t,i]
z = h + attention(h, heads = 2, head_dim = n / 2)
output f[t,o] = V[o,j] z[t,j]
loss mse(f)
"""


def test_no_first_update_is_larger_than_wanted_however_small_the_later_ones_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Under SGD the queries' gradients are aligned after the first step. The smaller the rates are, the less of it: a
    rate at which that shows makes a first update, random and smaller by a power of n, that outweighs all others."""
    monkeypatch.setattr(calibrate, "STRENGTH", 0.01)
    derivation, sizes, base = derive(parse(ATTENTION), "sgd"), {"n": 32}, {"n": 8}
    late = {"attention.Wq", "attention.Wk", "attention.bq"}
    assert calibrate.stages_of(derivation)[1] == late
    rates = calibrate.base_rates(derivation, sizes, base, batch=4)
    program, parametrization = derivation.architecture.program, derivation.parametrization
    network = Interpreter(program, sizes, base, parametrization, batch=4, lr=rates, decays=False)
    assert max(calibrate._effects(derivation, network).values()) < 0.0101


EXPERTS = """
width n
dim d = 8, c = 4, e = 3
axis i: d, j: n, k: n, m: n, o: c, q: e
input x[i]
param E[j,i], B[q] frozen, R[q,j], W1[q,k,j], W2[q,m,k], V[o,m]
h[j] = E[j,i] x[i]
r[q] = R[q,j] h[j] + PREFERENCE * B[q]
p[q] = softmax[q](r[q])
a[q,k] = W1[q,k,j] h[j]
y[q,m] = W2[q,m,k] relu(a[q,k])
z[m] = p[q] y[q,m]
output f[o] = V[o,m] z[m]
loss mse(f)
"""


@pytest.mark.slow
@pytest.mark.parametrize("preference", ["2", "0"])
def test_a_router_of_equal_experts_learns_more_slowly_than_is_predicted_under_sgd(
    preference: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the limit a router that starts at zero gives equal weights, and experts of one law do the same: its aligned
    gradients are equal for all of them, and the softmax takes away what they have in common. Once the experts are not
    exchangeable (a fixed preference), the prediction is met."""

    def rates(*args: object, **options: object) -> Mapping[str, float]:
        found = calibrate.base_rates(*args, **options)  # type: ignore[arg-type]
        return {name: rate * (5 if name.startswith("W") else 0.3) for name, rate in found.items()}

    monkeypatch.setattr(calibrate, "_is_steady", lambda *_: True)
    monkeypatch.setattr(run, "base_rates", rates)
    derivation = derive(parse(EXPERTS.replace("PREFERENCE", preference)), "sgd")
    report = check(derivation, widths=[256, 512, 1024, 2048], seeds=16, max_seeds=16, steps=2, control=False)
    router: Row = next(row for row in report.rows if (row.tensor, row.part, row.step) == ("R", "change", 2))
    assert router.predicted == "0" and router.measured is not None
    assert abs(router.measured) < 0.2 if preference == "2" else router.measured < -0.4
