"""Stage 3 for symbolic depths: every `repeat` over a depth symbol becomes one layer with a layer axis.

The body is flattened once; every tensor in it gets one more axis, behind those of widths, which counts the layers (in a
loop inside of a loop two, the outer one first). A tensor x that
the loop carries from layer to layer must be a residual stream, x <- x + b: before layer l it is its first value plus
the sum of b over the layers before l (`Accumulate`), after the loop it is that plus the sum over all layers.

Sums over layers are then contractions like any other, and nothing depends on how many layers there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tensorprog.errors import NoPowerLawError
from tensorprog.graph import Accumulate, Add, Axis, Const, Contract, Graph, Node, Op, Param, Scale
from tensorprog.inline import Flat
from tensorprog.loops import LayerLoop, Stream
from tensorprog.model import Compute, Loop, Model, Module
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
        self._around: list[tuple[int, str]] = []  # the loops that the text is in: number and kind

    def loop(self, step: Loop, module: Module, path: str, owner: str, ids: list[int]) -> None:
        if step.length is None:
            super().loop(step, module, path, owner, ids)
            return
        if step.kind == "repeat" and any(kind != "repeat" for _, kind in self._around):
            raise NoPowerLawError(
                "not covered: a repeat over a depth inside of one that is shared", step.span,
                why="the weights of its layers are the same in all layers of the outer one",
                fix="`repeat .. shared` for the inner one too, or a number for one of them",
            )  # fmt: skip
        around = self._around[-1][0] if self._around else 0
        number = len(self.loops) + 1
        axis = Axis(step.length, "layer", number)
        self.loops.append(LayerLoop("", axis))  # its place
        prefix = f"{path}{step.instance}.*."
        starts = [ids[value] for value in step.carried]
        streams = [self._stream(start, axis, step.span) for start in starts]
        first = len(self.nodes)
        inner_owner = f"{owner}{step.instance}.*." if step.kind == "repeat" else f"{owner}{step.instance}."
        captured = [ids[value] for value in step.captured]
        self._around.append((number, step.kind))
        inner = self.module(step.body, prefix, inner_owner, (*streams, *captured))
        self._around.pop()
        results = [inner[value] for value in step.body.results]
        nodes = tuple(self.nodes)
        ways = {stream: way(nodes, first, self.parameters, stream, result)
                for stream, result in zip(streams, results, strict=True)}  # fmt: skip
        del self.nodes[first:]
        now, strange = as_prenorm(nodes, first, ways, self.node)
        lifted = self._lift(first, {*streams, *strange}, axis, inner_owner if step.kind == "repeat" else None)
        places = {old: lifted.get(k, k) for old, k in now.items()}
        strange = {lifted[k] for k in strange}
        self._move(places, nodes, number)
        results = [places.get(result, result) for result in results]
        carried = []
        for out, start, stream, result in zip(step.outs, starts, streams, results, strict=True):
            name = module.values[out].name
            increment, stream_path = self._increment(result, stream, name or "the carried tensor", step.span)
            accumulated = self.nodes[stream].args[1]
            self.nodes[accumulated] = _reading(self.nodes[accumulated], (increment,))
            total = self._total(increment, axis, step.span)
            axes = self._here(start)
            same = tuple(range(len(axes)))
            norm, shown = ways[stream].norm, path + name if name else ""
            ids[out] = self.node(Add((same, same)), (start, total), axes, "" if norm else shown, step.span)
            if norm:
                sum_of_all = ids[out]
                ids[out] = norm.of(sum_of_all, self.node, shown)
                strange.update(range(sum_of_all, ids[out]))
            carried.append(Stream(stream_path, increment, unit=norm is not None))
        self.loops[number - 1] = LayerLoop(prefix, axis, step.span, tuple(carried), frozenset(strange), around)

    def _move(self, places: Mapping[int, int], before: Sequence[Node], number: int) -> None:
        """Nodes are somewhere else now: tells what refers to them, also in the loops inside of loop `number`."""
        for table in (self.params, self.uses):
            for name, k in table.items():
                table[name] = places.get(k, k)
        for old, new in places.items():
            if isinstance(before[old].op, Accumulate):
                self.nodes[new] = _reading(self.nodes[new], (places[before[old].args[0]],))
        for at, loop in enumerate(self.loops[number:], number):
            streams = tuple(
                replace(s, path=tuple(places[k] for k in s.path), increment=places[s.increment]) for s in loop.streams
            )
            self.loops[at] = replace(loop, streams=streams, strange=frozenset(places[k] for k in loop.strange))

    def param(self, step: Compute, name: str, owner: str, module: Module) -> int:
        """The one node of a parameter; it belongs to the layers of one loop."""
        found = super().param(step, name, owner, module)
        if not {axis.loop for axis in self.nodes[found].axes if axis.loop} <= {number for number, _ in self._around}:
            raise NoPowerLawError(
                "not covered: a repeat over a depth that runs several times with the same weights", step.span,
                why="what one of its layers knows of the same layer at another time is not told apart",
                fix="weights of its own for every time, or a number for the depth",
            )  # fmt: skip
        return found

    # --- the stream ---------------------------------------------------------------------------------

    def _stream(self, start: int, axis: Axis, span: Span) -> int:
        """start + what the layers before add (read later): the value of a carried tensor before a layer."""
        axes = (*self._here(start), axis)
        spread = self._spread(start, axis, span)
        added = self.node(Accumulate(), (-1,), axes, "", span)
        same = tuple(range(len(axes)))
        return self.node(Add((same, same)), (spread, added), axes, "", span)

    def _here(self, value: int) -> tuple[Axis, ...]:
        """The axes of a value but for those of the loops around, which all that is in them gets later."""
        around = {number for number, _ in self._around}
        return tuple(axis for axis in self.nodes[value].axes if axis.loop not in around)

    def _spread(self, value: int, axis: Axis, span: Span) -> int:
        """The same value for every layer."""
        axes = self._here(value)
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
                self._require_unscaled(stream, name, span)
                raise _no_law(f"`{name}` is no residual stream", span,
                              "a layer does not add to what it gets, so that its effect grows or fades exponentially",
                              f"`{name} = {name} + ?branch * (..)` in the loop")  # fmt: skip
            same = tuple(range(len(node.axes)))
            onward = [a for a, place in zip(node.args, node.op.places, strict=True)
                      if place == same and self._reaches(a, stream)]  # fmt: skip
            if len(onward) != 1:
                self._require_unscaled(stream, name, span)
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

    def _require_unscaled(self, stream: int, name: str, span: Span) -> None:
        """Raises NoPowerLawError where a layer multiplies the stream by a number: behind a norm that may do no harm."""
        if any(isinstance(node.op, Scale) and stream in node.args for node in self.nodes[stream:]):
            raise NoPowerLawError(
                f"not covered: a layer multiplies `{name}` itself by a number", span,
                why="what layers added before fades or grows exponentially, unless a norm takes that number away",
                fix=f"`{name} = {name} + ?branch * (..)`; in front of a norm one divided by the number is the same",
            )  # fmt: skip

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
        parameter of the layer; to what an unknown multiplier makes, which may be added to a stream in every layer; and
        to those of loops inside of it. Returns where the nodes are now."""
        body = self.nodes[first:]
        del self.nodes[first:]
        place: dict[int, int] = {}
        lifted = {k for k in layered if k < first}
        spread: dict[int, int] = {}
        for node in body:
            own = isinstance(node.op, Param) and owner is not None and node.op.name.startswith(owner)
            if isinstance(node.op, Param) and own:
                parameter = self.parameters[node.op.name]
                self.parameters[node.op.name] = replace(parameter, layers=(axis, *parameter.layers))
            args = [place.get(a, a) for a in node.args]
            inside = _layers(node.axes)
            solved = isinstance(node.op, Scale) and any(
                self.unknowns[u].kind == "multiplier" for u in node.op.scalar.unknowns
            )
            above = any(a in lifted for a in args)
            if not own and not solved and not inside and node.id not in layered and not above:
                place[node.id] = self.node(node.op, tuple(args), node.axes, node.name, node.span)
                continue
            for k, a in enumerate(args):
                if a not in lifted and not isinstance(node.op, Accumulate):
                    if a not in spread:
                        spread[a] = self._spread(a, axis, node.span)
                        lifted.add(spread[a])
                    args[k] = spread[a]
            op = _with_layer(node, [_layers(body[a - first].axes) if a >= first else 0 for a in node.args])
            axes = (*node.axes[: len(node.axes) - inside], axis, *node.axes[len(node.axes) - inside :])
            number = self.node(op, tuple(args), axes, node.name, node.span)
            place[node.id] = number
            lifted.add(number)
        return place


