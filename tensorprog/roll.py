"""Stage 3 for symbolic depths: every `repeat` over a depth symbol becomes one layer with a layer axis.

The body is flattened once; every tensor in it gets one more axis, the last, which counts the layers. A tensor x that
the loop carries from layer to layer must be a residual stream, x <- x + b: before layer l it is its first value plus
the sum of b over the layers before l (`Accumulate`), after the loop it is that plus the sum over all layers.

Sums over layers are then contractions like any other, and nothing depends on how many layers there are.
"""

from __future__ import annotations

from dataclasses import replace

from tensorprog.errors import NoPowerLawError
from tensorprog.graph import Accumulate, Add, Axis, Const, Contract, Graph, Node, Op, Param, Scale
from tensorprog.inline import Flat
from tensorprog.loops import LayerLoop, Stream
from tensorprog.model import Loop, Model, Module
from tensorprog.postnorm import as_prenorm, way
from tensorprog.syntax import Span


def roll(model: Model) -> Graph:
    """The forward graph of a model elaborated with symbolic depths. Parameters inside a loop are named
    `layers.*.W`. Raises NoPowerLawError for a stack that is no residual stream."""
    flat = _Rolled()
    return replace(flat.graph(model), depths=(), loops=tuple(flat.loops))


class _Rolled(Flat):
    """The nodes so far; of a symbolic loop, one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.loops: list[LayerLoop] = []
        self._inside = False

    def loop(self, step: Loop, module: Module, path: str, owner: str, ids: list[int]) -> None:
        if step.length is None:
            super().loop(step, module, path, owner, ids)
            return
        if self._inside:
            raise NoPowerLawError(
                "not covered: a repeat over a depth inside of another",
                step.span,
                why="a weight of the inner one is "
                "another one for every pair of layers, which have no order that parities could be kept in",
                fix="a number for the inner one: `repeat 2 { .. }`",
            )
        axis = Axis(step.length, "layer", len(self.loops) + 1)
        prefix = f"{path}{step.instance}.*."
        starts = [ids[value] for value in step.carried]
        streams = [self._stream(start, axis, step.span) for start in starts]
        first = len(self.nodes)
        inner_owner = f"{owner}{step.instance}.*." if step.kind == "repeat" else f"{owner}{step.instance}."
        self._inside = True
        captured = [ids[value] for value in step.captured]
        inner = self.module(step.body, prefix, inner_owner, (*streams, *captured))
        self._inside = False
        results = [inner[value] for value in step.body.results]
        nodes = tuple(self.nodes)
        ways = {stream: way(nodes, first, self.parameters, stream, result)
                for stream, result in zip(streams, results, strict=True)}  # fmt: skip
        del self.nodes[first:]
        now, strange = as_prenorm(nodes, first, ways, self.node)
        lifted = self._lift(first, {*streams, *strange}, axis, inner_owner if step.kind == "repeat" else None)
        places = {old: lifted.get(number, number) for old, number in now.items()}
        strange = {lifted[number] for number in strange}
        for table in (self.params, self.uses):
            for name, node_id in table.items():
                table[name] = places.get(node_id, node_id)
        results = [places.get(result, result) for result in results]
        carried = []
        for out, start, stream, result in zip(step.outs, starts, streams, results, strict=True):
            name = module.values[out].name
            increment, stream_path = self._increment(result, stream, name or "the carried tensor", step.span)
            accumulated = self.nodes[stream].args[1]
            self.nodes[accumulated] = _reading(self.nodes[accumulated], (increment,))
            total = self._total(increment, axis, step.span)
            axes = self.nodes[start].axes
            same = tuple(range(len(axes)))
            norm, shown = ways[stream].norm, path + name if name else ""
            ids[out] = self.node(Add((same, same)), (start, total), axes, "" if norm else shown, step.span)
            if norm:
                sum_of_all = ids[out]
                ids[out] = norm.of(sum_of_all, self.node, shown)
                strange.update(range(sum_of_all, ids[out]))
            carried.append(Stream(stream_path, increment, unit=norm is not None))
        self.loops.append(LayerLoop(prefix, axis, step.span, tuple(carried), frozenset(strange)))

    # --- the stream ---------------------------------------------------------------------------------

    def _stream(self, start: int, axis: Axis, span: Span) -> int:
        """start + what the layers before add (read later): the value of a carried tensor before a layer."""
        axes = (*self.nodes[start].axes, axis)
        spread = self._spread(start, axis, span)
        added = self.node(Accumulate(), (-1,), axes, "", span)
        same = tuple(range(len(axes)))
        return self.node(Add((same, same)), (spread, added), axes, "", span)

    def _spread(self, value: int, axis: Axis, span: Span) -> int:
        """The same value for every layer."""
        axes = self.nodes[value].axes
        return self.node(Add((tuple(range(len(axes))),)), (value,), (*axes, axis), "", span)

    def _total(self, value: int, axis: Axis, span: Span) -> int:
        """The sum over all layers."""
        axes = self.nodes[value].axes
        every = tuple(range(len(axes)))
        return self.node(Contract(every, None, every[:-1]), (value,), axes[:-1], "", span)

    def _increment(self, result: int, stream: int, name: str, span: Span) -> tuple[int, tuple[int, ...]]:
        """What one layer adds (`result` is the stream plus this), and the nodes of the stream on the way."""
        added: list[tuple[int, tuple[int, ...]]] = []
        path = [result]
        at = result
        while at != stream:
            node = self.nodes[at]
            if not isinstance(node.op, Add):
                raise _no_law(f"`{name}` is no residual stream", span,
                              "a layer does not add to what it gets, so that its effect grows or fades exponentially",
                              f"`{name} = {name} + ?branch * (..)` in the loop")  # fmt: skip
            same = tuple(range(len(node.axes)))
            onward = [a for a, place in zip(node.args, node.op.places, strict=True)
                      if place == same and self._reaches(a, stream)]  # fmt: skip
            if len(onward) != 1:
                raise _no_law(f"`{name}` is no residual stream", span, "a layer adds it to itself, or does not keep it",
                              f"`{name} = {name} + ?branch * (..)` in the loop")  # fmt: skip
            added += [(a, place) for a, place in zip(node.args, node.op.places, strict=True) if a != onward[0]]
            at = onward[0]
            path.append(at)
        axes = self.nodes[stream].axes
        if not added:
            return self.node(Const(0.0), (), axes, "", span), tuple(path)
        addends, places = zip(*added, strict=True)
        return self.node(Add(places), addends, axes, "", span), tuple(path)

    def _reaches(self, value: int, stream: int) -> bool:
        """Whether only sums stand between."""
        while value != stream:
            node = self.nodes[value]
            if not isinstance(node.op, Add):
                return False
            same = tuple(range(len(node.axes)))
            onward = [a for a, place in zip(node.args, node.op.places, strict=True) if place == same and a >= stream]
            found = [a for a in onward if self._reaches(a, stream)]
            if not found:
                return False
            value = found[0]
        return True

    # --- the layer axis -----------------------------------------------------------------------------

    def _lift(self, first: int, layered: set[int], axis: Axis, owner: str | None) -> dict[int, int]:
        """Gives the layer axis to all nodes from `first` on that are in `layered`, or depend on what is, or on a
        parameter of the layer; and to what an unknown multiplier makes, which may be added to a stream in every layer.
        Returns where the nodes are now."""
        body = self.nodes[first:]
        del self.nodes[first:]
        place: dict[int, int] = {}
        lifted = {k for k in layered if k < first}
        spread: dict[int, int] = {}
        for node in body:
            own = isinstance(node.op, Param) and owner is not None and node.op.name.startswith(owner)
            if isinstance(node.op, Param) and own:
                self.parameters[node.op.name] = replace(self.parameters[node.op.name], layers=axis)
            args = [place.get(a, a) for a in node.args]
            solved = isinstance(node.op, Scale) and any(
                self.unknowns[u].kind == "multiplier" for u in node.op.scalar.unknowns
            )
            if not own and not solved and node.id not in layered and not any(a in lifted for a in args):
                place[node.id] = self.node(node.op, tuple(args), node.axes, node.name, node.span)
                continue
            for k, a in enumerate(args):
                if a not in lifted:
                    if a not in spread:
                        spread[a] = self._spread(a, axis, node.span)
                        lifted.add(spread[a])
                    args[k] = spread[a]
            number = self.node(_with_layer(node), tuple(args), (*node.axes, axis), node.name, node.span)
            place[node.id] = number
            lifted.add(number)
        return place


def _with_layer(node: Node) -> Op:
    """The operation on tensors with one more axis, the last."""
    op = node.op
    if isinstance(op, Contract):
        layer = max((*op.left, *(op.right or ()), *op.out), default=-1) + 1
        right = None if op.right is None else (*op.right, layer)
        return Contract((*op.left, layer), right, (*op.out, layer))
    if isinstance(op, Add):
        return Add(tuple((*place, len(node.axes)) for place in op.places))
    return op


def _reading(node: Node, args: tuple[int, ...]) -> Node:
    return Node(node.id, node.op, args, node.axes, node.name, node.span)


def _no_law(message: str, span: Span, why: str, fix: str) -> NoPowerLawError:
    return NoPowerLawError(f"no power law in the depth: {message}", span, why=why, fix=fix)
