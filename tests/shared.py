"""What many tests look at, made once in each process: nothing of it can be changed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Container, Iterable, Mapping
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tensorprog import api
from tensorprog.architecture import Architecture
from tensorprog.architecture import load as load_file
from tensorprog.derivation import Derivation
from tensorprog.exponents import Power

ROOT = Path(__file__).resolve().parents[1]


def tiers(cases: Iterable[Any], quick: Container[str]) -> list[Any]:
    """Cases of a parametrized test, named by their values; those whose name is not in `quick` are for the slow tier."""
    made = []
    for case in cases:
        values = case if isinstance(case, tuple) else (case,)
        name = "-".join(value.stem if isinstance(value, Path) else str(value) for value in values)
        made.append(pytest.param(*values, id=name, marks=() if name in quick else pytest.mark.slow))
    assert any(not case.marks for case in made), f"no quick case among {[case.id for case in made]}"
    return made


def examples(count: int) -> settings:
    """So many random examples of a test of hypothesis, and about a seventh of them in the quick tier."""
    return settings(max_examples=max(count * settings().max_examples // 100, 2))


def n(exponent: Fraction | int) -> Power:
    """The power of the width `n`."""
    return Power.of({"n": Fraction(exponent)})


def python(*arguments: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    """What a Python process of its own says, in `cwd` and with these variables in its environment."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=120, cwd=cwd, env=env)


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
