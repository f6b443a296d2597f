"""The polyhedron of stable exponents: polygons with exact vertices, and the list of constraints."""

from __future__ import annotations

import random
from dataclasses import replace
from fractions import Fraction

import pytest

import tensorprog as tp
from tensorprog.classify import classify
from tensorprog.classify.regime import trainer_for
from tensorprog.parametrization import Parametrization
from tensorprog.parametrizations import in_gauge
from tensorprog.programme.region import Edge, clip
from tests.shared import load, n, tiers

F = Fraction
MLP = load("examples/mlp.tp")
STARTS = (("sp", "sgd"), ("sp", "adam"), ("ntp", "sgd"), ("mup", "adam"))


def with_(base: Parametrization, **changes: Fraction) -> Parametrization:
    """`W1_lr=...`: exponents replaced."""
    params = dict(base.params)
    for key, value in changes.items():
        name, quantity = key.split("_", 1)
        params[name] = (
            replace(params[name], lr=n(value)) if quantity == "lr" else replace(params[name], init_std=n(value))
        )
    return replace(base, params=params)


@pytest.mark.parametrize("optimizer", tiers(["sgd", "adam"], ["adam"]))
def test_the_polygon_is_what_is_stable_in_the_plane(optimizer: str) -> None:
    """On a grid of quarter powers: inside and on the polygon stable, outside not. Every vertex is exact: there stable,
    and unstable a little further out."""
    found = classify(MLP, "sp", optimizer, F(-1), region=("lr[W2]", "init_std[W3]"), advice=False)
    region, base = found.region, found.parametrization
    assert region is not None and region.exact and region.vertices
    trainer = trainer_for(MLP, optimizer)

    def stable(x: Fraction, y: Fraction) -> bool:
        return trainer.run(in_gauge(trainer, with_(base, W2_lr=x, W3_init_std=y))).stable

    for i in range(-4, 5):
        for j in range(-4, 5):
            corner = (F(-1) + F(i, 4), F(-1, 2) + F(j, 4))
            assert stable(*corner) == all(edge.room(corner) >= 0 for edge in region.edges), corner
    middle = tuple(sum(v[k] for v in region.vertices) / len(region.vertices) for k in (0, 1))
    framed = {edge for edge in region.edges if edge.text == "frame"}
    for k, vertex in enumerate(region.vertices):
        assert stable(*vertex)
        if not {region.edges[k], region.edges[k - 1]} & framed:
            out = tuple(v + F(1, 120) * (v - m) for v, m in zip(vertex, middle, strict=True))
            assert not stable(*out)


def test_adam_in_sp_as_computed_by_hand() -> None:
    """All learning rates n^x, readout of size n^y: h2 moves by n^(x + 1), f by n^(x + 1) n^y n if the features do."""
    found = classify(MLP, "sp", "adam", F(-1), region=("lr[*]", "init_std[W3]"), advice=False)
    assert found.region is not None
    corners = {(F(-1), F(-1)), (F(-3, 2), F(-1, 2)), (F(-3), F(-1, 2)), (F(-3), F(-5, 2)), (F(-1), F(-5, 2))}
    assert set(found.region.vertices) == corners


def test_a_clip_keeps_the_part_inside() -> None:
    """A unit square cut by x + y <= 1 is a triangle; by x + y <= 3 itself; by x + y <= -1 nothing."""
    sides = [Edge(1, 0, F(1), "right"), Edge(0, 1, F(1), "top"), Edge(-1, 0, F(0), "left"), Edge(0, -1, F(0), "bottom")]
    square = list(zip([(F(1), F(0)), (F(1), F(1)), (F(0), F(1)), (F(0), F(0))], sides, strict=True))
    triangle = clip(square, Edge(1, 1, F(1), "cut"))
    assert {c for c, _ in triangle} == {(F(1), F(0)), (F(0), F(1)), (F(0), F(0))}
    assert clip(square, Edge(1, 1, F(3), "cut")) == square
    assert clip(square, Edge(1, 1, F(-1), "cut")) == []
    for k, (corner, edge) in enumerate(triangle):
        assert edge.room(corner) == 0 == edge.room(triangle[(k + 1) % 3][0])


@pytest.mark.parametrize(("name", "optimizer"), tiers(STARTS, ["sp-adam"]))
def test_the_listed_constraints_say_which_learning_rates_are_stable(name: str, optimizer: str) -> None:
    """Random learning rates for the given start: stable exactly where all constraints hold. None is superfluous among
    those on learning rates."""
    base = classify(MLP, name, optimizer, constraints=True, advice=False)
    constraints = base.constraints
    assert constraints
    trainer, draw = trainer_for(MLP, optimizer), random.Random(0)
    centre = {w: e.lr.degree for w, e in base.parametrization.params.items() if e.lr is not None}
    seen = set()
    for _ in range(80):
        shift = draw.choice((F(0), F(-1), F(-3, 2)))
        rates = {f"{w}_lr": c + shift + F(draw.randint(-2, 2), 2) for w, c in centre.items()}
        tried = with_(base.parametrization, **rates)
        values = {}
        for w, e in tried.params.items():
            std = e.init_std.degree if e.init_std is not None else F(0)
            values |= {("a", w): -e.multiplier.degree, ("b", w): -std, ("c", w): -(e.lr.degree if e.lr else F(0))}
        kept = all(sum(c * values[key] for key, c in q.coefficients) >= q.bound for q in constraints)
        assert trainer.run(in_gauge(trainer, tried)).stable == kept
        seen.add(kept)
    assert seen == {True, False}


def test_tensor_programs_iv_conditions_are_among_the_constraints() -> None:
    """For the standard start under SGD: 2 a_{L+1} + c >= 1 and a_{L+1} + b_{L+1} + r >= 1 (TP IV, stability theorem),
    with one learning rate per layer, a_1 + b_1 = 0 and a_2 + b_2 = 1/2 put in."""
    found = classify(tp.parse(MLP.source), "sp", "sgd", constraints=True, advice=False)
    assert found.constraints is not None
    start = {("a", "W1"): 0, ("b", "W1"): 0, ("a", "W2"): 0, ("b", "W2"): F(1, 2)}
    rest = set()
    for q in found.constraints:
        left = tuple(sorted((key, c) for key, c in q.coefficients if key not in start))
        rest.add((left, q.bound - sum(c * start[key] for key, c in q.coefficients if key in start)))
    readout = (("a", "W3"), 2), (("b", "W3"), 2)
    assert (((("a", "W3"), 2), (("c", "W3"), 1)), 1) in rest  # 2 a_3 + c_3 >= 1
    assert ((*readout, (("c", "W2"), 1)), 2) in rest  # a_3 + b_3 + r >= 1 with r = a_3 + b_3 + c_2 - 1
    assert ((*readout, (("c", "W1"), 1)), 1) in rest  # and r = a_3 + b_3 + c_1 - 1 + (2 a_1 + 1)


def test_as_text_latex_and_json() -> None:
    found = classify(MLP, "ntp", "sgd", constraints=True, region=("lr[W1]", "lr[W3]"))
    text = found.render()
    assert "constraints (multiplier n^-a" in text and "stable in the plane of lr[W1] (x) and lr[W3] (y)" in text
    latex = found.render("latex")
    assert latex.startswith("\\begin{align*}") and "&\\ge \\frac{1}{2}" in latex
    assert '"vertices"' in found.render("json")
    with pytest.raises(tp.TensorProgError, match="is no exponent"):
        classify(MLP, "ntp", "sgd", region=("lr[W9]", "lr[W3]"))
