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

Place = tuple[int, tuple[int, ...]]


def copies(rolled: Graph, flat: Graph, sizes: Mapping[str, int]) -> dict[int, list[int]]:
    """Node of `rolled` -> its copies in `flat`, the same network at the depths (and any widths) `sizes`, in order of
    layers."""
    search = _Search(rolled, flat, {**sizes, BATCH_SYMBOL: 1})
    search.go({})
    found: dict[int, list[int]] = {}
    for (node, _), copy in sorted(search.known.items()):
        found.setdefault(node, []).append(copy)
    return found


class _Search:
    """`known`: (node of the symbolic graph, its layer in every loop around it) -> the copy."""

    def __init__(self, rolled: Graph, flat: Graph, sizes: Mapping[str, int]) -> None:
        self.nodes, self.sizes, self.known = rolled.nodes, sizes, dict[Place, int]()
        self.loops = dict(enumerate(rolled.loops, 1))
        self.doing = {self._does(node.op, node.args, node): node.id for node in reversed(flat.nodes)}
        names = Counter(node.name for node in self.nodes)
        self.unique = {name for name, count in names.items() if name and count == 1}
        self.named = {node.name: node.id for node in flat.nodes}
        streams = [(loop, stream) for loop in rolled.loops for stream in loop.streams]
        self.before = {stream.path[-1]: (stream, loop) for loop, stream in streams}
        totals = {node.args[0]: node.id for node in self.nodes if isinstance(node.op, Contract)
                  and len(_inside(node)) < len(_inside(self.nodes[node.args[0]]))}  # fmt: skip
        ends = {(self._start(stream), totals.get(stream.increment)): (stream, loop) for loop, stream in streams}
        self.after = {node.id: ends[node.args] for node in self.nodes if isinstance(node.op, Add) and node.args in ends}

    def depth(self, loop: LayerLoop) -> int:
        """Its number of layers."""
        return int(loop.axis.dim.evaluate(self.sizes))

    def go(self, layers: Mapping[int, int]) -> None:
        """Finds the copies of what is in one layer of some loops (number -> layer), then of the loops inside of it, and
        of what is made of these."""
        self._find(layers)
        inside = [k for k, loop in self.loops.items() if loop.around == max(layers, default=0)]
        for k in inside:
            for layer in range(self.depth(self.loops[k])):
                self.go({**layers, k: layer})
            self._find(layers)

    def _find(self, layers: Mapping[int, int]) -> None:
        later = False
        for node in self.nodes:
            inside = _inside(node)
            place = self._place(node.id, layers)
            later = later or bool(inside)
            if len(inside) < len(layers) or place is None or place in self.known:
                continue
            copy = self._copy(node, layers, trust=bool(inside) or not later)
            if copy is not None:
                self.known[place] = copy

    def _place(self, node: int, layers: Mapping[int, int]) -> Place | None:
        inside = _inside(self.nodes[node])
        return (node, tuple(layers[k] for k in inside)) if layers.keys() >= {*inside} else None

    def _copy(self, node: Node, layers: Mapping[int, int], *, trust: bool) -> int | None:
        """`trust`: whether its name tells, should the operands not."""
        if node.id in self.before:
            stream, loop = self.before[node.id]
            return self._carried(stream, loop, layers)
        if node.id in self.after:
            stream, loop = self.after[node.id]
            return self._carried(stream, loop, {**layers, loop.axis.loop: self.depth(loop)})
        places = [self._place(a, layers) for a in node.args]
        args = [None if place is None else self.known.get(place) for place in places]
        inside = _inside(node)
        if len(node.args) == 1 and isinstance(node.op, Add) and len(_inside(self.nodes[node.args[0]])) < len(inside):
            return args[0]  # the same for every layer
        op, name = node.op, node.name
        for k in reversed(inside):
            op, name = _in_layer(op, self.loops[k], layers[k]), _named(name, self.loops[k], layers[k])
        found = None if None in args else self.doing.get(self._does(op, tuple(args), node))
        return self.named.get(name) if found is None and trust and node.name in self.unique else found

    def _start(self, stream: Stream) -> int:
        return self.nodes[self.nodes[stream.path[-1]].args[0]].args[0]

    def _carried(self, stream: Stream, loop: LayerLoop, layers: Mapping[int, int]) -> int | None:
        """The copy of a stream before that layer."""
        layer = layers[loop.axis.loop]
        if layer:
            place = self._place(stream.path[0], {**layers, loop.axis.loop: layer - 1})
        else:
            place = self._place(self._start(stream), layers)
        return None if place is None else self.known.get(place)

    def _does(self, op: Op, args: tuple[int | None, ...], node: Node) -> Hashable:
        if isinstance(op, Scale):
            known = op.scalar
            number = float(known.coefficient) * prod(float(d.evaluate(self.sizes)) ** float(p) for d, p in known.powers)
            return Scale, round(number, 9), known.unknowns, args
        return (op, node.axes) if isinstance(op, Const) else (op, args)


def _inside(node: Node) -> list[int]:
    """The numbers of the loops that it is in, the outermost first."""
    return [axis.loop for axis in node.axes if axis.loop]


def _named(name: str, loop: LayerLoop, layer: int) -> str:
    """A name of what is in a loop, in one layer of it."""
    return name.replace(loop.prefix, f"{loop.prefix.removesuffix('*.')}{layer}.")


def _in_layer(op: Op, loop: LayerLoop, layer: int) -> Op:
    """An operation with a layer axis, the last of every operand, as that of one layer."""
    match op:
        case Param(name):
            return Param(_named(name, loop, layer))
        case Scale(scalar):
            return Scale(replace(scalar, unknowns=tuple(_named(name, loop, layer) for name in scalar.unknowns)))
        case Contract(left, right, out):
            return Contract(left[:-1], None if right is None else right[:-1], out[:-1])
        case Add(places):
            return Add(tuple(place[:-1] for place in places))
        case _:
            return op
