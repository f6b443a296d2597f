"""Norms of what cancels: where all the largest parts of a norm's argument take each other away, at initialisation.

Sizes are upper bounds: no two terms are taken to cancel. Behind the inverse of a norm that is an underestimate, so
that the gradients would blow up. The largest part of a tensor is followed here as a sum of products, with its
coefficient, as far as that is exact: sigmoid(f) of a vanishing f is 1/2, the same for all examples, and goes with the
mean over the batch. What cannot be followed has a name of its own, and cancels with nothing but itself. Of sums of
positive multiples nothing cancels.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from math import prod

import numpy as np

from tensorprog.calculus.leading import (
    NUMBER,
    ONE,
    Part,
    Value,
    alike,
    along,
    rational,
    reshaped,
    scaled,
    start_of,
    times,
    windowed,
)
from tensorprog.calculus.nonlinear import facts_of
from tensorprog.calculus.shared import Sizes, refuse
from tensorprog.calculus.terms import Terms, largest, size_of
from tensorprog.functions import Function, find
from tensorprog.graph import (
    Add,
    Const,
    Contract,
    InvRms,
    Map,
    Merge,
    Node,
    Param,
    Program,
    Scale,
    Softmax,
    Split,
    StopGrad,
    TopK,
    Window,
)

Factors = list[tuple[int, tuple[int, ...]]]  # tensors, and the indices that they have in a product
PARTS = 8  # of more, a tensor has a name of its own


def require_norms_of_what_lasts(
    program: Program, initial: Sequence[Terms], multipliers: Mapping[str, int], sizes: Sizes,
    functions: Mapping[str, Function],
) -> None:  # fmt: skip
    """Raises CalculusError where the largest parts of a norm's argument cancel. `multipliers`: the packed exponents of
    unknown ones."""
    forward = program.forward.nodes
    known = _Largest(program, initial, multipliers, sizes, functions)
    norms = [node for node in forward if isinstance(node.op, InvRms) and node.args[0] in known.signed]
    for norm in norms:
        if not known.values[norm.args[0]]:
            raise refuse(
                norm, forward, "the largest parts of what it divides by cancel: the rest is smaller than the sum of "
                "their sizes, and gradients behind its inverse are larger",
                "take away what is alike before it is added, or normalise what is left of it",
            )  # fmt: skip


@dataclass
class _Largest:
    """The largest parts of all forward tensors at initialisation."""

    program: Program
    initial: Sequence[Terms]
    multipliers: Mapping[str, int]
    sizes: Sizes
    functions: Mapping[str, Function]
    names: dict[Hashable, int] = field(default_factory=dict)  # of what parts are made of
    totals: dict[int, tuple[int, int]] = field(default_factory=dict)  # their axis that adds up to a number, and that

    @cached_property
    def signed(self) -> set[int]:
        """Forward nodes that are not zero, and whose parts may have coefficients that are not positive."""
        found: set[int] = set()
        for node in self.program.forward.nodes:
            if self.initial[node.id] and not (self._factor(node) > 0 and found.isdisjoint(self._read(node))):
                found.add(node.id)
        return found

    def _read(self, node: Node) -> Sequence[int]:
        """The operands that the largest parts of a node are made of."""
        return [node.args[k] for k in self._leading(node)] if isinstance(node.op, Add) else node.args

    def _factor(self, node: Node) -> Fraction | float:
        """What a node multiplies coefficients with, or has as one."""
        match node.op:
            case Const(value):
                return value
            case Param(name):
                start = start_of(self.program.forward.parameters[name])
                return 1 if start is None else start
            case Scale(scalar):
                return scalar.coefficient
            case Map(fn, order) if (constant := self._constant(node, fn, order)) is not None:
                return constant
            case _:
                return 1

    @cached_property
    def values(self) -> Sequence[Value]:
        """Of every forward node; empty if its largest parts cancel, or if it is exactly zero."""
        found: list[Value] = []
        for node in self.program.forward.nodes:
            zero, inside = largest(self.initial[node.id]) is None, self._in_loop(node)
            value = self._named(node) if inside else {} if zero else self._value(node, [found[a] for a in node.args])
            found.append(value if len(value) <= PARTS else self._named(node))
        return found

    def _in_loop(self, node: Node) -> bool:
        nodes = self.program.forward.nodes
        return any(axis.loop for k in (node.id, *node.args) for axis in nodes[k].axes)

    def _value(self, node: Node, args: list[Value]) -> Value:
        match node.op:
            case Const(value):
                return scaled(NUMBER, rational(value), ())
            case Param(name):
                start = start_of(self.program.forward.parameters[name])
                return self._named(node) if start is None else scaled(NUMBER, start, ())
            case StopGrad():
                return args[0]
            case Scale(scalar):
                unknowns = [self.multipliers[name] if "@" in name else name for name in scalar.unknowns]
                powers = [*scalar.powers, *((of, Fraction(1)) for of in unknowns if of)]
                return scaled(args[0], scalar.coefficient, powers)
            case Add(places):
                return self._sum(node, places, args)
            case Contract(left, right, out) if self._follows(node, node.op):
                return self._product(node, (left, right or ()), out, args)
            case Map(fn, order) if args[0]:
                return self._function(node, fn, order, args[0])
            case Softmax(axis, None) if self._vanishes(node.args[0]) or (args[0] and alike(args[0], axis)):
                return scaled(NUMBER, Fraction(1), [(node.axes[axis].dim, Fraction(-1))])
            case TopK(axis) if alike(args[0], axis):  # the rest decides
                return self._selects(node.op, self._named(node))
            case Softmax() | TopK() if args[0]:
                return self._selects(node.op, along(node.op, args[0], self._called))
            case InvRms() if args[0]:
                return along(node.op, args[0], self._called)
            case Split() | Merge():
                axes = (*self.program.forward.nodes[node.args[0]].axes, *node.axes)
                return reshaped(node.op, tuple([axis.dim for axis in axes]), args[0], self._called)
            case Window(axis, _, _, _, False) if alike(args[0], axis) and self._inside(node):
                return args[0]
            case Window():
                return windowed(node.op, node.axes[node.op.axis].dim, args[0], self._called)
            case _:
                return self._named(node)

    def _named(self, node: Node) -> Value:
        """A tensor of which nothing more is known."""
        return {(frozenset(), self._called(("node", node.id)), tuple(range(len(node.axes)))): Fraction(1)}

    def _selects(self, op: Softmax | TopK, value: Value) -> Value:
        """Along their axis, weights of a softmax add up to 1, and the mask of the k largest to k."""
        ((_, tensor, axes),) = value
        if isinstance(op, TopK) or op.mask is None or op.mask[1] in ("<=", ">="):  # else a row may have none
            self.totals[tensor] = axes.index(op.axis), op.k if isinstance(op, TopK) else 1
        return value

    def _without_selections(self, factors: Factors, out: tuple[int, ...]) -> tuple[Factors, dict[int, int]]:
        """The factors but for weights whose sum nothing else depends on; summed index -> that sum."""
        left, sums = list(factors), dict[int, int]()
        for factor in factors:
            place, total = self.totals.get(factor[0], (0, 0))
            over = factor[1][place] if total else None
            if over is not None and over not in out and sum(own.count(over) for _, own in left) == 1:
                left.remove(factor)
                sums[over] = total
        return left, sums

    def _called(self, tensor: Hashable) -> int:
        return self.names.setdefault(tensor, len(self.names) + 1)

    def _degree(self, node: int) -> Fraction:
        return self.sizes.units.unpack(size_of(self.initial[node])).degree

    def _vanishes(self, node: int) -> bool:
        size = largest(self.initial[node])
        return size is None or (size < 0 and self._degree(node) < 0)

    def _leading(self, node: Node) -> list[int]:
        """The places of the largest operands; of several widths in proportion, those of the largest degree."""
        there = [k for k, a in enumerate(node.args) if self.initial[a]]
        size = {k: size_of(self.initial[node.args[k]]) for k in there}
        top = max(size.values(), default=0)
        if all(own == top for own in size.values()):
            return there
        degree = max([self._degree(node.args[k]) for k in there])
        return [k for k in there if size[k] == top or self._degree(node.args[k]) == degree]

    def _sum(self, node: Node, places: tuple[tuple[int, ...], ...], args: list[Value]) -> Value:
        found: dict[Part, Fraction] = {}
        for k in self._leading(node):
            for (powers, tensor, axes), coefficient in args[k].items():
                part = (powers, tensor, tuple([places[k][a] for a in axes]))
                found[part] = found.get(part, Fraction(0)) + coefficient
        return {part: coefficient for part, coefficient in found.items() if coefficient}

    def _follows(self, node: Node, op: Contract) -> bool:
        """Whether the largest part of a product is made of those of its factors: not where smaller ones may be aligned
        in a sum that grows, as they cannot be with a random parameter that they do not know."""
        nodes = self.program.forward.nodes
        dims = {i: axis.dim for indices, a in zip((op.left, op.right or ()), node.args, strict=False)
                for i, axis in zip(indices, nodes[a].axes, strict=True)}  # fmt: skip
        if not any(self.sizes(dims[i]) for i in op.summed):
            return True
        factors = [size_of(self.initial[a]) for a in node.args] + [self.sizes(dims[i]) for i in op.summed]
        if size_of(self.initial[node.id]) == sum(factors):
            return True  # smaller ones add up to less, however aligned
        for one, other in (node.args, node.args[::-1]) if op.right is not None else ():
            weight = one
            while isinstance(nodes[weight].op, Scale | StopGrad):
                weight = nodes[weight].args[0]
            of = nodes[weight].op
            if isinstance(of, Param) and start_of(self.program.forward.parameters[of.name]) is None:
                return not _bits(self.initial[one]) & _bits(self.initial[other])
        return False

    def _product(
        self, node: Node, indices: tuple[tuple[int, ...], tuple[int, ...]], out: tuple[int, ...], args: list[Value]
    ) -> Value:
        nodes = self.program.forward.nodes
        dims = {i: axis.dim for own, a in zip(indices, node.args, strict=False)
                for i, axis in zip(own, nodes[a].axes, strict=True)}  # fmt: skip
        found: dict[Part, Fraction] = {}
        for (p1, t1, a1), c1 in args[0].items():
            for (p2, t2, a2), c2 in (args[1] if len(args) > 1 else NUMBER).items():
                factors = [(t, tuple([own[a] for a in axes]))
                           for t, axes, own in ((t1, a1, indices[0]), (t2, a2, indices[1])) if t != ONE]  # fmt: skip
                factors, sums = self._without_selections(sorted(factors), out)
                carried = list(dict.fromkeys(i for _, own in factors for i in own))
                kept = [i for i in carried if i in out]
                if len(factors) == 1 and kept == carried:
                    tensor = factors[0][0]
                elif factors:
                    names = {i: k for k, i in enumerate(kept)} | {i: -1 - k for k, i in enumerate(
                        [i for i in carried if i not in out])}  # fmt: skip
                    tensor = self._called(tuple([(t, tuple([names[i] for i in own])) for t, own in factors]))
                else:
                    tensor = ONE
                lone = [(dims[i], Fraction(1)) for i in dims if i not in (*out, *carried, *sums)]
                axes = tuple([out.index(i) for i in kept])
                factor = c1 * c2 * prod(sums.values())
                for part, c in scaled({(times(p1, p2), tensor, axes): factor}, Fraction(1), lone).items():
                    found[part] = found.get(part, Fraction(0)) + c
        return {part: coefficient for part, coefficient in found.items() if coefficient}

    def _function(self, node: Node, fn: str, order: int, x: Value) -> Value:
        """Of a vanishing argument: its constant, or its slope; of another one, a function of its largest part."""
        constant = self._constant(node, fn, order)
        if constant is not None:
            return scaled(NUMBER, constant, ())
        facts = facts_of(find(fn, self.functions), order)
        if facts.degree is None and self._vanishes(node.args[0]):
            if facts.order == 1 and (facts.kink is None or facts.kink > 1):
                return scaled(x, *self._slope(fn, order))
            return self._named(node)
        axes = tuple(sorted({a for _, _, own in x for a in own}))
        made = frozenset((powers, t, tuple([axes.index(a) for a in own]), c) for (powers, t, own), c in x.items())
        return {(frozenset(), self._called((fn, order, made)), axes): Fraction(1)}

    def _constant(self, node: Node, fn: str, order: int) -> Fraction | None:
        """What a function is of a vanishing argument, if it does not vanish too."""
        function = find(fn, self.functions)
        facts = facts_of(function, order)
        if facts.degree is not None or not facts.constant or facts.kink == 0 or not self._vanishes(node.args[0]):
            return None
        return _at_zero(function, order)

    def _slope(self, fn: str, order: int) -> tuple[Fraction, list[tuple[Hashable, Fraction]]]:
        """What a function multiplies a vanishing argument with: a number, of a second derivative a name."""
        if order:
            return Fraction(1), [((fn, order), Fraction(1))]
        return _at_zero(find(fn, self.functions), 1), []

    def _inside(self, node: Node) -> bool:
        """Whether a window reads no zeros from outside."""
        op, source = node.op, self.program.forward.nodes[node.args[0]]
        assert isinstance(op, Window)
        count, size, offset = node.axes[op.axis].dim.constant, source.axes[op.axis].dim.constant, op.offset.constant
        return None not in (count, size, offset) and offset >= 0 and op.stride * (count - 1) + offset < size  # type: ignore[operator]


def _at_zero(function: Function, order: int) -> Fraction:
    return rational(float(function.numpy[order](np.zeros(1))[0]))


def _bits(terms: Terms) -> int:
    """The random parameters that a tensor depends on."""
    found = 0
    for _, raw, grades in terms:
        for whole, _, _ in grades:
            found |= whole[0] | whole[1]
        found |= raw
    return found
