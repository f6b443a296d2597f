"""A stream that is normalised between layers, x <- g N(x + m f(x)) + s, as the stream u of its pre-norm form.

A norm N does not see the scale of what it reads: N(N(u) + y) = N(u + |u| y), with |u| the root mean square of u. So
where |u| stays of order 1, exponents are those of u <- u + m f(N(u)), normalised once more after the loop. A gain that
starts at 1 adds to that stream, as g N(u) = N(u) + (g - 1) N(u), and so does a shift. Whether |u| stays of order 1 the
calculus sees (`loops.Stream.unit`): branches that are not small let u grow, and there the norms between layers let the
share of a layer fade exponentially.

Source: Xiong et al. 2020 (arXiv:2002.04745), section 3, for the two places of the norm; the identity is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tensorprog.graph import Add, Axis, Const, Contract, Node, Op
from tensorprog.norms import normalised, starts_at_one
from tensorprog.parameters import Parameter
from tensorprog.syntax import Span

Emit = Callable[[Op, tuple[int, ...], tuple[Axis, ...], str, Span], int]


@dataclass(frozen=True, slots=True)
class Norm:
    """N(u) in a layer: u, and the nodes from there to its value."""

    source: int
    nodes: tuple[Node, ...]

    def of(self, value: int, emit: Emit, name: str = "") -> int:
        """The same norm of another value."""
        now = {self.source: value}
        for node in self.nodes:
            shown = name if node is self.nodes[-1] else ""
            now[node.id] = emit(node.op, tuple(now[a] for a in node.args), node.axes, shown, node.span)
        return now[self.nodes[-1].id]


@dataclass(slots=True)
class Way:
    """How a layer keeps a stream, through sums, norms and gains: each value of it -> the next. `norms` and `gains`:
    those among them, the latter with the position of the parameter. Empty where the layer does not keep it."""

    after: dict[int, int] = field(default_factory=dict)
    norms: dict[int, Norm] = field(default_factory=dict)
    gains: dict[int, int] = field(default_factory=dict)

    @property
    def norm(self) -> Norm | None:
        """The last norm of a layer: what the next one reads has passed it."""
        return next(iter(self.norms.values()), None)

    def values(self, stream: int) -> Iterator[int]:
        """The values of the stream, from the first one on."""
        yield stream
        while stream in self.after:
            stream = self.after[stream]
            yield stream


def way(nodes: Sequence[Node], first: int, parameters: Mapping[str, Parameter], stream: int, result: int) -> Way:
    """The way from a stream to its value after a layer, the nodes from `first` on, with as few norms as can be."""
    before = {stream: (0, stream)}  # a node that keeps the stream -> through how many norms, and the operand that does
    for node in nodes[first:]:
        norm = isinstance(node.op, Contract)  # or the gain behind it
        ways = [(before[a][0] + norm, a) for a in _operands(nodes, node, parameters) if a in before]
        if ways:
            before[node.id] = min(ways)
    found = Way()
    while result != stream:
        if result not in before:
            return Way()
        _, value = before[result]
        found.after[value] = result
        if normalised(nodes, result) == value:
            found.norms[result] = Norm(value, _between(nodes, value, result))
        elif isinstance(nodes[result].op, Contract):
            found.gains[result] = 1 - nodes[result].args.index(value)
        result = value
    return found


def _operands(nodes: Sequence[Node], node: Node, parameters: Mapping[str, Parameter]) -> list[int]:
    """What a node may keep: an addend, what it normalises, a norm that it multiplies by a parameter starting at 1."""
    match node.op:
        case Add(places):
            whole = tuple(range(len(node.axes)))
            return [a for a, place in zip(node.args, places, strict=True) if place == whole]
        case Contract(right=right) if right is not None and not node.op.summed:
            source = normalised(nodes, node.id)
            if source is not None:
                return [source]
            return [a for a, gain in (node.args, node.args[::-1])
                    if normalised(nodes, a) is not None and starts_at_one(nodes, gain, parameters)]  # fmt: skip
        case _:
            return []


def _between(nodes: Sequence[Node], source: int, value: int) -> tuple[Node, ...]:
    """The nodes of a norm, in order."""
    seen, todo = {source, value}, [value]
    while todo:
        new = [a for a in nodes[todo.pop()].args if a not in seen]
        seen.update(new)
        todo += new
    return tuple(nodes[k] for k in sorted(seen - {source}))


def as_prenorm(
    nodes: Sequence[Node], first: int, ways: Mapping[int, Way], emit: Emit
) -> tuple[dict[int, int], set[int]]:
    """Emits a layer, the nodes from `first` on, in pre-norm form: the norms are taken out of every stream (`ways`), and
    what is no part of it reads it through one. Returns where the nodes are now (of a norm, what it normalises), and
    the new ones that the network does not have, or not of that size: the mean and scale of what a norm reads."""
    norm_of: dict[int, Norm] = {}  # a value of a stream -> the norm that it has passed
    after: dict[int, int] = {}
    gains: dict[int, int] = {}
    norms: dict[int, Norm] = {}
    for stream, kept in ways.items():
        norm = kept.norm
        if norm is not None:
            for value in kept.values(stream):
                norm = norm_of[value] = kept.norms.get(value, norm)
            after |= kept.after
            gains |= kept.gains
            norms |= kept.norms
    inside = {node.id: norm for norm in norms.values() for node in norm.nodes}
    now: dict[int, int] = {}
    read: dict[int, int] = {}  # the same, for all but the next value of the stream
    strange: set[int] = set()

    def extra(op: Op, args: tuple[int, ...], axes: tuple[Axis, ...], name: str, span: Span) -> int:
        strange.add(number := emit(op, args, axes, name, span))
        return number

    def operand(a: int, reader: int) -> int:
        if a not in norm_of or after.get(a) == reader or reader in inside:
            return now.get(a, a)
        if a not in read:
            read[a] = norm_of[a].of(now.get(a, a), extra)
        return read[a]

    for node in nodes[first:]:
        k = node.id
        if k in gains:
            gain, normed = node.args[gains[k]], node.args[1 - gains[k]]
            one, axes = extra(Const(-1.0), (), (), "", node.span), nodes[gain].axes
            moved = extra(Add((tuple(range(len(axes))), ())), (now.get(gain, gain), one), axes, "", node.span)
            product = extra(node.op, tuple(moved if a == gain else read[normed] for a in node.args), node.axes, "",
                            node.span)  # fmt: skip
            same = tuple(range(len(node.axes)))
            made = emit if node.name else extra
            now[k] = made(Add((same, same)), (now[normed], product), node.axes, node.name, node.span)
            continue
        now[k] = emit(node.op, tuple(operand(a, k) for a in node.args), node.axes, node.name, node.span)
        if k in inside and len(node.axes) < len(inside[k].nodes[-1].axes):
            strange.add(now[k])
        if k in norms:
            source = norms[k].source
            read[k], now[k] = now[k], now.get(source, source)
    return now, strange
