"""Which tensors of an unrolled network a tensor of the symbolic one stands for: one in every layer, or one.

Labels do not tell (the stream before the first layer is called what the stream after the last one is), so copies are
found operation by operation: those that do the same to copies of the operands. A tensor that a loop carries is, before
its first layer, what it was outside, and then what the layer before made of it. What belongs to the symbolic form alone
(sums over layers) has no copy. In a post-norm stack the operations are others (see postnorm.py): there, a tensor that
the file names is found by its name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import replace
from math import prod

from tensorprog.dims import BATCH_SYMBOL
from tensorprog.graph import Add, Const, Contract, Graph, Node, Op, Param, Scale
from tensorprog.loops import LayerLoop, Stream


def copies(rolled: Graph, flat: Graph, sizes: Mapping[str, int]) -> dict[int, list[int]]:
    """Node of `rolled` -> its copies in `flat`, the same network at the depths (and any widths) `sizes`, in order of
    layers."""
    search = _Search(rolled, flat, {**sizes, BATCH_SYMBOL: 1})
    for loop in (*rolled.loops, None):
        for layer in range(search.depth(loop) if loop else 1):
            search.go(loop, layer)
    found: dict[int, list[int]] = {}
    for (node, _), copy in sorted(search.known.items()):
        found.setdefault(node, []).append(copy)
    return found


class _Search:
    """`known`: (node of the symbolic graph, its layer; 0 outside of loops) -> the copy."""

    def __init__(self, rolled: Graph, flat: Graph, sizes: Mapping[str, int]) -> None:
        self.nodes, self.sizes, self.known = rolled.nodes, sizes, dict[tuple[int, int], int]()
        self.doing = {self._does(node.op, node.args, node): node.id for node in reversed(flat.nodes)}
        names = Counter(node.name for node in self.nodes)
        self.unique = {name for name, count in names.items() if name and count == 1}
        self.named = {node.name: node.id for node in flat.nodes}
        streams = [(loop, stream) for loop in rolled.loops for stream in loop.streams]
        self.before = {stream.path[-1]: stream for _, stream in streams}
        totals = {node.args[0]: node.id for node in self.nodes if isinstance(node.op, Contract) and not _inside(node)}
        ends = {(self._start(stream), totals.get(stream.increment)): (stream, loop) for loop, stream in streams}
        self.after = {node.id: ends[node.args] for node in self.nodes if isinstance(node.op, Add) and node.args in ends}

    def depth(self, loop: LayerLoop) -> int:
        """Its number of layers."""
        return int(loop.axis.dim.evaluate(self.sizes))

    def go(self, loop: LayerLoop | None, layer: int) -> None:
        """Finds the copies of what is in one layer of a loop, and of what is outside, as far as they can be told."""
        later = False
        for node in self.nodes:
            inside = _inside(node)
            place = (node.id, layer if inside else 0)
            if place in self.known or (inside and (loop is None or loop.axis.loop != inside)):
                continue
            later = later or inside > 0
            copy = self._copy(node, loop if inside else None, layer, trust=bool(inside) or not later)
            if copy is not None:
                self.known[place] = copy

    def _copy(self, node: Node, loop: LayerLoop | None, layer: int, *, trust: bool) -> int | None:
        """`trust`: whether its name tells, should the operands not."""
        if node.id in self.before:
            return self._carried(self.before[node.id], layer)
        if node.id in self.after:
            stream, over = self.after[node.id]
            return self._carried(stream, self.depth(over))
        args = [self.known.get((a, layer if _inside(self.nodes[a]) else 0)) for a in node.args]
        op, name = node.op, node.name
        if loop is not None:
            if isinstance(op, Add) and not any(_inside(self.nodes[a]) for a in node.args):
                return args[0]  # the same for every layer
            op, name = _in_layer(op, loop, layer), name.replace(loop.prefix, _at(loop, layer))
        found = None if None in args else self.doing.get(self._does(op, tuple(args), node))
        return self.named.get(name) if found is None and trust and node.name in self.unique else found

    def _start(self, stream: Stream) -> int:
        return self.nodes[self.nodes[stream.path[-1]].args[0]].args[0]

    def _carried(self, stream: Stream, layer: int) -> int | None:
        """The copy of a stream before that layer."""
        return self.known.get((stream.path[0], layer - 1) if layer else (self._start(stream), 0))

    def _does(self, op: Op, args: tuple[int | None, ...], node: Node) -> Hashable:
        if isinstance(op, Scale):
            known = op.scalar
            number = float(known.coefficient) * prod(float(d.evaluate(self.sizes)) ** float(p) for d, p in known.powers)
            return Scale, round(number, 9), known.unknowns, args
        return (op, node.axes) if isinstance(op, Const) else (op, args)


def _inside(node: Node) -> int:
    """The number of the loop that it is in; 0: of none."""
    return node.axes[-1].loop if node.axes else 0


def _at(loop: LayerLoop, layer: int) -> str:
    return loop.prefix.replace("*", str(layer))


def _in_layer(op: Op, loop: LayerLoop, layer: int) -> Op:
    """An operation with a layer axis, the last of every operand, as that of one layer."""
    match op:
        case Param(name):
            return Param(name.replace(loop.prefix, _at(loop, layer)))
        case Scale(scalar):
            names = tuple(name.replace(loop.prefix, _at(loop, layer)) for name in scalar.unknowns)
            return Scale(replace(scalar, unknowns=names))
        case Contract(left, right, out):
            return Contract(left[:-1], None if right is None else right[:-1], out[:-1])
        case Add(places):
            return Add(tuple(place[:-1] for place in places))
        case _:
            return op
