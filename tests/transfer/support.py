"""A network and data so small that a run takes milliseconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import tensorprog as tp

NETWORK = """
width n
dim d = 6, classes = 3
axis i: d, j: n, k: n, c: classes
input x[i]
param U[j,i], W[k,j], V[c,k]
a[j] = relu(U[j,i] x[i])
b[k] = relu(W[k,j] a[j])
output f[c] = ?out * (V[c,k] b[k])
loss cross_entropy(f)
"""


def arrays(examples: int = 200) -> dict[str, Any]:
    """Classes that a linear map of the inputs decides."""
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((examples, 6))
    return {"inputs": inputs, "targets": np.argmax(inputs @ rng.standard_normal((6, 3)), axis=1)}


def saved(path: Path) -> str:
    np.savez(path, **arrays())
    return str(path)


def small(path: Path, **options: Any) -> tp.TransferReport:
    """A sweep of some twenty runs."""
    given: dict[str, Any] = {"widths": (8, 16), "seeds": 2, "steps": 12, "batch": 16, "data": saved(path)} | options
    return tp.transfer(tp.parse(NETWORK, "small.tp"), optimizer="adam", **given)
