"""Optimizers by their formulas: what is read off is what rows of data say, what is published, what is measured."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import tensorprog as tp
from tensorprog.calculus.forms import FORMS
from tensorprog.interpret import Interpreter
from tensorprog.optimizers import OPTIMIZERS, Size
from tensorprog.optimizers.formulas import FORMULAS
from tensorprog.optimizers.response import response
from tensorprog.steps import make_step
from tests.shared import tiers

EXAMPLES = Path(__file__).parents[2] / "examples"
MLP = EXAMPLES / "mlp.tp"
HALF = Fraction(1, 2)
GRADIENT, NORM = Size(gradient=Fraction(1)), Size(norm=Fraction(1))

# --- what is read off -------------------------------------------------------------------------------

READ = {  # normalisation, scales, steps before the first update
    "adopt": ("entry", {"eps": Size(1)}, 1),
    "adam_atan2": ("entry", {}, 0),
    "sophia": ("entry", {"gamma": Size(-1), "eps": Size(1)}, 0),
    "clipped_sgd": ("none", {"threshold": Size(norm=1)}, 0),
    "normalised_sgd": ("global", {}, 0),
    "sgdw": ("none", {}, 0),
    "sam": ("none", {}, 0),
}


@pytest.mark.parametrize("name", sorted(FORMULAS))
def test_sizes_follow_from_the_formulas(name: str) -> None:
    """ADOPT, Adam-atan2: degree 0 (arXiv:2411.02853, 2407.05872). Sophia-G: m / (gamma h) has size 1 / (gamma g):
    gamma ~ 1 / g keeps the clipped share constant (arXiv:2305.14342). Clipping: a threshold is compared with a norm."""
    row = OPTIMIZERS[name]
    assert (row.normalisation, dict(row.scales), row.delay) == READ[name]
    assert row.source


SAME = {  # a row and its formula
    "adam": """optimizer adam(lr = 0.001, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0) {
        decay = coupled
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g^2
        step = (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)
    }""",
    "adamw": """optimizer adamw(lr = 0.001, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0.01) {
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g^2
        step = (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)
    }""",
    "lion": """optimizer lion(lr = 0.0001, beta1 = 0.9, beta2 = 0.99, weight_decay = 0) {
        step_ = sign(beta1 * m + (1 - beta1) * g)
        m = beta2 * m + (1 - beta2) * g
        step = step_
    }""",
    "rmsprop": """optimizer rmsprop(lr = 0.01, alpha = 0.99, eps = 1e-8, weight_decay = 0) {
        decay = coupled
        v = alpha * v + (1 - alpha) * g^2
        step = g / (sqrt(v) + eps)
    }""",
    "muon": """optimizer muon(lr = 0.02, momentum = 0.95, weight_decay = 0) {
        vectors = adam
        m = momentum * m + (1 - momentum) * g
        step = orthogonal((1 - momentum) * g + momentum * m)
    }""",
    "momentum": """optimizer momentum(lr = 0.1, momentum = 0.9, weight_decay = 0) {
        decay = coupled
        v = momentum * v + g
        step = v
    }""",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", tiers(SAME, ("adam",)))
def test_a_formula_and_the_row_of_the_same_optimizer_agree(name: str) -> None:
    """Two witnesses: data written by hand with a hand-written step, and the formula's inferred data and its step."""
    row, mine = OPTIMIZERS[name], tp.optimizer(SAME[name])
    assert (mine.normalisation, mine.relative, mine.scales, mine.decay, mine.vectors) == (
        row.normalisation, row.relative, row.scales, row.decay, row.vectors,
    )  # fmt: skip
    for form in FORMS:
        assert tp.derive(MLP, mine, form).params == tp.derive(MLP, name, form).params
    rng = np.random.default_rng(0)
    w = rng.standard_normal((6, 4))
    v = w.copy()
    one, other = make_step(mine), make_step(row)
    for _ in range(4):
        g = rng.standard_normal((6, 4))
        one(w, g)
        other(v, g)
    np.testing.assert_allclose(w, v, rtol=1e-12)


def test_a_step_relative_to_the_parameter_and_one_over_a_norm() -> None:
    relative = tp.optimizer("optimizer a(lr = 1) { step = rms(w) * g / rms(g) }")
    assert (relative.normalisation, relative.relative) == ("tensor", True)
    assert tp.derive(MLP, relative).params["W2"].lr == tp.derive(MLP, "lars").params["W2"].lr
    norm = tp.optimizer("optimizer a(lr = 1) { step = g / norm(g) }")
    assert (norm.normalisation, norm.relative) == ("frobenius", False)
    # a rank-one matrix has one norm: Frobenius and spectral normalisation are one
    assert tp.derive(MLP, norm).params["W2"].lr == tp.derive(MLP, "muon").params["W2"].lr


