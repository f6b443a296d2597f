"""A check trains without weight decay, of which its predictions know nothing, but where the decay's scaling is set."""

from __future__ import annotations

from typing import Any

import pytest

from tensorprog.api import check, derive
from tensorprog.architecture import parse
from tensorprog.coordcheck.measure import measure
from tensorprog.coordcheck.probes import probes

GATED = """width n
dim d = 8
axis i: d, j: n, k: n
input x[i]
param U[j,i], W[k,j], G[k] = zeros, V[k]
h[j] = U[j,i] x[i]
a[k] = W[k,j] h[j]
output f[] = V[k] (G[k] tanh(a[k]))
loss mse(f)
optimizer adamw(weight_decay = 0.1)
"""
SIZES: dict[str, Any] = {"widths": [16, 32, 64], "seeds": 2, "max_seeds": 2, "steps": 1, "batch": 2, "control": False}


@pytest.mark.parametrize("backend", ["numpy", pytest.param("torch", marks=pytest.mark.torch)])
def test_a_weight_without_a_gradient_stays_where_it_is(backend: str) -> None:
    rows = {(row.tensor, row.step): row for row in check(parse(GATED), "adamw", backend=backend, **SIZES).rows}
    for name in ("U", "W"):  # behind a gate that starts at zero
        assert (rows[name, 1].verdict, rows[name, 1].reason) == ("agrees", "exactly zero, as predicted")
    assert rows["G", 1].measured is not None


def test_with_decay_it_would_move() -> None:
    derivation = derive(parse(GATED), "adamw")
    places = [probe for probe in probes(derivation) if probe.name == "W" and probe.kind == "value"]
    (moved,) = measure(derivation, derivation.parametrization, places, {"n": 16}, {"n": 4}, seed=0, steps=1, batch=2,
                       lr=1e-2, dtype="float64")  # fmt: skip
    assert moved[1] == pytest.approx(1e-2 * 0.1 * moved[0])  # lr * decay is what it is at the base width


@pytest.mark.parametrize("backend", ["numpy", pytest.param("torch", marks=pytest.mark.torch)])
def test_a_decay_that_is_set_is_trained_with(backend: str) -> None:
    rows = check(parse(GATED), "adamw", backend=backend, overrides=["weight_decay[W]=0"], **SIZES).rows
    (row,) = [row for row in rows if (row.tensor, row.step) == ("W", 1)]
    assert row.reason.startswith("should be exactly zero")
