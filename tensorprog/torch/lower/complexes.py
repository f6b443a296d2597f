"""Rules of complex numbers, as pairs of real ones, and of Fourier transforms along finite axes, as matrix products."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from tensorprog.dims import Dim
from tensorprog.graph import Scalar
from tensorprog.torch.lower.registry import rule
from tensorprog.torch.lower.roots import root
from tensorprog.torch.lower.values import Complex, Value

if TYPE_CHECKING:
    from tensorprog.torch.lower import Lowering
    from tensorprog.torch.zipped import Call

PAIRS = frozenset(
    "clone alias contiguous view _unsafe_view reshape _reshape_alias unsqueeze squeeze permute transpose t expand "
    "slice narrow select constant_pad_nd _assemble copy add sub mul neg bmm mm abs view_as_complex view_as_real "
    "_conj _conj_physical conj_physical _fft_r2c _fft_c2c _fft_c2r detach exp div true_divide divide reciprocal rsub "
    "sum mean cat stack".split()
)  # the rules that treat the pairs, a last axis that is not one of the tensor's, as they should


@rule("view_as_complex")
def view_as_complex(low: Lowering, call: Call) -> Value:
    value = low.plain(low.value(call["self"]))
    return Complex(value.node, value.dims, value.weight)


@rule("view_as_real")
def view_as_real(low: Lowering, call: Call) -> Value:
    return pairs(low.value(call["self"]))


@rule("_conj", "_conj_physical", "conj_physical")
def conjugate(low: Lowering, call: Call) -> Value:
    value = low.value(call["self"])
    return _conjugate(low, value) if isinstance(value, Complex) else value


def _conjugate(low: Any, value: Complex) -> Complex:
    labels: list[Hashable] = list(range(len(value.dims)))
    signs = low.data.real((np.array([1.0, -1.0]),) * low.points, "conjugate")
    result = low.contract(pairs(value), labels, signs, [labels[-1]], labels)
    return Complex(result.node, result.dims)


@rule("complex")
def of_parts(low: Lowering, call: Call) -> Value:
    return _of(low, low.value(call["real"]), low.value(call["imag"]))


@rule("polar")
def polar(low: Lowering, call: Call) -> Value:
    size, angle = (low.value(call[k]) for k in ("abs", "angle"))
    return low.mul(size, _of(low, low.map(angle, "cos"), low.map(angle, "sin")))


def number(low: Any, value: complex) -> Complex:
    """A fixed complex number."""
    pair = low.data.real((np.array([value.real, value.imag]),) * low.points, "complex")
    return Complex(pair.node, pair.dims)


def as_complex(low: Any, value: Value) -> Complex:
    """Of a real tensor, with imaginary parts of zero."""
    if isinstance(value, Complex):
        return value
    labels: list[Hashable] = list(range(len(value.dims)))
    fixed = low.data.real((np.array([1.0, 0.0]),) * low.points, "real_part")
    result = low.contract(value, labels, fixed, ["pair"], [*labels, "pair"])
    return Complex(result.node, result.dims)


def _of(low: Any, real: Value, imaginary: Value) -> Value:
    """The complex numbers of two parts."""
    result: Value = low.add([as_complex(low, real), low.mul(imaginary, number(low, 1j))])
    return result


def exponential(low: Any, value: Complex) -> Value:
    """e^a (cos b + i sin b)."""
    labels: list[Hashable] = list(range(len(value.dims)))
    a, b = (low.contract(pairs(value), labels, low.data.real((unit,) * low.points, "part"), [labels[-1]], labels[:-1])
            for unit in np.eye(2))  # fmt: skip
    result: Value = low.mul(low.map(a, "exp"), _of(low, low.map(b, "cos"), low.map(b, "sin")))
    return result


def inverse(low: Any, value: Complex) -> Value:
    """The conjugate over the square of the modulus."""
    last = len(value.dims) - 1
    over = low.scale(low.inverse_rms(pairs(value), [last], 0.0, False), Scalar(powers=((Dim.of(2), Fraction(-1, 2)),)))
    result: Value = low.mul(low.mul(_conjugate(low, value), over), over)
    return result


def pairs(value: Value) -> Value:
    """Complex numbers as a tensor of real ones, with one axis more."""
    return Value(value.node, value.dims, value.weight)


def magnitude(low: Lowering, value: Complex) -> Value:
    """|z|, a Euclidean norm of pairs."""
    squares = low.map(pairs(value), "square")
    return root(low, low.sum(squares, (len(squares.dims) - 1,), False), inverse=False)


def complex_product(low: Any, a: Value, left: Sequence[Hashable], b: Value, right: Sequence[Hashable],
                    out: Sequence[Hashable]) -> Value:  # fmt: skip
    """An einsum of which at least one factor is complex; `left`, `right`, `out` without the axis of the pairs."""
    if isinstance(a, Complex) and isinstance(b, Complex):
        if not low.live[
            b.node
        ]:  # what is turned is none of the parameters, whose product with fixed numbers is no weight
            a, left, b, right = b, right, a, left
        table = np.zeros((2, 2, 2))  # (first, second, product)
        table[0, 0, 0] = table[0, 1, 1] = table[1, 0, 1] = 1.0
        table[1, 1, 0] = -1.0
        fixed = low.data.real((table,) * low.points, "complex_product")
        turned = low.contract(
            pairs(b), [*right, "second"], fixed, ["first", "second", "pair"], [*right, "first", "pair"]
        )
        result = low.contract(pairs(a), [*left, "first"], turned, [*right, "first", "pair"], [*out, "pair"])
    elif isinstance(a, Complex):
        result = low.contract(pairs(a), [*left, "pair"], b, right, [*out, "pair"])
    else:
        result = low.contract(a, left, pairs(b), [*right, "pair"], [*out, "pair"])
    return Complex(result.node, result.dims)


# --- Fourier transforms ---------------------------------------------------------------------------------


@rule("_fft_r2c", "_fft_c2c", "_fft_c2r")
def fourier(low: Lowering, call: Call) -> Value:
    """Along every axis a fixed complex matrix, found by applying the operation itself to unit vectors."""
    value = low.plain(low.value(call["self"]))
    rank, shape, out = len(low.shape(call["self"])), low.shape(call["self"]), low.out_shape(call)
    dims = [low.axis_of(k, rank) for k in call["dim"]]
    if any(low.dim(shape[d]).grows for d in dims):
        low.refuse("a Fourier transform along an axis that grows", "a transform over time or space only")
    if call.op == "_fft_c2r":  # the last one goes to real numbers
        for d in dims[:-1]:
            value = _transformed(low, call, value, d, shape[d][0], out[d][0], real=False)
        return _transformed(low, call, value, dims[-1], shape[dims[-1]][0], out[dims[-1]][0], real=True)
    for d in reversed(dims):
        value = _transformed(low, call, value, d, shape[d][0], out[d][0], real=False)
    return value


def _transformed(low: Lowering, call: Call, value: Value, dim: int, size: int, new: int, real: bool) -> Value:
    import torch

    mode = low.constant_int(call["normalization"])
    labels: list[Hashable] = list(range(len(value.dims) - isinstance(value, Complex)))
    out = [*labels[:dim], "new", *labels[dim + 1 :]]
    eye = torch.eye(size, dtype=torch.complex128)
    if real:  # not linear over the complex numbers: real and imaginary parts apart
        rows = [torch.ops.aten._fft_c2r(unit * eye, [1], mode, new).numpy() for unit in (1, 1j)]
        fixed = low.data.real((np.stack(rows),) * low.points, "inverse_transform")
        return low.contract(pairs(value), [*labels, "pair"], fixed, ["pair", dim, "new"], out)
    forward = call["forward"] if call["forward"] is not None else call.op == "_fft_r2c"
    matrix = torch.ops.aten._fft_c2c(eye, [1], mode, forward).numpy()[:, :new]
    table = low.data.real((np.stack([matrix.real, matrix.imag], -1),) * low.points, "transform")
    fixed = Complex(table.node, table.dims)
    return complex_product(low, value, labels, fixed, [dim, "new"], out)
