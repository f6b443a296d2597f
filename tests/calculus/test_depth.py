"""Symbolic depth: the published answers, and agreement with the same networks unrolled."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from tensorprog.api import check
from tensorprog.architecture import parse
from tensorprog.derivation import Derivation
from tensorprog.errors import NoPowerLawError
from tensorprog.exponents import Power
from tensorprog.legality import assert_legal
from tests.shared import STACK, derive, load, stack, tiers

EXAMPLES = Path(__file__).parents[2] / "examples"

ONE = "repeat L {\n  param W[k,j]\n  h[k] = h[k] + BRANCH\n}"
TWO = "repeat L {\n  param W[k,m], V[m,j], b[m] = zeros\n  h[k] = h[k] + BRANCH\n}"
ONE_MATRIX = ONE.replace("BRANCH", "?b * (W[k,j] tanh(h[j]))")
TWO_MATRICES = TWO.replace("BRANCH", "?b * (W[k,m] relu(V[m,j] h[j] + b[m]))")
UNROLLED = list(product(["gpt", "gpt_tied"], ["adam", "sgd", "muon"]))


def network(loop: str, optimizer: str = "adam", **options: str) -> Derivation:
    return derive(parse(stack(loop)), optimizer, options.get("form", "table3"))


def depth(power: Power | None) -> str:
    assert power is not None
    return str(power["L"])


def lr(found: Derivation) -> dict[str, str]:
    return {name: depth(e.lr) for name, e in found.params.items() if "*" in name}


def test_one_matrix_per_block_is_depth_mup() -> None:
    """Branches L^-1/2, Adam L^-1/2, SGD L^0, for a branch of zero mean.

    Source: Yang, Yu, Zhu, Hayou 2023 (Tensor Programs VI, arXiv:2310.02244), table 1.
    """
    for loop in (ONE_MATRIX, ONE.replace("BRANCH", "?b * tanh(W[k,j] h[j])")):
        for optimizer, rate in (("adam", "-1/2"), ("sgd", "0"), ("muon", "-1/2")):
            found = network(loop, optimizer)
            assert depth(found.multipliers["b"]) == "-1/2"
            assert lr(found) == {"layers.*.W": rate}
            assert {depth(e.lr) for name, e in found.params.items() if "*" not in name} == {"0"}


def test_a_branch_whose_mean_is_not_zero_needs_more() -> None:
    """relu(W h) has a positive mean in every layer: the sum over layers is aligned already at initialisation.

    Source: Tensor Programs VI, section 4 (mean subtraction).
    """
    assert depth(network(ONE.replace("BRANCH", "?b * relu(W[k,j] h[j])")).multipliers["b"]) == "-1"


LIKE_LINEAR = {
    "tanh": "tanh(W[k,j] h[j])",
    "gelu": "gelu(W[k,j] h[j])",
    "scaled": "0.5 * sin(2 * (W[k,j] h[j]))",
    "of a bias, too": "tanh(W[k,j] h[j] + b[k])",
}


@pytest.mark.parametrize("optimizer", tiers(["adam", "sgd", "muon"], ["sgd"]))
@pytest.mark.parametrize("branch", LIKE_LINEAR)
def test_without_a_multiplier_what_a_function_leaves_as_it_is_starts_smaller(branch: str, optimizer: str) -> None:
    """x + tanh(W x): only W can make the sum over layers Theta(1). It starts at L^-1/2, where tanh is the identity: all
    exponents are those of x + W x. (gelu(z) is z / 2 + O(z^2), and squares are L^-1.)"""
    one = ONE.replace("param W[k,j]", "param W[k,j], b[k] = zeros") if "b[k]" in LIKE_LINEAR[branch] else ONE
    linear = "W[k,j] h[j] + b[k]" if one != ONE else "W[k,j] h[j]"
    found, known = (network(one.replace("BRANCH", text), optimizer) for text in (LIKE_LINEAR[branch], linear))
    assert not found.note and found.params == known.params
    assert depth(found.params["layers.*.W"].init_std) == "-1/2"


@pytest.mark.parametrize(("optimizer", "times"), tiers([("adam", 1), ("sgd", 2), ("muon", 1)], ["sgd-2"]))
@pytest.mark.parametrize(
    ("function", "degree", "start"),
    [("relu", 1, "-1"), ("square", 2, "-1/2"), ("relu_squared", 2, "-1/2"), ("cube", 3, "-1/6")],
)
def test_without_a_multiplier_a_homogeneous_function_is_the_same_run_as_with_one(
    function: str, degree: int, start: str, optimizer: str, times: int
) -> None:
    """?b relu(W x) is relu(?b W x), and ?b square(W x) is square(?b^1/2 W x): the multiplier goes into W."""
    branch = f"{function}(W[k,j] h[j])"
    found = network(ONE.replace("BRANCH", branch), optimizer)
    known = network(ONE.replace("BRANCH", f"?b * {branch}"), optimizer)
    (W, V), b = (one.params["layers.*.W"] for one in (found, known)), known.multipliers["b"]
    assert V.init_std is not None and V.lr is not None
    root = b ** Fraction(1, degree)
    assert (W.init_std, W.lr) == (V.init_std * root, V.lr * root**times) and depth(W.init_std) == start


@pytest.mark.slow
@pytest.mark.parametrize(
    ("branch", "optimizer"),
    tuple(product([f"{act}(W[k,j] h[j])" for act in ("tanh", "relu", "square")], ["adam", "sgd"])),
)
def test_what_starts_smaller_is_measured(branch: str, optimizer: str) -> None:
    source = stack(ONE.replace("param W[k,j]", "param W[k,j] = normal(0.03)").replace("BRANCH", branch))
    options: dict[str, Any] = {"depths": (8, 16, 32, 64), "widths": (64,), "steps": 2}
    report = check(parse(source), optimizer, **options)
    assert report.exit_code == 0 and report.control is not None and report.control.caught
    wrong = check(parse(source), optimizer, **options, overrides=["init[layers.*.W]=n^-1/2"], control=False)
    assert wrong.exit_code == 1


def test_two_matrices_per_block_are_complete_p() -> None:
    """Branches L^-1, Adam L^0 for matrices, biases and gains, epsilon L^-1, SGD L^1.

    Source: Dey et al. 2025 (CompleteP, arXiv:2505.01618), table 1.
    """
    for optimizer, rate in (("adamw", "0"), ("sgd", "1"), ("muon", "0")):
        found = network(TWO_MATRICES, optimizer)
        assert depth(found.multipliers["b"]) == "-1"
        assert set(lr(found).values()) == {rate}, optimizer
        assert len(lr(found)) == 3
    adamw = network(TWO_MATRICES, "adamw").params
    assert depth(adamw["layers.*.W"].eps) == "-1"
    assert depth(adamw["layers.*.W"].weight_decay) == "0"
    assert depth(adamw["layers.*.b"].eps) == "-1"


@pytest.mark.parametrize("name", tiers(["gpt", "gpt_tied"], ["gpt"]))
def test_transformers_with_pre_norm_are_complete_p(name: str) -> None:
    """Attention and MLP branches L^-1, biases and gains included; embedding and readout as they were.

    Source: Dey et al. 2025 (CompleteP, arXiv:2505.01618), table 1.
    """
    for optimizer, rate in (("adam", "0"), ("sgd", "1")):
        found = derive(load(EXAMPLES / f"{name}.tp"), optimizer, "table8")
        assert depth(found.multipliers["branch"]) == "-1"
        assert set(lr(found).values()) == {rate}
        assert {depth(e.lr) for parameter, e in found.params.items() if "*" not in parameter} == {"0"}


@pytest.mark.slow
def test_what_fades_from_layer_to_layer_is_no_growth() -> None:
    """Heads whose number and size both grow, under Muon: a part of a norm's gradient that has lost its source falls by
    L^-1/2 a sweep."""
    source = (EXAMPLES / "gpt.tp").read_text().replace(", d_head = 16", "").replace("n / d_head", "n")
    found = derive(parse(source.replace("head_dim = d_head", "head_dim = n")), "muon")
    assert not found.note
    assert {k: str(v) for k, v in found.multipliers.items()} == {"branch": "L^-1", "layers.attention.scale": "n^-1"}


def test_where_the_gradient_of_every_parameter_has_norm_one_sgd_has_one_learning_rate() -> None:
    """Table 9 with depth: the symmetry and the sum over layers fit together."""
    found = derive(load(EXAMPLES / "gpt.tp"), "sgd", "table9")
    assert {str(e.lr) for e in found.params.values()} == {"1"}
    assert str(found.gradient_norm) == "1"


def test_a_weight_tied_loop_gets_the_whole_power() -> None:
    """All layers share one matrix, which does not vary with the layer: even the first sum is aligned."""
    marked = ONE_MATRIX.replace("repeat L", "repeat L shared")
    outside = ONE_MATRIX.replace("repeat L {\n  param W[k,j]", "param W[k,j]\nrepeat L {")
    for loop in (marked, outside):
        found = network(loop)
        assert depth(found.multipliers["b"]) == "-1"


@pytest.mark.parametrize("act", tiers(["relu", "gelu", "tanh"], ["relu"]))
@pytest.mark.parametrize(
    ("multiplier", "adam", "sgd"), [("L^(-1/2)", "-1/2", "0"), pytest.param("1 / L", "0", "1", marks=pytest.mark.slow)]
)
def test_a_multiplier_that_the_file_fixes_is_kept(multiplier: str, adam: str, sgd: str, act: str) -> None:
    for optimizer, rate in (("adam", adam), ("sgd", sgd)):
        found = network(TWO_MATRICES.replace("?b", multiplier).replace("relu", act), optimizer)
        assert set(lr(found).values()) == {rate}
        assert depth(found.params["layers.*.W"].init_std) == "0"


@pytest.mark.parametrize("act", ["relu", "gelu", "tanh"])
def test_without_a_multiplier_the_last_matrix_takes_it(act: str) -> None:
    """As GPT-2 initialises its projections: by one over the square root of the number of residual layers.

    Source: Radford et al. 2019 (GPT-2), section 2.3.
    """
    found = network(TWO_MATRICES.replace("?b * ", "").replace("relu", act))
    assert depth(found.params["layers.*.W"].init_std) == "-1/2"
    assert depth(found.params["layers.*.V"].init_std) == "0"
    assert lr(found) == {"layers.*.W": "-1", "layers.*.V": "-1/2", "layers.*.b": "-1/2"}


@pytest.mark.slow
def test_a_gpt_without_branch_multipliers_scales_its_projections_as_gpt_2_does() -> None:
    """Attention and mlp in pre-norm, with biases. Source: Radford et al. 2019 (GPT-2), section 2.3."""
    text = (EXAMPLES / "gpt.tp").read_text()
    assert text.count("?branch * ") == 2
    found = derive(parse(text.replace("?branch * ", "")), "adam")
    projections = {"layers.*.attention.Wo", "layers.*.mlp.W2"}
    matrices = [name for name in found.params if name.startswith("layers.") and ".W" in name]
    assert {n for n in matrices if depth(found.params[n].init_std) == "-1/2"} == projections
    assert {depth(found.params[n].lr) for n in projections} == {"-1"}
    assert {depth(found.params[n].lr) for n in set(matrices) - projections} == {"-1/2"}


GATES = {
    "one gate per layer": ("g[] = zeros, W[k,m], V[m,j]", "g[] * (W[k,m] relu(V[m,j] h[j]))"),
    "one matrix behind a gate": ("g[] = zeros, W[k,j]", "g[] * tanh(W[k,j] h[j])"),
    "a gate for every channel": ("g[k] = zeros, W[k,m], V[m,j]", "g[k] * (W[k,m] relu(V[m,j] h[j]))"),
    "a zero output matrix": ("W[k,m] = zeros, V[m,j]", "W[k,m] relu(V[m,j] h[j])"),
    "a zero matrix": ("W[k,j] = zeros", "tanh(W[k,j] h[j])"),
    "low rank": ("A[r,j], B[k,r] = zeros", "tanh(B[k,r] A[r,j] h[j])"),
}  # fmt: skip


@pytest.mark.parametrize("case", tiers(GATES, ("low rank",)))
def test_branches_that_start_at_zero_move_by_theta_1_in_every_layer(case: str) -> None:
    """Whatever stands behind a gate moves as far as it may while the gate, once trained, lets it through."""
    params, branch = GATES[case]
    loop = f"axis r: 4\nrepeat L {{\n  param {params}\n  h[k] = h[k] + ?b * ({branch})\n}}"
    for optimizer, rate in (("adam", "0"), ("sgd", "1")):
        found = network(loop, optimizer)
        assert depth(found.multipliers["b"]) == "-1"
        assert {depth(e.lr) for name, e in found.params.items() if "*" in name and e.lr is not None} == {rate}


@pytest.mark.parametrize(("optimizer", "behind"), [("adam", "0"), ("sgd", "1")])
def test_rezero_without_a_multiplier_trains_its_gates_alone_more_slowly(optimizer: str, behind: str) -> None:
    """x + g f(x), g = 0: all layers move the stream through their gates, by L^-1 each, and what is behind it by 1.

    Source of the architecture: Bachlechner et al. 2020 (ReZero, arXiv:2003.04887).
    """
    params, branch = GATES["one gate per layer"]
    found = network(f"repeat L {{\n  param {params}\n  h[k] = h[k] + {branch}\n}}", optimizer)
    assert lr(found) == {"layers.*.g": "-1", "layers.*.W": behind, "layers.*.V": behind}


NO_LAW = {
    "no residual stream": ONE.replace("h[k] + BRANCH", "tanh(W[k,j] h[j])"),
    "normalised, but not kept": ONE.replace("h[k] = h[k] + BRANCH", "u = rmsnorm(h)\n  h[k] = tanh(W[k,j] u[j])"),
    "post-norm": ONE.replace("h[k] = h[k] + BRANCH", "u[k] = h[k] + cos(W[k,j] h[j])\n  h = rmsnorm(u)"),
    "random gains": ONE.replace("W[k,j]", "W[k,j], g[k] = normal(1)").replace(
        "BRANCH", "?b * (W[k,j] h[j])\n  h[k] = g[k] h[k]"
    ),
    "the stream is doubled": ONE.replace("BRANCH", "h[k] + ?b * (W[k,j] tanh(h[j]))"),
    "a fixed branch that grows with the stream": ONE.replace("BRANCH", "tanh(W[k,j] h[j]) * relu(h[k])"),
}


@pytest.mark.parametrize("case", tiers(NO_LAW, [case for case in NO_LAW if "fixed" not in case]))
def test_a_stack_without_a_power_law_is_derived_at_finite_depth_and_says_so(case: str) -> None:
    found = network(NO_LAW[case])
    assert "no power law" in found.note
    assert ("post-norm" in found.note) == (case == "post-norm")
    assert found.symbols == ("n",)
    assert "no power law in the depth" in found.render()


def test_what_every_layer_adds_once_more_is_named_and_a_multiplier_takes_it() -> None:
    outside = "z[k] = tanh(h[k])\n" + ONE.replace("BRANCH", "?b * (W[k,j] tanh(h[j])) + INJECT z[k]")
    assert "every layer adds `z` once more" in network(outside.replace("INJECT ", "")).note
    assert depth(network(outside.replace("INJECT", "?i *")).multipliers["i"]) == "-1"


def test_the_error_names_the_loop() -> None:
    with pytest.raises(NoPowerLawError, match="residual") as raised:
        _ = parse(stack(NO_LAW["no residual stream"])).symbolic.graph
    assert raised.value.span.line == STACK.count("\n") + 1


@pytest.mark.slow
@pytest.mark.parametrize(("name", "optimizer"), UNROLLED)
def test_widths_have_the_exponents_of_the_unrolled_network(name: str, optimizer: str) -> None:
    symbolic = derive(load(EXAMPLES / f"{name}.tp"), optimizer)
    for layers in (2, 3):
        flat = derive(load(EXAMPLES / f"{name}.tp", {"L": layers}), optimizer)
        lifted = symbolic.unrolled({"L": layers})
        assert list(flat.params) == list(lifted.params)
        for parameter, e in flat.params.items():
            ours = lifted.params[parameter]
            for quantity in ("multiplier", "init_std", "lr", "eps"):
                there, here = getattr(e, quantity), getattr(ours, quantity)
                assert (there is None) == (here is None)
                assert there is None or there["n"] == here["n"], (parameter, quantity)


@pytest.mark.parametrize("loop", [ONE_MATRIX, pytest.param(TWO_MATRICES, marks=pytest.mark.slow)])
def test_nothing_is_unrolled(loop: str) -> None:
    few, many = (parse(stack(loop, f"depth L = {layers}")) for layers in (2, 1000))
    assert len(few.symbolic.program.nodes) == len(many.symbolic.program.nodes)
    assert_legal(few.symbolic.graph)
    assert derive(few).params == derive(many).params


def test_stacks_of_two_depths_have_each_their_own_exponents() -> None:
    second = ONE_MATRIX.replace("repeat L", "repeat M").replace("?b", "?a")
    found = derive(parse(stack(TWO_MATRICES + "\n" + second, "depth L, M")), "adam", "table3")
    assert found.multipliers["b"] == Power.of({"L": -1})
    assert found.multipliers["a"] == Power.of({"M": Fraction(-1, 2)})
    lr = found.params["layers_2.*.W"].lr
    assert lr == Power.of({"n": -1, "M": Fraction(-1, 2)})
    assert found.params["layers.*.W"].lr == Power.of({"n": -1})


@pytest.mark.slow
def test_two_matrices_that_multiply_in_a_gate_are_two_matrices_of_a_block() -> None:
    """sigmoid(W h) * (U h) changes by the product of two updates: at L^-1/2 that would vanish, so L^-1, as where one
    matrix reads the other. Two that only add up, or a matrix and its own inverse norm, do not: L^-1/2.

    Source: Dey et al. 2025 (CompleteP, arXiv:2505.01618), section 6: no part of a block may be lazy.
    """
    body = "repeat L {{\n  param W[k,j], U[k,j]\n  u[k] = W[k,j] h[j]\n  v[k] = U[k,j] h[j]\n"
    body += "  h[k] = h[k] + ?b * ({})\n}}"
    assert depth(network(body.format("sigmoid(u[k]) * v[k]")).multipliers["b"]) == "-1"
    assert depth(network(body.format("tanh(u[k]) + v[k]")).multipliers["b"]) == "-1/2"
    normed = "repeat L {\n  param W[k,j]\n  u[k] = W[k,j] h[j]\n  h[k] = h[k] + ?b * (u[k] * rms_scale[k](u[k]))\n}"
    assert depth(network(normed).multipliers["b"]) == "-1/2"


@pytest.mark.parametrize("branch", ["a[k]", "a[k] * u[k]", "tanh(a[k]) * u[k]"])
def test_one_matrix_whose_output_the_stream_multiplies_is_still_depth_mup(branch: str) -> None:
    """Its terms are merged in other ways from sweep to sweep, and their sizes are not."""
    body = f"u = rmsnorm(h)\n  a[k] = W[k,j] u[j]\n  h[k] = h[k] + ?b * {branch}"
    found = network(f"repeat L {{\n  param W[k,j]\n  {body}\n}}")
    assert depth(found.multipliers["b"]) == "-1/2"
    assert lr(found) == {"layers.*.W": "-1/2", "layers.*.rmsnorm.gain": "-1/2"}


@pytest.mark.parametrize("added", ["+ T[k,i] x[i]", "+ T[k,i] x[i] + c[k]"])
def test_matrices_that_add_up_below_a_function_are_one_matrix(added: str) -> None:
    """tanh(W h + T x) is odd in both flipped together, and its slope even, so that layers add up at random: L^-1/2."""
    given = "param W[k,j], T[k,i], c[k] = normal(1)" if "c" in added else "param W[k,j], T[k,i]"
    found = network(f"repeat L {{\n  {given}\n  a[k] = W[k,j] h[j] {added}\n  h[k] = h[k] + ?b * tanh(a[k])\n}}")
    assert depth(found.multipliers["b"]) == "-1/2"
    assert set(lr(found).values()) == {"-1/2"}
    mixed = network(f"repeat L {{\n  {given}\n  a[k] = W[k,j] h[j] {added}\n  h[k] = h[k] + ?b * relu(a[k])\n}}")
    assert depth(mixed.multipliers["b"]) == "-1"


def test_what_comes_from_outside_of_the_loop_adds_up_with_all_its_layers() -> None:
    loop = TWO.replace("BRANCH", "?b * (W[k,m] relu(V[m,j] h[j] + b[m])) + ?c * z[k]")
    found = network(f"z[j] = tanh(h[j])\n{loop}")
    assert {name: depth(power) for name, power in found.multipliers.items()} == {"b": "-1", "c": "-1"}


@pytest.mark.parametrize("read", ["v[k]", pytest.param("tanh(v[k])", marks=pytest.mark.slow)])
def test_what_reads_a_stream_with_nothing_of_its_own_moves_as_the_stream_does(read: str) -> None:
    """By 1 in every layer, however small the stream starts: L^-1. (Measured in coordcheck/test_depths.py.)"""
    loop = "v[k] = 0 * h[k]\nrepeat L {\n  param W[k,m], V[m,j], F[k,j] frozen\n"
    loop += "  v[k] = v[k] + ?b * (W[k,m] tanh(V[m,j] h[j]))\n  h[k] = h[k] + ?c * READ\n}"
    for optimizer in ("adam", "sgd"):
        found = network(loop.replace("READ", read).replace(", F[k,j] frozen", ""), optimizer)
        assert {name: depth(power) for name, power in found.multipliers.items()} == {"b": "-1", "c": "-1"}
        assert "no parameter of a layer in between" in found.explain("c")
    random = network(loop.replace("READ", "(F[k,j] tanh(v[j]))"))
    assert depth(random.multipliers["c"]) != "-1"


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "muon"])
@pytest.mark.parametrize("times", ["", pytest.param("0.5 * ", marks=pytest.mark.slow)])
def test_a_multiplier_behind_all_layers_knows_how_far_they_move_their_stream(times: str, optimizer: str) -> None:
    """That starts at L^-1/2 and moves by 1: with L^1/2, which makes it start at 1, h would move by L^1/2."""
    loop = "z[k] = 0 * h[k]\nrepeat L {\n  param W[k,j]\n  z[k] = z[k] + ?a * tanh(W[k,j] h[j])\n}\nh[k] = h[k] + SUM"
    one = network(loop.replace("SUM", "z[k]"), optimizer)
    found = network(loop.replace("SUM", f"?b * ({times}z[k])"), optimizer)
    assert {name: str(power) for name, power in found.multipliers.items()} == {"b": "1", "a": "L^-1"}
    assert {name: e.lr for name, e in found.params.items()} == {name: e.lr for name, e in one.params.items()}
    assert not found.vanishing
    less = network(loop.replace("SUM", "?b * (L^(-1) * z[k])"), optimizer)
    assert str(less.multipliers["b"]) == "L"
    fixed = loop.replace("SUM", "?b * z[k]").replace("W[k,j]\n", "W[k,j] frozen\n").replace("?a", "L^(-1)")
    assert str(network(fixed, optimizer).multipliers["b"]) == "L^1/2"  # no rate moves it by more than it starts with


def test_explain_names_the_objective_that_binds() -> None:
    assert "the output of one matrix reaches another" in network(TWO_MATRICES).explain("b")
    one = network(ONE_MATRIX)
    assert "the output of one matrix" not in one.explain("b")
    assert "summed over all layers, are L^1/2" in one.explain("b")
    assert "all layers move the stream together" in one.explain("layers.*.W", "lr")


def test_explain_says_that_a_branch_starts_at_zero() -> None:
    params, branch = GATES["a zero matrix"]
    found = network(f"repeat L {{\n  param {params}\n  h[k] = h[k] + ?b * ({branch})\n}}")
    assert "it starts at exactly zero" in found.explain("b")


@pytest.mark.parametrize(
    ("branch", "size"),
    [
        ("tanh(y[k])", "-1/2"),
        ("selu(y[k])", "-1"),
        ("tanh(y[k]) + relu(y[k])", "-1"),
        ("relu(y[k]) + tanh(y[k])", "-1"),
    ],
)
def test_a_slope_that_differs_on_the_two_sides_of_zero_leaves_a_mean(branch: str, size: str) -> None:
    """And of several ways to the stream, the most demanding one counts, in whatever order they are added."""
    found = network(f"repeat L {{\n  param W[k,j]\n  y[k] = W[k,j] h[j]\n  h[k] = h[k] + {branch}\n}}")
    assert depth(found.params["layers.*.W"].init_std) == size
