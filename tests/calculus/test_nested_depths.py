"""A symbolic depth inside of another: every weight has two layer indices, and exponents are monomials in both."""

from __future__ import annotations

import re

import pytest

from tensorprog.architecture import parse
from tensorprog.coordcheck.copies import copies
from tensorprog.derivation import Derivation
from tensorprog.errors import NoPowerLawError
from tensorprog.exponents import Power
from tensorprog.graph import Scale
from tensorprog.legality import assert_legal
from tests.shared import derive, stack, tiers

Exponents = dict[tuple[str, str], tuple[str, ...] | None]

ONE = "param W[k,j]\n h[k] = h[k] + ?b * tanh(W[k,j] h[j])"
TWO = "param W[k,m], V[m,j], b[m] = zeros\n h[k] = h[k] + ?b * (W[k,m] relu(V[m,j] h[j] + b[m]))"
INNER = "repeat M {\n param W[k,j]\n z[k] = z[k] + ?a * tanh(W[k,j] z[j])\n }"

# loops -> multipliers, and the Adam learning rates of what is in them, all in powers of depths
NETWORKS = {
    "one matrix": (f"repeat L {{ repeat M {{ {ONE} }} }}", "b L^-1/2 M^-1/2; W L^-1/2 M^-1/2"),
    "two matrices": (f"repeat L {{ repeat M {{ {TWO} }} }}", "b L^-1 M^-1; W 1; V 1; b 1"),
    "three deep": (f"repeat L {{ repeat M {{ repeat K {{ {ONE} }} }} }}",
                   "b K^-1/2 L^-1/2 M^-1/2; W K^-1/2 L^-1/2 M^-1/2"),
    "a stream of its own": (
        f"repeat L {{\n param U[k,j]\n z[k] = h[k]\n {INNER}\n h[k] = h[k] + ?b * tanh(U[k,j] z[j])\n}}",
        "a M^-1/2; b L^-1; U 1; W M^-1/2",
    ),
    "nothing but a stream of its own": (
        f"repeat L {{\n z[k] = tanh(h[k])\n {INNER}\n h[k] = h[k] + ?b * z[k]\n}}", "a M^-1/2; b L^-1; W M^-1/2",
    ),
    "a block of both": (
        f"repeat L {{\n repeat M {{ {ONE} }}\n param U[k,m], V[m,j]\n h[k] = h[k] + ?c * (U[k,m] "
        "relu(V[m,j] h[j]))\n}",
        "b L^-1/2 M^-1/2; c L^-1; U 1; V 1; W L^-1/2 M^-1/2",
    ),
    "two in one": (
        f"repeat L {{\n repeat M {{ {ONE} }}\n repeat K {{ {TWO.replace('?b', '?c')} }}\n}}",
        "b L^-1/2 M^-1/2; c K^-1 L^-1; W L^-1/2 M^-1/2; W 1; V 1; b 1",
    ),
    "tied inside": (f"repeat L {{ repeat M shared {{ {ONE} }} }}", "b L^-1/2 M^-1; W L^-1/2"),
    "both tied": (f"repeat L shared {{ repeat M shared {{ {ONE} }} }}", "b L^-1 M^-1; W 1"),
    "a weight of the outer one": (
        "repeat L {\n param U[k,j]\n repeat M { h[k] = h[k] + ?b * tanh(U[k,j] h[j]) }\n}", "b L^-1/2 M^-1; U L^-1/2",
    ),
    "weights of both": (
        "repeat L {\n param U[m,j]\n repeat M {\n param W[k,m]\n h[k] = h[k] + ?b * (W[k,m] tanh(U[m,j] h[j])) }\n}",
        "b L^-1 M^-1; U 1; W 1",
    ),
    "a tensor of the outer one": (
        "repeat L {\n param U[k,j]\n g[k] = tanh(U[k,j] h[j])\n repeat M {\n param W[k,j]\n "
        "h[k] = h[k] + ?b * tanh(W[k,j] h[j]) + ?c * g[k]\n }\n}",
        "b L^-1/2 M^-1/2; c L^-1/2 M^-1; U L^-1/2; W L^-1/2 M^-1/2",
    ),
    "post-norm": (
        f"repeat L {{ repeat M {{ {TWO}\n h = rmsnorm(h) }} }}", "b L^-1 M^-1; W 1; V 1; b 1; gain L^-1 M^-1",
    ),
    "post-norm outside": (
        f"repeat L {{ repeat M {{ {TWO} }}\n h = rmsnorm(h) }}", "b L^-1 M^-1; W 1; V 1; b 1; gain L^-1",
    ),
}  # fmt: skip
DEPTHS = "depth L, M, K"


def network(loops: str, optimizer: str = "adam") -> Derivation:
    found = derive(parse(stack(loops, DEPTHS)), optimizer, "table8")
    assert not found.note, found.note
    return found


