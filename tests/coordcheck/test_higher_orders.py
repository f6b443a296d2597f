"""A change whose exponent comes from a higher order in the learning rates may hide behind a lower one: which rows the
calculus says this of, and what is still a disagreement there."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import numpy as np
import pytest

from tensorprog.api import check, derive
from tensorprog.architecture import parse
from tensorprog.coordcheck import judge
from tensorprog.coordcheck.ladder import Ladder
from tensorprog.coordcheck.predict import Prediction, Predictor
from tensorprog.coordcheck.probes import HIDDEN, Probe, probes
from tensorprog.exponents import Power

HEAD = (
    "width n\ndim d = 16, o = 3, T = 6\naxis i: d, j: n, k: n, c: o, t: T, s: T\ninput x[t,i]\nparam U[j,i], V[c,j]\n"
)
TAIL = "output f[t,c] = V[c,j] r[t,j]\nloss cross_entropy(f)\n"
SHARED_QUERY = parse(f"""{HEAD}param Q[k,j], W[k,j], O[j,k]
h[t,j] = U[j,i] x[t,i]
q[t,k] = Q[k,j] h[t,j]
v[t,k] = W[k,j] h[t,j]
a[t,s] = ?scale{{n^(-1)}} * (q[t,k] q[s,k])
y[t,k] = softmax[s](a[t,s]) v[s,k]
r[t,j] = h[t,j] + O[j,k] y[t,k]
{TAIL}""")
MEAN_OF_RELU = parse(f"{HEAD}h[t,j] = relu(U[j,i] x[t,i])\nm[t] = mean[j](h[t,j])\nr[t,j] = h[t,j] * m[t]\n{TAIL}")
PLAIN = parse(f"{HEAD}param W[k,j]\nh[t,j] = relu(U[j,i] x[t,i])\nr[t,k] = relu(W[k,j] h[t,j])\n{TAIL}")
LADDER = Ladder.of(("n",), (64, 128, 256, 512, 1024))


def hidden(source: object, also: tuple[str, ...] = ()) -> dict[tuple[str, str], tuple[str, str]]:
    """(tensor, part) -> (prediction, exponent of the lowest order), where they differ after one step of SGD."""
    derivation = derive(source, "sgd").unrolled()
    predictor = Predictor(
        derivation, derivation.parametrization, 1, derivation.solution.exponents, orders=True
    )  # fmt: skip
    found = {}
    for probe in [p for p in probes(derivation, also) if p.kind not in HIDDEN]:
        prediction = predictor.at(probe, 1)
        if prediction.first is not None:
            found[probe.name, probe.part(1)] = (str(prediction.exponent), str(prediction.first))
    return found


def test_a_square_and_a_sum_of_relus_move_by_their_mean_to_second_order_only() -> None:
    assert hidden(SHARED_QUERY)["[q q]", "change"] == ("n", "n^1/2")
    assert hidden(MEAN_OF_RELU)["m", "change"] == ("1", "n^-1/2")


def test_a_product_of_two_changes_is_aligned_to_third_order_and_nothing_else_hides_in_a_perceptron() -> None:
    assert hidden(PLAIN) == {}
    found = hidden(PLAIN, ("split", "spectral", "updates", "gradients"))
    assert {part for _, part in found} == {"dW.dx"} and set(found.values()) == {("1", "n^-1/2")}


def verdicts(law: np.ndarray, noise: float = 0.05, first: int | None = -1) -> Counter[str]:
    """What is said of mean squares `law` where 0 is predicted, `first` / 2 to the lowest order."""
    lowest = None if first is None else Power.of({"n": Fraction(first, 2)})
    rng, found = np.random.default_rng(0), Counter[str]()
    for _ in range(60):
        values = np.sqrt(law)[:, None] * np.exp(noise * rng.standard_normal((5, 8)))
        row = judge.row(Probe("x", 0), 1, Prediction(Power(), False, lowest), None, values, LADDER, judge.Limits())
        found[row.verdict] += 1
    return found


N = LADDER.points


@pytest.mark.parametrize("share", [0.0, 0.02, 0.1, 0.3])
def test_a_hidden_part_is_no_disagreement_only_where_there_is_one(share: float) -> None:
    """Mean squares of 1/n and a constant; `share`: of the constant, at the largest width. With none at all, the line
    never agrees."""
    law = (1 - share) * N[-1] / N + share
    assert not verdicts(law)["disagrees"]
    assert verdicts(law)["agrees"] <= (60 if share else 0)
    assert verdicts(law, first=None)["disagrees"] >= (54 if share < 0.1 else 0)


@pytest.mark.parametrize(("exponent", "first"), [(-1.0, -1), (0.5, -1), (-0.5, -2)])
def test_no_slope_outside_and_no_straight_line_between_is_excused(exponent: float, first: int) -> None:
    assert verdicts(N ** (2 * exponent), 0.02, first)["disagrees"] == 60


@pytest.mark.slow
@pytest.mark.parametrize("source", [SHARED_QUERY, MEAN_OF_RELU])
def test_hidden_parts_do_not_disagree_and_a_wrong_learning_rate_does(source: object) -> None:
    widths = [64, 128, 256, 512]
    right = check(source, "sgd", widths=widths, steps=1)
    assert right.exit_code == 0 and not [row for row in right.rows if row.verdict == "disagrees"]
    assert [row for row in right.rows if row.reason == judge.SECOND]
    derived = derive(source, "sgd").parametrization.params["U"].lr
    assert derived is not None
    wrong = check(source, "sgd", widths=widths, steps=1, overrides=[f"lr[U]={derived['n'] - Fraction(1, 2)}"])
    assert wrong.exit_code == 1
