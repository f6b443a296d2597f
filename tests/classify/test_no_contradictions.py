"""Of widths in proportion, `derive`, `classify` and `--fix` say the same: ties such as m / n decide nothing."""

from __future__ import annotations

import pytest

import tensorprog as tp
from tensorprog.classify import classify
from tensorprog.deriving import derivation_of
from tensorprog.exponents import Power
from tensorprog.optimizers.choice import choose
from tensorprog.parametrization import ParamExponents
from tensorprog.programme.completion import Completion
from tests.shared import derive, tiers

START = """axis i: 4, j: n, k: m, c: 3
input x[i]
param U[j,i], V[c,j]
h[j] = relu(U[j,i] x[i])
"""
END = """output f[c] = V[c,j] h[j]
loss mse(f)
"""
NETWORKS = {
    "two": f"""width n, m
{START}param W[k,j], b[k] = zeros, R[j,k]
g[k] = relu(W[k,j] h[j] + b[k])
h[j] = R[j,k] g[k]
{END}""",
    "stack": f"""width n, m
{START}repeat 2 {{
  param A[k,j], B[j,k]
  y[k] = relu(A[k,j] h[j])
  h[j] = h[j] + B[j,k] y[k]
}}
{END}""",
    "three": f"""width n, m, p
{START}axis l: p
param W[k,j], Q[l,k], R[j,l]
g[k] = relu(W[k,j] h[j])
y[l] = relu(Q[l,k] g[k])
h[j] = h[j] + R[j,l] y[l]
{END}""",
    "gains": f"""width n, m
depth L
{START}repeat L {{
  param A[k,j], B[j,k], g[j] = ones
  y[k] = relu(A[k,j] h[j])
  h[j] = h[j] + ?b * (g[j] * (B[j,k] y[k]))
}}
{END}""",
}
OPTIMIZERS = ("sgd", "adam", "muon")
CASES = [(name, optimizer) for name in NETWORKS for optimizer in OPTIMIZERS]
CASES_OF_TWO = [(name, optimizer) for name, optimizer in CASES if optimizer != "muon"]
QUICK = {"two-adam"}


def network(name: str) -> tp.Architecture:
    return tp.parse(NETWORKS[name])


@pytest.mark.parametrize(("name", "optimizer"), tiers(CASES, {"two-sgd", "three-sgd"}))
def test_what_is_derived_is_maximal_and_needs_no_change(name: str, optimizer: str) -> None:
    found = classify(network(name), "derived", optimizer)
    assert found.maximal and found.changes == () and found.rate_factor == 0


@pytest.mark.parametrize(("name", "optimizer"), tiers(CASES_OF_TWO, {"two-sgd"}))
def test_the_published_table_is_maximal_by_its_degrees(name: str, optimizer: str) -> None:
    """Tensor Programs V, Table 8 (hidden SGD rates n^0 where m / n is derived, ..)."""
    found = classify(network(name), "mup", optimizer)
    assert found.maximal and found.changes == ()


@pytest.mark.parametrize(("name", "optimizer"), tiers(CASES_OF_TWO, QUICK))
def test_what_is_wrong_is_said_with_its_degree_and_the_change_is_the_derived_exponent(
    name: str, optimizer: str
) -> None:
    found = classify(network(name), "sp", optimizer)
    assert found.regime == "unstable" and found.growth is not None and abs(found.growth.exponent.degree) < 20
    derived = derivation_of(network(name), choose(optimizer)).without_multipliers.params  # at the same depth
    rates = [change for change in found.changes if not isinstance(change, str) and change.quantity == "lr"]
    assert rates and all(change.after == derived[change.name].lr for change in rates)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "optimizer"), CASES[:-3])
def test_each_derived_exponent_can_be_fixed_and_so_can_all_of_them(name: str, optimizer: str) -> None:
    """Nothing is lost, and all that is left open is as derived, of the same widths."""
    derived = derive(network(name), optimizer)
    known = derived.unrolled() if derived.architecture.rolled else derived
    said = [(f"{quantity}[{param}]", getattr(one, quantity)) for param, one in known.params.items()
            for quantity in ("multiplier", "init_std", "lr")]  # fmt: skip
    fixes = [f"{quantity} = {_text(power)}" for quantity, power in said if power is not None]
    for asked in [*([fix] for fix in fixes), fixes]:
        found = tp.derive(network(name), optimizer, fixes=asked)
        assert isinstance(found, Completion) and found.maximal and found.completed.certified, asked
        assert {p: _run(one, optimizer) for p, one in found.params.items()} == {
            p: _run(one, optimizer) for p, one in known.params.items()
        }, asked


def _text(power: Power) -> str:
    return str(power) if power.exponents else "0"


def _run(one: ParamExponents, optimizer: str) -> tuple[Power | None, Power | None]:
    """Start and learning rate of the parameter that is used: those of every form."""
    return one.init_std and one.init, one.lr and one.lr * one.multiplier ** (2 if optimizer == "sgd" else 1)


NARROW = """width n, m
{regime}
axis i: 16, j: n, k: m, l: n, c: 4
input x[i]
param U[j,i], W[k,j], X[l,k], V[c,l]
h[j] = tanh(U[j,i] x[i])
g[k] = tanh(W[k,j] h[j])
e[l] = tanh(X[l,k] g[k])
output f[c] = V[c,l] e[l]
loss mse(f)
"""


def test_what_vanishes_in_a_declared_order_is_not_theta_1() -> None:
    """A narrow layer between wide ones, SGD: own updates of m^1/2 n^-1/2 vanish where m << n, as `derive` says; where
    the widths grow in proportion they do not (control)."""
    ordered = classify(tp.parse(NARROW.format(regime="regime m << n")), "derived", "sgd")
    assert ordered.stable and not ordered.maximal and not ordered.feature_learning
    assert "not maximal: the own updates of U, W, X, V vanish" in str(ordered)
    assert ordered.rate_factor == 0 and ordered.rate_sharp and ordered.rate_attained
    assert "largest stable common factor of the learning rates: 1; above it `U x` grows" in str(ordered)
    assert classify(tp.parse(NARROW.format(regime="")), "derived", "sgd").maximal


WIDE = """width n, m
regime m << n
axis i: 16, j: n, k: m, c: 4
input x[i]
param U[j,i], W[k,j], V[c,k]
h[j] = tanh(U[j,i] x[i])
g[k] = tanh(W[k,j] h[j])
output f[c] = V[c,k] g[k]
loss mse(f)
"""


def test_a_largest_rate_that_a_slower_width_forbids_is_not_attained() -> None:
    """Standard parametrization, Adam: at n^-1 for all, V's step sums m aligned terms of n^-1, but of V's start m terms
    of m^-1/2 that moved by 1 are left: f grows like m^1/2. Anything less than n^-1 makes up for any power of m."""
    found = classify(tp.parse(WIDE), "sp", "adam")
    assert found.rate_factor == -1 and not found.rate_attained
    assert "largest stable global learning rate: less than n^-1; there `f` grows" in str(found)
