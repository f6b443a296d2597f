"""What is centred along an axis sums to exactly zero along it: where the calculus says so, so does NumPy, and where
NumPy says otherwise, the calculus does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tensorprog.api import check
from tensorprog.architecture import parse
from tensorprog.calculus.analysis import largest
from tensorprog.coordcheck import run
from tensorprog.coordcheck.predict import Prediction, Predictor
from tensorprog.coordcheck.rounding import only_rounding
from tensorprog.errors import CalculusError
from tensorprog.interpret import Interpreter
from tests.shared import derive, stack

FOUND = Path(__file__).parent / "found" / "mean_of_a_centred_tensor.tp"
SMALL = 1e-12  # of a sum of some hundred entries of order 1, in float64

PROGRAM = """width n
dim d = 6, c = 3
axis i: d, j: 2 n, h: 2, e: n, r: n, o: c
input x[i]
param E[j,i], V[o,j]
z[j] = relu(E[j,i] x[i])
m[j] = z[j] - mean[j](z[j])
BODY
output f[o] = ?out * (s[] * (V[o,j] z[j]))
loss mse(f)
"""

CENTRED = {
    "itself": "s[] = sum[j](m[j])",
    "scaled": "s[] = mean[j](3 * m[j])",
    "normalised": "y[j] = m[j] * rms_scale[j](m[j])\ns[] = sum[j](y[j])",
    "times a gain of ones": "param g[j] = ones\ns[] = g[j] m[j]",
    "times a constant on a sum": "param g[j] = ones\ns[] = (1 + 2 * g[j]) m[j]",
    "a sum of two": "y[j] = tanh(z[j])\nw[j] = y[j] - mean[j](y[j])\nq[j] = m[j] + w[j]\ns[] = sum[j](q[j])",
    "centred again": "y[j] = m[j] - mean[j](m[j])\ns[] = sum[j](y[j])",
    "times a number": "a[] = mean[j](z[j])\ns[] = sum[j](a[] * m[j])",
}
NOT_CENTRED = {
    "not at all": "s[] = mean[j](z[j])",
    "times a vector": "param v[j]\ns[] = v[j] m[j]",
    "times what it was": "s[] = z[j] m[j]",
    "squared": "s[] = m[j] m[j]",
    "through a function": "s[] = mean[j](relu(m[j]))",
    "through an odd function": "s[] = mean[j](tanh(m[j]))",
    "plus something else": "s[] = mean[j](m[j] + z[j])",
    "half of it": "y[h,e] = m[(h e)]\nq[h] = sum[e](y[h,e])\ns[] = q[h] q[h]",
    "times a matrix": "param W[r,j]\ny[r] = W[r,j] m[j]\ns[] = sum[r](y[r])",
}


def both(body: str) -> tuple[bool, bool]:
    """Whether s starts at exactly zero, by the calculus and by NumPy."""
    derivation = derive(parse(PROGRAM.replace("BODY", body)), "sgd")
    node = next(n.id for n in derivation.architecture.graph.nodes if n.name == "s")
    network = Interpreter(derivation.architecture.program, {"n": 32}, {"n": 8}, derivation.parametrization, batch=3)
    measured = float(np.abs(network.run(keep={node}, backward=False)[node]).max())
    return derivation.sizes(node)[0] is None, measured < SMALL


@pytest.mark.parametrize("body", CENTRED.values(), ids=CENTRED)
def test_what_is_alike_along_the_axis_leaves_a_centred_tensor_centred(body: str) -> None:
    assert both(body) == (True, True)


@pytest.mark.parametrize("body", NOT_CENTRED.values(), ids=NOT_CENTRED)
def test_whatever_else_is_done_to_a_centred_tensor_gives_it_a_sum(body: str) -> None:
    assert both(body) == (False, False)


def means(optimizer: str, *formulas: str) -> list[str]:
    """The exponents of the mean of z and of its changes. `formulas`: of an optimizer that is none of those known."""
    source = FOUND.read_text()
    if formulas:
        source += "\n".join((f"\noptimizer {optimizer}(lr = 0.1) {{", *formulas, "}"))
    found = derive(parse(source), optimizer)
    predictor = Predictor(found, found.parametrization, 2)
    node = next(n for n in found.architecture.graph.nodes if n.name == "z").id + 2
    sizes = [largest(s.change[node] if t else s.initial[node]) for t, s in enumerate(predictor.snapshots)]
    return ["zero" if size is None else str(predictor.units.unpack(size)) for size in sizes]


@pytest.mark.parametrize("optimizer", ["sgd", "clipped_sgd", "lars", "muon", "shampoo"])
def test_a_step_that_keeps_sums_of_a_centred_gradient_is_centred(optimizer: str) -> None:
    """The gradient behind a centring is centred, and so is its product with a number, or with a matrix on the left."""
    assert means(optimizer) == ["n^-1/2", "zero", "zero"]


@pytest.mark.parametrize("optimizer", ["adam", "lamb", "adafactor"])
def test_a_step_that_divides_entries_by_different_numbers_is_not_centred(optimizer: str) -> None:
    assert "zero" not in means(optimizer)


@pytest.mark.parametrize(
    ("formulas", "sums"),
    [
        (("m = 0.9 * m + g", "step = m"), ["n^-1/2", "zero", "zero"]),
        (("m = 0.9 * m + g", "step = orthogonal(m) * 2"), ["n^-1/2", "zero", "zero"]),
        (("step = clip(g, rms(g))",), ["n^-1/2", "n^-1/2", "1"]),
        (("step = orthogonal(sign(g))",), ["n^-1/2", "n^-1/2", "1"]),
    ],
)
def test_a_formula_tells_whether_a_step_keeps_sums(formulas: tuple[str, ...], sums: list[str]) -> None:
    assert means("own", *formulas) == sums


@pytest.mark.parametrize("optimizer", ["sgd", "muon"])
def test_exact_zeros_agree_but_for_rounding_errors(optimizer: str) -> None:
    """Orthogonalisation multiplies them by up to a few hundred."""
    report = check(FOUND, optimizer=optimizer, widths=(16, 32, 64), seeds=2, steps=1, control=False)
    rows = {(row.tensor, row.step): row for row in report.rows}
    for tensor, step in (("s", 0), ("[z]", 1)):
        assert rows[tensor, step].predicted is None and rows[tensor, step].verdict == "agrees"
    assert rows["s", 1].predicted == "0"


GATED = """
width n
axis i: 8, j: n, c: 4
input x[i]
param E[j,i], V[c,j], U[j,i], R[c,j]
z[j] = E[j,i] x[i]
s[j] = sigmoid(z[j])
m[j] = s[j] - mean[j](s[j])
y[j] = m[j] * rms_scale[j](m[j])
w[j] = tanh(U[j,i] x[i])
output f[c] = V[c,j] (y[j] * mean[j](y[j])) + R[c,j] w[j]
loss mse(f)
"""


def test_rounding_errors_set_no_learning_rate() -> None:
    """What the mean of a centred vector gates has no gradient; at rates at which rounding errors of one would show, it
    would blow up, or, at smaller ones, be taken for something that saturates the function behind it."""
    report = check(parse(GATED), optimizer="sgd", widths=(32, 64, 128), seeds=2, steps=2, control=False)
    assert report.count("disagrees") == 0, str(report)
    assert {row.verdict for row in report.rows if row.tensor in "EVzsmy"} == {"agrees"}, str(report)


def test_what_does_not_shrink_in_another_precision_is_no_rounding_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: everything is predicted to be zero, and nothing but the zeros is taken for one."""
    found: dict[str, set[str]] = {}

    def all_zero(runs: run.Runs, values: run.Measurement, demanded: Predictor) -> set[tuple[int, int]]:
        class Zeros(Predictor):
            def at(self, probe: object, step: int) -> Prediction:
                return Prediction(None)

        zeros = Zeros.__new__(Zeros)
        result = only_rounding(runs, values, zeros)
        found["init"] = {runs.probes[k].name for k, t in result if t == 0 and runs.probes[k].kind == "value"}
        return result

    monkeypatch.setattr(run, "only_rounding", all_zero)
    check(FOUND, optimizer="sgd", widths=(16, 32, 64), seeds=2, steps=1, control=False)
    assert found["init"] == {"[y]", "s"}


