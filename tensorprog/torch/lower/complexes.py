"""Rules of complex numbers, as pairs of real ones, and of Fourier transforms along finite axes, as matrix products."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tensorprog.torch.lower.registry import rule
from tensorprog.torch.lower.roots import root
from tensorprog.torch.lower.values import Complex, Value

if TYPE_CHECKING:
    from tensorprog.torch.lower import Lowering
    from tensorprog.torch.zipped import Call

PAIRS = frozenset(
    "clone alias contiguous view _unsafe_view reshape _reshape_alias unsqueeze squeeze permute transpose t expand "
    "slice narrow select constant_pad_nd _assemble copy add sub mul neg bmm mm abs view_as_complex view_as_real "
    "_conj _conj_physical conj_physical _fft_r2c _fft_c2c _fft_c2r detach".split()
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
    if not isinstance(value, Complex):
        return value
    labels: list[Hashable] = list(range(len(value.dims)))
    signs = low.data.real((np.array([1.0, -1.0]),) * low.points, "conjugate")
    result = low.contract(pairs(value), labels, signs, [labels[-1]], labels)
    return Complex(result.node, result.dims)


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