def _layers(axes: tuple[Axis, ...]) -> int:
    """How many axes count layers; they are the last."""
    return sum(axis.loop > 0 for axis in axes)


def _with_layer(node: Node, inside: Sequence[int]) -> Op:
    """The operation on tensors with one more axis, in front of those of inner loops (`inside`: how many each has)."""

    def put(indices: tuple[int, ...], index: int, behind: int) -> tuple[int, ...]:
        at = len(indices) - behind
        return (*indices[:at], index, *indices[at:])

    op = node.op
    if isinstance(op, Contract):
        layer = max((*op.left, *(op.right or ()), *op.out), default=-1) + 1
        right = None if op.right is None else put(op.right, layer, inside[1])
        return Contract(put(op.left, layer, inside[0]), right, put(op.out, layer, _layers(node.axes)))
    if isinstance(op, Add):
        new = len(node.axes) - _layers(node.axes)
        moved = [tuple(k + (k >= new) for k in place) for place in op.places]
        return Add(tuple(put(place, new, count) for place, count in zip(moved, inside, strict=True)))
    return op


def _reading(node: Node, args: tuple[int, ...]) -> Node:
    return Node(node.id, node.op, args, node.axes, node.name, node.span)


def _no_law(message: str, span: Span, why: str, fix: str) -> NoPowerLawError:
    return NoPowerLawError(f"no power law in the depth: {message}", span, why=why, fix=fix)
