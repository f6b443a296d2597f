"""Streams that are normalised between layers: the exponents of the pre-norm form, written out, or a refusal."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from pathlib import Path

import pytest

from tensorprog.architecture import parse
from tensorprog.calculus.analysis import largest
from tensorprog.derivation import Derivation
from tensorprog.errors import NoPowerLawError
from tensorprog.exponents import Power
from tensorprog.legality import assert_legal
from tensorprog.solving import unsolved
from tests.calculus.test_depth import depth, lr, network
from tests.shared import derive, stack, tiers

BERT = (Path(__file__).parents[2] / "examples" / "bert.tp").read_text()
BRANCHES = {
    "one matrix": ("W[k,j]", "tanh(W[k,j] {0}[j])"),
    "two matrices": ("W[k,m], V[m,j], b[m] = zeros", "(W[k,m] relu(V[m,j] {0}[j] + b[m]))"),
}
NORMS = ("rmsnorm", "layernorm")
CASES = tiers(product(BRANCHES, NORMS, ("adam", "sgd", "muon")),
              ("one matrix-layernorm-sgd", "one matrix-rmsnorm-muon"))  # fmt: skip


def post(branch: str, norm: str, multiplier: str = "?b *") -> str:
    params, text = BRANCHES[branch]
    return f"repeat L {{\n  param {params}\n  h[k] = h[k] + {multiplier} {text.format('h')}\n  h = {norm}(h)\n}}"


def pre(branch: str, norm: str, multiplier: str = "?b *") -> str:
    """The same by hand: the stream is read through the norm, and a gain of 1 + g adds g times the norm to it."""
    params, text = BRANCHES[branch]
    shift, add = (", shift[k] = zeros", "+ shift[k]") if norm == "layernorm" else ("", "")
    return f"""repeat L {{
  param {params}, g[k] = zeros{shift}
  z = {norm}(h, affine = false)
  h[k] = h[k] + {multiplier} {text.format("z")}
  z = {norm}(h, affine = false)
  h[k] = h[k] + g[k] z[k] {add}
}}
h = {norm}(h, affine = false)"""


def by_last_name(found: Derivation) -> dict[str, tuple[str, str, str]]:
    """Parameter without its path (a gain called g) -> init (as it is multiplied), learning rate, epsilon."""
    names = {name: name.rpartition(".")[2].replace("gain", "g") for name in found.params}
    return {short: (str(found.params[name].lr), str(found.params[name].eps), "" if short in ("g", "shift") else
                    str(found.params[name].init_std)) for name, short in names.items()}  # fmt: skip


@pytest.mark.parametrize(("branch", "norm", "optimizer"), CASES)
def test_post_norm_has_the_exponents_of_its_pre_norm_form(branch: str, norm: str, optimizer: str) -> None:
    """Depth-muP and CompleteP in another place of the norm. Source: Xiong et al. 2020 (arXiv:2002.04745), section 3."""
    found, expected = network(post(branch, norm), optimizer), network(pre(branch, norm), optimizer)
    assert found.note == "" and found.symbols == ("n", "L")
    assert found.multipliers == expected.multipliers
    assert by_last_name(found) == by_last_name(expected)
    assert depth(found.multipliers["b"]) == {"one matrix": "-1/2", "two matrices": "-1"}[branch]


@pytest.mark.slow
@pytest.mark.parametrize("norm", NORMS)
def test_gains_and_shifts_between_layers_take_the_whole_power(norm: str) -> None:
    """All layers multiply the stream by their gains, and the gradient there has no factor of the branch."""
    for optimizer in ("adam", "sgd"):
        found = lr(network(post("two matrices", norm), optimizer))
        between = {name: power for name, power in found.items() if norm in name}
        assert len(between) == {"rmsnorm": 1, "layernorm": 2}[norm]
        assert set(between.values()) == {"-1"}


@pytest.mark.parametrize(("multiplier", "power"), [("L^(-1/2) *", "-1/2"), ("1 / L *", "0")])
def test_a_multiplier_that_the_file_fixes_is_kept(multiplier: str, power: str) -> None:
    found = network(post("two matrices", "layernorm", multiplier))
    assert {depth(found.params[f"layers.*.{name}"].lr) for name in "WVb"} == {power}
    assert depth(found.params["layers.*.W"].init_std) == "0"


@pytest.mark.slow
def test_without_a_multiplier_the_last_matrix_takes_it_as_in_pre_norm() -> None:
    found, expected = (network(form("two matrices", "layernorm", "")) for form in (post, pre))
    assert by_last_name(found) == by_last_name(expected)
    assert depth(found.params["layers.*.W"].init_std) == "-1/2"


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_bert_with_branch_multipliers_is_complete_p(optimizer: str) -> None:
    """Two norms per layer, attention and mlp; what stands outside of the stack is as it was."""
    text = BERT.replace("x + attention", "x + ?branch * attention").replace("x + mlp", "x + ?branch * mlp")
    found = derive(parse(text), optimizer, "table3")
    assert_legal(found.architecture.graph)
    assert found.multipliers["branch"] == Power.of({"L": -1})
    rates = lr(found)
    between = {name for name in rates if "layernorm" in name}
    assert len(between) == 4 and {rates[name] for name in between} == {"-1"}
    assert {rates[name] for name in rates.keys() - between} == {{"adam": "0", "sgd": "1"}[optimizer]}
    assert {depth(e.lr) for name, e in found.params.items() if "*" not in name} == {"0"}
    flat = derive(parse(text, depths={"L": 2}), optimizer, "table3")
    for name, e in flat.params.items():  # the widths' exponents are those of the unrolled network, norms in place
        ours = found.params[found.rolled_name(name)]
        assert e.lr is not None and ours.lr is not None and e.lr["n"] == ours.lr["n"], name
        assert (e.init_std is None) == (ours.init_std is None)
        assert e.init_std is None or ours.init_std is None or e.init_std["n"] == ours.init_std["n"], name


def test_a_gain_that_the_next_norm_takes_away_is_refused() -> None:
    """One number for all coordinates changes the scale alone: what moves the stream is of another order."""
    for gain, covered in (("g[k] = ones", True), ("g[] = ones", False)):
        scaled = f"h[k] = {gain.split()[0]} h[k]"
        loop = f"param W[k,j], {gain}\n  h[k] = h[k] + ?b * tanh(W[k,j] h[j])\n  h = rmsnorm(h, affine = false)"
        found = network(f"repeat L {{\n  {loop}\n  {scaled}\n}}")
        assert ("no power law" in found.note) == (not covered)


@pytest.mark.slow
@pytest.mark.parametrize("branch", ["relu(W[k,j] h[j])", "?b * relu(W[k,j] h[j])"])
def test_before_a_norm_branches_are_made_small_by_a_multiplier_or_by_their_start(branch: str) -> None:
    found = network(f"repeat L {{\n  param W[k,j]\n  h[k] = h[k] + {branch}\n  h = layernorm(h)\n}}")
    assert found.note == ""


def test_exponents_under_which_the_stream_would_grow_are_refused() -> None:
    """A multiplier of 1 in front of branches of order 1: the identity does not hold, so nothing is predicted."""
    architecture = parse(stack(post("one matrix", "rmsnorm"))).symbolic
    solver = unsolved(architecture, derive(architecture, "adam").choice)
    solver.solve()
    stream = architecture.graph.loops[0].streams[0]
    assert stream.unit
    assert largest(solver.fixpoint().initial[stream.path[-1]]) == 0
    solver.exponents.M["b"] = 0
    with pytest.raises(NoPowerLawError, match="post-norm"):
        solver.steps(1)


def test_a_norm_that_is_added_to_what_it_reads_is_a_branch() -> None:
    """The stream takes the way with the fewest norms: h + layernorm(h) grows by L, and its gain must start at L^-1."""
    for text in ("h + layernorm(h)", "layernorm(h) + h"):
        found = network(f"repeat L {{\n  param W[k,j]\n  h = {text}\n  h[k] = h[k] + ?b * tanh(W[k,j] h[j])\n}}")
        assert found.params["layers.*.layernorm.gain"].init_std == Power.of({"L": Fraction(-1)})
