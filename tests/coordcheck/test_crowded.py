"""Orthogonalised steps on networks narrower than the rank of their gradient: not the law of wide ones, and said so."""

from __future__ import annotations

import numpy as np
import pytest

from tensorprog.api import check, derive
from tensorprog.architecture import parse
from tensorprog.calculus.rank import outer_products
from tensorprog.coordcheck.crowded import _excused
from tensorprog.interpret import Interpreter

CONVOLUTIONS = """width n
dim side = 5
axis p: 2, r: side, s: side, j: n, c: 1
input image[p,r,s]
param V[c,j]
a = conv(image, n, size = 3)
b = conv(tanh(a), n, size = 3)
m[j] = mean[r,s](tanh(b[j,r,s]))
output f[c] = V[c,j] m[j]
loss mse(f)
"""


@pytest.mark.parametrize(("n", "batch", "rank"), [(12, 1, 12), (40, 1, 25), (64, 2, 50)])
def test_a_gradient_has_the_rank_of_its_outer_products_or_full_rank(n: int, batch: int, rank: int) -> None:
    derivation = derive(parse(CONVOLUTIONS), "muon")
    program, sizes = derivation.architecture.program, {"n": n}
    network = Interpreter(program, sizes, {"n": 4}, derivation.parametrization, batch=batch)
    (gradient,) = (network.run(keep=[k])[k] for name, k in program.grads.items() if name == "conv_2.W")
    assert np.linalg.matrix_rank(gradient.reshape(n, -1)) == rank
    assert min(n, outer_products(program, "conv_2.W", {"n": n, "batch": batch})) == rank


@pytest.mark.slow
def test_a_matrix_narrower_than_the_rank_of_its_step_does_not_disagree() -> None:
    report = check(
        parse(CONVOLUTIONS), "muon", widths=[8, 16, 32], seeds=4, max_seeds=4, steps=1, batch=1, control=False
    )
    found = next(row for row in report.rows if (row.tensor, row.step) == ("conv_2.W", 1))
    assert found.predicted == "-1" and found.measured is not None and found.measured > -0.75
    assert found.verdict == "inconclusive" and "rank is up to 25" in found.reason


@pytest.mark.parametrize(("measured", "verdict"), [(-1.5, "disagrees"), (-0.5, "inconclusive"), (-0.1, "disagrees")])
def test_only_the_growth_of_the_rank_is_excused(measured: float, verdict: str) -> None:
    assert _excused("disagrees", measured, "-1") == verdict
