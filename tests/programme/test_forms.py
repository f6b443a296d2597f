"""Sizes as forms of the unknowns: what they say of points other than the one where they were made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

import pytest

from tensorprog.calculus import affine, terms
from tensorprog.calculus.affine import Form, greatest, least, pack, unpack
from tensorprog.programme.completion import Completion, complete
from tests.shared import load

UNKNOWNS = 3
Point = Sequence[int]
Size = tuple[int, Callable[[Point], int]]  # as a form at one point, and what it is at any


def linear(draw: Random, here: Point) -> Size:
    terms, constant = [draw.randint(-2, 2) for _ in here], draw.randint(-3, 3)

    def at(point: Point) -> int:
        return constant + sum(c * x for c, x in zip(terms, point, strict=True))

    return Form(at(here), pack(terms)), at


def made(draw: Random, here: Point) -> Size:
    """Sums, differences, products with numbers, smaller and larger ones of what was made before."""
    known = [linear(draw, here) for _ in range(4)]
    for _ in range(8):
        (a, f), (b, g), (c, h) = draw.choices(known, k=3)
        match draw.randrange(5):
            case 0:
                new: Size = a + b, lambda p, f=f, g=g: f(p) + g(p)
            case 1:
                new = a - b, lambda p, f=f, g=g: f(p) - g(p)
            case 2:
                new = a * -2, lambda p, f=f: -2 * f(p)
            case 3:
                new = least(a, b), lambda p, f=f, g=g: min(f(p), g(p))
            case _:
                new = greatest([a, b, c]), lambda p, f=f, g=g, h=h: max(f(p), g(p), h(p))
        known.append(new)
    return known[-1]


def bound(size: int, here: Point, there: Point) -> int:
    """The least that a form says a size is at another point."""
    form = size if isinstance(size, Form) else Form(size)

    def moved(value: int, key: int) -> int:
        return value + sum(c * (q - p) for c, p, q in zip(unpack(key, UNKNOWNS), here, there, strict=True))

    return moved(int(form), form.key) + sum(n * min(0, moved(*guard)) for guard, n in form.below.items())


def holds(seed: int) -> bool:
    draw = Random(seed)
    here, there = ([draw.randint(-4, 4) for _ in range(UNKNOWNS)] for _ in range(2))
    size, at = made(draw, here)
    return size == at(here) == bound(size, here, here) and bound(size, here, there) <= at(there)


def test_a_form_bounds_its_size_from_below_at_every_point() -> None:
    assert all(map(holds, range(3000)))


def test_without_what_is_missing_elsewhere_it_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control."""
    monkeypatch.setattr(affine, "_slack", lambda *apart: {})
    assert not all(map(holds, range(200)))


def test_of_a_norm_over_itself_nothing_is_left() -> None:
    a, b = Form(2, pack([1, 0])), Form(1, pack([0, 1]))
    norm = greatest([a, b])
    assert (a - norm).below == {(1, pack([1, -1])): 1}
    assert not (norm - greatest([a, b])).below
    assert not (3 * (a - norm) - 2 * (a - norm) - (a - norm)).below


# --- what a norm divides by, where another addend of its argument rules ---------------------------------------


def lost(found: Completion) -> set[str]:
    return {name for one in found.completed.lost for name in one.params}


@pytest.mark.slow
def test_small_branches_let_what_is_in_them_learn() -> None:
    """Readout weights that start at n^-1/2 hold changes of the last features to n^-1/2. Where the branches are n^-1/2,
    what changes in them by Theta(1) is as small. Each bound is a single sum, of what is not fixed at 1."""
    found = complete(load("examples/gpt.tp"), ["init = sp"], "adam")
    blocks = {f"layers.{k}.{bias}" for k in (0, 1) for bias in ("attention.bo", "mlp.b2")}
    assert lost(found) == {"embedding.E", "positions.P", "layernorm.gain", "layernorm.shift", *blocks}
    assert found.completed.certified
    assert str(found.parametrization.unknowns["branch"]) == "n^-1/2"
    assert "lr[layers.1.mlp.b2] + init[readout.W] + ?branch <= -1" in "\n".join(found.remarks)


@pytest.mark.slow
def test_what_a_norms_argument_absorbs_is_needed_for_that(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: the residual stream's addends that start as large as another one, forgotten."""
    monkeypatch.setattr(terms, "greatest", lambda sizes: next(iter(sizes)))
    found = complete(load("examples/gpt.tp"), ["init = sp"], "adam")
    assert len(lost(found)) > 8 or not found.completed.certified


@pytest.mark.slow
@pytest.mark.parametrize("example", ["resnet", "bert"])
def test_behind_norms_the_standard_start_is_followed_to_its_end(example: str) -> None:
    found = complete(load(f"examples/{example}.tp"), ["init = sp"], "adam")
    assert found.completed.certified
    assert all(abs(c) <= 6 for one in found.completed.lost for bound in one.binding
               for c in bound.row.coefficients.values())  # fmt: skip
