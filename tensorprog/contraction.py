"""How NumPy carries out a Contract: planned once per node, so that sums of products run as matrix products (BLAS).

Indices are classified as batch (in both operands and the result), summed (in both, not in the result), left and
right; everything else is a transposition, a reshape, or a sum over one operand before the product.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod

import numpy as np
import numpy.typing as npt

from tensorprog.arrays import Array

Unary = Callable[[Array], Array]
Binary = Callable[[Array, Array], Array]
Indices = tuple[int, ...]

_SMALL_VOCABULARY = 64  # up to here a scatter is done as a product with a real one-hot matrix
_SMALL_MATRIX = 4096  # entries per batch element below which einsum beats a loop of BLAS calls


def reduce_plan(indices: Indices, out: Indices) -> Unary:
    """Sum over the indices not in `out`, then put the others in its order."""
    summed = tuple(k for k, i in enumerate(indices) if i not in out)
    kept = [i for i in indices if i in out]
    order = tuple(kept.index(i) for i in out)
    identity = order == tuple(range(len(order)))

    def run(x: Array) -> Array:
        if summed:
            x = np.asarray(x.sum(axis=summed))
        return x if identity else x.transpose(order)

    return run


def product_plan(left: Indices, right: Indices, out: Indices, sizes: Mapping[int, int]) -> Binary:
    """The binary contraction left, right -> out of dense arrays."""
    before_left = tuple(i for i in left if i in right or i in out)
    before_right = tuple(i for i in right if i in left or i in out)
    if before_left != left or before_right != right:  # an index of one operand only, summed: sum it first
        first, second = reduce_plan(left, before_left), reduce_plan(right, before_right)
        inner = product_plan(before_left, before_right, out, sizes)
        return lambda a, b: inner(first(a), second(b))
    if all(i in out for i in left if i in right):
        return _broadcast_plan(left, right, out)
    return _matmul_plan(left, right, out, sizes)


def _broadcast_plan(left: Indices, right: Indices, out: Indices) -> Binary:
    """No index is summed: an elementwise product with broadcasting."""
    to_left, to_right = expand_plan(left, out), expand_plan(right, out)
    return lambda a, b: np.asarray(to_left(a) * to_right(b))


def expand_plan(indices: Sequence[int], out: Sequence[int]) -> Unary:
    """Transpose to the order of `out`, with axes of length 1 for its other indices."""
    order = tuple(indices.index(i) for i in out if i in indices)
    straight = order == tuple(range(len(order)))
    complete = len(order) == len(out)
    places = tuple(slice(None) if i in indices else None for i in out)

    def run(x: Array) -> Array:
        if not straight:
            x = x.transpose(order)
        return x if complete else x[places]

    return run


def _matmul_plan(left: Indices, right: Indices, out: Indices, sizes: Mapping[int, int]) -> Binary:
    batch = tuple(i for i in out if i in left and i in right)
    rows = tuple(i for i in left if i not in right)
    columns = tuple(i for i in right if i not in left)
    free = [i for i in out if i not in batch]
    if free and free[0] in columns:  # so that the product comes out in the order asked for
        swapped = _matmul_plan(right, left, out, sizes)
        return lambda a, b: swapped(b, a)
    larger = left if prod(sizes[i] for i in left) >= prod(sizes[i] for i in right) else right
    summed = tuple(i for i in larger if i in left and i in right and i not in out)
    m, n, k = (prod(sizes[i] for i in group) for group in (rows, columns, summed))
    if batch and (m == 1 or n == 1) and m * n * k < _SMALL_MATRIX:
        number = {i: k for k, i in enumerate(sizes)}  # einsum takes numbers below 52 only
        first, second, result = (tuple(number[i] for i in t) for t in (left, right, out))
        return lambda a, b: np.asarray(np.einsum(a, first, b, second, result))
    to_left = _matrix_plan(left, (batch, rows, summed), sizes)
    to_right = _matrix_plan(right, (batch, summed, columns), sizes)
    product = batch + rows + columns
    shape = tuple(sizes[i] for i in product)
    finish = reduce_plan(product, out)
    return lambda a, b: finish(np.matmul(to_left(a), to_right(b)).reshape(shape))


def _matrix_plan(indices: Indices, groups: tuple[Indices, Indices, Indices], sizes: Mapping[int, int]) -> Unary:
    """To the shape [*batch, first group, second group]; a view wherever the memory layout allows."""
    batch, first, second = groups
    order = tuple(indices.index(i) for i in batch + first + second)
    shape = (*(sizes[i] for i in batch), prod(sizes[i] for i in first), prod(sizes[i] for i in second))
    return lambda x: x.transpose(order).reshape(shape)


# --- one-hot operands, given as integers ------------------------------------------------------------


def one_hot(tokens: Array, vocabulary: int, dtype: npt.DTypeLike) -> Array:
    """[...] integers -> [..., vocabulary] rows with a single 1."""
    rows = np.zeros((tokens.size, vocabulary), dtype)
    rows[np.arange(tokens.size), tokens.ravel()] = 1
    return rows.reshape(*tokens.shape, vocabulary)


def one_hot_plan(tokens: Indices, other: Indices, out: Indices, sizes: Mapping[int, int]) -> Binary | None:
    """The contraction of integer tokens (their last index the vocabulary) with `other`: a lookup, or its adjoint, a
    sum of rows by token. None where only a real one-hot array will do."""
    word, places = tokens[-1], tokens[:-1]
    shared = [i for i in places if i in other]
    if word in other and word not in out and not shared:
        axis = other.index(word)
        found = other[:axis] + places + other[axis + 1 :]
        finish = reduce_plan(found, out)
        return lambda t, x: finish(np.take(x, t, axis=axis))
    rest = tuple(i for i in other if i not in places)
    scatters = word in out and word not in other and len(shared) == len(places) and not set(places) & set(out)
    if scatters and sizes[word] > _SMALL_VOCABULARY:
        to_rows = _matrix_plan(other, ((), places, rest), sizes)
        shape = (sizes[word], *(sizes[i] for i in rest))
        finish = reduce_plan((word, *rest), out)
        return lambda t, x: finish(_sum_by_token(t.ravel(), to_rows(x), sizes[word]).reshape(shape))
    return None


def _sum_by_token(tokens: Array, rows: Array, vocabulary: int) -> Array:
    """out[v] = sum of the rows whose token is v; [positions], [positions, r] -> [vocabulary, r]."""
    order = np.argsort(tokens, kind="stable")
    present, starts = np.unique(tokens[order], return_index=True)
    out = np.zeros((vocabulary, rows.shape[1]), rows.dtype)
    out[present] = np.add.reduceat(rows[order], starts, axis=0)
    return out
