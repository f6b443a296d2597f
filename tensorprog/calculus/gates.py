"""Which random slices are reflected, and which stay as they are: those of gates.

The law of a network is invariant if coordinate i of an axis changes its sign in any set of initial weights; one may
choose which. In x * sigmoid(G x) let the rows of G stay and all the rest flip: then so does the product. If G flipped,
too, part of the product would stay, and what it is added to would do neither. So it is with weights that mask others.
"""

from __future__ import annotations

from collections.abc import Mapping

from tensorprog.functions import BUILTIN, Function
from tensorprog.graph import Add, Const, Contract, Map, Node, Param, Program, Scale, StopGrad


def gating(program: Program, functions: Mapping[str, Function]) -> frozenset[tuple[str, int]]:
    """The axes of parameters along which they are used in nothing but gates: the one factor of an entrywise product
    that looks most like one (a function that is not odd; any other; a parameter; least what is also summed)."""
    nodes = program.forward.nodes
    readers: list[list[tuple[Node, int]]] = [[] for _ in nodes]
    for node in nodes:
        for position, a in enumerate(node.args):
            readers[a].append((node, position))

    def rank(k: int) -> int:
        match nodes[k].op:
            case Map(fn, _):
                function = functions.get(fn) or BUILTIN.get(fn)
                return 2 if function is not None and function.facts[0].parity == "odd" else 3
            case Param():
                return 1
            case Scale() | StopGrad() | Add():
                varied = [a for a in nodes[k].args if not isinstance(nodes[a].op, Const)]
                return rank(varied[0]) if len(varied) == 1 else 0
            case _:
                return 0

    def summed(k: int, axis: int) -> bool:
        return any(isinstance(reader.op, Contract) and reader.op.right is not None
                   and (reader.op.left, reader.op.right)[position][axis] not in reader.op.out
                   for reader, position in readers[k])  # fmt: skip

    gates: set[tuple[int, int]] = set()  # nodes, each with an axis

    def in_a_gate(reader: Node, position: int, axis: int) -> bool:
        match reader.op:
            case Scale() | StopGrad() | Map():
                return (reader.id, axis) in gates
            case Add(places):
                return (reader.id, places[position][axis]) in gates
            case Contract(left, right, out) if right is not None:
                index = (left, right)[position][axis]
                if index not in out:
                    return False
                if index in left and index in right:
                    first, second = (-1 if summed(a, indices.index(index)) else rank(a)
                                     for a, indices in zip(reader.args, (left, right), strict=True))  # fmt: skip
                    if position == (0 if first > second else 1):
                        return True
                return (reader.id, out.index(index)) in gates
            case _:
                return False

    for node in reversed(nodes):
        for axis in range(len(node.axes)):
            if readers[node.id] and all(in_a_gate(reader, position, axis) for reader, position in readers[node.id]):
                gates.add((node.id, axis))
    return frozenset((op.name, axis) for k, axis in gates if isinstance(op := nodes[k].op, Param))
