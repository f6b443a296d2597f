"""Rules on matrices whose sizes are fixed: triangles, diagonals, triangular systems, distances between rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from tensorprog.torch.lower.elementwise import MINUS
from tensorprog.torch.lower.registry import rule
from tensorprog.torch.lower.roots import root
from tensorprog.torch.lower.values import Value

if TYPE_CHECKING:
    from tensorprog.torch.lower import Lowering
    from tensorprog.torch.zipped import Call


def _fixed(low: Lowering, value: Value, what: str) -> tuple[int, int]:
    """The sizes of the last two axes, which may not grow."""
    rows, columns = (low.dim(value.sizes(k, low.points)).constant for k in (-2, -1))
    if rows is None or columns is None:
        low.refuse(f"{what} of a matrix that grows", "one of a fixed size, such as positions times positions")
    return int(rows), int(columns)


def _masked(low: Lowering, value: Value, mask: Any, name: str) -> Value:
    return low.mul(value, low.data.real((np.asarray(mask, dtype=np.float64),) * low.points, name))


@rule("tril", "triu")
def triangle(low: Lowering, call: Call) -> Value:
    value = low.plain(low.value(call["self"]))
    shape = _fixed(low, value, "a triangle")
    keep = np.tril if call.op == "tril" else np.triu
    return _masked(low, value, keep(np.ones(shape), low.constant_int(call["diagonal"] or 0)), call.op)


@rule("linalg_solve_triangular")
def solve_triangular(low: Lowering, call: Call) -> Value:
    """A X = B with A = D (1 - N) and N^k = 0: X = (1 + N) (1 + N^2) (1 + N^4) .. D^-1 B."""
    if not call["left"]:
        low.refuse("a triangular system with its matrix on the right", "left=True")
    a, x = low.plain(low.value(call["self"])), low.plain(low.value(call["B"]))
    size, _ = _fixed(low, a, "a triangular system")
    lead = [f"x{k}" for k in range(len(a.dims) - 2)]

    def matmul(left: Value, right: Value) -> Value:
        return low.contract(left, [*lead, "i", "k"], right, [*lead, "k", "j"], [*lead, "i", "j"])

    strict = np.triu(np.ones((size, size)), 1) if call["upper"] else np.tril(np.ones((size, size)), -1)
    nilpotent = low.scale(_masked(low, a, strict, "triangle"), MINUS)
    if not call["unitriangular"]:
        diagonal = low.sum(_masked(low, a, np.eye(size), "diagonal"), (len(a.dims) - 1,), True)
        inverse = low.reciprocal(diagonal)
        nilpotent, x = low.mul(inverse, nilpotent), low.mul(inverse, x)
    power = 1
    while power < size:
        x = low.add([x, matmul(nilpotent, x)])
        power *= 2
        nilpotent = matmul(nilpotent, nilpotent) if power < size else nilpotent
    return x


@rule("_linalg_slogdet", "_linalg_det", "slogdet", "det", "logdet")
def determinant(low: Lowering, call: Call) -> NoReturn:
    low.refuse("a determinant, to which all entries of a matrix contribute together",
               "a matrix that is a product of triangles: the logarithms of their diagonals, summed")  # fmt: skip


@rule("_cdist_forward", "_euclidean_dist")
def distances(low: Lowering, call: Call) -> Value:
    """Between every row of one matrix and every row of another."""
    a, b = low.value(call["x1"]), low.value(call["x2"])
    order = 2 if call["p"] is None else low.number(call["p"]).coefficient
    if order not in (1, 2):
        low.refuse(f"distances of order {order}", "p=2 or p=1")
    left = a.with_dims((*a.dims[:-1], (), a.dims[-1]))
    right = b.with_dims((*b.dims[:-2], (), *b.dims[-2:]))
    difference = low.add([left, low.scale(right, MINUS)])
    terms = low.sum(low.map(difference, "square" if order == 2 else "abs"), (len(left.dims) - 1,), False)
    return root(low, terms, inverse=False) if order == 2 else terms
