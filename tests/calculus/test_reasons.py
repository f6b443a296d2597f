"""What a derivation says of its numbers is true of them."""

from __future__ import annotations

import pytest

import tensorprog as tp
from tests.shared import tiers

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


@pytest.mark.parametrize("optimizer", tiers(["sgd", "adam", "lamb", "normalised_sgd"], ["sgd", "adam"]))
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


@pytest.mark.parametrize(("optimizer", "quantity"), [("sgd", "lr"), ("adam", "eps"), ("adam", "weight_decay")])
def test_a_number_that_the_gradient_decides_is_led_back_to_the_loss(optimizer: str, quantity: str) -> None:
    """n^-1 at C, for C starts there; times n^-1/2 at B, with a sum of n terms of mean zero."""
    story = " ".join(tp.derive(tp.parse(MLP.format(scale=1)), optimizer).explain("A", quantity).split())
    links = [
        "contraction of `d g` with `B` ~ n^-1/2; the sum over k (n terms) is zero mean",
        "product of `d f` with `C` ~ n^-1, nothing that grows is summed",
        "`d f` ~ 1, even in every random parameter: the derivative of the loss is Theta(1)",
    ]
    places = [story.find(link) for link in links]
    assert -1 not in places and places == sorted(places), story


def test_a_sum_is_named_by_the_index_that_is_summed() -> None:
    square = (
        MLP.format(scale=1).replace("B[k,j]", "B[j,k]").replace("g[k] = B[j,k] tanh(h[j])", "g[j] = B[j,k] tanh(h[k])")
    )
    story = tp.derive(tp.parse(square.replace("C[c,k]", "C[c,j]").replace("g[k]", "g[j]"))).explain("B", "lr")
    assert "the sum over k (n terms) is aligned" in story


def test_a_start_that_is_fixed_smaller_is_not_called_out_of_balance() -> None:
    text = MLP.format(scale="?out").replace("C[c,k] tanh(g[k])", "C[c,k] g[k]")
    found = tp.derive(tp.parse(text), fixes=["init[C] = -3/2", "?out = 0"])
    assert all("balance" not in reason["init_std"] for reason in found.reasons.values())


@pytest.mark.parametrize(("act", "law"), [("relu", "L (they do not cancel"), ("tanh", "L^1/2 (each layer's are odd")])
def test_a_branch_says_by_which_law_its_layers_add_up(act: str, law: str) -> None:
    layer = f"repeat L {{ param W[j,k]; u[j] = {act}(W[j,k] h[k]); h[j] = h[j] + ?b * u[j] }}"
    arch = tp.parse(
        f"width n\ndepth L\naxis i: 4, j: n, k: n\ninput x[i]\nparam A[j,i], C[j]\nh[j] = A[j,i] x[i]\n{layer}\n"
        "output f[] = C[j] h[j]\nloss mse(f)"
    )
    assert f"summed over all layers, are {law}" in tp.derive(arch).explain("b")


LATENT = """
width n
axis i: 3, s: 5, j: n, k: n
input x[i]
param E[s,j], W[k,j], U[k,i], C[s,k]
q[s,k] = W[k,j] E[s,j]
h[s,k] = relu(q[s,k] + U[k,i] x[i])
output f[] = C[s,k] h[s,k]
loss mse(f)
"""


def test_a_reason_counts_the_sums_over_other_parameters_on_the_way_to_a_use() -> None:
    found = tp.derive(tp.parse(LATENT))
    assert found.reasons["W"]["init_std"] == "its use sums n terms over j, of zero mean: gain n^1/2"
    assert found.reasons["W"]["lr"].endswith("sums n terms over j, aligned with the start of the other factor")
    assert found.reasons["U"]["lr"].endswith("its use sums nothing that grows")
    told = found.explain("W", "lr")
    assert "as part of `q`, where it meets the initial value of `E`" in told
    assert "the sum over j (n terms) is aligned, law of large numbers: both factors depend on E" in told


@pytest.mark.parametrize(("use", "free"), [("u[j] h[j]", True), ("abs(v[j]) h[j]", False), ("v[j] h[j]", False)])
def test_a_weight_has_no_scale_where_nothing_sees_one(use: str, free: bool) -> None:
    """v / |v| has none; v itself has, and a function of it that is not constant."""
    source = "width n\naxis c: 3, j: n\ninput x[c]\nparam U[j,c], v[j], R[j]\nh[j] = relu(U[j,c] x[c])\n"
    source += "u[j] = v[j] * rms_scale[j](v[j])\ny[j] = relu(u[j] + h[j])\n"
    found = tp.derive(tp.parse(f"{source}output f[] = ?s * ({use})\noutput e[] = R[j] y[j]\nloss mse(f) + mse(e)"))
    assert ("any would do" in found.reasons["v"]["init_std"]) == free


@pytest.mark.parametrize("where", ["", "  "])
def test_a_weight_behind_its_norm_has_no_scale_in_layers_either(where: str) -> None:
    """Layers read what is computed after them; the weight may be that of every layer, or one for all of them."""
    weight = f"{where}param P[k,j] = normal(1)\n{where}w[k,j] = P[k,j] * rms_scale[j](P[k,j])\n"
    source = "width n\ndepth L\naxis i: 8, j: n, k: n, c: 5\ninput x[i]\nparam E[j,i], V[c,j]\nh[j] = E[j,i] x[i]\n"
    source += ("" if where else weight) + "repeat L {\n" + (weight if where else "") + "  param W[j,k]\n"
    source += (
        "  h[j] = h[j] + ?b * (W[j,k] tanh(?s * (w[k,j] h[j])))\n}\noutput f[c] = V[c,j] h[j]\nloss cross_entropy(f)\n"
    )
    found = tp.derive(tp.parse(source))
    assert "any would do" in found.reasons["layers.*.P" if where else "P"]["init_std"]
