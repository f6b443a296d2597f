"""Norms of parts of different sizes: entries along a finite axis are not told apart, and have the size of the largest.

Where vectors are stacked (the states of a scan, a concatenation) and each is divided by its own norm, the inverse of a
small one is larger than that of the largest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tensorprog.calculus.nonlinear import facts_of
from tensorprog.calculus.shared import Sizes, refuse
from tensorprog.calculus.terms import Terms, size_of
from tensorprog.functions import Function, find
from tensorprog.graph import Add, Contract, Fold, InvRms, Map, Node, Program, Scale, StopGrad

Short = Mapping[int, int]  # axis -> by how much (packed) the smallest part along it is smaller than the largest


def require_norms_of_equals(
    program: Program, initial: Sequence[Terms], sizes: Sizes, functions: Mapping[str, Function]
) -> None:
    """Raises CalculusError where parts of a norm's argument start at different sizes, each with a norm of its own."""
    nodes, known = program.forward.nodes, dict[int, Short]()
    for node in nodes:
        if isinstance(node.op, InvRms):
            apart = [by for axis, by in known.get(node.args[0], {}).items() if axis not in node.op.axes]
            if any(by > 0 and sizes.units.unpack(by).degree for by in apart):
                raise refuse(
                    node, nodes, "what it divides by is put together of parts that start at different sizes, and the "
                    "inverse of the smallest is larger than the calculus knows",
                    "normalise the parts before they are put together",
                )  # fmt: skip
        found = _short(node, nodes, initial, known, functions)
        if found:
            known[node.id] = found


def _short(
    node: Node, nodes: Sequence[Node], initial: Sequence[Terms], known: Mapping[int, Short],
    functions: Mapping[str, Function],
) -> Short:  # fmt: skip
    match node.op:
        case Add(places):
            return _of_sum(node.args, places, nodes, initial, known)
        case Scale() | StopGrad():
            return known.get(node.args[0], {})
        case Map(fn, order):
            facts = facts_of(find(fn, functions), order)
            return {} if facts.constant or facts.order != 1 else known.get(node.args[0], {})
        case Contract(left, right, out):
            total: dict[int, int] = {}
            for a, indices in zip(node.args, (left, right or ()), strict=False):
                for own, by in known.get(a, {}).items():
                    if indices[own] in out:
                        axis = out.index(indices[own])
                        total[axis] = total.get(axis, 0) + by
            return total
        case _:
            return {}


def _of_sum(
    args: Sequence[int], places: Sequence[tuple[int, ...]], nodes: Sequence[Node], initial: Sequence[Terms],
    known: Mapping[int, Short],
) -> Short:  # fmt: skip
    """Slices that a sum writes apart (a concatenation) are each as small as they are; what is as large
    everywhere makes up for what is smaller somewhere. (Two that are smaller in different places are taken to meet.)"""
    parts = [(a, place) for a, place in zip(args, places, strict=True) if initial[a]]
    top = max([size_of(initial[a]) for a, _ in parts], default=0)
    slices = [(a, place[op.axis]) for a, place in parts if isinstance(op := nodes[a].op, Fold) and not op.taps]
    along = {axis for _, axis in slices}
    if len(along) == 1 and len(slices) == len(parts):  # each is a part of its own
        return dict.fromkeys(along, top - min([size_of(initial[a]) for a, _ in parts]))
    found = {}
    for axis in {place[own] for a, place in parts for own in known.get(a, {})}:
        sizes = [size_of(initial[a]) - max(known.get(a, {}).values(), default=0)
                 for a, _ in parts if not isinstance(nodes[a].op, Fold)]  # fmt: skip
        found[axis] = top - max(sizes, default=top)
    return found
