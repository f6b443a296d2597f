"""The local solver against the first objective of the programme: in the derived answer every own update is Theta(1), as
the prediction at given exponents, which knows nothing of how they were found, sees it."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

import tensorprog as tp
from tensorprog.classify import classify
from tensorprog.exponents import Power
from tests.shared import derive, tiers

EXAMPLES = ("mlp", "rnn", "lstm", "resnet", "unet", "gpt_tied")
LARGE = ("gpt", "llama", "llama_tied", "moe", "vit", "bert", "dit")
WEAK = {"lora": ("lora_2.A", "lora_2.B"), "mamba": ("selective_ssm.Wr", "selective_ssm.Wd")}


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("example", tiers((*EXAMPLES, *LARGE), ("mlp", "rnn")))
def test_every_update_of_a_derived_example_is_as_large_as_stability_allows(example: str, optimizer: str) -> None:
    assert classify(tp.load(f"examples/{example}.tp"), "derived", optimizer, advice=False).maximal


@pytest.mark.slow
@pytest.mark.parametrize("example", tiers(WEAK, ["lora"]))
def test_maps_through_a_finite_rank_are_maximal_under_adam_and_not_under_sgd(example: str) -> None:
    """No start is in balance (docs/explanation/calculus.md, section 8). That is said, and which parameter it is. Both
    parameters of such a map are concerned, and nothing else."""
    network = tp.load(f"examples/{example}.tp")
    assert classify(network, "derived", "adam", advice=False).maximal
    found = classify(network, "derived", "sgd", advice=False)
    small = [name for name, own in found.trained.items() if own is None or own.degree]
    assert found.stable and small and all(name.endswith(WEAK[example]) for name in small)
    held = derive(network, "sgd").solution.solver.held()
    assert held and all(name.endswith(WEAK[example]) for name in held)
    assert not derive(network, "adam").solution.solver.held()


def test_why_nothing_is_maximal_is_said_in_place_of_what_to_change() -> None:
    found = classify(tp.load("examples/lora.tp"), "mup", "sgd")
    assert "no start of `lora_2.A` is in balance" in found.changes


def test_a_larger_start_than_the_one_that_holds_is_not_stable() -> None:
    """What the first adapter adds is aligned with the second one's A as soon as that feeds a gradient back."""
    derivation = derive(tp.load("examples/lora.tp"), "sgd")
    rule = derivation.params["lora_2.A"]
    for half in (Fraction(1, 4), Fraction(1, 2)):
        params = {**derivation.params, "lora_2.A": replace(rule, init_std=Power.of({"n": half}))}
        larger = replace(derivation.parametrization, params=params)
        assert classify(tp.load("examples/lora.tp"), larger, "sgd", advice=False).regime == "unstable"
