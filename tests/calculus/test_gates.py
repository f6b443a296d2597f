"""Weights that are used in gates alone stay where all else is reflected; so a gated stream flips."""

from __future__ import annotations

from pathlib import Path

import pytest

from tensorprog.architecture import parse
from tensorprog.calculus.gates import gating
from tensorprog.coordcheck.predict import Predictor
from tensorprog.coordcheck.probes import probes
from tests.shared import derive

PROGRAM = """width n
dim d = 8, c = 3
axis i: d, j: n, k: n, o: c
input x[i]
param E[j,i], G[j,k], H[j,k], V[o,j]
z[j] = relu(E[j,i] x[i])
BODY
output f[o] = V[o,j] u[j]
loss mse(f)
"""


@pytest.mark.parametrize(
    ("body", "gates"),
    [
        ("u[j] = z[j] + z[j] * sigmoid(G[j,k] z[k] + H[j,k] z[k])", {"G", "H"}),
        ("r[j] = H[j,k] z[k]\nu[j] = silu(G[j,k] z[k]) * r[j]", {"G"}),
        ("r[j] = sigmoid(G[j,k] z[k])\nu[j] = (1 - r[j]) * z[j] + r[j] * tanh(H[j,k] z[k])", {"G"}),
        ("w[j,k] = tanh(G[j,k]) * H[j,k]\nu[j] = w[j,k] z[k]", {"G"}),
        ("r[j] = tanh(G[j,k] z[k])\nu[j] = z[j] * r[j] + H[j,k] r[k]", set()),  # summed, too
        (
            "r[j] = tanh(G[j,k] z[k])\nu[j] = z[j] * r[j] + r[j] * sigmoid(H[j,k] z[k])",
            {"H"},
        ),  # G is in the stream, too
        ("q[k] = H[k,j] z[j]\nr[j] = G[j,k] q[k]\nu[j] = r[j] * r[j]", set()),  # two factors at once
    ],
)
def test_gates_are_what_only_multiplies_others_entry_by_entry(body: str, gates: set[str]) -> None:
    found = gating(parse(PROGRAM.replace("BODY", body)).program, {})
    assert {name for name, axis in found if axis == 0} == gates


def test_the_mean_of_a_gated_stream_moves_by_the_central_limit_theorem() -> None:
    """The control: where the same matrix is in the stream as well, the mean moves by Theta(1)."""
    text = (Path(__file__).parent / "found" / "gated_stream.tp").read_text()
    for source, size in ((text, "n^-1/2"), (text.replace("tanh(h[j])", "tanh(h[j]) + h[j] * tanh(h[j])"), "1")):
        found = derive(parse(source), "adam")
        place = next(p for p in probes(found) if p.name == "[y] #2" and p.kind == "value")
        assert str(Predictor(found, found.parametrization, 2).at(place, 2).exponent) == size
