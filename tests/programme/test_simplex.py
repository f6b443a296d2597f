"""The exact solver, against SymPy's, and by duality."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sympy import Rational
from sympy.solvers.simplex import InfeasibleLPError, UnboundedLPError, linprog

from tensorprog.programme.simplex import Infeasible, Optimum, Row, UnboundedError, maximise
from tests.shared import examples

NUMBER = st.integers(-4, 4).map(lambda k: Fraction(k, 2))
BOX = 10


@st.composite
def programmes(draw: st.DrawFn) -> tuple[dict[int, Fraction], list[Row], int]:
    count = draw(st.integers(1, 4))
    rows = []
    for _ in range(draw(st.integers(0, 7))):
        coefficients = {j: c for j in range(count) if (c := draw(NUMBER))}
        rows.append(Row(coefficients, draw(NUMBER)))
    for j in range(count):
        rows += [Row({j: 1}, Fraction(BOX)), Row({j: -1}, Fraction(BOX))]
    return {j: draw(NUMBER) for j in range(count)}, rows, count


@examples(25)
@given(programmes())
def test_the_maximum_is_that_of_an_independent_solver(programme: tuple[dict[int, Fraction], list[Row], int]) -> None:
    """SymPy's exact simplex (sympy.solvers.simplex) finds the same value, or also finds no point."""
    objective, rows, count = programme

    def rational(value: Fraction | int) -> Rational:
        return Rational(Fraction(value).numerator, Fraction(value).denominator)

    matrix = [[rational(row.coefficients.get(j, 0)) for j in range(count)] for row in rows]
    costs = [rational(-objective[j]) for j in range(count)]
    found = maximise(objective, rows, count)
    shifted = [rational(row.bound + BOX * sum(row.coefficients.values())) for row in rows]  # x = y - BOX, y >= 0
    try:
        value = linprog(costs, A=matrix, b=shifted)[0] - BOX * sum(costs)
    except InfeasibleLPError:
        assert isinstance(found, Infeasible)
        return
    assert isinstance(found, Optimum)
    assert rational(found.value) == -value


@given(programmes())
def test_a_certificate_comes_with_every_answer(programme: tuple[dict[int, Fraction], list[Row], int]) -> None:
    """A maximiser is feasible, and its duals are positive multipliers of rows that add up to the objective. A conflict
    adds up to 0 <= -1, and without any one of its rows the others can be satisfied."""
    objective, rows, count = programme
    found = maximise(objective, rows, count)
    multipliers = found.duals if isinstance(found, Optimum) else found.conflict
    assert all(y > 0 for y in multipliers.values())
    combined = {j: sum(y * rows[k].coefficients.get(j, 0) for k, y in multipliers.items()) for j in range(count)}
    bound = sum(y * rows[k].bound for k, y in multipliers.items())
    if isinstance(found, Optimum):
        assert all(row.slack(found.x) >= 0 for row in rows)
        assert combined == objective and bound == found.value
        return
    assert not any(combined.values()) and bound < 0
    for left_out in found.conflict:
        rest = [rows[k] for k in found.conflict if k != left_out]
        assert isinstance(maximise({}, rest, count), Optimum)


def test_no_maximum_is_an_error() -> None:
    with pytest.raises(UnboundedError):
        maximise({0: 1}, [Row({0: -1}, Fraction(0))], 1)
    with pytest.raises(UnboundedLPError):
        linprog([-1], A=[[-1]], b=[0])