def test_a_norm_of_an_exact_zero_is_refused_where_gradients_through_it_grow() -> None:
    body = "param g[j] = ones\ny[j] = m[j] * g[j]\ns[] = mean[j](y[j])\nu[j] = y[j] * s[]"
    source = PROGRAM.replace("BODY", f"{body}\nw[j] = u[j] * rms_scale[j](u[j])")
    source = source.replace("?out * (s[] * (V[o,j] z[j]))", "V[o,j] w[j]")
    with pytest.raises(CalculusError, match="training blows up") as caught:
        derive(parse(source), "sgd")
    assert "exactly zero at the start" in caught.value.why


FEW_FEATURES = """width n
axis j: n, c: 5, t: 6, u: 8
input x[u]
param B[j,u], D[t,j], R[c,t], E[t,u], GAINS
e[j] = B[j,u] x[u]
g[j] = relu(e[j])
q[t] = D[t,j] g[j]
m[t] = q[t] - mean[batch](q[t])
r[t] = m[t] * rms_scale[batch](m[t])
s[t] = E[t,u] x[u]
z0[t] = r[t]
BODY
v[t] = relu(s[t] + zLAST[t])
output y[c] = R[c,t] v[t]
loss mse(y)
"""


def _few_features(gains: int, start: str = "zeros") -> str:
    """A norm of few features, behind so many gains that the gradient reaches it after as many steps."""
    body = "\n".join(f"z{k}[t] = G{k}[t] * (z{k - 1}[t]{' + s[t]' * (k > 1)})" for k in range(1, gains + 1))
    names = ", ".join(f"G{k}[t] = {start}" for k in range(1, gains + 1))
    return FEW_FEATURES.replace("BODY", body).replace("GAINS", names).replace("LAST", str(gains))