def powers(found: Derivation, without: str = "") -> Exponents:
    """All exponents but for those of one depth. Numbered layers count as layers."""
    symbols = [symbol for symbol in ("n", "L", "M", "K") if symbol != without]

    def told(power: Power | None) -> tuple[str, ...] | None:
        return None if power is None else tuple(str(power[symbol]) for symbol in symbols)

    quantities = ("multiplier", "init_std", "lr", "weight_decay", "eps")
    known = {(re.sub(r"\.\d+\.", ".*.", name), quantity): told(getattr(e, quantity))
             for name, e in found.params.items() for quantity in quantities}  # fmt: skip
    return known | {(name, ""): told(power) for name, power in found.multipliers.items()}


@pytest.mark.parametrize("case", tiers(NETWORKS, ("one matrix", "a stream of its own", "a tensor of the outer one")))
def test_nested_depths_have_exponents_of_both(case: str) -> None:
    """By hand: the sums over layers of the two loops multiply; each is of zero mean or aligned.

    Depth-muP (arXiv:2310.02244) where one matrix meets the stream, CompleteP (arXiv:2505.01618) where two do; a stack
    inside of a layer is two or more, as its layers read each other.
    """
    loops, expected = NETWORKS[case]
    found = derive(parse(stack(loops, DEPTHS)), "adam", "table3")
    told = [f"{name} {Power.of({s: p[s] for s in 'LMK'})}" for name, p in sorted(found.multipliers.items())]
    rates = [f"{name.rpartition('.')[2]} {Power.of({s: e.lr[s] for s in 'LMK'})}"
             for name, e in found.params.items() if "layers" in name and e.lr is not None]  # fmt: skip
    assert "; ".join(told + rates) == expected


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adam", "sgd", "muon"])
@pytest.mark.parametrize("case", NETWORKS)
def test_each_depth_has_the_exponents_that_it_has_where_the_other_is_a_number(case: str, optimizer: str) -> None:
    loops, _ = NETWORKS[case]
    found = network(loops, optimizer)
    for symbol in "LMK":
        if f"repeat {symbol} " in loops:
            alone = network(loops.replace(f"repeat {symbol} ", "repeat 2 "), optimizer)
            assert powers(found, symbol) == powers(alone, symbol)


@pytest.mark.parametrize("body", [ONE, TWO])
def test_layers_of_layers_are_layers(body: str) -> None:
    """M layers in each of L are L M layers: of all tensors the sizes are those of one loop."""
    one, two = (derive(parse(stack(loops, DEPTHS)), "adam") for loops in (
        f"repeat L * M {{ {body} }}", f"repeat L {{ repeat M {{ {body} }} }}"))  # fmt: skip
    flat = {(name.replace("layers.*", "layers.*.layers.*"), quantity): p for (name, quantity), p in powers(one).items()}
    assert flat == powers(two)
    inner = [node.name for node in one.architecture.graph.nodes if node.name.startswith("layers.")]
    assert inner and all(one.tensor(name) == two.tensor(f"layers.*.{name}") for name in inner)


@pytest.mark.parametrize("case", tiers([case for case in NETWORKS if "post" not in case], ("a block of both",)))
def test_the_graph_is_legal_and_every_tensor_has_a_copy_in_every_layer(case: str) -> None:
    known = parse(stack(NETWORKS[case][0], DEPTHS)).symbolic
    assert_legal(known.graph)
    flat = known.unrolled({"L": 2, "M": 3, "K": 2}).graph
    found = copies(known.graph, flat, {"n": 8, "L": 2, "M": 3, "K": 2})
    layers = {node.id: "".join(str(axis.dim) for axis in node.axes if axis.loop) for node in known.graph.nodes}
    counts = {"": 1, "L": 2, "LM": 6, "LK": 4, "LMK": 12}
    assert all(len(places) == counts[layers[node]] for node, places in found.items())
    missed = {node.id for node in flat.nodes} - {k for places in found.values() for k in places}
    alike = [node for node in flat.nodes if node.id in missed]  # a product that all of a layer's layers make again
    assert all(isinstance(node.op, Scale) for node in alike) and bool(alike) == (case == "a tensor of the outer one")


REFUSED = {
    "inside of one that is shared": f"repeat L shared {{\n repeat M {{ {ONE} }}\n}}",
    "several times with the same weights": f"repeat 3 shared {{\n repeat L {{ {ONE} }}\n}}",
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_covered_is_named_and_derived_at_finite_depth(case: str) -> None:
    with pytest.raises(NoPowerLawError, match=case) as raised:
        _ = parse(stack(REFUSED[case], DEPTHS)).symbolic.graph
    assert raised.value.why and raised.value.fix and raised.value.span.line > 1
    assert case in derive(parse(stack(REFUSED[case], DEPTHS))).note
