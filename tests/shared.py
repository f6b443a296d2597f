"""What many tests look at, made once in each process: nothing of it can be changed."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from tensorprog import api
from tensorprog.architecture import Architecture
from tensorprog.architecture import load as load_file
from tensorprog.derivation import Derivation


def perceptron(inputs: int = 8, outputs: int = 3, act: str = "relu", loss: str = "cross_entropy") -> str:
    """The text of a network with two hidden layers and no biases."""
    return f"""
width n
axis i: {inputs}, j: n, k: n, c: {outputs}
input x[i]
param W1[j,i], W2[k,j], W3[c,k]
h1[j] = W1[j,i] x[i]
x1[j] = {act}(h1[j])
h2[k] = W2[k,j] x1[j]
x2[k] = {act}(h2[k])
output f[c] = W3[c,k] x2[k]
loss {loss}(f)
"""


STACK = """
width n
{}
dim d = 8, c = 3
axis i: d, j: n, k: n, m: n, o: c
input x[i]
param E[j,i]
param R[o,j]
h[j] = E[j,i] x[i]
"""


def stack(loop: str, depth: str = "depth L") -> str:
    """The text of a residual stack: `loop` moves the stream `h`, of width n."""
    return f"{STACK.format(depth)}{loop}\noutput f[o] = R[o,j] h[j]\nloss mse(f)\n"


def load(path: str | Path, depths: Mapping[str, int] | None = None) -> Architecture:
    """As `tensorprog.load`; what has been solved for an architecture stays with it."""
    return _loaded(Path(path), tuple(sorted((depths or {}).items())))


@cache
def _loaded(path: Path, depths: tuple[tuple[str, int], ...]) -> Architecture:
    return load_file(path, dict(depths))


def derive(subject: Architecture | str | Path, *arguments: Any, **options: Any) -> Derivation:
    """As `tensorprog.derive`."""
    return api.derive(subject if isinstance(subject, Architecture) else load(subject), *arguments, **options)
