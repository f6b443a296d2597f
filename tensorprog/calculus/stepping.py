"""The terms of an optimizer's step, made of those of the gradient.

Where a step is not the gradient times a number, it is a function of their sum. An entrywise step of A + B + C has a
part A B C beside A, B and C. An orthogonalised one of G = sum of a_i b_i^T is (G G^T)^(-1/2) G, made of products such
as a_i (b_i . b_k) (a_k . a_j) b_j^T.
"""

from __future__ import annotations

from collections.abc import Sequence

from tensorprog.calculus.affine import greatest
from tensorprog.calculus.grades import Grade, grade_product, is_zero_mean
from tensorprog.calculus.nonlinear import entrywise
from tensorprog.calculus.shared import Sizes
from tensorprog.calculus.terms import Terms, as_entries, interned, reduce_terms
from tensorprog.functions import Facts
from tensorprog.optimizers import Optimizer
from tensorprog.parameters import Parameter

ODD = Facts(constant=False, order=1, next_order=3, parity="odd", degree=None, tail=0)
Grades = tuple[Grade, ...]
Sides = tuple[Grades, Grades, Grades]


def step_of(optimizer: Optimizer, parameter: Parameter, start: int, gradient: Terms, sizes: Sizes) -> Terms:
    """The terms of a step at learning rate 1, of a parameter of packed size `start`. Sizes: those of the gradient
    (linear steps), or relative to its largest term (degree 0), times the parameter's size (relative ones); spectral:
    all alike, over the norm of a rank-one matrix. (A norm of the whole gradient is left to the learning rate.)"""
    if not gradient:
        return ()
    if optimizer.turns:
        gradient = orthogonalised(gradient, sizes.widths(parameter.axes))
    top = greatest(term[0] for term in gradient)
    if optimizer.keeps_sums:
        shift = 0 if optimizer.linear else -top
    else:
        gradient, shift = entry_by_entry(gradient, top), top if optimizer.linear else 0
    if optimizer.relative:
        shift += start
    if optimizer.normalisation in ("spectral", "frobenius"):
        shift -= sum(sizes(axis.dim) for axis in parameter.axes) // 2
    shift += convention(optimizer, parameter, sizes)
    return tuple([(size + shift, raw, grades) for size, raw, grades in gradient])


def entry_by_entry(gradient: Terms, top: int) -> Terms:
    """An odd function of the sum of the terms, each entry compared with the largest term, of size `top`."""
    value, _ = entrywise(ODD, len(gradient[0][2]))
    return value([tuple([(size - top, raw, grades) for size, raw, grades in gradient])])


def lifted_alone(gradient: Terms, alone: Sequence[Terms]) -> Terms:
    """A gradient for an entrywise step. `alone`: those of its terms that some entries have alone; there the step lifts
    them to the size that the largest terms have elsewhere."""
    if not any(alone):
        return gradient
    top, found = greatest(term[0] for term in gradient), list(gradient)
    for terms in filter(None, alone):
        lift = top - greatest(term[0] for term in terms)
        found += [(size + lift, raw, grades) for size, raw, grades in terms]
    return reduce_terms(found)


def orthogonalised(gradient: Terms, widths: Sequence[int]) -> Terms:
    """U V^T for a gradient U S V^T: every direction is lifted to singular value 1, so that all terms have size 0.
    `widths`: the growing axes, the first axis (0) being one side of the matrix, the others the second; what a term has
    beyond them numbers layers, each with a matrix of its own.

    Parts that meet along one side mix there: if a_i . a_j is of the order of the norms, a_i b_j^T is a part as well.
    """
    alike = reduce_terms([(0, 0, (as_entries(term) if term[1] else term)[2]) for term in gradient])
    rows, end = int(0 in widths), len(widths)
    known = {(g[:rows], g[rows:end], g[end:]) for _, _, g in alike}  # of a_i, of b_i, along layers
    new = 0 < rows < end and len(known) > 1
    while new:
        mixed = _mixed(known)
        new = not known >= mixed
        known |= mixed
    return reduce_terms([(0, 0, interned(a + b + layers)) for a, b, layers in known])


def _mixed(known: set[Sides]) -> set[Sides]:
    """The parts a_i (b_i . b_j) (a_j . a_k) b_k^T in which neither sum vanishes."""
    along_a, along_b = ({(v, w) for v in side for w in side if _meet(v, w)}
                        for side in ({a for a, _, _ in known}, {b for _, b, _ in known}))  # fmt: skip
    half = {(a, a_j, _times(g, h)) for a, b, g in known for a_j, b_j, h in known if (b, b_j) in along_b}
    return {(a, b, _times(g, h)) for a, a_j, g in half for a_k, b, h in known if (a_j, a_k) in along_a}


def lifted(matrices: Sequence[Parameter], sizes: Sizes) -> int:
    """How much smaller than the largest a part of a gradient must be (packed) to be forgotten where these are updated
    by orthogonalised steps: more than n. In exact arithmetic everything is lifted. Muon's five iterations multiply
    singular values by at most 3.4445^5 = 485; of n^-3/2, the squares that Shampoo takes roots of are lost in rounding.
    """
    widths = [sizes(axis.dim) for matrix in matrices for axis in matrix.axes if not axis.loop]
    return max(widths, default=-1) + 1


def convention(optimizer: Optimizer, parameter: Parameter, sizes: Sizes) -> int:
    """The packed exponent of a convention's own factor (matrix [first axis, rest])."""
    if not optimizer.factor:
        return 0
    rows = sizes(parameter.axes[0].dim) if parameter.axes else 0
    columns = sum(sizes(axis.dim) for axis in parameter.axes[1:])
    match optimizer.factor:
        case "original":
            return max(0, rows - columns) // 2
        case "match_rms":
            return max(rows, columns) // 2
        case "spectral":
            return (rows - columns) // 2
        case _:
            return 0


def _meet(one: Grades, other: Grades) -> bool:
    """Whether the sum of the products of their entries is of the order of their number."""
    return not any(is_zero_mean(grade_product(g, h)) for g, h in zip(one, other, strict=True))


def _times(one: Grades, other: Grades) -> Grades:
    return tuple(map(grade_product, one, other))
