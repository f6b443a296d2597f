"""The drawn graph says what the derivation says, leaves nothing out, and its cards and lines do not collide."""

from __future__ import annotations

import io
import random
import re
import xml.etree.ElementTree as ElementTree
from itertools import combinations, pairwise
from pathlib import Path

import networkx as nx
import pytest

pytest.importorskip("matplotlib")

from tensorprog.architecture import parse
from tensorprog.cli import main
from tensorprog.derivation import Derivation
from tensorprog.graph import Input, Node, Param
from tensorprog.plots import computation_graph, render
from tensorprog.plots.layout import layered
from tensorprog.plots.view import view
from tests.shared import derive, tiers

EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples").glob("*.tp"))
LIMITS = (8, 16, 1000)


@pytest.fixture(
    scope="module",
    params=tiers([e for e in EXAMPLES if e.stem in ("mlp", "gpt_tied", "lstm", "resnet")], ("mlp", "gpt_tied")),
)
def derivation(request: pytest.FixtureRequest) -> Derivation:
    return derive(request.param, "adam")


def test_every_parameter_stands_once_with_its_own_exponents(derivation: Derivation) -> None:
    """At full detail: one line per parameter, in the card of the tensor that uses it."""
    lines = [line for card in view(derivation, 1000).cards for line in card.lines if line.kind == "parameter"]
    counted: dict[object, int] = {}
    for line in lines:
        key = (line.multiplier, line.init, line.lr)
        counted[key] = counted.get(key, 0) + len(line.names)
    expected: dict[object, int] = {}
    for exponents in derivation.params.values():
        key = (exponents.multiplier, exponents.init_std, exponents.lr)
        expected[key] = expected.get(key, 0) + 1
    assert counted == expected


@pytest.mark.parametrize("limit", LIMITS)
def test_cards_depend_on_one_another_as_their_tensors_do(derivation: Derivation, limit: int) -> None:
    """Every dependence of the graph is an edge between two cards or inside of one, whatever the detail; no cycles."""
    shown = view(derivation, limit)
    coarse = nx.DiGraph(shown.edges)
    assert nx.is_directed_acyclic_graph(coarse)
    graph = derivation.architecture.graph
    inputs = [node for node in graph.nodes if isinstance(node.op, Input) and not is_target(node)]
    names = [card.name for card in shown.cards]
    assert len(names) == len(set(names))
    for node in inputs:
        assert nx.has_path(coarse, names.index(node.name), names.index("loss"))
    fine = view(derivation, 1000)
    if limit == 1000:
        return
    home = {card.name: card_of(card.name, names) for card in fine.cards}
    for a, b in fine.edges:
        one, other = home[fine.cards[a].name], home[fine.cards[b].name]
        assert one == other or (names.index(one), names.index(other)) in shown.edges


def is_target(node: Node) -> bool:
    return isinstance(node.op, Input) and node.op.kind == "target"


def card_of(tensor: str, names: list[str]) -> str:
    """The card in which a tensor is: its own, or that of the longest path that it begins with."""
    if tensor in names:
        return tensor
    rest = re.sub(r"\.(?!0\.)\d+\..*", ".1..", tensor)
    return rest if rest in names else max((n for n in names if tensor.startswith(f"{n}.")), key=len)


def test_cards_show_the_exponents_of_the_tensor_they_name(derivation: Derivation) -> None:
    graph = derivation.architecture.graph
    by_name = {node.name: node.id for node in graph.nodes if node.name and not isinstance(node.op, Param)}
    cards = {card.name: card for card in view(derivation, 1000).cards}
    assert set(by_name) - set(cards) == {node.name for node in graph.nodes if is_target(node)}
    for name, node in by_name.items():
        if name in cards and cards[name].kind == "tensor":
            assert (cards[name].start, cards[name].change) == derivation.sizes(node)


@pytest.mark.slow
def test_large_networks_are_drawn_by_their_blocks_and_loops_once() -> None:
    """A repeat of symbolic depth: one layer and a way back; unrolled: the first layer, and one card for the others."""
    gpt = derive(Path(EXAMPLES[0]).parent / "gpt.tp", "adam")
    shown = view(gpt)
    names = [card.name for card in shown.cards]
    assert len(names) <= 16
    assert {"tokens", "embedding", "layers.*.attention", "layers.*.mlp", "logits", "loss"} <= set(names)
    assert [(names[a], names[b]) for a, b in shown.back] == [("layers.*.x#2", "layers.*.x#0")]
    unrolled = view(gpt.unrolled({"L": 3}))
    assert {"layers.0.attention", "layers.0.mlp", "layers.1.."} <= {card.name for card in unrolled.cards}
    assert unrolled.back == ()
    assert "layers.*.attention.scores" in [card.name for card in view(gpt, 1000).cards]


