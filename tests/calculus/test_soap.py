"""SOAP: Adam in an eigenbasis of the earlier gradients. Why its sizes are those of Adam, and what is measured."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import tensorprog as tp
from tensorprog.arrays import cosines, power_iterated, turned
from tensorprog.interpret import Interpreter
from tensorprog.optimizers import OPTIMIZERS
from tensorprog.preconditioned import FIRST_ITERATIONS
from tensorprog.steps import make_step
from tests.shared import tiers

EXAMPLES = Path(__file__).parents[2] / "examples"
MLP = EXAMPLES / "mlp.tp"
HALF = Fraction(1, 2)
NAMES = [path.stem for path in sorted(EXAMPLES.glob("*.tp"))]

# --- the size of a step -----------------------------------------------------------------------------


@pytest.mark.parametrize("bases", ["eigenvectors", "power iteration"])
@pytest.mark.parametrize(("seen", "slope"), [(True, -1), (False, 0)])
def test_what_is_new_moves_entries_by_1_and_what_was_seen_before_by_less(bases: str, seen: bool, slope: int) -> None:
    """A gradient of finite rank in the span of the one before has finitely many coordinates: a step of spectral norm 1,
    with entries n^-1. A new one has coordinates everywhere: entries 1. So it is for bases from eigenvectors, which are
    arbitrary where there was no gradient, and for those from power iterations."""
    rng, sizes, norms, widths = np.random.default_rng(0), [], [], (32, 64, 128)
    for n in widths:
        before, new = (rng.standard_normal((n, 3)) @ rng.standard_normal((3, n)) for _ in range(2))
        sides = (before @ before.T, before.T @ before)
        if bases == "eigenvectors":
            found = [np.linalg.eigh(side)[1] for side in sides]
        else:
            found = [cosines(n), cosines(n)]
            for _ in range(FIRST_ITERATIONS):
                found = [power_iterated(side, basis) for side, basis in zip(sides, found, strict=True)]
        inside = turned(before if seen else new, found)
        update = turned(inside / (np.abs(inside) + 1e-8 * np.abs(inside).max()), found, back=True)
        sizes.append(np.sqrt(np.mean(update**2)))
        norms.append(np.linalg.norm(update, 2))
    assert np.polyfit(np.log(widths), np.log(sizes), 1)[0] == pytest.approx(slope, abs=0.02)
    assert np.polyfit(np.log(widths), np.log(norms), 1)[0] == pytest.approx(slope + 1, abs=0.05)  # it is aligned, too


def test_bases_are_orthonormal_and_turn_towards_eigenvectors() -> None:
    rng = np.random.default_rng(0)
    side = rng.standard_normal((20, 4)) * np.array([8.0, 4.0, 2.0, 1.0])
    matrix, basis = side @ side.T, cosines(20)
    np.testing.assert_allclose(basis.T @ basis, np.eye(20), atol=1e-12)
    first = power_iterated(matrix, basis)
    for _ in range(100):
        basis = power_iterated(matrix, basis)
        np.testing.assert_allclose(basis.T @ basis, np.eye(20), atol=1e-12)
    vectors = np.linalg.eigh(matrix)[1]
    np.testing.assert_allclose(np.abs(basis[:, :4].T @ vectors[:, ::-1][:, :4]), np.eye(4), atol=1e-6)
    inside = vectors[:, -4:]  # one iteration all but finds the span
    assert np.linalg.norm(inside.T @ first[:, 4:], 2) < 0.1


def test_the_first_step_only_finds_bases_and_later_ones_use_those_of_earlier_gradients() -> None:
    rng = np.random.default_rng(0)
    w, (g, h) = np.zeros((6, 4)), rng.standard_normal((2, 6, 4))
    step = make_step("soap", {"lr": 1.0, "beta1": 0.0, "beta2": 0.0, "eps": 0.0, "weight_decay": 0.0})
    step(w, g)
    assert not w.any()
    bases = [cosines(6), cosines(4)]
    for _ in range(FIRST_ITERATIONS):
        bases = [power_iterated(side, basis) for side, basis in zip((g @ g.T, g.T @ g), bases, strict=True)]
    step(w, h)
    left, right = bases
    np.testing.assert_allclose(w, -left @ np.sign(left.T @ h @ right) @ right.T, atol=1e-12)
    for basis, known in zip(bases, ("basis 0", "basis 1"), strict=True):
        np.testing.assert_allclose(basis, step.state[known], atol=1e-12)  # the next comes after ten steps


def test_axes_that_are_too_long_keep_their_coordinates() -> None:
    rng = np.random.default_rng(0)
    w, g = np.zeros((6, 4)), rng.standard_normal((6, 4))
    hyper = {"lr": 1.0, "beta1": 0.0, "beta2": 0.0, "eps": 0.0, "weight_decay": 0.0, "max_precond_dim": 3.0}
    step = make_step("soap", hyper)
    for _ in range(2):
        step(w, g)
    np.testing.assert_allclose(w, -np.sign(g))


# --- what is derived --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", tiers(NAMES, ["lora", "mlp"]))
def test_exponents_are_those_of_adam(name: str) -> None:
    """Each part of a gradient may stand alone in some coordinates, where it is lifted to the size of a step; in these
    networks that asks for nothing that Adam does not."""
    path = EXAMPLES / f"{name}.tp"
    assert tp.derive(path, "soap").params == tp.derive(path, "adamw").params


@pytest.mark.slow
def test_a_smaller_part_of_a_gradient_is_lifted_as_it_may_be_alone_in_some_coordinates() -> None:
    """Under Adam it stays behind, in every entry. So this is an upper bound where the larger part is everywhere."""
    sizes = {}
    for name in ("adamw", "soap"):
        solver = tp.derive(EXAMPLES / "gpt.tp", name).solution.solver
        query = next(param for param in solver.program.updates if param.endswith("Wq"))
        sizes[name] = {term[0] for term in solver.update_terms(query, solver.gradients()[query])}
    assert max(sizes["adamw"]) == 0 > min(sizes["adamw"])
    assert sizes["soap"] == {0}


def test_a_gradient_of_unbounded_rank_is_refused() -> None:
    source = """
    width n
    axis i: n, j: n, k: n
    input x[i,j]
    param W[k,j]
    h[i,k] = tanh(W[k,j] x[i,j])
    output f = mean[i,k](h[i,k])
    loss mse(f)
    """
    assert tp.derive(tp.parse(source), "adamw")
    with pytest.raises(tp.TensorProgError, match="rank"):
        tp.derive(tp.parse(source), "soap")


# --- what is measured -------------------------------------------------------------------------------


def judged(wrong: int | Fraction = 0) -> tp.CheckReport:
    """Trained with a new basis after every step; `wrong`: that power of the width too much in the rate of `W2`."""
    row = OPTIMIZERS["soap"]
    often = replace(row, defaults=tuple({**dict(row.defaults), "precondition_frequency": 1.0}.items()))
    derivation = tp.derive(MLP, often)
    w2 = derivation.params["W2"]
    assert w2.lr is not None
    params = {**derivation.params, "W2": replace(w2, lr=w2.lr * tp.Power.of({"n": wrong}))}
    chosen = replace(derivation.parametrization, name="wrong", params=params) if wrong else "derived"
    return tp.check(
        derivation, parametrization=chosen, widths=(64, 128, 256), steps=2, seeds=4, max_seeds=4, batch=4,
        control=False, also=("split",),
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("wrong", [0, HALF, 1])
def test_it_agrees_and_muon_s_rule_does_not(wrong: int | Fraction) -> None:
    """Under Muon the learning rate of a hidden matrix does not depend on the width: n times Adam's. SOAP then blows up
    like n. (A rule in between, as if spectral norms of steps were n^1/2, is caught, too.)"""
    report = judged(wrong)
    part = next(r for r in report.rows if (r.tensor, r.part, r.step) == ("[W2 x1]", "dW.x", 2))
    if wrong:
        assert (part.verdict, part.calculus_verdict) == ("disagrees", "agrees"), str(report)
        return
    verdicts = [row.verdict for row in report.rows if row.part in ("init", "change", "gradient", "dW.x")]
    assert part.verdict == "agrees", str(report)
    assert "disagrees" not in verdicts, str(report)
    assert verdicts.count("agrees") >= 0.9 * len(verdicts), str(report)


@pytest.mark.slow
def test_examples_seen_before_move_it_less() -> None:
    """The prediction is about new examples at each step: at those whose gradient made the bases, the step after has
    entries n^-1 times those of another one."""
    derivation = tp.derive(MLP, "soap")
    sizes: dict[bool, list[float]] = {True: [], False: []}
    for n in (64, 256):
        for again in sizes:
            net = Interpreter(
                derivation.architecture.program, {"n": n}, {"n": 16}, derivation.parametrization, batch=4, seed=1,
                lr={"soap": 1e-3, "adamw": 0.0}, decays=False,
            )  # fmt: skip
            net.step(net.data if again else None)
            w = net.params["W2"].copy()
            net.step()
            sizes[again].append(float(np.linalg.norm(net.params["W2"] - w, 2)))
    slopes = {again: np.log(y / x) / np.log(4) for again, (x, y) in sizes.items()}
    assert slopes[False] == pytest.approx(0, abs=0.1)
    assert slopes[True] == pytest.approx(-1, abs=0.2)
