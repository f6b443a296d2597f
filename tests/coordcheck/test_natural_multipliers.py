"""In a check a `?name` without a stated value is the number its exponent makes of the width, on both backends."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tensorprog.api import check, derive
from tensorprog.architecture import parse
from tensorprog.coordcheck.natural import with_natural_multipliers
from tensorprog.derivation import Derivation
from tensorprog.interpret import Interpreter
from tests.shared import stack

COSINE = """width n
dim d = 16
axis i: d, j: n, k: n
input x[i]
param U[j,i], P[k,j], Q[k,j]
h[j] = relu(U[j,i] x[i])
p[k] = P[k,j] h[j]
q[k] = Q[k,j] h[j]
a[k] = p[k] * rms_scale[k](p[k])
b[k] = q[k] * rms_scale[k](q[k])
output f[] = ?s * (a[k] b[k])
loss mse(f)
"""


def checked(text: str, **depths: int) -> Derivation:
    derivation = derive(parse(text, depths=depths), "sgd").unrolled()
    known = with_natural_multipliers(derivation.architecture, derivation.parametrization.unknowns)
    return replace(derivation, architecture=known)


def value(derivation: Derivation, name: str, n: int) -> float:
    known = derivation.architecture
    return Interpreter(known.program, {"n": n}, {"n": 16}, derivation.parametrization, batch=2).unknown(name)


def test_it_is_the_power_of_the_width_itself_unless_a_value_is_stated() -> None:
    assert value(checked(COSINE), "s", 64) == pytest.approx(1 / 64)
    assert value(checked(COSINE.replace("?s", "?s{1}")), "s", 64) == pytest.approx(16 / 64)
    assert value(checked(COSINE.replace("?s", "?s{3}")), "s", 64) == pytest.approx(3 * 16 / 64)


def test_what_a_file_derives_and_emits_stays_as_it_was() -> None:
    derivation = derive(parse(COSINE), "sgd")
    assert value(derivation, "s", 64) == pytest.approx(16 / 64)
    before = derivation.architecture.graph
    with_natural_multipliers(derivation.architecture, derivation.parametrization.unknowns)
    assert derivation.architecture.graph is before and before.unknowns["s"].base.powers == ()


def test_a_multiplier_that_vanishes_with_the_depth_alone_stays() -> None:
    loop = "repeat L {\n  param W[k,j]\n  h[k] = h[k] + ?b * tanh(W[k,j] h[j])\n}"
    derivation = derive(parse(stack(loop)), "sgd").unrolled({"L": 3})
    known = derivation.architecture
    assert with_natural_multipliers(known, derivation.parametrization.unknowns) is known


@pytest.mark.torch
def test_the_emitted_program_of_a_check_has_the_same_multiplier() -> None:
    from tensorprog.coordcheck.emitted import EmittedNetwork

    text = """width n
dim d = 4, T = 3
axis i: d, j: n, k: n, t: T, s: T
input x[t,i]
param U[j,i], V[j]
block mix(z[t,j]) {
  axis k: j, s: t
  param Q[k,j]
  q[t,k] = Q[k,j] z[t,j]
  a[t,s] = ?scale * (q[t,k] q[s,k])
  y[t,j] = softmax[s](a[t,s]) z[s,j]
  return y
}
h[t,j] = U[j,i] x[t,i]
y = mix(mix(h))
output f[t] = V[j] y[t,j]
loss mse(f)
"""
    derivation = checked(text)
    network = EmittedNetwork(derivation, derivation.parametrization, {"n": 64}, {"n": 16}, batch=2, seed=0)
    found = {round(v, 12) for module in network.model.modules() for k, v in vars(module).items() if k == "scale"}
    names = [name for name, u in derivation.architecture.graph.unknowns.items() if u.kind == "multiplier"]
    assert found == {round(value(derivation, name, 64), 12) for name in names} == {1 / 64}


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["numpy", pytest.param("torch", marks=pytest.mark.torch)])
def test_a_cosine_agrees_without_a_constant_of_its_own(backend: str) -> None:
    report = check(parse(COSINE), "sgd", widths=[128, 256, 512, 1024], seeds=6, backend=backend)
    assert not [row for row in report.rows if row.verdict == "disagrees"]
    assert sum(row.verdict == "agrees" for row in report.rows) >= 0.95 * len(report.rows)
