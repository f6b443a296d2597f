"""Everett et al. 2024, Scaling Exponents Across Parameterizations and Optimizers (arXiv:2407.05872): the table of four
parametrizations, their gradients, and the largest stable learning rates of every layer for three optimizers under full
and under no alignment; epsilon."""

from __future__ import annotations

from fractions import Fraction

import pytest

import tensorprog as tp
from tensorprog.classify import classify
from tensorprog.classify.alignment import ALIGNMENTS, read_alignment
from tensorprog.programme.completion import complete
from tests.shared import n, perceptron, tiers

H = Fraction(1, 2)
LAYERS = ("W1", "W2", "W3")  # embedding, hidden, readout
MLP = tp.parse(perceptron())

# exponents of init std, of the multiplier and of the gradient, for embedding, hidden, readout
PARAMETRIZATIONS = {
    "standard": ((0, -H, -H), (0, 0, 0), (-H, -H, 0)),
    "ntk": ((0, 0, 0), (0, -H, -H), (-H, -1, -H)),
    "mup": ((-H, -H, -H), (H, 0, -H), (-H, -1, -H)),
    "mean field": ((0, 0, 0), (0, -H, -1), (-1, -3 * H, -1)),
}
# exponents of the learning rates under full alignment (alpha = u = 1, omega = 1/2)
FULL = {
    "standard": {"sgd": (H, -H, -1), "adam": (0, -1, -1), "adafactor": (0, -H, -H)},
    "ntk": {"sgd": (H, H, 0), "adam": (0, -H, -H), "adafactor": (0, -H, -H)},
    "mup": {"sgd": (0, 0, 0), "adam": (-H, -1, -H), "adafactor": (0, -H, 0)},
    "mean field": {"sgd": (1, 1, 1), "adam": (0, -H, 0), "adafactor": (0, -H, 0)},
}
# and under none (alpha = omega = u = 1/2)
NONE = {
    "standard": {"sgd": (H, 0, -H), "adam": (0, -H, -H), "adafactor": (0, 0, 0)},
    "ntk": {"sgd": (H, 1, H), "adam": (0, 0, 0), "adafactor": (0, 0, 0)},
    "mup": {"sgd": (0, H, H), "adam": (-H, -H, 0), "adafactor": (0, 0, H)},
    "mean field": {"sgd": (1, 3 * H, 3 * H), "adam": (0, 0, H), "adafactor": (0, 0, H)},
}


def fixes(name: str) -> list[str]:
    stds, multipliers, _ = PARAMETRIZATIONS[name]
    return [f"{q}[{w}] = {v}" for q, vs in (("init_std", stds), ("multiplier", multipliers))
            for w, v in zip(LAYERS, vs, strict=True)]  # fmt: skip


@pytest.mark.parametrize("optimizer", tiers(["sgd", "adam", "adafactor"], ["adam"]))
@pytest.mark.parametrize("name", PARAMETRIZATIONS)
@pytest.mark.parametrize("alignment", ["full", "none"])
def test_the_largest_stable_learning_rates_of_each_layer(alignment: str, name: str, optimizer: str) -> None:
    """The published rows are the completion of the fixed start under the assumed alignment; all updates are maximal."""
    found = complete(MLP, fixes(name), optimizer, alignment=ALIGNMENTS[alignment])
    published = {"full": FULL, "none": NONE}[alignment][name][optimizer]
    assert [found.parametrization.params[w].lr for w in LAYERS] == [n(e) for e in published]
    assert found.maximal


@pytest.mark.parametrize("name", PARAMETRIZATIONS)
def test_gradients_and_epsilon(name: str) -> None:
    """Adam's epsilon, per layer, scales like the gradient's entries."""
    found = complete(MLP, fixes(name), "adam", alignment=ALIGNMENTS["full"])
    assert [found.parametrization.params[w].eps for w in LAYERS] == [n(e) for e in PARAMETRIZATIONS[name][2]]


@pytest.mark.parametrize("name", PARAMETRIZATIONS)
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adafactor"])
def test_the_derived_alignment_objects_where_the_readout_starts_large(name: str, optimizer: str) -> None:
    """With the published full-alignment rates, but derived alignment, the mup and mean-field rows are maximal; under
    the standard and the tangent ones the logits grow like n^1/2, because omega is 1 at the readout: the change of the
    features depends on it. (The paper takes omega = 1/2 there.)"""
    assumed = complete(MLP, fixes(name), optimizer, alignment=ALIGNMENTS["full"]).parametrization
    found = classify(MLP, assumed, optimizer, advice=False)
    if name in ("mup", "mean field"):
        assert found.maximal
        return
    assert found.growth is not None and not found.stable
    assert (found.growth.tensor, found.growth.exponent) == ("f", n(H))
    same = classify(MLP, assumed, optimizer, alignment="full", advice=False)
    assert same.maximal
    (readout,) = [d for d in same.disagreements if d.part == "omega"]
    assert (readout.tensor, readout.param, readout.assumed, readout.derived) == ("f", "W3", H, 1)
    assert readout.because == "both factors depend on W3"
    until = f", up to step {found.growth.step}," if found.growth.step else ""
    assert f"the derived alignment differs{until} at" in same.render()


def test_stated_alignments() -> None:
    assert read_alignment("derived") is None and read_alignment("full") == read_alignment("1,1/2,1")
    for text in ("half", "1,1", "1,1,2", "1/4,1,1", "1,1,x"):
        with pytest.raises(tp.TensorProgError, match="is no alignment"):
            read_alignment(text)
