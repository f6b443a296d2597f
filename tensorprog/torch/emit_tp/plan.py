"""What of an imported graph gets a line of its own, and of which module every line is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

from tensorprog.dims import BATCH_SYMBOL
from tensorprog.graph import (
    Add,
    Const,
    Contract,
    Fold,
    Graph,
    Input,
    InvRms,
    Loss,
    Map,
    Merge,
    Node,
    Op,
    Param,
    Scale,
    Split,
    Window,
    reached,
)
from tensorprog.torch.emit_tp.text import only_use

Key = tuple[str, str | int]  # ("node", its number) | ("input", name) | ("param", name): what a line reads


@dataclass(frozen=True)
class Plan:
    """A graph, and the class of the module at every path ("" and unknown paths: no class)."""

    graph: Graph
    classes: Mapping[str, str]

    @cached_property
    def consumers(self) -> tuple[tuple[int, ...], ...]:
        """Per node: those that read it."""
        found: list[list[int]] = [[] for _ in self.graph.nodes]
        for node in self.graph.nodes:
            for a in node.args if node.id in self.written else ():
                found[a].append(node.id)
        return tuple(map(tuple, found))

    @cached_property
    def outputs(self) -> Mapping[int, str]:
        """Node -> the first name under which the model returns it. In place of a single number, such as its loss, what
        that is made of."""
        found: dict[int, str] = {}
        for label, number in self.graph.outputs:
            for node in [number] if self.graph.nodes[number].axes else self._measured(number):
                found.setdefault(node, label)
        return found

    def _measured(self, number: int) -> list[int]:
        """The tensors of which a number is made by losses, sums and functions."""
        node = self.graph.nodes[number]
        args = node.args[:1] if isinstance(node.op, Loss) else node.args
        if node.axes or not args:
            return [number] if node.axes and not self._is_leaf(number) else []
        return [n for a in args for n in ([a] if isinstance(node.op, Loss) else self._measured(a))]

    @cached_property
    def terms(self) -> list[tuple[Fraction, str, int]] | None:
        """The loss as a sum of losses that the language has: (weight, kind, node); None if it is no such sum."""
        return self._terms(self.graph.nodes[self.graph.loss], Fraction(1))

    def _terms(self, node: Node, weight: Fraction) -> list[tuple[Fraction, str, int]] | None:
        match node.op:
            case Loss(kind) if kind != "mean":
                return [(weight, kind, node.args[0])]
            case Scale(scalar) if not scalar.powers and not scalar.unknowns:
                return self._terms(self.graph.nodes[node.args[0]], weight * scalar.coefficient)
            case Add():
                found = [self._terms(self.graph.nodes[a], weight) for a in node.args]
                return None if any(f is None for f in found) else [t for f in found for t in f or []]
            case _:
                return None

    @cached_property
    def written(self) -> frozenset[int]:
        """The nodes that the outputs depend on, and the losses if they are written."""
        losses = (number for _, _, number in self.terms or ())
        return frozenset(reached(self.graph.nodes, [*self.outputs, *losses]))

    @cached_property
    def maps(self) -> frozenset[str]:
        """The functions that are written."""
        return frozenset(n.op.fn for n in self.graph.nodes if isinstance(n.op, Map) and n.id in self.written)

    @cached_property
    def owners(self) -> tuple[str, ...]:
        """Per node the path of its module: that of the next result which the recording names, but where a result is
        only seen in another way, that of the result."""
        found, owner = [""] * len(self.graph.nodes), ""
        for node in reversed(self.graph.nodes):
            if node.name:
                owner = node.name.rpartition(".")[0]
            found[node.id] = owner
        for node in self.graph.nodes:
            if not node.name and len(node.args) == 1 and self._is_view(node) and not self._is_leaf(node.args[0]):
                found[node.id] = found[node.args[0]]
        return tuple(found)

    def _is_view(self, node: Node) -> bool:
        op = node.op
        return isinstance(op, Merge | Split) or (isinstance(op, Contract) and len(op.out) == len(op.left))

    def _is_leaf(self, number: int) -> bool:
        return isinstance(self.graph.nodes[number].op, Param | Input | Const)

    @cached_property
    def lines(self) -> tuple[int, ...]:
        """The nodes that get a line, in order."""
        kept = []
        for node in self.graph.nodes:
            if node.id not in self.written:
                continue
            if node.id in self.outputs or not self.inlined(node):
                kept.append(node.id)
        return tuple(kept)

    @cached_property
    def reads(self) -> Mapping[int, tuple[Key, ...]]:
        """Line -> the lines, inputs and parameters that it is written with, in order of the graph."""
        own = set(self.lines)
        return {line: tuple(dict.fromkeys(self._leaves(self.graph.nodes[line], own))) for line in self.lines}

    @cached_property
    def readers(self) -> Mapping[int, frozenset[int]]:
        """Line -> the lines that read it."""
        return self._readers("node")

    @cached_property
    def parameter_readers(self) -> Mapping[str, frozenset[int]]:
        """Parameter -> the lines that read it."""
        return self._readers("param")

    def _readers(self, kind: str) -> dict[Any, frozenset[int]]:
        found: dict[Any, set[int]] = {line: set() for line in self.lines} if kind == "node" else {}
        for line, keys in self.reads.items():
            for what in (w for k, w in keys if k == kind):
                found.setdefault(what, set()).add(line)
        return {what: frozenset(lines) for what, lines in found.items()}

    def _leaves(self, node: Node, own: set[int]) -> list[Key]:
        match node.op:
            case Param(name):
                return [("param", name)]
            case Input(name):
                return [("input", name)]
        found: list[Key] = []
        for a in node.args:
            found += [("node", a)] if a in own else self._leaves(self.graph.nodes[a], own)
        return found

    @cached_property
    def losses(self) -> frozenset[int]:
        """The lines that the loss reads."""
        own, todo, found = set(self.lines), [self.graph.loss], set[int]()
        while todo and self.terms is not None:
            at = todo.pop()
            for a in self.graph.nodes[at].args:
                (found.add if a in own else todo.append)(a)
        return frozenset(found)

    @cached_property
    def results(self) -> frozenset[int]:
        """The lines that the model returns or the loss reads."""
        return self.losses | self.outputs.keys()

    # --- which nodes are written where they are used ------------------------------------------------------

    def inlined(self, node: Node) -> bool:
        """Whether a node is written where it is used."""
        op, users = node.op, [self.graph.nodes[u] for u in self.consumers[node.id]]
        match op:
            case Const():
                return not node.axes
            case Param() | Input():
                return True
            case Scale(scalar) if only_use(self.graph, scalar):
                return True
            case Contract(_, None, out) if len(out) == len(op.left):
                return all(isinstance(u.op, Contract | Add | Scale | Map | Merge) for u in users)
            case Contract(_, None, _):
                return len(users) == 1 and isinstance(users[0].op, Scale)
            case InvRms():
                return len(users) == 1 and isinstance(users[0].op, Contract)
            case Window(axis=axis):
                return all(self._takes_positions(u, op, axis) for u in users)
            case Split():
                return all(isinstance(u.op, Contract | Add | Scale | Map) for u in users)
            case Fold(taps=False) | Scale() | Map():
                return self._flows_into(node, users, Add | Scale | Map | Contract)
            case Contract():
                return self._flows_into(node, users, Add | Scale) and not self.sums_batch(node)
            case _:
                return False

    def _flows_into(self, node: Node, users: list[Node], kinds: type[Op] | object) -> bool:
        """Whether a result is used once, by such a node of the same module."""
        return (len(users) == 1 and isinstance(users[0].op, kinds)  # type: ignore[arg-type]
                and self.owners[node.id] == self.owners[users[0].id])  # fmt: skip

    def _takes_positions(self, user: Node, window: Window, axis: int) -> bool:
        """Whether a user of a window can be written with computed positions along its axis: a sum or product, or a
        window along another axis."""
        if isinstance(user.op, Window):
            return user.op.axis not in ((axis, axis + 1) if window.taps else (axis,))
        return isinstance(user.op, Contract | Add | Scale | Map)

    def sums_batch(self, node: Node) -> bool:
        """Whether a product sums over an axis that holds the batch."""
        op = node.op
        assert isinstance(op, Contract)
        for indices, a in zip((op.left, op.right or ()), node.args, strict=False):
            for i, axis in zip(indices, self.graph.nodes[a].axes, strict=True):
                if i not in op.out and BATCH_SYMBOL in axis.dim.symbols:
                    return True
        return False
