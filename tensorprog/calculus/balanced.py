"""Where a weight is only ever multiplied with what is centred, as one looks at the graph.

W x has a part in common with what W^T was applied to: W W^T y is y and something random. Backpropagation applies W^T to
gradients, and behind a centring these are centred. So the first part of W x is centred as well, which all layers of a
loop may have in common; the rest is as random as if W were fresh, and each layer has its own (see `multiply.multiply`).
"""

from __future__ import annotations

from collections.abc import Mapping

from tensorprog.calculus.shared import Sizes
from tensorprog.graph import Accumulate, Add, Const, Contract, Node, Param, Program, Scale, StopGrad

Axes = set[tuple[int, int]]  # nodes, each with one of its axes
Means = Mapping[int, Mapping[int, tuple[int, int]]]  # node -> its centrings (see normalising.py)


def balanced(program: Program, sizes: Sizes, means: Means) -> dict[int, tuple[bool, bool]]:
    """Contractions that keep one growing axis of a weight and sum the other -> whether it is the left and
    the right operand that is such a matrix, where all that is summed over the axis they keep is centred along it.
    `means`: what each node centres."""
    nodes = program.nodes
    weights: dict[int, str] = {}
    for node in nodes:
        match node.op:
            case Param(name) if len(sizes.widths(node.axes)) == 2:
                weights[node.id] = name
            case Scale() if node.args[0] in weights:
                weights[node.id] = weights[node.args[0]]
            case _:
                pass
    centred = _centred(program, sizes, means) if weights and means else set()
    if not centred:
        return {}
    spoilt = {(weights[a], axis) for node in nodes for place, a in enumerate(node.args) if a in weights
              for axis in _spoilt(node, place, nodes, sizes, centred)}  # fmt: skip
    found: dict[int, tuple[bool, bool]] = {}
    for node in nodes:
        if isinstance(node.op, Contract) and node.op.right is not None:
            left, right = (
                a in weights and [(weights[a], axis) in spoilt for axis in sizes.widths(nodes[a].axes)
                                  if indices[axis] in node.op.out] == [False]
                for a, indices in zip(node.args, (node.op.left, node.op.right), strict=True)
            )  # fmt: skip
            if left or right:
                found[node.id] = (left, right)
    return found


def _spoilt(node: Node, place: int, nodes: tuple[Node, ...], sizes: Sizes, centred: Axes) -> list[int]:
    """The axes of a weight, operand `place` of a node, that it is summed over with something not centred; all, where it
    is used otherwise."""
    weight = nodes[node.args[place]]
    growing = sizes.widths(weight.axes)
    if isinstance(node.op, Scale):
        return []
    if not isinstance(node.op, Contract) or node.op.right is None:
        return growing
    own, others = (node.op.left, node.op.right)[:: 1 - 2 * place]
    summed = [axis for axis in growing if own[axis] not in node.op.out]
    kept = [axis for axis in growing if axis not in summed]
    if len(summed) != 1 or own[kept[0]] in others:
        return growing
    other = node.args[1 - place]
    return [axis for axis in summed if own[axis] not in others or (other, others.index(own[axis])) not in centred]


def _centred(program: Program, sizes: Sizes, means: Means) -> Axes:
    """The growing axes along which tensors sum to exactly zero. Layers read each other: all are thought to be, until
    nothing speaks against one; each node after what it reads, so that it takes as many passes as loops, and one."""
    nodes = program.nodes
    left = [(node.id, axis) for node in nodes for axis in sizes.widths(node.axes)]
    found, count = set(left), 0
    while count != len(found):
        count = len(found)
        for k, axis in left:
            if not _stays(nodes[k], axis, found, means.get(k, {}), sizes):
                found.remove((k, axis))
        left = [place for place in left if place in found]
    return found


def _stays(node: Node, axis: int, centred: Axes, means: Mapping[int, tuple[int, int]], sizes: Sizes) -> bool:
    """Whether a node is centred along an axis if its operands are as `centred` says."""
    match node.op:
        case Scale() | StopGrad() | Accumulate():
            return (node.args[0], axis) in centred
        case Const(value):
            return not value
        case Add(places):
            at = sizes.growing(node.axes).index(axis)
            gone = {k for x, (mean, where) in means.items() if where == at for k in (x, mean)}
            return all(k in gone or (axis in place and (a, place.index(axis)) in centred)
                       for k, (a, place) in enumerate(zip(node.args, places, strict=True)))  # fmt: skip
        case Contract(left, right, out):
            holds = [(a, indices.index(out[axis])) for a, indices in zip(node.args, (left, right or ()), strict=False)
                     if out[axis] in indices]  # fmt: skip
            return len(holds) == 1 and holds[0] in centred
        case _:
            return False
