"""Nonlinearities: facts are what SymPy finds, NumPy agrees with PyTorch, bad formulas are refused with their place."""

from __future__ import annotations

import math
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest

from tensorprog.elementwise import erf
from tensorprog.errors import TensorProgError
from tensorprog.functions import BUILTIN, Function, user_function
from tensorprog.syntax import Argument, Binary, Call, Expr, Indexed, Name, Negate, Number, Span

X = np.concatenate([np.linspace(-8, 8, 4001), [0.0, 1.0, -1.0, 1e-9, -1e-9]])
z = Name("z")


def number(value: str) -> Number:
    return Number(Fraction(value))


def call(name: str, argument: Expr) -> Call:
    return Call(name, (Argument(None, argument),))


SWISH = Binary("*", z, call("sigmoid", Binary("*", number("1.702"), z)))
SOFTSIGN = Binary("/", z, call("sqrt", Binary("+", number("1"), Binary("^", z, number("2")))))
SHIFTED = Binary("-", call("relu", Binary("+", z, number("1/2"))), call("abs", z))
RATIONAL = Binary(
    "/",
    Negate(Binary("^", z, number("3"))),
    Binary("+", Binary("*", z, z), Binary("^", number("2"), Negate(number("1")))),
)
FORMULAS = {"swish": SWISH, "softsign": SOFTSIGN, "shifted": SHIFTED, "rational": RATIONAL}


@pytest.mark.parametrize("name", sorted(BUILTIN))
def test_literal_facts_are_those_of_the_formula(name):
    from tensorprog.facts import facts_of, parse

    assert facts_of(parse(BUILTIN[name].formula)) == BUILTIN[name].facts


def assert_agrees_with_torch(function: Function) -> None:
    import torch
    from torch.nn import functional

    x = torch.tensor(X, requires_grad=True)
    y = eval(function.torch.format(x="x"), {"torch": torch, "F": functional, "x": x})
    slope = np.zeros_like(X)
    if y.requires_grad:
        slope = torch.autograd.grad(y.sum(), x)[0].numpy()
    np.testing.assert_allclose(function.numpy[0](X), y.detach().numpy(), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(function.numpy[1](X), slope, rtol=1e-12, atol=1e-12)


@pytest.mark.torch
@pytest.mark.parametrize("name", sorted(BUILTIN))
def test_numpy_value_and_slope_agree_with_torch_autograd(name):
    assert_agrees_with_torch(BUILTIN[name])


@pytest.mark.torch
@pytest.mark.parametrize("name", sorted(FORMULAS))
def test_user_formula_agrees_with_torch_autograd(name):
    assert_agrees_with_torch(user_function(name, "z", FORMULAS[name]))


@pytest.mark.parametrize("name", sorted(BUILTIN))
def test_value_equals_the_formula_and_keeps_float32(name):
    import sympy

    from tensorprog.facts import Z, parse

    function = BUILTIN[name]
    expr = parse(function.formula)
    points = np.array([-2.5, -0.3, 0.7, 3.1])
    expected = [float(expr.subs(Z, sympy.Float(p, 40)).evalf(30)) for p in points]
    np.testing.assert_allclose(function.numpy[0](points), expected, rtol=1e-13)
    for f in function.numpy:
        assert f(points.astype("float32")).dtype == np.float32


@pytest.mark.parametrize("name", sorted(set(BUILTIN) - {"exp", "square", "cube", "relu_squared"}))
def test_far_arguments_give_finite_values(name):
    far = np.array([-1e4, -800.0, 800.0, 1e4])
    with np.errstate(all="raise", under="ignore"):
        assert np.isfinite(BUILTIN[name].numpy[0](far)).all()
        assert np.isfinite(BUILTIN[name].numpy[1](far)).all()


def test_erf_is_accurate_to_the_last_digits():
    x = np.concatenate([np.linspace(-7, 7, 20001), [0.0, 0.84375, 1.25, 1 / 0.35, 6.0, 30.0, np.inf, -np.inf]])
    assert np.abs(erf(x) - np.array([math.erf(v) for v in x])).max() < 1e-15
    assert np.isnan(erf(np.array([np.nan]))).all()
    assert erf(np.array(0.5)).shape == ()


def test_user_facts():
    value, slope = user_function("softsign", "z", SOFTSIGN).facts
    assert (value.parity, value.order, value.next_order, value.tail) == ("odd", 1, 3, 0)
    assert (slope.constant, slope.parity, slope.order) == (True, "even", 2)
    value, slope = user_function("shifted", "z", SHIFTED).facts
    assert (value.constant, value.order, value.next_order, value.degree) == (True, 1, None, None)
    assert (slope.constant, slope.order) == (True, None)
    nested = user_function(
        "nested", "z", call("swish", call("swish", z)), {"swish": user_function("swish", "z", SWISH)}
    )
    assert (nested.facts[0].constant, nested.facts[0].order, nested.facts[0].tail) == (False, 1, 1)


def test_a_tower_of_exponentials_is_not_worked_out_where_it_has_more_digits_than_there_is_room_for():
    tower = call("exp", call("exp", call("exp", z)))
    value, slope = user_function("tower", "z", tower).facts
    assert (value.constant, value.order, value.degree, value.tail) == (True, 1, None, None)
    assert slope.tail is None
    gate = Binary("/", number("1"), Binary("+", number("1"), call("exp", Negate(z))))
    assert user_function("gate", "z", gate).facts[0].tail == 0


HERE = Span(3, 5, 3, 9, "a.tp")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (Name("y", HERE), "unknown name y"),
        (Call("frob", (Argument(None, z),), span=HERE), "unknown function frob"),
        (Call("tanh", (Argument(None, z), Argument(None, z)), span=HERE), "exactly one argument"),
        (Indexed("z", (), HERE), "elementwise"),
        (Binary("^", number("2"), Name("z", HERE)), "exponent"),
        (Binary("/", number("1"), z, HERE), "z = 0"),
        (Binary("/", z, number("0"), HERE), "z = 0"),
        (Call("exp", (Argument(None, number("2")),), span=HERE), "does not depend on z"),
        (Call("log", (Argument(None, z),), span=HERE), "z = 0"),
        (Call("log", (Argument(None, Binary("+", z, number("1"))),), span=HERE), "not a finite real number"),
        (Call("sqrt", (Argument(None, call("abs", z)),), span=HERE), "z = 0"),
    ],
)
def test_bad_formula_is_refused_with_its_place(body, message):
    with pytest.raises(TensorProgError) as caught:
        user_function("f", "z", body)
    assert message in caught.value.message
    assert caught.value.span == HERE


def test_importing_the_tables_imports_neither_numpy_nor_sympy():
    code = (
        "import sys, tensorprog.functions, tensorprog.optimizers;"
        "assert not {'numpy', 'sympy', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
