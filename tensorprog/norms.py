"""Normalisations as they stand in a graph: what divides a tensor by its root mean square, or takes its mean away; and
the gains behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

from tensorprog.graph import Add, Contract, InvRms, Node, Param, Scalar, Scale
from tensorprog.parameters import Parameter


def normalised(nodes: Sequence[Node], value: int) -> int | None:
    """u, if node `value` is u / rms(u) along axes one of which grows, or that of u - mean(u); else None."""
    node = nodes[value]
    place = by_its_norm(nodes, node)
    if place is None:
        return None
    assert isinstance(node.op, Contract) and node.op.right is not None
    indices, x, inverse = (node.op.left, node.op.right), node.args[place], nodes[node.args[1 - place]].op
    assert isinstance(inverse, InvRms)
    axes = inverse.axes
    if indices[place] != node.op.out or not any(node.axes[k].dim.grows for k in axes):
        return None
    if indices[1 - place] != tuple(i for k, i in enumerate(node.op.out) if k not in axes):
        return None
    source = centred(nodes, nodes[x], axes)
    return x if source is None else source


def by_its_norm(nodes: Sequence[Node], node: Node) -> int | None:
    """The place of x among the operands, if a node contracts some x with `rms_scale(x)`."""
    if len(node.args) != 2 or not isinstance(node.op, Contract):
        return None
    pairs = enumerate((node.args, node.args[::-1]))
    return next((k for k, (x, r) in pairs if isinstance(nodes[r].op, InvRms) and nodes[r].args == (x,)), None)


def centred(nodes: Sequence[Node], node: Node, axes: tuple[int, ...]) -> int | None:
    """u, if a node is u - mean(u) over these axes."""
    if not isinstance(node.op, Add) or len(node.args) != 2:
        return None
    whole = tuple(range(len(node.axes)))
    places = (whole, tuple(k for k in whole if k not in axes))
    return next((u for k, u in enumerate(node.args) if minus_mean(nodes, node.args[1 - k]) == (u, axes)
                 and (node.op.places[k], node.op.places[1 - k]) == places), None)  # fmt: skip


def minus_mean(nodes: Sequence[Node], value: int) -> tuple[int, tuple[int, ...]] | None:
    """(x, the axes), if node `value` is -mean(x) over axes of x, perhaps spread over them again; else None."""
    node = nodes[value]
    while isinstance(node.op, Add) and len(node.args) == 1:
        node = nodes[node.args[0]]
    total = nodes[node.args[0]] if isinstance(node.op, Scale) else None
    if total is None or not isinstance(total.op, Contract) or total.op.right is not None:
        return None
    (x,), left, out = total.args, total.op.left, total.op.out
    axes = tuple(k for k, index in enumerate(left) if index not in out)
    factor = node.op.scalar if isinstance(node.op, Scale) else Scalar()
    for k in axes:  # times the sizes, in any order
        factor *= Scalar.size(nodes[x].axes[k].dim)
    kept = tuple(i for i in left if i in out) == out
    return (x, axes) if axes and kept and factor == Scalar(Fraction(-1)) else None


def starts_at_one(nodes: Sequence[Node], value: int, parameters: Mapping[str, Parameter]) -> bool:
    """Whether a node is the value of a parameter with an axis that grows, all of whose entries start at 1."""
    match nodes[value]:
        case Node(op=Param(name)):
            init = parameters[name].init
            grows = any(axis.dim.grows for axis in parameters[name].axes)
            return grows and (init.kind == "ones" or (init.kind == "constant" and init.value == 1))
        case Node(op=Scale(scalar), args=(source,)) if scalar == Scalar(unknowns=scalar.unknowns):
            return all("@" in name for name in scalar.unknowns) and starts_at_one(nodes, source, parameters)
        case Node(op=Add(), args=(source,)):  # the same along more axes
            return starts_at_one(nodes, source, parameters)
        case _:
            return False
