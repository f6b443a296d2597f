"""What a derivation says of its numbers is true of them."""

from __future__ import annotations

import pytest

import tensorprog as tp

MLP = """
width n
axis i: 4, j: n, k: n, c: 3
input x[i]
param A[j,i], a[j] = zeros, B[k,j], C[c,k]
h[j] = A[j,i] x[i] + a[j]
g[k] = B[k,j] tanh(h[j])
output f[c] = {scale} * (C[c,k] tanh(g[k]))
loss mse(f)
"""


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "lamb", "normalised_sgd"])
def test_what_no_form_changes_is_the_same_in_every_form(optimizer: str) -> None:
    arch = tp.parse(MLP.format(scale=1))
    told = []
    for form in ("table8", "table3", "table9", "unit"):
        found = tp.derive(arch, optimizer, form)
        told.append([reason["multiplier"].partition(";")[2] for reason in found.reasons.values()])
    assert told[0] == told[1] == told[2] == told[3]
    assert told[0][0] == " multiplier * init std is 1 in every form"
    assert told[0][1] == {
        "sgd": " multiplier^2 * lr is n in every form",
        "adam": " multiplier * lr is 1 in every form",
    }.get(optimizer, "")


def test_a_reason_counts_the_multipliers_behind_a_use() -> None:
    plain, scaled = (tp.derive(tp.parse(MLP.format(scale=scale))) for scale in ("1", "n^(-1)"))
    assert "behind" not in plain.reasons["C"]["lr"]
    assert scaled.reasons["C"]["lr"].endswith("and multipliers behind it scale it by n^-1")
    assert scaled.reasons["C"]["init_std"].endswith("and multipliers behind it scale it by n^-1: gain 1")
    assert "the multipliers behind it scale it by n^-1\n  => lr * 1 = Theta(1)" in scaled.explain("C", "lr")