REFUSED = {
    "step = g + 1": "the sizes of these do not agree",
    "step = g + w": "the sizes of these do not agree",
    "step = g / (abs(g) + 1)": "the sizes of these do not agree",
    "step = g / g^2": "the size of this step is not covered",
    "step = g / sqrt(abs(g))": "the size of this step is not covered",
    "step = g^2 / abs(g)": "must change sign with the gradient",
    "step = g * w / rms(w)": "must change sign with the gradient",
    "step = 0 * g": "must change sign with the gradient",
    "step = sgin(g)": "unknown function `sgin`",
    "step = sign(g, g)": "`sign` takes 1 argument",
    "step = q": "unknown name `q`",
    "step = lr * g": "`lr` does not stand in the formulas",
    "step = h[j]": "this cannot stand in an optimizer",
    "m = g": "has no step",
    "g = 2 * g; step = g": "`g` cannot be assigned",
    "decay = coupled; step = g": "no `weight_decay`",
    "decay = sometimes; step = g": "`decay` is not a formula",
    "step = orthogonal(g) * sign(g)": "multiplied by numbers only",
    "step = sign(orthogonal(g))": "an orthogonalised tensor stands here",
    "perturb = w; step = g": "the perturbation is `rho` times",
}


@pytest.mark.parametrize("body", REFUSED)
def test_what_has_no_size_is_refused_at_its_place(body: str) -> None:
    with pytest.raises(tp.TensorProgError, match=REFUSED[body].replace("(", r"\(")) as error:
        tp.optimizer(f"optimizer mine(lr = 0.1) {{ {body} }}")
    assert error.value.span.line == 1
    assert str(error.value).startswith("<string>:1:")


def test_hyperparameters_are_checked() -> None:
    for text, message in {
        "optimizer a { step = g }": "has no learning rate",
        "optimizer a(lr = 1, unused = 2) { step = g }": "`unused` is used nowhere",
        "optimizer a(lr = g) { step = g }": "no number",
        "optimizer a(lr = 1)": "one definition of an optimizer is wanted",
    }.items():
        with pytest.raises(tp.TensorProgError, match=message):
            tp.optimizer(text)


# --- in a file --------------------------------------------------------------------------------------

FILE = """\
width n
dim d = 8, c = 3
axis i: d, j: n, k: n, o: c
optimizer mine(lr = 0.01, beta = 0.9, floor = 1e-6) {
  v = beta * v + (1 - beta) * g^2
  step = g / (sqrt(v) + floor)
}
optimizer turned(lr = 0.01, beta = 0.9, weight_decay = 0) {
  vectors = mine
  m = beta * m + g
  step = orthogonal(m) * rms(w)
}
optimizer mine
input x[i]
param E[j,i], W[k,j] optimizer turned, R[o,k], b[k] = zeros
h[k] = tanh(W[k,j] * (E[j,i] x[i])) + b[k]
output f[o] = R[o,k] h[k]
loss cross_entropy(f)
"""


def test_a_file_defines_its_own_optimizers() -> None:
    from tensorprog.printer import format_source

    found = tp.derive(tp.parse(FILE))
    assert {n: o.name for n, o in found.solution.solver.optimizers.items()} == {
        "E": "mine", "W": "turned", "R": "mine", "b": "mine",
    }  # fmt: skip
    assert dict(found.params["E"].others) == {"floor": tp.Power.of({"n": -1})}
    assert found.params["W"].lr == tp.Power.of({"n": HALF})  # entries of a step are lr * n^-1/2 * n^-1
    assert format_source(FILE) == FILE
    with pytest.raises(tp.TensorProgError, match="defined twice"):
        tp.derive(tp.parse(FILE + "optimizer mine(lr = 1) { step = g }\n"))
    assert tp.emit(tp.parse(FILE)).count("class ") == 4  # two optimizers, the mix of them, the network
    assert found.remarks == []
    assert ["`mine`" in line for line in tp.derive(tp.parse(FILE), "adam").remarks] == [True]


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_the_file_s_own_optimizers_are_trained_on_both_backends(backend: str) -> None:
    report = tp.check(tp.parse(FILE), backend=backend, widths=(64, 128, 256, 512), steps=2)
    assert report.verdict != "disagrees", str(report)


