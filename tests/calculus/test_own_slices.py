"""Own slices: row i of W is met by entry i of W x alone, so that W x is as random as if W were fresh wherever x is not
correlated with what W^T made. Source: Yang & Hu, Tensor Programs IV (arXiv:2011.14522), section 7 (hat Z and dot Z);
the part of W x that is not fresh is proportional to E[dx/dg] = E[x g] / E[g^2], g = W^T y (Stein's lemma)."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

import tensorprog as tp
from benchmarks.agreement import trial
from benchmarks.agreement.family import Family, Look
from tensorprog.calculus.grades import Parity, joint_flip, merged, parity_product, vanishes
from tensorprog.calculus.together import added_together
from tensorprog.coordcheck.predict import Predictor
from tensorprog.coordcheck.probes import probes
from tensorprog.derivation import Derivation

THERE_AND_BACK = """width n
dim d = 8
axis i: d, c: d, j: n, k: n
input x[i]
param E[j,i], W[j,k]
z[j] = relu(E[j,i] x[i])
h[k] = FUNCTION(W[j,k] z[j])
y[j] = W[j,k] h[k]
output f[c] = ?output * (E[j,c] y[j])
loss cross_entropy(f)
"""
CORRELATED = {"tanh": "1", "relu": "1", "cos": "n^-1/2", "abs": "n^-1/2"}  # even functions are not, and y is fresh


def there_and_back(function: str) -> Derivation:
    return tp.derive(tp.parse(THERE_AND_BACK.replace("FUNCTION", function)), "adam")


@pytest.mark.parametrize("function", CORRELATED)
def test_a_matrix_after_its_transpose_is_fresh_if_the_function_between_is_even(function: str) -> None:
    """E y sums n terms: y contains z times E[h'], and z contains E, so the sum is aligned, unless E[h'] is zero."""
    found = there_and_back(function)
    output = next(p for p in probes(found) if p.name == "f" and p.kind == "value")
    assert str(Predictor(found, found.parametrization, 0).at(output, 0).exponent) == CORRELATED[function]


@pytest.mark.slow
@pytest.mark.parametrize("function", CORRELATED)
def test_and_so_it_is_measured(function: str) -> None:
    """Both kinds: the predictions for one would disagree with the other, by 1/2 at the start of f."""
    found = there_and_back(function)
    assert not trial.judged(found, found.parametrization, looks=(Look(16),)).counts["disagrees"]


def test_a_product_is_odd_in_one_factor_and_covered_by_the_other_at_once() -> None:
    """Multiplied with what undoes the odd part, or with what the cover does not meet, it still has mean zero."""
    product = parity_product((0b001, 0, 0), (0, 0b110, 0b110))
    assert product == (0b001, 0b110, 0b110)
    assert vanishes(parity_product(product, (0b001, 0, 0)))
    assert vanishes(parity_product(product, (0, 0b110, 0)))
    assert not vanishes(parity_product(product, (0, 0b011, 0)))


@pytest.mark.parametrize(
    ("odd", "flipped"),
    [([0b01, 0b10], 0b11), ([0b01, 0b11], 0b01), ([0b01, 0b10, 0b11], 0), ([0b011, 0b110, 0b101], 0), ([0], 0)],
)
def test_a_joint_flip_turns_every_term_of_a_sum(odd: list[int], flipped: int) -> None:
    """It meets each in an odd number of bits; the sum of two characters and their product have none."""
    found = joint_flip([(mask, 0, 0) for mask in odd])
    assert found == flipped
    assert not found or all((mask & found).bit_count() % 2 for mask in odd)


def test_a_joint_flip_leaves_out_what_some_term_is_unknown_in() -> None:
    assert joint_flip([(0b011, 0, 0), (0b001, 0b010, 0)]) == 0b001
    assert joint_flip([(0b010, 0, 0), (0b001, 0b010, 0)]) == 0


@pytest.mark.parametrize(
    ("parities", "cover"),
    [
        ([(0b0111, 0, 0), (0b0100, 0, 0), (0b1000, 0, 0)], 0b1100),  # the bit of two, and that of the third
        ([(0b01, 0, 0), (0b10, 0, 0)], 0b11),
        ([(0b110, 0, 0), (0, 0b011, 0b011)], 0b011),  # what is covered already stays so, and serves the other as well
        ([(0b011, 0, 0), (0b010, 0, 0)], 0),  # both are odd in one bit: there is no need
        ([(0b01, 0, 0), (0, 0b10, 0)], 0),  # the second vanishes for no reason
    ],
)
def test_the_cover_of_a_sum_has_as_few_bits_as_will_do(parities: list[Parity], cover: int) -> None:
    """Every piece of the sum is odd in one of them; a product with what depends on another bit keeps the cover."""
    found = merged(parities)
    assert found[2] == cover
    assert all(odd & (found[0] | cover) or (own and not own & ~cover) for odd, _, own in parities) == vanishes(found)


STATES = """width n
dim d = 8, T = 3
axis i: d, c: d, j: n, t: T
input x[t,i]
param E[j,i], V[c,j]
z[t,j] = E[j,i] x[t,i]
h = lstm(z, n)
y[j] = mean[t](FUNCTION(h[t,j]))
m[j] = y[j] - mean[j](y[j])
output f[c] = V[c,j] m[j]
loss cross_entropy(f)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("function", "start"), [("sin", "-1/2"), ("cos", "0"), ("abs", "0")])
def test_rows_of_matrices_that_are_added_flip_together(function: str, start: str) -> None:
    """An LSTM's state is odd in row j of Ug and Wg at once, however many terms it has: an odd function of it has a mean
    over coordinates of n^-1/2, an even one of 1. As measured."""
    found = tp.derive(tp.parse(STATES.replace("FUNCTION", function)), "sgd")
    mean = [p for p in probes(found) if p.name.startswith("[y]") and p.kind == "value"][-1:]
    assert str(Predictor(found, found.parametrization, 0).at(mean[0], 0).exponent) == {"0": "1"}.get(
        start, f"n^{start}"
    )
    sizes = Family(found, found.parametrization, mean, 1).sizes(Look(24, widths=(32, 512)), [(0, 0)])[0, 0]
    assert abs(np.log(sizes[1] / sizes[0]).mean() / np.log(16) - float(Fraction(start))) < 0.1


def test_only_what_sums_add_is_flipped_together() -> None:
    """The candidate's two matrices, and those of each gate: not a gate's with the candidate's."""
    found = tp.derive(tp.parse(STATES.replace("FUNCTION", "sin")), "sgd")
    together = added_together(found.architecture.program, found.solution.solver.sizes)
    assert sorted(sorted(slices) for slices in together) == [
        [(f"lstm.U{gate}", 0), (f"lstm.W{gate}", 0)] for gate in "afgo"
    ]
