"""Where the largest parts of a norm's argument cancel, its size is less than the sum of theirs, and its inverse larger;
so it is where small parts are stacked with large ones. Refused. The files of `refused/` are such programs, each with
its reason in the first line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from unittest.mock import patch

import pytest

import tensorprog as tp
from benchmarks.agreement import evidence, trial
from benchmarks.agreement.family import Look
from tensorprog.calculus.regions import regions_of_norms
from tensorprog.classify.regime import classify
from tensorprog.errors import CalculusError
from tensorprog.graph import InvRms

HERE = Path(__file__).parent / "refused"
STACKS = dict.fromkeys(
    ["heads_of_different_sizes", "slice_of_different_sizes", "stack_of_stacks_of_different_sizes"],
    ("v[j] = U[j,p] q[p]", "y0[j] = U[j,p] q[p]\nv[j] = z[j] + y0[j]"),
)
LAST: Mapping[str, tuple[str, str]] = {  # what makes the largest part last: not alike, or not of the same size
    "sigmoid_over_the_batch": ("l[p] = V[p,j] z[j]", "param B[p,i]\nl[p] = V[p,j] z[j] + B[p,i] x[i]"),
    "bias_over_the_batch": ("l[p] = V[p,j] z[j] + b[p]", "param B[p,i]\nl[p] = V[p,j] z[j] + b[p] + B[p,i] x[i]"),
    "difference_of_two_times": ("o[t,k] = w[t,s] v[s,k]", "u[t,k] = w[t,s] v[s,k]\no[t,k] = z[t,k] + u[t,k]"),
    "difference_of_two_products": ("g[k] = W[k,j] y[j]", "param R[k,j]\ng[k] = R[k,j] y[j]"),
    "difference_of_two_norms": ("n^(-1/2) * tanh(u[j])", "tanh(u[j])"),
    "value_without_its_maximum": ("n^(-1/2) * tanh(h[t,j])", "tanh(h[t,j])"),
    "value_without_its_attention": ("n^(-1/2) * tanh(h[t,j])", "tanh(h[t,j])"),
    "difference_of_two_maxima": ("n^(-1/2) * tanh(u[t,j])", "tanh(u[t,j])"),
    "bias_over_the_batch_behind_a_norm": ("n^(-1/2) * tanh(h[j])", "tanh(h[j])"),
    "bias_over_the_batch_behind_a_convolution": ("n^(-1/2) * tanh(h[t,j])", "tanh(h[t,j])"),
    "bias_over_the_batch_in_heads": ("n^(-1/2) * tanh(h[j])", "tanh(h[j])"),
    "sigmoid_without_its_half": ("- 0.5", "- 0.25"),
    "softmax_without_its_mean": ("a[p] = s[p] - mean[p](s[p])", "a[p] = s[p] - 0.5 * mean[p](s[p])"),
    "states_of_different_sizes": ("w[j] = U[j,c] f[c]", "u[j] = U[j,c] f[c]\nw[j] = z[j] + u[j]"),
    "attention_over_time": ("a[t,k] = o[t,k] - mean[t](o[t,k])", "a[t,k] = o[t,k] + z[t,k] - mean[t](o[t,k])"),
    "pairs_of_different_sizes": ("w[j] = U[j,p] q[p]", "y[j] = U[j,p] q[p]\nw[j] = z[j] + y[j]"),
    **STACKS,
    "concatenation_of_different_sizes": ("rms_scale[j](q[u,j])", "rms_scale[u,j](q[u,j])"),
}
UNGUARDED = patch("tensorprog.calculus.solve.require_norms", lambda *_: None)
JUDGED = patch("tensorprog.coordcheck.predict.Predictor._norms_last", True)  # or such norms are left out
MADE_UP = """width n
dim d = 8, classes = 5, r = 3
axis i: d, j: n, c: classes, p: r, u: 2, o: 1, q1: 1
input x[i]
param E[j,i], D[p,j], U[j,p], O[c,j]
z[j] = tanh(E[j,i] x[i])
q[p] = D[p,j] z[j]
v[j] = U[j,p] q[p]
one[o] = 1
two[q1] = 1
zo[j,o] = one[o] * z[j]
vo[j,q1] = two[q1] * v[j]
a[j,u] = concat[u](zo[j,o], vo[j,q1])
zq[j,q1] = two[q1] * z[j]
vp[j,o] = one[o] * v[j]
b[j,u] = concat[u](vp[j,o], zq[j,q1])
e[j,u] = a[j,u] + b[j,u]
h[j,u] = e[j,u] * rms_scale[j](e[j,u])
m[j] = mean[u](h[j,u])
output f[c] = O[c,j] m[j]
loss cross_entropy(f)
"""
SHIFTED = """axis t: 8
input y[t,i]
param A[j,i], B[c,j]
w0[t,j] = A[j,i] y[t,i]
w1[t,j] = w0[t,j] + tanh(w0[t + 1,j])
w2[t,j] = w1[t,j] + tanh(w1[t + 2,j])
w3[t,j] = w2[t,j] + tanh(w2[t + 3,j])
w4[t,j] = w3[t,j] * rms_scale[j](w3[t,j])
w5[j] = mean[t](w4[t,j])
output f[c] = B[c,j] w5[j] + """


@pytest.mark.parametrize("name", LAST)
def test_a_norm_of_what_cancels_is_refused(name: str) -> None:
    with pytest.raises(CalculusError, match="does not cover `invrms") as caught:
        tp.derive(HERE / f"{name}.tp", "sgd")
    assert ("different sizes" if name.endswith("of_different_sizes") else "cancel") in caught.value.why


@pytest.mark.parametrize("name", LAST)
def test_a_norm_of_what_lasts_is_derived(name: str) -> None:
    text, (old, new) = (HERE / f"{name}.tp").read_text(), LAST[name]
    assert text.count(old) == 1
    assert tp.derive(tp.parse(text.replace(old, new)), "sgd")


def test_every_file_is_told_apart_from_one_that_lasts() -> None:
    assert {path.stem for path in HERE.glob("*.tp")} == set(LAST)


@pytest.mark.slow
@pytest.mark.parametrize("name", LAST)
def test_without_the_refusal_something_would_grow_faster_than_predicted(name: str) -> None:
    with UNGUARDED, JUDGED:
        derivation = tp.derive(HERE / f"{name}.tp", "sgd")
        found = trial.judged(derivation, derivation.parametrization, looks=(Look(24), Look(24, 0.25), Look(24, 4.0)))
    norms = [row for row in found.rows if row.tensor.startswith("[invrms") and row.step == 0]
    assert norms
    assert all(row.low > row.target + evidence.TOLERANCE for row in norms)


def test_stacks_that_are_small_in_different_places_add_up_to_equals() -> None:
    assert tp.derive(tp.parse(MADE_UP), "sgd")
    with pytest.raises(CalculusError, match="does not cover `invrms"):  # small in the same place
        tp.derive(tp.parse(MADE_UP.replace("(vp[j,o], zq[j,q1])", "(zo[j,o], vo[j,q1])")), "sgd")


@pytest.mark.parametrize("name", [*STACKS, ""])
def test_far_too_many_parts_of_one_norm_hide_no_other(name: str) -> None:
    """Beside what is divided apart stand windows that are shifted from layer to layer."""
    text = (HERE / f"{name}.tp").read_text() if name else MADE_UP.replace("(vp[j,o], zq[j,q1])", "(zo[j,o], vo[j,q1])")
    lasting = tp.parse(text.replace(*STACKS[name or "heads_of_different_sizes"]).replace("output f[c] = ", SHIFTED))
    architecture = tp.parse(text.replace("output f[c] = ", SHIFTED))
    norms = [node for node in architecture.program.forward.nodes if isinstance(node.op, InvRms)]
    with patch("tensorprog.calculus.regions.NEAR", 20):
        fewer = regions_of_norms(architecture.program)
        assert any(len(fewer.found[norm.id]) > 1 for norm in norms[1:])
        with pytest.raises(CalculusError, match="does not cover `invrms") as caught:
            tp.derive(architecture, "sgd")
        assert "different sizes" in caught.value.why
        assert tp.derive(lasting, "sgd")
    assert len(fewer.of) < len(regions_of_norms(architecture.program).of)


@pytest.mark.slow
def test_of_stacks_that_add_up_to_equals_the_predictions_hold() -> None:
    derivation = tp.derive(tp.parse(MADE_UP), "sgd")
    found = trial.judged(derivation, derivation.parametrization, looks=(Look(24), Look(24, 0.25), Look(24, 4.0)))
    assert not found.counts["disagrees"]
    assert found.counts["agrees"] > 4 * found.counts["inconclusive"]


@pytest.mark.parametrize(
    ("name", "fixes"),
    [("sigmoid_over_the_batch", ["no multipliers"]), ("heads_of_different_sizes", ["init[D] = -1", "init[U] = 0"])],
)
def test_what_is_fixed_does_not_go_around_the_refusal(name: str, fixes: list[str]) -> None:
    with pytest.raises(CalculusError, match="does not cover `invrms"):
        tp.derive(HERE / f"{name}.tp", "sgd", fixes=fixes)


def test_where_what_is_fixed_makes_the_parts_alike_nothing_is_refused() -> None:
    found = tp.derive(HERE / "heads_of_different_sizes.tp", "sgd", fixes=["init[D] = -1"])
    assert str(found.tensor("v")[0]) == "1"


@pytest.mark.parametrize("name", LAST)
def test_a_verdict_says_which_norm_is_not_covered(name: str) -> None:
    text, (old, new) = (HERE / f"{name}.tp").read_text(), LAST[name]
    with UNGUARDED:
        found = tp.derive(tp.parse(text), "sgd")
    verdict = classify(found.architecture, found.parametrization, "sgd", advice=False)
    assert "does not cover `invrms" in verdict.caveat
    assert "not certain: the calculus does not cover" in str(verdict)
    lasting = tp.derive(tp.parse(text.replace(old, new)), "sgd")
    assert not classify(lasting.architecture, lasting.parametrization, "sgd", advice=False).caveat


@pytest.mark.parametrize(
    ("rest", "cancels"),
    [
        ("softmax[p](l[p]) - 1/3", True),
        ("tanh(l[p]) - l[p]", True),
        ("softmax[p](l[p]) - 1/4", False),
        ("silu(l[p]) - l[p]", False),
    ],
)
def test_numbers_are_compared_as_they_are_written(rest: str, cancels: bool) -> None:
    text = f"""width n
dim d = 8, classes = 5, r = 3
axis i: d, j: n, k: n, c: classes, p: r
input x[i]
param E[j,i], V[p,j], U[k,p], O[c,k]
z[j] = tanh(E[j,i] x[i])
l[p] = V[p,j] z[j]
s[p] = {rest}
y[k] = U[k,p] s[p]
h[k] = relu(y[k] * rms_scale[k](y[k]))
output f[c] = O[c,k] h[k]
loss cross_entropy(f)
"""
    if cancels:
        with pytest.raises(CalculusError, match="does not cover `invrms"):
            tp.derive(tp.parse(text), "sgd")
    else:
        assert tp.derive(tp.parse(text), "sgd")
