"""Several optimizers in one derivation: who updates what, and that each parameter gets its own one's exponents."""

from __future__ import annotations

import pytest

import tensorprog as tp
from tensorprog.optimizers import OPTIMIZERS

NET = """
width n
dim d = 8, c = 3
axis i: d, j: n, k: n, o: c
input x[i]
param E[j,i], W[k,j], R[o,k]
param g[k] = ones
param b[k] = zeros optimizer sgd
h[k] = g[k] * tanh(W[k,j] (E[j,i] x[i])) + b[k]
output f[o] = R[o,k] h[k]
loss mse(f)
"""


def updaters(**options: object) -> dict[str, str]:
    solver = tp.derive(tp.parse(NET), **options).solution.solver
    return {name: optimizer.name for name, optimizer in solver.optimizers.items()}


def test_vectors_are_the_parameters_with_at_most_one_growing_axis() -> None:
    found = updaters(optimizer="muon", vectors="adamw")
    assert found == {"E": "adamw", "W": "muon", "R": "adamw", "g": "adamw", "b": "sgd"}


def test_a_rule_beats_the_file_which_beats_vectors_and_the_last_rule_decides() -> None:
    rules = {"*": "lion", "[bg]": "signsgd", "E": "rmsprop"}
    assert updaters(optimizer="muon", vectors="adamw", optimizer_for=rules) == {
        "E": "rmsprop", "W": "lion", "R": "lion", "g": "signsgd", "b": "signsgd",
    }  # fmt: skip


def test_muon_leaves_parameters_with_fewer_than_two_axes_to_its_own_choice() -> None:
    assert updaters(optimizer="muon_match_rms")["g"] == "adamw"


@pytest.mark.slow
def test_each_parameter_has_the_exponents_its_optimizer_has_alone() -> None:
    """Gradients have the same sizes under every optimizer once all updates are Theta(1)."""
    arch = tp.parse(NET.replace(" optimizer sgd", ""))
    mixed = tp.derive(arch, "muon", vectors="adamw", optimizer_for={"b": "sgd"})
    for name, alone in {"W": "muon", "E": "adamw", "R": "adamw", "g": "adamw", "b": "sgd"}.items():
        assert mixed.params[name] == tp.derive(arch, alone).params[name]


def test_unknown_names_are_refused_with_their_place() -> None:
    with pytest.raises(tp.TensorProgError, match="unknown optimizer `adamm`"):
        tp.derive(tp.parse(NET), "sgd", vectors="adamm")
    with pytest.raises(tp.TensorProgError, match="8:7: error: unknown optimizer `sdg`") as error:
        tp.derive(tp.parse(NET.replace("optimizer sgd", "optimizer sdg")))
    assert error.value.fix == "sgd"
    with pytest.raises(tp.TensorProgError, match="unknown policy of weight decay `none`"):
        tp.derive(tp.parse(NET), decay_policy="none")


def test_the_same_optimizer_object_gives_the_same_as_its_name() -> None:
    arch = tp.parse(NET)
    assert tp.derive(arch, OPTIMIZERS["lamb"]).params == tp.derive(arch, "lamb").params


@pytest.mark.torch
@pytest.mark.slow
@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_measured_exponents_agree_when_optimizers_are_mixed(backend: str) -> None:
    mixed = tp.derive(tp.parse(NET), "muon", vectors="adamw", optimizer_for={"g": "lion"})
    report = tp.check(mixed, backend=backend, widths=(64, 128, 256, 512), steps=2)
    assert report.verdict != "disagrees", str(report)
    assert report.count("agrees") >= 0.9 * len(report.rows), str(report)


def test_a_rule_that_fits_no_parameter_is_named() -> None:
    with pytest.raises(tp.TensorProgError, match="`W9` fits no parameter"):
        tp.derive(tp.parse(NET), "adam", optimizer_for={"W9": "sgd"})
