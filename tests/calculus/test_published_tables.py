"""The derivation gives the published answers, in every form, and keeps them under substitution."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

import tensorprog as tp
from tensorprog.calculus.analysis import Analysis, largest
from tests.shared import tiers

MLP = tp.parse("""
width n
dim d = 16, classes = 10
axis i: d, j: n, k: n, c: classes
input x[i]
param W1[j,i], b1[j] = zeros, W2[k,j], W3[c,k]
h1[j] = W1[j,i] x[i] + b1[j]
x1[j] = relu(h1[j])
h2[k] = W2[k,j] x1[j]
x2[k] = relu(h2[k])
output f[c] = W3[c,k] x2[k]
loss cross_entropy(f)
""")
HALF = Fraction(1, 2)

# parameter: (A, C), the exponents of the initial size n^-A and learning rate n^-C without multipliers
AC = {
    "sgd": {"W1": (0, -1), "b1": (0, -1), "W2": (HALF, 0), "W3": (1, 1)},
    "adam": {"W1": (0, 0), "b1": (0, 0), "W2": (HALF, 1), "W3": (1, 1)},
    "muon": {"W1": (0, -HALF), "b1": (0, 0), "W2": (HALF, 0), "W3": (1, HALF)},
}

# form -> optimizer -> parameter: (multiplier, init_std, lr) as exponents of the quantities
TABLES = {
    "table3": {
        "sgd": {"W1": (0, 0, 1), "W2": (0, -HALF, 0), "W3": (0, -1, -1)},
        "adam": {"W1": (0, 0, 0), "W2": (0, -HALF, -1), "W3": (0, -1, -1)},
    },
    "table8": {
        "sgd": {"W1": (0, 0, 1), "W2": (0, -HALF, 0), "W3": (-1, 0, 1)},
        "adam": {"W1": (0, 0, 0), "W2": (0, -HALF, -1), "W3": (-1, 0, 0)},
    },
    "table9": {
        "sgd": {"W1": (HALF, -HALF, 0), "W2": (0, -HALF, 0), "W3": (-HALF, -HALF, 0)},
        "adam": {"W1": (HALF, -HALF, -HALF), "W2": (0, -HALF, -1), "W3": (-HALF, -HALF, -HALF)},
    },
}


@pytest.mark.parametrize("optimizer", AC)
def test_known_sizes_and_learning_rates(optimizer: str) -> None:
    """Tensor Programs V, table 3 (SGD, Adam); Yang, Simon & Bernstein (spectral condition) for Muon: an update of
    spectral norm sqrt(fan_out / fan_in) for every layer."""
    found = tp.derive(MLP, optimizer, "table3")
    for name, (a, c) in AC[optimizer].items():
        exponents = found.params[name]
        assert exponents.lr is not None and exponents.lr["n"] == -c, name
        if exponents.init_std is not None:
            assert exponents.init_std["n"] == -a, name


@pytest.mark.parametrize("form", TABLES)
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_tensor_programs_v_tables(form: str, optimizer: str) -> None:
    """Yang et al. 2022, Tensor Programs V (arXiv:2203.03466), tables 3, 8 and 9."""
    found = tp.derive(MLP, optimizer, form)
    for name, (multiplier, std, lr) in TABLES[form][optimizer].items():
        e = found.params[name]
        assert e.init_std is not None and e.lr is not None
        assert (e.multiplier["n"], e.init_std["n"], e.lr["n"]) == (multiplier, std, lr), name


@pytest.mark.parametrize("form", ["table3", "table8", "table9", "unit"])
@pytest.mark.parametrize(
    "optimizer", tiers(["sgd", "adam", "muon", "lion", "rmsprop", "nadam", "adagrad", "signsgd"], ("sgd", "adam"))
)
def test_forms_are_one_derivation(form: str, optimizer: str) -> None:
    """Multiplier * std, and learning rate * multiplier^(1 + degree), do not depend on the form (TP IV, 3.1)."""
    plain, other = (tp.derive(MLP, optimizer, f) for f in ("table3", form))
    for name in plain.params:
        p, q = plain.params[name], other.params[name]
        degree = plain.solution.solver.optimizers[name].degree
        assert p.lr is not None and q.lr is not None
        assert q.lr * q.multiplier ** (1 + degree) == p.lr
        if p.init_std is not None:
            assert q.init_std is not None and q.init_std * q.multiplier == p.init_std


@pytest.mark.parametrize("form", tiers(["table8", "table9"], ["table8"]))
def test_a_global_clip_is_width_independent(form: str) -> None:
    """The norm of the whole gradient does not scale in the forms with multipliers, and grows without them."""
    for optimizer in ("sgd", "adam", "muon"):
        assert tp.derive(MLP, optimizer, form).gradient_norm == tp.Power()
        assert tp.derive(MLP, optimizer, "table3").gradient_norm == tp.Power.of({"n": HALF})


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "muon", "adafactor", "lamb", "lars", "muon_spectral"])
def test_substituted_back_every_update_is_theta_1(optimizer: str) -> None:
    """With the solved exponents put in, training is a stable fixpoint in which every layer's output moves."""
    found = tp.derive(MLP, optimizer)
    for tensor in ("h1", "h2", "f"):
        assert found.tensor(tensor)[1] == tp.Power(), tensor


@pytest.mark.parametrize("param", ["W1", "W2", "W3"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "muon"])
def test_a_larger_learning_rate_is_caught(param: str, optimizer: str) -> None:
    """Negative control: a learning rate larger by n^1/2 makes some tensor exceed Theta(1)."""
    found = tp.derive(MLP, optimizer)
    solver = found.solution.solver
    rates = found.solution.exponents.C
    larger = {**rates, param: rates[param] - solver.units.pack({"n": HALF})}
    wrong = Analysis(solver.program, solver.units, optimizer, {}, replace(found.solution.exponents, C=larger))
    last = wrong.steps(1)[1]
    sizes = [largest(last.change[node.id]) for node in solver.program.forward.nodes if node.name]
    assert max(size for size in sizes if size is not None) > 0