def boxes(sizes: list[tuple[float, float]], centers: tuple[tuple[float, float], ...]) -> list[tuple[float, ...]]:
    return [(x - w / 2, y - h / 2, x + w / 2, y + h / 2) for (w, h), (x, y) in zip(sizes, centers, strict=True)]


def test_no_card_covers_another_and_no_line_crosses_a_card() -> None:
    """Random graphs: cards apart, every edge points down, lines keep clear of all cards but their two ends."""
    chance = random.Random(5)
    for _ in range(60):
        count = chance.randint(1, 14)
        edges = [(a, b) for a, b in combinations(range(count), 2) if chance.random() < 0.25]
        sizes = [(chance.choice((1.0, 2.0)), chance.choice((0.3, 0.6, 1.2))) for _ in range(count)]
        placed = layered(sizes, edges, gap=(0.3, 0.3), lane=0.2)
        cards = boxes(sizes, placed.centers)
        for one, other in combinations(cards, 2):
            assert one[2] < other[0] or other[2] < one[0] or one[3] < other[1] or other[3] < one[1]
        for (a, b), route in zip(edges, placed.routes, strict=True):
            assert placed.centers[a][1] < placed.centers[b][1]
            for (x0, y0), (x1, y1) in pairwise(route):
                assert x0 == x1 or y0 == y1
                for left, top, right, bottom in cards:
                    inside_x = min(x0, x1) < right - 1e-9 and max(x0, x1) > left + 1e-9
                    inside_y = min(y0, y1) < bottom - 1e-9 and max(y0, y1) > top + 1e-9
                    assert not (inside_x and inside_y)
        assert all(0 <= x <= placed.width and 0 <= y <= placed.height for route in placed.routes for x, y in route)


def test_a_parameter_with_two_users_has_a_card_of_its_own() -> None:
    text = """
    width n
    axis i: 5, j: n, k: n, c: 3
    input x[i]
    param U[j,i], W[j,k], V[c,j]
    h[j] = tanh(U[j,i] x[i])
    g[j] = tanh(W[j,k] h[k])
    u[j] = W[j,k] g[k]
    output f[c] = V[c,j] u[j]
    loss mse(f)
    """
    shown = view(derive(parse(text), "sgd"))
    cards = {card.name: k for k, card in enumerate(shown.cards)}
    assert shown.cards[cards["W"]].kind == "parameter"
    assert {(cards["W"], cards["g"]), (cards["W"], cards["u"])} <= set(shown.edges)
    assert "U" not in cards


@pytest.mark.parametrize("example", tiers(["mlp", "gpt_tied"], ["mlp"]))
def test_the_picture_names_every_card(example: str) -> None:
    derivation = derive(EXAMPLES[0].parent / f"{example}.tp", "adam")
    picture = render(computation_graph(derivation), "svg", text=True)
    root = ElementTree.parse(io.BytesIO(picture)).getroot()
    text = " ".join("".join(element.itertext()) for element in root.iter("{http://www.w3.org/2000/svg}text"))
    assert all(card.name[-12:] in text for card in view(derivation).cards)
    assert render(computation_graph(derivation), "svg", text=True) == picture


@pytest.mark.parametrize(("example", "what"), [("mlp", "width"), ("gpt", "width or depth")])
def test_the_legend_says_what_a_cell_vanishes_with(example: str, what: str) -> None:
    """The branches of a network of symbolic depth are tinted for their power of the depth."""
    picture = render(computation_graph(derive(EXAMPLES[0].parent / f"{example}.tp", "adam")), "svg", text=True)
    assert f">vanishes with {what}<" in picture.decode()


def test_graph_saves_a_picture_and_refuses_what_would_have_no_meaning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(next(path for path in EXAMPLES if path.stem == "mlp"))
    assert main(["graph", file, "--save", str(tmp_path / "a.svg"), "--optimizer", "sgd", "--form", "table3"]) == 0
    assert capsys.readouterr() == ("", "")
    assert ElementTree.parse(tmp_path / "a.svg").getroot().tag.endswith("svg")
    assert main(["graph", file, "--optimizer", "sgd"]) == 2
    assert "--optimizer has a meaning only for a picture" in capsys.readouterr().err