# --- in Python --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_optimizer_in_a_few_lines_of_python() -> None:
    def rule(step, w, g):
        w -= step.hyper["lr"] * np.cbrt(g) / (np.cbrt(np.abs(g)) + step.hyper["eps"])

    mine = tp.Optimizer(
        "mine", "entry", scales=(("eps", Size(gradient=Fraction(1, 3))),), defaults=(("lr", 0.1), ("eps", 1e-9)),
        step=rule,
    )  # fmt: skip
    found = tp.derive(MLP, mine)
    assert found.params["W2"].lr == tp.derive(MLP, "adam").params["W2"].lr
    assert found.params["W2"].eps == tp.Power.of({"n": Fraction(-1, 3)})
    assert tp.check(found, widths=(64, 128, 256, 512), steps=2).verdict == "agrees"
    with pytest.raises(tp.TensorProgError, match="`mine` cannot be emitted"):
        tp.emit(found)
    stepless = replace(mine, step=None)
    assert tp.derive(MLP, stepless).params == found.params
    with pytest.raises(tp.TensorProgError, match="has no NumPy step"):
        tp.check(tp.derive(MLP, stepless))


# --- the whole gradient -----------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_a_threshold_keeps_pace_with_the_norm_of_the_whole_gradient(form: str) -> None:
    found = tp.derive(MLP, "clipped_sgd", form)
    assert {dict(p.others)["threshold"] for p in found.params.values()} == {found.gradient_norm}
    assert found.params["W2"].lr == tp.derive(MLP, "sgd", form).params["W2"].lr


@pytest.mark.parametrize("form", FORMS)
def test_a_normalised_step_multiplies_the_learning_rate_by_the_norm(form: str) -> None:
    normalised, plain = (tp.derive(MLP, name, form) for name in ("normalised_sgd", "sgd"))
    for name, exponents in plain.params.items():
        assert normalised.params[name].lr == exponents.lr * plain.gradient_norm


def tight(name: str, **values: float) -> tp.Optimizer:
    row = OPTIMIZERS[name]
    return replace(row, defaults=tuple({**dict(row.defaults), **values}.items()))


def with_others(derivation: tp.Derivation, **shifts: Fraction) -> tp.Parametrization:
    """The derived parametrization with exponents of hyperparameters shifted."""
    params = {}
    for name, p in derivation.params.items():
        others = tuple((k, v * tp.Power.of({"n": shifts.get(k, Fraction(0))})) for k, v in p.others)
        params[name] = replace(p, others=others)
    return replace(derivation.parametrization, name="wrong", params=params)


def judged(optimizer: tp.Optimizer, form: str = "table8", **shifts: Fraction) -> tp.CheckReport:
    derivation = tp.derive(MLP, optimizer, form)
    chosen = with_others(derivation, **shifts) if shifts else "derived"
    return tp.check(derivation, parametrization=chosen, widths=(64, 128, 256, 512), steps=1, control=False)


@pytest.mark.slow
def test_a_threshold_that_lags_behind_slows_every_update_as_predicted() -> None:
    """Negative control: n^-1/2 less threshold, n^-1/2 smaller updates. (In the form in which all gradients have a norm
    of order 1; in others the largest outgrows the rest only slowly.)"""
    row = tight("clipped_sgd", threshold=1e-2)
    assert response(row, "threshold", larger=False) == 1
    assert response(row, "threshold", larger=True) == 0
    assert judged(row, "table9").verdict == "agrees"
    wrong = judged(row, "table9", threshold=-HALF)
    assert wrong.verdict == "disagrees"
    changed = [r for r in wrong.rows if r.part == "change" and r.tensor in ("W1", "h1", "W2", "b2")]
    assert [r.verdict for r in changed] == ["disagrees"] * 4
    assert [r.calculus_verdict for r in changed] == ["agrees"] * 4


@pytest.mark.slow
def test_a_gamma_that_is_too_large_slows_sophia_and_one_too_small_does_not() -> None:
    """Sophia's step is clip(m / (gamma h), 1). With a gamma n^2 larger than 1 / g, only entries whose sampled gradient
    is smaller than gamma^-1/2 stay clipped, a share of gamma^-1/2 of them: the rms is gamma^-1/4, n^-1/2 smaller. With
    a smaller gamma the step is a sign."""
    row = tight("sophia", gamma=1e2)
    assert (response(row, "gamma", larger=True), response(row, "gamma", larger=False)) == (-HALF / 2, 0)
    wrong = judged(row, gamma=Fraction(2))
    hidden = next(r for r in wrong.rows if r.tensor == "W2" and r.part == "change")
    assert (hidden.verdict, hidden.calculus_verdict) == ("disagrees", "agrees")
    assert judged(tight("sophia", gamma=1e-6), gamma=-HALF).verdict == "agrees"


# --- perturbations ----------------------------------------------------------------------------------