@pytest.mark.parametrize("gains", [1, 2, 3])
def test_a_norm_of_few_features_behind_gains_of_zero_falls_late(gains: int) -> None:
    """Its argument starts at n^-1/2 and moves by 1, but only when the gains have left zero: the first gradient that
    reaches it meets the inverse norm of the start, n^1/2. Where gains start at 1 it falls as they move."""
    zero, one, adam = (derive(parse(_few_features(gains, start)), which)
                       for start, which in (("zeros", "sgd"), ("ones", "sgd"), ("zeros", "adam")))  # fmt: skip
    assert {str(zero.params[name].lr) for name in "BD"} == {"n^1/2"}
    assert {str(zero.params[name].lr) for name in ("R", "E", "G1")} == {"1"}
    assert not zero.vanishing
    assert {str(one.params[name].lr) for name in "BD"} == {"n^1/2"}
    assert {str(adam.params[name].lr) for name in "BD"} == {"1"}


@pytest.mark.parametrize("gains", [1, 2])
def test_rates_behind_a_norm_that_falls_late_are_measured(gains: int) -> None:
    """At a rate like n, as if the inverse norm had fallen before, the norm's argument blows up in that step."""
    found, options = parse(_few_features(gains)), {"widths": (64, 256, 1024), "seeds": 4, "steps": gains + 2}
    report = check(found, optimizer="sgd", **options)
    assert report.count("disagrees") == 0, str(report)
    assert report.control is not None and report.control.caught
    wrong = check(found, optimizer="sgd", **options, overrides=["lr[D] = n"], control=False)
    (row,) = [row for row in wrong.rows if (row.tensor, row.part, row.step) == ("q", "change", gains + 1)]
    assert row.verdict == "disagrees" and row.low is not None and row.low > 0.2


def test_a_norm_that_falls_after_many_steps_is_refused_by_name() -> None:
    with pytest.raises(CalculusError, match="training blows up") as caught:
        derive(parse(_few_features(6)), "sgd")
    assert "`invrms(m)`" in caught.value.why and "`G1`" in caught.value.why and "not start at zero" in caught.value.fix


LAYERS = """repeat L {
 param W[k,m], V[m,j]
 u = layernorm(h)
 a[m] = V[m,j] u[j]
 y[k] = W[k,m] relu(a[m])
 h[k] = h[k] + ?b * y[k]
}
s[] = sum[j](h[j])
h = layernorm(h)"""


@pytest.mark.parametrize(
    ("optimizer", "stream", "power"),
    [
        ("sgd", LAYERS, "-1/2"),
        ("muon", LAYERS, "-1/2"),
        ("adam", LAYERS, "0"),
        ("sgd", LAYERS.replace("layernorm", "rmsnorm"), "0"),
        ("sgd", LAYERS.replace("\nh = layernorm(h)", ""), "0"),
        (
            "sgd",
            LAYERS.replace("u[j]\n", "u[j] + q[m]\n").replace(" a[m] =", " q[m] = W[k,m] tanh(u[k])\n a[m] ="),
            "0",
        ),
    ],
    ids=["layer norms", "orthogonalised", "adam", "not centred", "the stream is read too", "the matrix is read too"],
)
def test_layers_move_the_mean_of_what_only_layer_norms_read_at_random(optimizer: str, stream: str, power: str) -> None:
    """All layers push the stream in one direction, which is centred. What is left of the mean is W_l times a change of
    layer l, with nothing in common from layer to layer: L^1/2 in place of L."""
    found = derive(parse(stack(stream)), optimizer)
    node = next(n.id for n in found.architecture.graph.nodes if n.name == "s")
    change = found.sizes(node)[1]
    assert change is not None and str(change["L"]) == power
