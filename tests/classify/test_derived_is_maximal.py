"""The local solver against the first objective of the programme: in the derived answer every own update is Theta(1), as
the prediction at given exponents, which knows nothing of how they were found, sees it."""

from __future__ import annotations

import pytest

import tensorprog as tp
from tensorprog.classify import classify
from tests.shared import tiers

EXAMPLES = ("mlp", "rnn", "lstm", "resnet", "unet", "gpt_tied")
LARGE = ("gpt", "llama", "llama_tied", "moe", "vit", "bert", "dit")
WEAK = {"lora": ("lora_2.A", "lora_2.B"), "mamba": ("selective_ssm.Wr", "selective_ssm.Wd")}


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("example", tiers((*EXAMPLES, *LARGE), ("mlp", "rnn", "resnet", "unet")))
def test_every_update_of_a_derived_example_is_as_large_as_stability_allows(example: str, optimizer: str) -> None:
    assert classify(tp.load(f"examples/{example}.tp"), "derived", optimizer, advice=False).maximal


@pytest.mark.parametrize("example", tiers(WEAK, ["lora"]))
def test_maps_through_a_finite_rank_are_maximal_under_adam_and_not_under_sgd(example: str) -> None:
    """A known weakness, in docs/explanation/calculus.md: some learning rates are made for gradients that only larger
    updates would cause. Both parameters of such a map are concerned, and nothing else."""
    network = tp.load(f"examples/{example}.tp")
    assert classify(network, "derived", "adam", advice=False).maximal
    found = classify(network, "derived", "sgd", advice=False)
    small = [name for name, own in found.trained.items() if own is None or own.degree]
    assert found.stable and small and all(name.endswith(WEAK[example]) for name in small)
