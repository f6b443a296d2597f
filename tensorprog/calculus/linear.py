"""Tensors as sums of multiples of others: whether some parts of a sum cancel, as they do in x - mean(x), is read off
their coefficients, however it is written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import permutations

from tensorprog.dims import Dim
from tensorprog.graph import Add, Axis, Contract, Node, Scale, StopGrad
from tensorprog.scalar import Scalar

Axes = frozenset[int]
Places = tuple[int | None, ...]  # of axes: which of another node they are; None: summed
Powers = frozenset[tuple[Dim, Fraction]]
Part = tuple[int, Places, Powers, tuple[str, ...]]  # a node, its axes, powers of sizes, unknown multipliers
Form = Mapping[Part, Fraction]  # parts with their coefficients
MANY = 8  # of more parts, a node stands for itself


@dataclass
class Linear:
    """`sums`: nodes that are made of sums by themselves. `forms`: as far as they were asked for."""

    nodes: Sequence[Node]
    sums: set[int] = field(default_factory=set)
    forms: dict[int, Form] = field(default_factory=dict)

    def cancelling(self, node: Node, places: Sequence[tuple[int, ...]]) -> Iterator[tuple[int, Axes]]:
        """Operands of a sum, each with axes over which it and others of them add to zero."""
        if self.sums.isdisjoint(node.args):
            return
        own = [_moved(self._form(a), self.nodes[a].axes, to) for a, to in zip(node.args, places, strict=True)]
        for summed in sorted(_means([part for form in own for part in form]), key=sorted):
            to = [None if axis in summed else axis for axis in range(len(node.axes))]
            left = [_moved(form, node.axes, to) for form in own]
            yield from ((k, summed) for k in _zero(left))

    def note(self, node: Node) -> None:
        """Nodes are noted in order."""
        if _is_sum(node) or (_is_linear(node) and not self.sums.isdisjoint(node.args)):
            self.sums.add(node.id)

    def _form(self, k: int, within: int = MANY) -> Form:
        """As far as so many nodes below it; the same whenever it is asked for."""
        if (known := self.forms.get(k)) is not None:
            return known
        node = self.nodes[k]
        made = self._made(node, within - 1) if within and (_is_linear(node) or _is_sum(node)) else None
        if made is None or len(made) > MANY:
            made = {(k, tuple(range(len(node.axes))), frozenset(), ()): Fraction(1)}
        self.forms[k] = made
        return made

    def _made(self, node: Node, within: int) -> Form:
        match node.op:
            case Add(places):
                forms = [_moved(self._form(a, within), self.nodes[a].axes, to)
                         for a, to in zip(node.args, places, strict=True)]  # fmt: skip
                return _added(forms)
            case Scale(scalar):
                return _times(self._form(node.args[0], within), scalar)
            case Contract(left, None, out):
                source = self.nodes[node.args[0]]
                to = [out.index(index) if index in out else None for index in left]
                return _moved(self._form(source.id, within), source.axes, to)
            case _:
                return self._form(node.args[0], within)


def _is_linear(node: Node) -> bool:
    return isinstance(node.op, Add | Scale | StopGrad)


def _is_sum(node: Node) -> bool:
    return isinstance(node.op, Contract) and node.op.right is None and len(set(node.op.left)) == len(node.op.left)


def _moved(form: Form, axes: Sequence[Axis], to: Sequence[int | None]) -> Form:
    """A form of a node with these axes, as one of a node of which they are others, or that is summed over some."""
    found = []
    for (k, places, powers, unknowns), coefficient in form.items():
        moved = {(k, tuple([None if p is None else to[p] for p in places]), powers, unknowns): coefficient}
        for axis, place in enumerate(to):
            if place is None and axis not in places:  # alike along it
                moved = dict(_times(moved, Scalar.size(axes[axis].dim)))
        found.append(moved)
    return _added(found)


def _times(form: Form, scalar: Scalar) -> Form:
    found = {}
    for (k, places, powers, unknowns), coefficient in form.items():
        times = scalar * Scalar(coefficient, tuple(powers), unknowns)
        found[k, places, frozenset(times.powers), tuple(sorted(times.unknowns))] = times.coefficient
    return found


def _added(forms: Sequence[Form]) -> Form:
    found: dict[Part, Fraction] = {}
    for form in forms:
        for part, coefficient in form.items():
            found[part] = found.get(part, Fraction(0)) + coefficient
    return {part: coefficient for part, coefficient in found.items() if coefficient}


def _means(parts: Sequence[Part]) -> set[Axes]:
    """Axes over which one part is a sum of what another one has; none: they are alike."""
    found = set()
    for part, other in permutations(parts, 2):
        if part[0] == other[0]:
            pairs = zip(part[1], other[1], strict=True)
            found.add(frozenset(own for own, its in pairs if own is not None and its is None))
    return found


def _zero(forms: Sequence[Form]) -> list[int]:
    """The operands that cancel, each with others that do."""
    gone, before = list(range(len(forms))), -1
    while len(gone) != before:
        before, rest = len(gone), _added([forms[k] for k in gone])
        gone = [k for k in gone if rest.keys().isdisjoint(forms[k])]
    return gone
