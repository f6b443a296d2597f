"""What the programme claims, against every point of a grid: small random networks with norms, and the library's own
prediction as the judge of a point. A claimed conflict has no stable point; what is called the best is not beaten."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from random import Random

import pytest

import tensorprog as tp
from tensorprog.calculus import affine
from tensorprog.calculus.exponents import Exponents
from tensorprog.classify.regime import trainer_for
from tensorprog.programme import search
from tensorprog.programme.completion import complete
from tensorprog.programme.refusals import ConflictError
from tests.shared import load, tiers

NORMS = ("none", "none", "rms", "layer", "gain")
START = {"U": Fraction(0), "W": Fraction(-1, 2), "V": Fraction(-1, 2), "g": Fraction(0)}
GRID = [Fraction(k, 2) for k in range(-6, 3)]
Free = list[tuple[str, str]]


def network(draw: Random) -> str:
    """Two hidden layers, with norms, skips and products at random."""
    params, body = ["U[j,i]", "W[k,j]", "V[c,k]"], ["a[j] = U[j,i] x[i]"]

    def add(axis: str, expression: str) -> str:
        body.append(f"t{len(body)}[{axis}] = {expression}")
        return body[-1].split("[")[0]

    def norm(x: str, axis: str) -> str:
        kind = draw.choice(NORMS)
        if kind == "none":
            return x
        if kind == "layer":
            x = add(axis, f"{x}[{axis}] - mean[{axis}]({x}[{axis}])")
        scaled = f"{x}[{axis}] rms_scale[{axis}]({x}[{axis}])"
        if kind == "gain" and len(params) == 3:
            params.append(f"g[{axis}] = ones")
            scaled = f"g[{axis}] {scaled}"
        return add(axis, scaled)

    def act(x: str, axis: str) -> str:
        function = draw.choice(("tanh", "relu", "gelu", "softplus"))
        return x if draw.random() < 0.3 else add(axis, f"{function}({x}[{axis}])")

    h = act(norm("a", "j"), "j")
    body.append(f"b[k] = W[k,j] {h}[j]" + (f" + {draw.choice(['a', h])}[k]" if draw.random() < 0.4 else ""))
    y = act(norm("b", "k"), "k")
    y = add("k", f"{y}[k] b[k]") if draw.random() < 0.3 else y
    y = norm(y, "k") if draw.random() < 0.3 else y
    head = ["width n", "axis i: 4, j: n, k: n, c: 3", "input x[i]", "param " + ", ".join(params)]
    return "\n".join([*head, *body, f"output f[c] = V[c,k] {y}[k]", f"loss {draw.choice(['mse', 'cross_entropy'])}(f)"])


def requirements(draw: Random, names: list[str]) -> tuple[dict[tuple[str, str], Fraction], Free]:
    """What is fixed (quantity, parameter), and at most three that are not."""
    fixed, free = {}, []
    given = draw.choice(("init", "init", "lr"))
    for name in names:
        for quantity in ("init", "lr"):
            if (quantity, name) == ("init", "g") or quantity == given or draw.random() < 0.3:
                shift = draw.choice((0, 0, 0, -1)) if quantity == "init" else draw.choice((0, -1, -2, -3, -4))
                fixed[quantity, name] = (START[name] if quantity == "init" else 0) + Fraction(shift, 2)
            else:
                free.append((quantity, name))
    while len(free) > 3:
        fixed[free.pop(draw.randrange(len(free)))] = Fraction(draw.choice((0, -1, -2)), 2)
    return fixed, free


def best_of_the_grid(
    known: tp.Architecture, optimizer: str, fixed: dict[tuple[str, str], Fraction], free: Free
) -> list[Fraction] | None:
    """The own updates, worst first, at the best stable point; None: none is stable."""
    trainer, best = trainer_for(known, optimizer), None
    unit, multipliers = trainer.units.denominator, dict.fromkeys(trainer.exponents.M, 0)
    for values in product(GRID, repeat=len(free)):
        at = fixed | dict(zip(free, values, strict=True))
        A, C = ({name: -int(at[quantity, name] * unit) for name in known.graph.parameters}
                for quantity in ("init", "lr"))  # fmt: skip
        try:
            stable = trainer.run(Exponents(A, C, multipliers)).stable
        except tp.TensorProgError:
            continue
        if stable:
            sizes = [size for name in trainer.program.updates if (size := trainer.contribution(name)) is not None]
            updates = sorted(trainer.units.degree(size) for size in sizes)
            best = updates if best is None else max(best, updates)
    return best


def claims_hold(seed: int) -> bool:
    draw = Random(seed)
    known, optimizer = tp.parse(network(draw)), draw.choice(("sgd", "adam"))
    fixed, free = requirements(draw, list(known.graph.parameters))
    fixes = ["no multipliers", *(f"{quantity}[{name}] = {value}" for (quantity, name), value in fixed.items())]
    best = best_of_the_grid(known, optimizer, fixed, free)
    try:
        found = complete(known, fixes, optimizer).completed
    except ConflictError:
        return best is None
    own = sorted(found.contributions.values())
    return found.trajectory.stable and (best is None or best <= own or not found.certified)


@pytest.mark.parametrize("seed", tiers(range(60), ("4", "16")))
def test_no_point_of_a_grid_contradicts_what_is_claimed(seed: int) -> None:
    assert claims_hold(seed)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("example", "optimizer"), tiers([("bert", "adam"), ("unet", "sgd"), ("dit", "adam")], ["unet-sgd"])
)
def test_behind_norms_the_standard_start_has_a_completion(example: str, optimizer: str) -> None:
    """A norm makes a change at most Theta(1), however large what it normalises; and no larger than that, where that is
    small. Learning rates n^-1/2 of the derived ones are stable."""
    found = complete(load(f"examples/{example}.tp"), ["init = sp"], optimizer)
    assert found.completed.trajectory.stable
    assert min(found.completed.contributions.values()) >= Fraction(-1, 2)


def test_without_the_other_side_of_a_norm_it_would_be_called_a_conflict(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: what bounds something normalised is taken to hold for all exponents."""
    monkeypatch.setattr(affine, "_slack", lambda *apart: {})
    monkeypatch.setattr(search, "SMALLER", ())
    with pytest.raises(ConflictError):
        complete(load("examples/unet.tp"), ["init = sp"], "sgd")
