"""One rule per node kind: from the terms of its operands to its own, at initialisation and for the change.

`rules_for` compiles every node of a program into a `Rule(initial, change)`; both take the operands' initial
terms, `change` also those of their change since initialisation. Linear kinds stand here; entrywise
nonlinearities in nonlinear.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import assert_never

from tensorprog.calculus import nonlinear
from tensorprog.calculus.terms import (
    EVEN,
    STAYS,
    UNKNOWN,
    ContractPlan,
    Grade,
    GramError,
    Summed,
    Term,
    Terms,
    forget,
    grade_product,
    multiply,
    reduce_terms,
)
from tensorprog.dims import Dim
from tensorprog.errors import CalculusError
from tensorprog.exponents import Power, Units
from tensorprog.functions import BUILTIN, Function
from tensorprog.graph import (
    Add,
    Axis,
    Const,
    Contract,
    Fold,
    Input,
    InvRms,
    Loss,
    LossGrad,
    Map,
    Merge,
    Node,
    Param,
    Program,
    Scale,
    Softmax,
    SoftmaxGrad,
    Split,
    StopGrad,
    TopK,
    Update,
    Window,
)

Initial = Callable[[list[Terms]], Terms]
Change = Callable[[list[Terms], list[Terms]], Terms]


@dataclass(frozen=True, slots=True)
class Rule:
    """The semantics of one node. `shift`: the node multiplies by a width-dependent scalar (kept apart, since
    solving changes it): `linear` tells that both parts follow the same linear map."""

    initial: Initial
    change: Change


class Sizes:
    """Packed exponents of axis sizes, computed once per dim object (the program keeps those alive)."""

    def __init__(self, units: Units) -> None:
        self.units = units
        self._known: dict[int, int] = {}

    def __call__(self, dim: Dim) -> int:
        size = self._known.get(id(dim))
        if size is None:
            size = self._known[id(dim)] = self.units.pack(dict(dim.growth)) if dim.grows else 0
        return size

    def growing(self, axes: tuple[Axis, ...]) -> list[int]:
        """Positions of the growing axes."""
        return [k for k, axis in enumerate(axes) if self(axis.dim)]


def describe(node: Node, nodes: Sequence[Node] = (), depth: int = 3) -> str:
    """How messages call a node: by its name, else by the expression it stands for."""
    if node.name:
        return node.name
    if isinstance(node.op, Param):
        return node.op.name
    args = [describe(nodes[a], nodes, depth - 1) if nodes and depth else ".." for a in node.args]
    match node.op:
        case Contract():
            return " ".join(args)
        case Add():
            return " + ".join(args)
        case Scale(scalar):
            shown = [u for u in scalar.unknowns if "@" not in u]
            return " ".join([*(f"?{u}" for u in shown), *args])
        case Split() | Merge() | Window() | Fold() | StopGrad():
            return args[0]
        case Map(fn, order):
            return f"{fn}{chr(39) * order}({', '.join(args)})"
        case _:
            return f"{type(node.op).__name__.lower()}({', '.join(args)})"


def refuse(node: Node, nodes: Sequence[Node], why: str, fix: str = "") -> CalculusError:
    """The error for a node outside the calculus."""
    return CalculusError(f"the calculus does not cover `{describe(node, nodes)}`", node.span, why=why, fix=fix)


def linear(transform: Callable[[list[Terms]], Terms]) -> Rule:
    """A node kind that is linear in all its operands together: the change follows the same map."""
    return Rule(transform, lambda _, changes: transform(changes))


def rules_for(
    program: Program,
    units: Units,
    scalar_size: Callable[[Scale], int],
    functions: Mapping[str, Function],
) -> list[Rule | None]:
    """The rule of every node; None for Param and Update nodes, whose terms the analysis supplies."""
    sizes = Sizes(units)
    return [_rule(node, program, sizes, scalar_size, functions) for node in program.nodes]


def _rule(
    node: Node,
    program: Program,
    sizes: Sizes,
    scalar_size: Callable[[Scale], int],
    functions: Mapping[str, Function],
) -> Rule | None:
    args = [program.nodes[a] for a in node.args]
    growing = sizes.growing(node.axes)
    match node.op:
        case Param() | Update():
            return None
        case Input(_, kind):
            if kind == "tokens" and sizes(node.axes[-1].dim):
                raise refuse(
                    node, program.nodes, "its vocabulary grows with the width", "make the vocabulary a finite dim"
                )
            data: Terms = ((0, 0, (EVEN,) * len(growing)),)
            return Rule(lambda _: data, lambda _, __: ())
        case Const(value):
            filled: Terms = ((0, 0, (EVEN,) * len(growing)),) if value else ()
            return Rule(lambda _: filled, lambda _, __: ())
        case Contract():
            return _contract(node, node.op, args, sizes, program)
        case Add(places):
            return _add(places, args, growing, sizes)
        case Scale() as scale:
            if not scale.scalar.coefficient:
                return linear(lambda _: ())
            return linear(lambda t: _shifted(t[0], scalar_size(scale)))
        case Map(fn, order):
            function = functions.get(fn) or BUILTIN.get(fn)
            if function is None or order > 1:
                raise refuse(node, program.nodes, f"nothing is known of the function `{fn}` (derivative {order})")
            facts = function.facts[order]
            if facts.degree == 0:  # a step: its value at exactly 0 is PyTorch's, 0
                facts = replace(facts, constant=False)
            return Rule(*nonlinear.entrywise(facts, len(growing)))
        case InvRms(axes, _):
            return Rule(*_inverse_rms(args[0], axes, sizes))
        case Softmax(axis, _):
            if sizes(node.axes[axis].dim):
                raise refuse(node, program.nodes, "softmax along an axis that grows", "let the axis be a finite dim")
            return Rule(*nonlinear.entrywise(nonlinear.SOFTMAX, len(growing)))
        case SoftmaxGrad(_):
            return _softmax_grad(len(growing))
        case TopK(axis, _):
            if sizes(node.axes[axis].dim):
                raise refuse(node, program.nodes, "selection along an axis that grows", "let the axis be a finite dim")
            return Rule(*nonlinear.entrywise(nonlinear.SELECT, len(growing)))
        case Split(axis, count):
            return _regraded(_split_sources(args[0], axis, count, growing, sizes), node)
        case Merge(axis, count):
            return _merge(node, args[0], axis, count, sizes)
        case Window(axis, _, _, _, taps) | Fold(axis, _, _, _, taps):
            return _window(node, args[0], axis, taps, sizes, program)
        case StopGrad():
            return linear(lambda t: t[0])
        case Loss(kind):
            if kind == "cross_entropy" and sizes(args[0].axes[-1].dim):
                raise refuse(
                    node, program.nodes, "cross entropy over an axis that grows", "let the classes be a finite dim"
                )
            return Rule(*_loss(kind))
        case LossGrad(kind):
            entries = sum(sizes(axis.dim) for axis in node.axes)
            return Rule(*_loss_grad(kind, len(growing), entries))
        case _:
            assert_never(node.op)


def _shifted(terms: Terms, shift: int) -> Terms:
    if not shift:
        return terms
    return tuple([(size + shift, raw, grades) for size, raw, grades in terms])


# --- contractions -----------------------------------------------------------------------------------


def contract_plan(op: Contract, args: list[Node], sizes: Sizes) -> ContractPlan:
    """The growing indices of a contraction, split into summed and kept."""
    where: list[dict[int, int]] = []
    dims: dict[int, int] = {}
    for indices, arg in zip((op.left, op.right or ()), (*args, None), strict=False):
        growing = [i for i, axis in zip(indices, arg.axes if arg else (), strict=False) if sizes(axis.dim)]
        where.append({i: k for k, i in enumerate(growing)})
        if arg:
            dims.update({i: sizes(axis.dim) for i, axis in zip(indices, arg.axes, strict=True)})
    left, right = where
    summed = tuple(
        Summed(left.get(i, -1), right.get(i, -1), dims[i], dims[i] // 2)
        for i in dims
        if dims[i] and i not in op.out
    )  # fmt: skip
    kept = tuple((left.get(i, -1), right.get(i, -1)) for i in op.out if dims[i])

    def excess(own: dict[int, int]) -> int:
        ratio = sum(-dims[i] if i in op.out else dims[i] for i in own)
        return ratio // 2 if sizes.units.degree(ratio) > 0 else 0

    return ContractPlan(summed, kept, (excess(left), excess(right)))


UNIT: Term = (0, 0, ())


def products(x: Terms, y: Terms, plan: ContractPlan) -> list[Term]:
    """All pairwise products of terms."""
    return [multiply(a, b, plan) for a in x for b in y]


def _contract(node: Node, op: Contract, args: list[Node], sizes: Sizes, program: Program) -> Rule:
    plan = contract_plan(op, args, sizes)
    if op.right is None:
        return linear(lambda t: reduce_terms([multiply(a, UNIT, plan) for a in t[0]]))

    def pairs(x: Terms, y: Terms) -> list[Term]:
        try:
            return [multiply(a, b, plan) for a in x for b in y]
        except GramError:
            raise refuse(
                node,
                program.nodes,
                "it multiplies a random matrix with itself (a Gram matrix)",
                "multiply the matrix with a vector first, then again",
            ) from None

    def initial(t: list[Terms]) -> Terms:
        return reduce_terms(pairs(t[0], t[1]))

    def change(t: list[Terms], d: list[Terms]) -> Terms:  # dx y0 + x0 dy + dx dy
        (x, y), (dx, dy) = t, d
        if not dy:
            return reduce_terms(pairs(dx, y)) if dx else ()
        return reduce_terms(pairs(x, dy) + pairs(dx, y) + pairs(dx, dy))

    return Rule(initial, change)


# --- sums and relabelled axes -----------------------------------------------------------------------


def _add(places: tuple[tuple[int, ...], ...], args: list[Node], growing: list[int], sizes: Sizes) -> Rule:
    sources: list[list[int] | None] = []
    for place, arg in zip(places, args, strict=True):
        own = sizes.growing(arg.axes)
        position = {place[axis]: k for k, axis in enumerate(own)}
        source = [position.get(axis, -1) for axis in growing]
        sources.append(None if source == list(range(len(own))) else source)

    def transform(t: list[Terms]) -> Terms:
        terms: list[Term] = []
        filled = 0
        for source, operand in zip(sources, t, strict=True):
            filled += bool(operand)
            if source is None:
                terms.extend(operand)
            else:
                terms.extend([(size, 0 if -1 in source else raw, tuple([g[k] if k >= 0 else EVEN for k in source]))
                              for size, raw, g in operand])  # fmt: skip
        return reduce_terms(terms) if filled > 1 else tuple(terms)

    return linear(transform)


def _split_sources(arg: Node, axis: int, count: int, growing: list[int], sizes: Sizes) -> list[int]:
    """For every growing axis of the result of a Split, which grade of the operand it inherits."""
    own = {a: k for k, a in enumerate(sizes.growing(arg.axes))}
    return [own[a if a <= axis else max(axis, a - count + 1)] for a in growing]


def _regraded(source: list[int], node: Node) -> Rule:
    if source == list(range(len(source))):
        return linear(lambda t: t[0])
    return linear(lambda t: tuple([(size, raw, tuple([g[k] for k in source])) for size, raw, g in t[0]]))


def _merge(node: Node, arg: Node, axis: int, count: int, sizes: Sizes) -> Rule:
    own = sizes.growing(arg.axes)
    groups: list[list[int]] = []
    for target in sizes.growing(node.axes):
        low, high = (target, target) if target < axis else (axis, axis + count - 1)
        if target > axis:
            low = high = target + count - 1
        groups.append([k for k, a in enumerate(own) if low <= a <= high])
    if all(len(g) == 1 for g in groups):
        return linear(lambda t: t[0])

    def transform(t: list[Terms]) -> Terms:
        return reduce_terms([(size, raw, tuple([_joint([g[k] for k in group]) for group in groups]))
                             for size, raw, g in t[0]])  # fmt: skip

    return linear(transform)


def _joint(grades: list[Grade]) -> Grade:
    """The grade along two axes seen as one: zero mean only where it is so along each of them."""
    if all(g == grades[0] for g in grades):
        return grades[0]
    common, depends = grades[0][0], 0
    for odd, free, _, _ in grades:
        common &= odd
        depends |= odd | free
    return (common, depends & ~common, 0, UNKNOWN)


def _window(node: Node, arg: Node, axis: int, taps: bool, sizes: Sizes, program: Program) -> Rule:
    before, after = sizes(arg.axes[axis].dim), sizes(node.axes[axis].dim)
    if (before or after) and (taps or before != after):
        raise refuse(node, program.nodes, "it slides, or pads to another order of size, along an axis that grows",
                     "slice growing axes only into parts that grow alike")  # fmt: skip
    return linear(lambda t: t[0])


# --- normalisation and losses -----------------------------------------------------------------------


def _inverse_rms(arg: Node, axes: tuple[int, ...], sizes: Sizes) -> tuple[Initial, Change]:
    """r = (mean x^2)^(-1/2): size -|x|. Over a growing axis the mean is a constant by the law of large numbers.

    Relative change: mean(x dx) / mean(x^2), a contraction like any other, never more than Theta(1).
    """
    indices = tuple(range(len(arg.axes)))
    kept_axes = tuple(k for k in indices if k not in axes)
    plan = contract_plan(Contract(indices, indices, kept_axes), [arg, arg], sizes)
    averaged = any(s.full for s in plan.summed)
    count = sum(s.full for s in plan.summed)

    def initial(t: list[Terms]) -> Terms:
        if not t[0]:
            return ((0, 0, (EVEN,) * len(plan.kept)),)
        size = t[0][0][0] if len(t[0]) == 1 else max(term[0] for term in t[0])
        main = [term for term in t[0] if term[0] == size]
        if averaged:
            return ((-size, 0, (EVEN,) * len(plan.kept)),)
        grades = []
        for i, _ in plan.kept:
            depends = EVEN
            for term in main:  # the square is even in what a single term is odd in
                g = term[2][i]
                even = UNKNOWN if g[3] == UNKNOWN else STAYS
                depends = grade_product(depends, (0, g[1], 0, even) if len(main) == 1 else forget(g, even))
            grades.append(depends)
        return ((-size, 0, tuple(grades)),)

    def change(t: list[Terms], d: list[Terms]) -> Terms:
        x, dx = t[0], d[0]
        if not dx:
            return ()
        scale = max((term[0] for term in x), default=None)
        if scale is None:
            return initial([dx])
        x = tuple([(size, 0, grades) for size, _, grades in x])
        dx = tuple([(size, 0, grades) for size, _, grades in dx])
        (r,) = initial(t)
        terms = []
        for size, _, grades in products(x, dx, plan) + products(dx, dx, plan):
            relative = min(0, size - count - 2 * scale)
            terms.append((relative - scale, 0, tuple(map(grade_product, grades, r[2]))))
        return reduce_terms(terms)

    return initial, change


def _softmax_grad(growing: int) -> Rule:
    """dx = y (dy - sum y dy) along a finite axis: entrywise products of the terms."""
    plan = ContractPlan((), tuple((k, k) for k in range(growing)))

    def total(y: Terms, dy: Terms) -> list[Term]:
        first = products(y, dy, plan)
        return first + products(tuple(first), y, plan)

    def initial(t: list[Terms]) -> Terms:
        return reduce_terms(total(t[0], t[1]))

    def change(t: list[Terms], d: list[Terms]) -> Terms:
        (y, g), (dy, dg) = t, d
        terms = total(y + dy, dg) if dg else []
        if dy:
            terms += products(dy, g, plan)
            terms += products(tuple(products(dy, g, plan)), y + dy, plan)
            terms += products(tuple(products(y, g, plan)), dy, plan)
        return reduce_terms(terms)

    return Rule(initial, change)


def _loss(kind: str) -> tuple[Initial, Change]:
    """A scalar. cross entropy: a constant plus at most the logits; mse: quadratic; mean: linear."""
    power = 2 if kind == "mse" else 1

    def size(terms: Terms) -> int:
        return max(max((term[0] for term in terms), default=0) * power, 0)

    def initial(t: list[Terms]) -> Terms:
        return ((size(t[0]), 0, ()),)

    def change(t: list[Terms], d: list[Terms]) -> Terms:
        if not d[0]:
            return ()
        largest = max(term[0] for term in d[0])
        scale = max((term[0] for term in t[0]), default=0)
        return ((max(largest + max(scale, 0), 2 * largest) if power == 2 else largest, 0, ()),)

    return initial, change


def _loss_grad(kind: str, growing: int, entries: int) -> tuple[Initial, Change]:
    """dL/df: cross entropy: bounded, softmax(f) - target; mse: f - target, over the number of entries."""
    constant: Term = (-entries, 0, (EVEN,) * growing)

    def bounded(terms: Terms) -> list[Term]:
        if kind == "mean":
            return []
        cap = 0 if kind == "cross_entropy" else None
        return [((size if cap is None else min(size, cap)) - entries, 0,
                 grades if kind == "mse" else tuple(map(forget, grades)))
                for size, _, grades in terms]  # fmt: skip

    return (lambda t: reduce_terms([constant, *bounded(t[0])])), (lambda _, d: reduce_terms(bounded(d[0])))


def power_size(units: Units, scale: Scale) -> int:
    """The packed exponent of a Scale's factor, its unknowns left out."""
    total = 0
    for dim, power in scale.scalar.powers:
        if dim.grows:
            total += units.pack_power(Power.of(dict(dim.growth)) ** power)
    return total
