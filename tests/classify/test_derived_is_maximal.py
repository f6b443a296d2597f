"""The local solver against the first objective of the programme: in the derived answer every own update is Theta(1), as
the prediction at given exponents, which knows nothing of how they were found, sees it."""

from __future__ import annotations

import pytest

import tensorprog as tp
from tensorprog.classify import classify
from tensorprog.exponents import Power

QUICK = ("mlp", "rnn", "lstm", "resnet", "unet", "gpt_tied")
LARGE = ("gpt", "llama", "llama_tied", "mamba", "moe", "vit", "bert", "dit")


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("example", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in LARGE)])
def test_every_update_of_a_derived_example_is_as_large_as_stability_allows(example: str, optimizer: str) -> None:
    assert classify(tp.load(f"examples/{example}.tp"), "derived", optimizer, advice=False).maximal


def test_adapters_are_maximal_under_adam_and_not_under_sgd() -> None:
    """A known weakness, in docs/explanation/calculus.md: the learning rates of the second adapter are made for
    gradients that only larger updates would cause."""
    assert classify(tp.load("examples/lora.tp"), "derived", "adam", advice=False).maximal
    found = classify(tp.load("examples/lora.tp"), "derived", "sgd", advice=False)
    assert found.stable and {name for name, own in found.trained.items() if own != Power()} == {"lora_2.A", "lora_2.B"}
