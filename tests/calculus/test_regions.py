"""A step that normalises entry by entry lifts what some entries of a gradient have alone: positions of a table that are
read one by one, rows that tokens choose. Which these are follows from the graph."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import pytest

import tensorprog as tp
from benchmarks.agreement import trial
from benchmarks.agreement.family import Look
from tensorprog.calculus.cuts import Cuts
from tensorprog.calculus.regions import Regions
from tensorprog.errors import CalculusError

FOUND = Path(__file__).parent / "found"
ALONE = ["positions_read_in_slices", "positions_behind_a_gain", "positions_in_heads", "positions_behind_a_function",
         "positions_of_two_axes", "rows_read_at_two_positions"]  # fmt: skip
LEFT_OUT = [  # by windows, or by a mask; and what reads what is not
    ("positions_read_in_two_taps", "q[1,a,j]", "q[0,a,j]"),
    ("positions_that_no_window_reads", "mean[t,j](p[t,j])", "mean[j](p[2,j])"),
    ("positions_behind_a_convolution", "e[2,j]", "e[1,j]"),
    ("positions_behind_a_causal_mask", "z[2,j]", "z[1,j]"),
]
TOGETHER = patch(
    "tensorprog.calculus.analysis.regions", lambda program, *_: Regions(program.nodes, {}, {}, frozenset())
)
TEXTS = """width n
dim d = 8, T = 3, classes = 5, v = 50
axis j: n, c: classes, t: T
input x[t] in v{more}
param P[w,j] = normal(1), V[c,j]
axis w: v
p[t,j] = P[x[t],j]
q[t,j] = P[{other}[t],j]
s[] = mean[j](q[1,j])
f0[j] = p[0,j] + n^(-1/2) * (p[0,j] * tanh(s[]))
output f[c] = V[c,j] f0[j]
loss cross_entropy(f)
"""
COVERED = """width n
dim d = 8, T = 2, classes = 5
axis i: d, j: n, c: classes, t: T
input x[i]
param P[t,j] = normal(1), E[j,i], V[c,j]
e[j] = E[j,i] x[i]
s[] = mean[t,j](P[t,j])
y[j] = P[0,j] + e[j] * P[1,j] + n^(-1/2) * (e[j] * tanh(s[]))
output f[c] = V[c,j] y[j]
loss cross_entropy(f)
"""
SLICES = """width n, m
dim d = 8, classes = 5
axis i: d, j: n, l: m, k: n + m, u: {slice}, c: classes
input x[i]
param P[k] = normal(1), E[j,i], U[u,i], V[c,j], W[c,u]
a[j] = E[j,i] x[i] * P[j + 0]
b[u] = U[u,i] x[i] * P[u + {first}]
output f[c] = V[c,j] a[j] + W[c,u] b[u]
loss cross_entropy(f)
"""
SHORTER = """width n
dim d = 8, classes = 5, m = n - {less}, mm = 2 n - 2 * {less}
axis i: d, j: m, c: classes, h: 2, k: mm
input x[i]
param P[k] = normal(1), E[j,i], V[c,j]
p[h,j] = P[(h j)] + E[j,i] x[i]
s[] = mean[j](p[1,j])
y[j] = p[0,j] + n^(-1/2) * (p[0,j] * tanh(s[]))
output f[c] = V[c,j] y[j]
loss cross_entropy(f)
"""


MASKED = """width n
dim d = 8, classes = 5, T = 3
axis i: d, j: n, k: n, c: classes, t: T, u: T
input x[t,i]
param E[j,i], P[t,k] = normal(1), R[k,j], S[k,j], V[c,j]
param Q[k,i] = normal(1) frozen, G[k,i] = normal(1) frozen
e[t,j] = E[j,i] x[t,i]
q[t,k] = Q[k,i] x[t,i]
p[t,k] = P[t,k] + G[k,i] x[t,i]
a[t,u] = softmax[u](n^(-1) * q[t,k] p[u,k])
r[t,k] = R[k,j] e[t,j]
b[t,u] = softmax[u | u <= t](n^(-1) * (r[t,k] (S[k,j] e[u,j])))
y[t,j] = a[t,u] b[t,u] e[u,j]
s[] = mean[j](p[2,j])
f0[j] = y[1,j] + n^(-1/2) * (y[1,j] * tanh(s[]))
output f[c] = V[c,j] f0[j]
loss cross_entropy(f)
"""


def change_of_s(text: str, optimizer: str = "adam") -> str:
    return str(tp.derive(tp.parse(text), optimizer).tensor("s")[1])


@pytest.mark.parametrize("name", ALONE)
def test_what_some_entries_have_alone_moves_by_order_one(name: str) -> None:
    assert change_of_s((FOUND / f"{name}.tp").read_text()) == "1"


@pytest.mark.parametrize("name", ALONE)
def test_what_all_entries_have_beside_a_larger_part_does_not(name: str) -> None:
    text = (FOUND / f"{name}.tp").read_text()
    assert text.count("mean[j](p[1,j])") == 1
    assert change_of_s(text.replace("mean[j](p[1,j])", "mean[j](p[0,j])")) == "n^-1/2"


@pytest.mark.parametrize(("name", "old", "new"), LEFT_OUT)
def test_what_windows_and_masks_leave_out_is_alone(name: str, old: str, new: str) -> None:
    text = (FOUND / f"{name}.tp").read_text()
    assert text.count(old) == 1
    assert change_of_s(text) == "1"
    assert change_of_s(text.replace(old, new)) == change_of_s(text, "sgd") == "n^-1/2"


def test_a_mask_leaves_out_what_its_comparison_does() -> None:
    """Where later positions are read, not earlier ones, the last is what all others see."""
    text = (FOUND / "positions_behind_a_causal_mask.tp").read_text()
    assert change_of_s(text.replace("u <= t", "u >= t")) == "n^-1/2"
    assert change_of_s(text.replace("u <= t", "u >= t").replace("z[2,j]", "z[0,j]")) == "1"
    assert change_of_s(text.replace(" | u <= t", "")) == "n^-1/2"


def test_a_mask_of_what_a_softmax_is_multiplied_with_leaves_its_scores_a_gradient() -> None:
    """Shares have a gradient only where the masked ones are that they are multiplied with; their scores, everywhere."""
    assert change_of_s(MASKED) == "n^-1/2"


def test_a_linear_step_keeps_the_sizes_of_entries() -> None:
    assert change_of_s((FOUND / "positions_behind_a_gain.tp").read_text(), "sgd") == "n^-1/2"


def test_rows_are_told_apart_by_the_text_and_the_position_that_read_them() -> None:
    """x at position 0 and y at position 1 choose different rows; so do x[0] and x[1]; but x[0] and x[0] do not."""
    two = TEXTS.format(other="y", more="\ninput y[t] in v")
    assert change_of_s(two) == change_of_s(TEXTS.format(other="x", more="")) == "1"
    assert change_of_s(two.replace("q[1,j]", "q[0,j]")) == "1"
    assert change_of_s(TEXTS.format(other="x", more="").replace("q[1,j]", "q[0,j]")) == "n^-1/2"


def test_parts_that_cover_a_table_together_are_not_lifted_beside_a_smaller_one() -> None:
    """Each row has one of two large parts; with the small one alone somewhere, the rate of P would be n^-1/2."""
    assert str(tp.derive(tp.parse(COVERED), "adam").params["P"].lr) == "1"


@pytest.mark.slow
def test_no_prediction_is_too_small_where_parts_cover_a_table() -> None:
    derivation = tp.derive(tp.parse(COVERED), "adam")
    found = trial.judged(derivation, derivation.parametrization, looks=(Look(24), Look(24, 0.25), Look(24, 4.0)))
    assert not found.counts["disagrees"]
    assert found.counts["agrees"] > 40


@pytest.mark.parametrize(
    ("of", "first", "parts"),
    [(47, 0, 3), (48, 0, 3), (53, 0, 3), (48, 1, 3), (48, 48, 3), (500, 0, 3), ("m", 0, 3), ("m", "n", 2), ("n", 0, 2),
     ("n / 48", 0, 3)],
)  # fmt: skip
def test_slices_coincide_only_at_all_widths(of: int | str, first: int | str, parts: int) -> None:
    """A number of entries is never all of an axis that grows, and no width is another one."""
    program = tp.parse(SLICES.format(slice=of, first=first)).program
    assert len(set(Cuts(program).of[program.grads["P"]][0])) == parts


@pytest.mark.parametrize("less", [0, 20, 100, 1000])
def test_a_width_less_some_entries_is_told_apart_as_a_width_is(less: int) -> None:
    text = (FOUND / "positions_in_heads.tp").read_text()
    assert change_of_s(text) == change_of_s(SHORTER.format(less=less)) == "1"


@pytest.mark.parametrize(
    "name", ["row_of_its_own_beside_lookups", "two_lookups_of_two_axes", "two_lookups_of_other_positions"]
)
def test_lookups_and_slices_of_one_table_are_told_apart_together(name: str) -> None:
    assert change_of_s((FOUND / f"{name}.tp").read_text()) == "1"


def test_axes_of_millions_of_entries_are_not_written_out() -> None:
    text = (FOUND / "rows_read_at_two_positions.tp").read_text()
    tp.derive(tp.parse(text.replace("T = 3", "T = 10000000")), "adam")
    tp.derive(tp.parse(text.replace("v = 50", "v = 10000000")), "adam")


def test_far_too_many_parts_are_refused() -> None:
    with (
        patch("tensorprog.calculus.regions.MOST", 0),
        pytest.raises(CalculusError, match="does not cover `d P`") as caught,
    ):
        tp.derive(FOUND / "positions_behind_a_gain.tp", "adam")
    assert "zero in some of its entries" in caught.value.why


@pytest.mark.slow
@pytest.mark.parametrize("name", [*ALONE, *(name for name, *_ in LEFT_OUT)])
def test_without_regions_training_disagrees(name: str) -> None:
    """The control for the agreement of these files in test_found."""
    with TOGETHER:
        derivation = tp.derive(FOUND / f"{name}.tp", "adam")
        found = trial.judged(derivation, derivation.parametrization, looks=(Look(24),))
    assert found.counts["disagrees"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ALONE)
def test_beside_a_larger_part_training_agrees(name: str) -> None:
    text = (FOUND / f"{name}.tp").read_text().replace("mean[j](p[1,j])", "mean[j](p[0,j])")
    derivation = tp.derive(tp.parse(text), "adam")
    found = trial.judged(derivation, derivation.parametrization, looks=(Look(24), Look(24, 0.25), Look(24, 4.0)))
    assert not found.counts["disagrees"]
