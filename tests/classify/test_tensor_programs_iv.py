"""The classifier says of multilayer perceptrons what Tensor Programs IV proves of them."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tensorprog as tp
from tensorprog.classify import Classification, classify
from tensorprog.classify.regime import trainer_for
from tensorprog.parametrization import Parametrization, ParamExponents
from tests.shared import n

HALF = Fraction(1, 2)


def perceptron(hidden: int, phi: str = "tanh") -> str:
    """A network with that many hidden layers, W1 to W(hidden + 1), no biases."""
    axes = ", ".join(f"j{k}: n" for k in range(1, hidden + 1))
    weights = ["W1[j1,i]", *(f"W{k}[j{k},j{k - 1}]" for k in range(2, hidden + 1)), f"W{hidden + 1}[c,j{hidden}]"]
    lines = [f"width n\naxis i: 8, c: 3, {axes}\ninput x[i]\nparam {', '.join(weights)}"]
    before = "x[i]"
    for k in range(1, hidden + 1):
        lines.append(f"h{k}[j{k}] = {weights[k - 1]} {before}\nx{k}[j{k}] = {phi}(h{k}[j{k}])")
        before = f"x{k}[j{k}]"
    return "\n".join([*lines, f"output f[c] = {weights[hidden]} {before}", "loss mse(f)"])


def abc(architecture: tp.Architecture, a: Sequence[Fraction], b: Sequence[Fraction], c: Fraction) -> Classification:
    """W^l = n^-a w, w ~ n^-b, learning rate n^-c, under SGD (TP IV, definition 3.1 of abc-parametrizations)."""
    params, unknowns = {}, {}
    trainer = trainer_for(architecture, "sgd")
    for name, al, bl in zip(architecture.graph.parameters, a, b, strict=True):
        params[name] = ParamExponents(n(-al), n(-bl), n(-c), None, None)
        unknowns.update(dict.fromkeys(trainer.uses_of[name], n(-al)))
    return classify(architecture, Parametrization("abc", "sgd", params, unknowns), "sgd", advice=False)


def r_of(a: Sequence[Fraction], b: Sequence[Fraction], c: Fraction) -> Fraction:
    """TP IV, definition of r: min(a_{L+1} + b_{L+1}, 2 a_{L+1} + c) + c - 1 + min over l <= L of 2 a_l + [l = 1]."""
    inner = min(2 * al + (1 if k == 0 else 0) for k, al in enumerate(a[:-1]))
    return min(a[-1] + b[-1], 2 * a[-1] + c) + c - 1 + inner


def is_stable(a: Sequence[Fraction], b: Sequence[Fraction], c: Fraction) -> bool:
    """TP IV, the stability theorem."""
    sizes = [al + bl for al, bl in zip(a, b, strict=True)]
    r = r_of(a, b, c)
    start = sizes[0] == 0 and all(s == HALF for s in sizes[1:-1]) and sizes[-1] >= HALF
    return start and r >= 0 and sizes[-1] + r >= 1 and 2 * a[-1] + c >= 1


def is_nontrivial(a: Sequence[Fraction], b: Sequence[Fraction], c: Fraction) -> bool:
    """TP IV, the nontriviality theorem (of stable parametrizations)."""
    return a[-1] + b[-1] + r_of(a, b, c) == 1 or 2 * a[-1] + c == 1


F = Fraction
# name: hidden layers, (a, b, c) or the named row with its learning rate, r, regime
ROWS = {
    "sp with learning rate 1/n": (2, ((F(0),) * 3, (F(0), HALF, HALF), F(1)), HALF, "kernel"),
    "ntp": (2, ((F(0), HALF, HALF), (F(0),) * 3, F(0)), HALF, "kernel"),
    "mean field, one hidden layer": (1, ((F(0), F(1)), (F(0), F(0)), F(-1)), F(0), "feature learning"),
    "mup": (2, ((-HALF, F(0), HALF), (HALF,) * 3, F(0)), F(0), "feature learning"),
}


@pytest.mark.parametrize("row", ROWS)
def test_table_1(row: str) -> None:
    """Yang & Hu 2021, Tensor Programs IV (arXiv:2011.14522), Table 1: stable and nontrivial all of them; r; the regime.
    Maximal is only the last, and the mean-field network of one hidden layer, which is the same up to gauge."""
    hidden, (a, b, c), r, regime = ROWS[row]
    found = abc(tp.parse(perceptron(hidden)), a, b, c)
    assert (found.stable, found.trivial, found.r, found.regime) == (True, False, r, regime)
    assert r == r_of(a, b, c)
    assert found.maximal == (regime == "feature learning")


@pytest.mark.parametrize(
    ("name", "lr", "hidden"), [("sp", F(-1), 2), ("ntp", None, 2), ("mfp", None, 1), ("mup", None, 2)]
)
def test_named_rows_are_those_of_the_table(name: str, lr: Fraction | None, hidden: int) -> None:
    """The named parametrizations, as data, are the rows of Tensor Programs IV, Table 1 (up to gauge)."""
    architecture = tp.parse(perceptron(hidden))
    row = ROWS[{"sp": "sp with learning rate 1/n", "mfp": "mean field, one hidden layer"}.get(name, name)]
    found = classify(architecture, name, "sgd", lr)
    published = abc(architecture, *row[1])
    assert (found.r, found.regime, found.features, found.outputs) == (
        published.r, published.regime, published.features, published.outputs)  # fmt: skip


EXPONENT = st.integers(-3, 5).map(lambda k: F(k, 4))
SLACK = st.sampled_from([F(0), F(0), F(0), F(1, 4), F(-1, 4)])


@st.composite
def parametrizations(draw: st.DrawFn) -> tuple[list[Fraction], list[Fraction], Fraction]:
    """Random (a, b, c), most of them near the boundary of the stable ones."""
    a = [draw(EXPONENT) for _ in range(3)]
    start = [F(0), HALF, draw(st.sampled_from([HALF, F(3, 4), F(1), F(5, 4), F(1, 4)]))]
    b = [s + draw(SLACK) - al for s, al in zip(start, a, strict=True)]
    size = a[-1] + b[-1]
    free = F(0)
    edge = [1 - 2 * a[-1]]  # where 2 a + c = 1, where r = 0, where a + b + r = 1
    edge += [-(r_of(a, b, free) + extra) for extra in (F(0), size - 1)]
    c = draw(st.sampled_from(edge)) + draw(st.sampled_from([F(0), F(0), F(1, 4), F(1, 2), F(-1, 4)]))
    return a, b, c


PERCEPTRONS = {phi: tp.parse(perceptron(2, phi)) for phi in ("tanh", "relu", "gelu")}


@given(parametrizations(), st.sampled_from(sorted(PERCEPTRONS)))
def test_stability_nontriviality_and_the_dichotomy(
    abc_of: tuple[list[Fraction], list[Fraction], Fraction], phi: str
) -> None:
    """For random (a, b, c): stable, nontrivial, and r are what the closed formulas of Tensor Programs IV, section 3,
    say; each of the stable, nontrivial ones is exactly one of feature learning (r = 0) and kernel regime (r > 0)."""
    a, b, c = abc_of
    found = abc(PERCEPTRONS[phi], a, b, c)
    stable = found.stable and not found.vanishing  # theirs asks for activations of order 1, not at most 1
    assert stable == is_stable(a, b, c)
    if not stable:
        return
    assert found.trivial != is_nontrivial(a, b, c)
    assert found.r == r_of(a, b, c)
    if not found.trivial:
        assert found.regime == ("feature learning" if found.r == 0 else "kernel")


@pytest.mark.slow
def test_the_random_parametrizations_reach_every_regime() -> None:
    """Negative control of the test above: its strategy draws unstable, trivial, kernel and feature-learning ones."""
    seen = set()

    @settings(max_examples=150, deadline=None, derandomize=True, database=None)
    @given(parametrizations())
    def draw(abc_of: tuple[list[Fraction], list[Fraction], Fraction]) -> None:
        a, b, c = abc_of
        if not is_stable(a, b, c):
            seen.add("unstable")
        elif not is_nontrivial(a, b, c):
            seen.add("trivial")
        else:
            seen.add("feature learning" if r_of(a, b, c) == 0 else "kernel")

    draw()
    assert seen == {"unstable", "trivial", "kernel", "feature learning"}
