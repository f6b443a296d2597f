"""Tensor Programs IVb: (a, b, c, d)-parametrizations of Adam, where Q(n^d g) is the step for a gradient g.

W = n^-a w, w starts at n^-b, its learning rate is n^-c, and the gradient of w is multiplied by n^d before it
meets constants such as epsilon. Input, hidden and output weights of the neural tangent and the maximal update
parametrization.

Source: Yang, Littwin 2023 (Tensor Programs IVb, arXiv:2308.01814): a faithful parametrization has n^d g of order 1, and
the dichotomy of feature learning and kernel (operator) regimes holds for adaptive optimizers.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

import tensorprog as tp
from tensorprog.classify import classify
from tensorprog.exponents import Power

HALF = Fraction(1, 2)
MLP = tp.parse("""
width n
dim d = 16, classes = 10
axis i: d, j: n, k: n, c: classes
input x[i]
param W1[j,i], W2[k,j], W3[c,k]
h1[j] = W1[j,i] x[i]
h2[k] = W2[k,j] tanh(h1[j])
output f[c] = W3[c,k] tanh(h2[k])
loss mse(f)
""")
NTP = {"W1": (0, 0, HALF), "W2": (HALF, 0, 1), "W3": (HALF, 0, HALF)}  # a, b, c
MUP = {"W1": (-HALF, HALF, HALF), "W2": (0, HALF, 1), "W3": (HALF, HALF, HALF)}
D = {"W1": HALF, "W2": 1, "W3": HALF}


def own(table: dict[str, tuple[Fraction | int, ...]], path: Path) -> str:
    lines = [f'{w} = {{ multiplier = "n^{-a}", init_std = "n^{-b}", lr = "n^{-c}" }}' for w, (a, b, c) in table.items()]
    path.write_text("\n".join(['like = "sp"', "lr = 0", "[parameters]", *lines]))
    return str(path)


def test_maximal_updates_and_their_gradient_scale_are_derived() -> None:
    """a, b, c, and d: as epsilon is compared with the gradient, it scales like n^-d."""
    found = tp.derive(MLP, "adam", "table9").params
    for name, (a, b, c) in MUP.items():
        e = found[name]
        assert e.init_std is not None and e.lr is not None and e.eps is not None
        assert [-x["n"] for x in (e.multiplier, e.init_std, e.lr, e.eps)] == [a, b, c, D[name]], name


def test_the_dichotomy_holds_for_adam(tmp_path: Path) -> None:
    """The same learning rates: with the initialisation of NTP a kernel regime whose features move by n^-1/2, with that
    of muP maximal."""
    tangent = classify(MLP, own(NTP, tmp_path / "ntp.toml"), "adam")
    assert (tangent.regime, tangent.stable) == ("kernel", True)
    assert {m.change for m in tangent.features} <= {Power.of({"n": -HALF})}
    maximal = classify(MLP, own(MUP, tmp_path / "mup.toml"), "adam")
    assert (maximal.regime, maximal.maximal) == ("feature learning", True)


@pytest.mark.parametrize("name", list(NTP))
def test_a_larger_learning_rate_leaves_the_kernel_regime(name: str, tmp_path: Path) -> None:
    """n^1/2 more for any one weight: the features move by Theta(1) and the logits grow, or the logits do."""
    a, b, c = NTP[name]
    found = classify(MLP, own({**NTP, name: (a, b, c - HALF)}, tmp_path / "wrong.toml"), "adam")
    assert not found.stable
