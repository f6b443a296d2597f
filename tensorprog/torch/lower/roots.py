"""Rules of square roots: a root is one of a mean or sum of squares."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from tensorprog.graph import Add, Const, Contract, InvRms, Map, Scalar, Scale
from tensorprog.torch.lower.builder import SMALL
from tensorprog.torch.lower.registry import rule
from tensorprog.torch.lower.values import Value

if TYPE_CHECKING:
    from tensorprog.torch.lower import Lowering
    from tensorprog.torch.zipped import Call


@rule("rsqrt", "sqrt")
def rsqrt(low: Lowering, call: Call) -> Value:
    return root(low, low.value(call["self"]), inverse=call.op == "rsqrt")


def root(low: Lowering, value: Value, inverse: bool) -> Value:
    """value^(-1/2) or value^(1/2): a norm where the value is a mean or sum of squares plus a small number, the product
    of two roots where it is a product; else the root of a number that is taken to be positive and of order 1."""
    value = low.plain(value)
    found = _squares(low, value.node)
    if found is not None and found[3] > SMALL and not any(low.nodes[found[0]].axes[k].dim.grows for k in found[1]):
        found = None  # the number is what is left where the squares vanish: no norm
    if found is None:
        at = low.nodes[value.node]
        if isinstance(at.op, Contract) and at.op.right is not None and not at.op.summed:
            inverses, roots = ([root(low, _operand(low, value, k), i) for k in (0, 1)] for i in (True, False))
            product, one_over = low.mul(*roots), low.mul(*inverses)
            low.inverted.add(one_over.node)
            low.inverse[product.node] = one_over.node, tuple(a.axis for a in one_over.atoms if a.axis is not None)
            return one_over if inverse else product
        positive = low.map(value, "root")
        return low.reciprocal(positive, positive=True) if inverse else positive
    source, axes, factor, eps, order = found
    value = value.with_dims(tuple(tuple(replace(a, axis=a.axis if a.axis is None else order.index(a.axis)) for a in g)
                                  for g in value.dims))  # fmt: skip
    axis_set = tuple(sorted(axes))
    nodes = low.nodes
    size = Scalar()
    for k in axis_set:
        size *= Scalar.size(nodes[source].axes[k].dim)
    # factor * sum x^2 + eps = (factor * size) * (mean x^2 + eps / (factor * size))
    whole = factor * size
    plain = Scalar(whole.coefficient, _collected(whole))
    inner = eps / float(plain.coefficient)
    if plain.powers and eps:
        if eps > SMALL:
            low.refuse("a number is added to a sum of squares over an axis that grows", "a mean of squares")
        low.notes.append("a small number beside a sum of squares over an axis that grows is left out")
        inner = 0.0
    if not axis_set:
        thin, position = low.thin(Value(source, ()))
        source, axis_set = thin.node, (position,)
    kept = tuple(a for k, a in enumerate(nodes[source].axes) if k not in axis_set)
    r = low.emit(InvRms(axis_set, inner), (source,), kept)
    result = replace(value, node=r)
    outer = (
        Fraction(float(plain.coefficient) ** -0.5).limit_denominator(10**15) if plain.coefficient != 1 else Fraction(1)
    )
    result = low.scale(result, Scalar(outer, tuple((d, -p / 2) for d, p in plain.powers)))
    if inverse:
        return result
    square_root = low.mul(value, result)  # its axes are in the order in which the tensor has them
    low.inverse[square_root.node] = result.node, tuple(a.axis for a in result.atoms if a.axis is not None)
    return square_root


def _operand(low: Lowering, value: Value, k: int) -> Value:
    """A factor of an elementwise product, as a value with the axes of the product."""
    at = low.nodes[value.node]
    assert isinstance(at.op, Contract) and at.op.right is not None
    index = (at.op.left, at.op.right)[k]
    place = {at.op.out.index(i): j for j, i in enumerate(index)}
    groups = tuple(tuple(replace(a, axis=None if a.axis is None else place.get(a.axis)) for a in g) for g in value.dims)
    return Value(at.args[k], groups)


def _collected(scalar: Scalar) -> tuple[Any, ...]:
    """Powers with those of one size that cancel left out."""
    total: dict[Any, Fraction] = {}
    for dim, power in scalar.powers:
        total[dim] = total.get(dim, Fraction(0)) + power
    return tuple((d, p) for d, p in total.items() if p)


def _squares(low: Lowering, node: int) -> tuple[int, set[int], Scalar, float, tuple[int, ...]] | None:
    """node = factor * (sum over axes of x^2) + eps, as (x, axes, factor, eps, axis of the node of each axis of the
    sum)."""
    nodes, eps, factor = low.nodes, 0.0, Scalar()
    at = nodes[node]
    place: list[int | None] = list(range(len(at.axes)))  # axis of `at` -> axis of the node, None if it is summed
    if isinstance(at.op, Add) and len(at.args) == 2:
        constants = [nodes[a].op for a in at.args]
        for k, op in enumerate(constants):
            if isinstance(op, Const) and op.value >= 0 and not nodes[at.args[k]].axes:
                eps, place, at = op.value, list(at.op.places[1 - k]), nodes[at.args[1 - k]]
                break
    while True:
        match at.op:
            case Scale(scalar) if not scalar.unknowns:
                factor = factor * scalar
            case Contract(left, right, out) if right is None or (right == left and at.args[0] == at.args[1]):
                place = [place[out.index(i)] if i in out else None for i in left]
                if right is not None:
                    break
            case Map("square", 0):
                break
            case _:
                return None
        at = nodes[at.args[0]]
    if factor.coefficient <= 0:
        return None
    axes = {k for k, axis in enumerate(place) if axis is None}
    return at.args[0], axes, factor, eps, tuple(axis for axis in place if axis is not None)
