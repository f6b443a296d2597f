"""A centred tensor times one that carries none of its randomness sums to n^1/2 at the start: so say the calculus and
NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from tensorprog.architecture import parse
from tensorprog.calculus.chains import Chains
from tensorprog.calculus.explain import INITIAL
from tensorprog.interpret import Interpreter
from tests.shared import derive, tiers

PROGRAM = """width n
dim d = 6, c = 3
axis i: d, j: n, k: n, o: c
input x[i]
param E[j,i], W[k,j], V[o,j]
z[j] = relu(E[j,i] x[i])
h[k] = cos(W[k,j] z[j])
m[j] = h[j] - mean[j](h[j])
BODY
output f[o] = ?out * (V[o,j] m[j]) * s[]
loss mse(f)
"""

APART = {
    "what it was computed from": "s[] = m[j] silu(z[j])",
    "both centred": "y[j] = z[j] - mean[j](z[j])\ns[] = m[j] y[j]",
    "normalised": "y[j] = 2 * m[j] * rms_scale[j](m[j])\ns[] = y[j] silu(z[j])",
    "what a fresh matrix makes of it": "param U[k,j]\ny[k] = relu(U[k,j] h[j])\ns[] = m[j] y[j]",
    "a number that knows all of it": "r[] = mean[j](h[j]) + 1\ns[] = m[j] silu(r[] * z[j])",
    "the data, through other rows": "param D[j,i]\ny[j] = relu(D[j,i] x[i])\ns[] = m[j] y[j]",
}
TOGETHER = {
    "not centred": "s[] = h[j] silu(z[j])",
    "itself": "s[] = m[j] h[j]",
    "the same rows": "y[k] = square(W[k,j] z[j])\ns[] = m[j] y[j]",
    "a sum with the same rows": "y[j] = silu(z[j]) + h[j]\ns[] = m[j] y[j]",
    "rows of what it was computed from": "q[j] = relu(h[j] + z[j])\ny[j] = q[j] - mean[j](q[j])\ns[] = y[j] silu(z[j])",
    "the matrix passed back": "g[j] = W[k,j] square(h[k])\ny[k] = square(W[k,j] g[j]) + g[k]\ns[] = m[j] y[j]",
}


def starts(body: str) -> tuple[str, float]:
    """The exponent of s at the start, by the calculus and between two widths of NumPy."""
    derivation = derive(parse(PROGRAM.replace("BODY", body)), "sgd")
    node = next(n.id for n in derivation.architecture.graph.nodes if n.name == "s")
    sizes = []
    for n in (64, 512):
        values = [Interpreter(derivation.architecture.program, {"n": n}, {"n": 8}, derivation.parametrization, batch=4,
                              seed=seed).run(keep={node}, backward=False)[node] for seed in range(24)]  # fmt: skip
        sizes.append(np.sqrt(np.mean(np.square(values))))
    return str(derivation.sizes(node)[0]), float(np.log(sizes[1] / sizes[0]) / np.log(8))


@pytest.mark.parametrize("name", tiers(APART, ("what it was computed from", "both centred")))
def test_what_is_centred_cancels_with_what_carries_none_of_its_rows(name: str) -> None:
    predicted, slope = starts(APART[name])
    assert predicted == "n^1/2" and abs(slope - 0.5) < 0.2


@pytest.mark.slow
@pytest.mark.parametrize("name", tiers(TOGETHER, ("itself", "the matrix passed back")))
def test_nothing_cancels_with_what_carries_the_same_rows(name: str) -> None:
    predicted, slope = starts(TOGETHER[name])
    assert predicted == "n" and slope > 0.8


def test_explain_names_the_law() -> None:
    """No parity: cos and square are even."""
    body = "q[j] = E[j,i] x[i]\np[k] = cos(W[k,j] q[j])\ny[j] = p[j] - mean[j](p[j])\ns[] = y[j] square(q[j])"
    derivation = derive(parse(PROGRAM.replace("BODY", body)), "sgd")
    node = next(n.id for n in derivation.architecture.graph.nodes if n.name == "s")
    (start,) = derivation.solution.snapshot.initial[node]
    assert "one factor sums to zero" in Chains(derivation.solution).chain(node, INITIAL, start)[0]
