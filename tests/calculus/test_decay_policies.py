"""Weight decay under its policies: published exponents, what each policy keeps constant, and what changes with it."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

import tensorprog as tp
from tensorprog.calculus.forms import FORMS
from tensorprog.optimizers import OPTIMIZERS
from tensorprog.optimizers.policies import POLICIES
from tests.calculus.test_published_tables import MLP
from tests.shared import tiers

HALF = Fraction(1, 2)


def decays(optimizer: str, policy: str, form: str = "table3") -> list[Fraction]:
    params = tp.derive(MLP, optimizer, form, decay_policy=policy).params
    return [p.weight_decay["n"] for p in params.values() if p.weight_decay is not None]


@pytest.mark.parametrize(
    ("policy", "hidden"),
    [("product", Fraction(1)), ("drift", HALF), ("diffusion", Fraction(0)), ("constant", Fraction(0))],
)
def test_published_exponents_of_a_hidden_matrix_under_adamw(policy: str, hidden: Fraction) -> None:
    """product: decay ~ 1/lr ~ n (CompleteP, arXiv:2505.01618, table 1; independent decay, arXiv:2405.13698). drift:
    n^1/2 (Fan et al. 2025, arXiv:2510.15262, abstract). diffusion: rms ~ (lr / decay)^1/2 ~ n^-1/2
    (Kosson et al. 2023, arXiv:2305.17212), so n^0."""
    hidden_matrix = tp.derive(MLP, "adamw", "table3", decay_policy=policy).params["W2"]
    assert hidden_matrix.weight_decay == tp.Power.of({"n": hidden})


@pytest.mark.parametrize("policy", POLICIES)
def test_training_is_the_same_in_every_form_unless_the_decay_itself_is_fixed(policy: str) -> None:
    """lr * decay (decoupled) does not depend on the form: w shrinks by the same fraction."""
    found = []
    for form in FORMS:
        params = tp.derive(MLP, "adamw", form, decay_policy=policy).params
        found.append([p.lr * p.weight_decay for p in params.values()])
    assert (len({tuple(row) for row in found}) == 1) == (policy != "constant")


DECAYING = sorted(n for n, row in OPTIMIZERS.items() if row.decay != "none")


@pytest.mark.parametrize("optimizer", tiers(DECAYING, ("adamw", "sgd", "muon")))
def test_the_fraction_shrinks_in_the_order_product_drift_diffusion(optimizer: str) -> None:
    product, drift, diffusion = (decays(optimizer, p) for p in ("product", "drift", "diffusion"))
    assert all(a >= b >= c for a, b, c in zip(product, drift, diffusion, strict=True))


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd", "lars"])
@pytest.mark.parametrize("policy", ["product", "drift", "diffusion"])
def test_a_step_of_decay_alone_shrinks_by_the_fraction_of_the_policy(optimizer: str, policy: str) -> None:
    """Numbers, not exponents: the change that decay makes to a step, at two widths."""
    from tensorprog.steps import make_step

    derivation = tp.derive(MLP, optimizer, "table3", decay_policy=policy)
    row, p = derivation.solution.solver.optimizers["W2"], derivation.params["W2"]
    gradient, widths = Fraction(-1), (10**4, 10**6)  # entries of the gradient of W2 are n^-1
    fractions: list[float] = []
    moves: list[float] = []
    for n in widths:
        size = float(n) ** -0.5
        rng = np.random.default_rng(0)
        w = size * rng.standard_normal((40, 40))
        gradients = [float(n) ** float(gradient) * rng.standard_normal((40, 40)) for _ in range(3)]
        hyper = {"lr": float(n) ** float(p.lr["n"]) * 1e-3}
        if "eps" in dict(row.defaults):
            hyper["eps"] = 1e-30
        changes = []
        for decay in (0.0, float(n) ** float(p.weight_decay["n"]) * 1e-3):
            v = w.copy()
            step = make_step(row, {**hyper, "weight_decay": decay})
            for g in gradients:
                step(v, g)
            changes.append(v - w)
        moves.append(np.sqrt(np.mean(changes[0] ** 2)) / size)
        fractions.append(np.sqrt(np.mean((changes[1] - changes[0]) ** 2)) / size)
    slope = float(np.log(fractions[1] / fractions[0]) / np.log(widths[1] / widths[0]))
    moved = float(np.log(moves[1] / moves[0]) / np.log(widths[1] / widths[0]))
    power = float(POLICIES[policy].power or 0)
    expected = power * moved
    if row.decay == "coupled" and not row.linear:  # the penalty is normalised too: never more than the step itself
        expected = min(expected, moved)
    assert slope == pytest.approx(expected, abs=0.05)