def test_radii_of_sam_are_the_published_ones() -> None:
    """Haas et al. 2024, arXiv:2411.00075: perturbations of muP^2 are n, 1 and 1/n times the gradients of input, hidden
    and output weights; the radius is that times the norm of the whole gradient, n^1/2 without multipliers."""
    found = tp.derive(MLP, "sam", "table3")
    assert found.gradient_norm == tp.Power.of({"n": HALF})
    radii = {name: dict(found.params[name].others)["rho"]["n"] for name in ("W1", "W2", "W3", "b1")}
    assert radii == {"W1": Fraction(3, 2), "W2": HALF, "W3": -HALF, "b1": Fraction(3, 2)}


@pytest.mark.parametrize("form", tiers(FORMS, ["table8"]))
def test_every_perturbation_alone_moves_the_value_of_its_use_by_theta_1(form: str) -> None:
    """Measured on the networks themselves; with one global radius only some do (the negative control)."""
    derivation = tp.derive(MLP, "sam", form)
    uses = {o.param: o.node for o in derivation.solution.solver.uses}
    widths = (64, 256, 1024)
    constant = with_others(derivation)
    constant = replace(constant, params={
        n: replace(p, others=(("rho", tp.Power()),)) for n, p in constant.params.items()
    })  # fmt: skip
    slopes = {}
    for parametrization in (derivation.parametrization, constant):
        for name, node in uses.items():
            moved = []
            for n in widths:
                net = Interpreter(derivation.architecture.program, {"n": n}, {"n": 16}, parametrization, seed=1)
                before = net.run(keep={node}, backward=False)[node].copy()
                grads = net.run(keep=net.program.grads.values())
                norm = np.sqrt(sum(np.vdot(grads[k], grads[k]) for k in net.program.grads.values()))
                rho = net._steppers[name].hyper["rho"]
                net.params[name] += rho * grads[net.program.grads[name]] / norm
                after = net.run(keep={node}, backward=False)[node]
                moved.append(np.sqrt(np.mean((after - before) ** 2)))
            slopes[parametrization.name, name] = np.polyfit(np.log(widths), np.log(moved), 1)[0]
    derived = [slope for (kind, _), slope in slopes.items() if kind == form]
    assert np.max(np.abs(derived)) < 0.2, slopes
    wrong = [slope for (kind, _), slope in slopes.items() if kind == "wrong"]
    if form == "table9":  # there every gradient has a norm of order 1, and one radius serves all
        assert {dict(p.others)["rho"] for p in derivation.params.values()} == {tp.Power()}
        return
    assert np.max(np.abs(wrong)) > 0.4, slopes


ZERO_READOUT = """
width n
dim d = 8, c = 3
axis i: d, j: n, k: n, o: c
input x[i]
param E[j,i], W[k,j], R[o,k] = zeros
h[k] = tanh(W[k,j] (E[j,i] x[i]))
output f[o] = R[o,k] h[k]
loss mse(f)
"""


@pytest.mark.parametrize(("act", "shift", "verdict"), [
    pytest.param("tanh", Fraction(0), "agrees", marks=pytest.mark.slow),
    ("tanh", -HALF, "disagrees"),
    ("relu", Fraction(0), "agrees"),
])  # fmt: skip
def test_a_perturbed_readout_that_starts_at_zero_lets_the_layers_below_move_at_once(act, shift, verdict) -> None:
    """At the start their gradient is zero; at the perturbed weights it is proportional to the readout's radius, over
    the norm of the gradient, which is the readout's alone."""
    derivation = tp.derive(tp.parse(ZERO_READOUT.replace("tanh", act)), tight("sam", rho=1.0))
    chosen = with_others(derivation, rho=shift)
    report = tp.check(derivation, parametrization=chosen, widths=(64, 128, 256, 512), steps=1, lr=0.1, control=False)
    row = next(r for r in report.rows if r.tensor == "W" and r.part == "change")
    assert (row.verdict, row.calculus_verdict) == (verdict, "agrees"), str(report)


def test_sam_cannot_be_one_of_several_optimizers_in_a_program() -> None:
    with pytest.raises(tp.TensorProgError, match="cannot be emitted together"):
        tp.emit(tp.derive(MLP, "sam", vectors="adamw"))


# --- the page ---------------------------------------------------------------------------------------


def test_the_page_of_optimizers_lists_all_of_them_with_their_sources() -> None:
    page = (EXAMPLES.parent / "docs" / "reference" / "optimizers.md").read_text()
    rows = {line.split("`")[1]: line for line in page.split("## All of them")[1].splitlines() if line.startswith("| `")}
    assert list(rows) == list(OPTIMIZERS)
    for name, row in OPTIMIZERS.items():
        assert row.source, name
        assert row.source in rows[name]
        assert f" {row.decay} " in rows[name]
        assert all(f"`{key}`" in rows[name] for key in row.scaled)
