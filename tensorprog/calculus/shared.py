"""What the rules share: growing axes and their packed sizes, contraction plans, how messages call a node."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

from tensorprog.calculus.layers import LoopBits, finish
from tensorprog.calculus.multiply import ContractPlan, Summed, multiply
from tensorprog.calculus.terms import Replaced, Term, Terms, interned, parts
from tensorprog.dims import Dim
from tensorprog.errors import CalculusError
from tensorprog.exponents import Units
from tensorprog.graph import Add, Axis, Const, Contract, Fold, Map, Merge, Node, Param, Scale, Split, StopGrad, Window

Initial = Callable[[list[Terms]], Terms]
Change = Callable[[list[Terms], list[Terms]], Terms]


@dataclass(frozen=True, slots=True)
class Rule:
    """The semantics of one node: its initial terms from its operands', and the terms of its change from the operands'
    initial terms and those of their changes."""

    initial: Initial
    change: Change


def linear(transform: Callable[[list[Terms]], Terms]) -> Rule:
    """A node kind that is linear in all its operands together: the change follows the same map."""

    def change(t: list[Terms], d: list[Terms]) -> Terms:
        for c in d:
            if isinstance(c, Replaced) and c.everywhere:
                return Replaced(*[transform(list(part)) for part in zip(*map(parts, t, d), strict=True)])
        return transform(d)

    return Rule(transform, change)


class Sizes:
    """Packed exponents of axis sizes, and which axes grow, computed once per object (the program keeps those alive)."""

    def __init__(self, units: Units, loops: Mapping[int, LoopBits] | None = None) -> None:
        self.units, self.loops = units, loops or {}
        self._known: dict[int, int] = {}
        self._growing: dict[int, list[int]] = {}
        self._plans: dict[ContractPlan, ContractPlan] = {}
        self.plans: dict[Hashable, ContractPlan] = {}  # see `contract_plan`

    def __call__(self, dim: Dim) -> int:
        size = self._known.get(id(dim))
        if size is None:
            size = self._known[id(dim)] = self.units.size(dim)
        return size

    def same(self, plan: ContractPlan) -> ContractPlan:
        """The one of the plans equal to this that all contractions have, so that they know what any of them found."""
        return self._plans.setdefault(plan, plan)

    def growing(self, axes: tuple[Axis, ...]) -> list[int]:
        """Positions of the growing axes."""
        found = self._growing.get(id(axes))
        if found is None:
            found = self._growing[id(axes)] = [k for k, axis in enumerate(axes) if self(axis.dim)]
        return found

    def widths(self, axes: tuple[Axis, ...]) -> list[int]:
        """Positions of the growing axes that do not count layers."""
        return [k for k, axis in enumerate(axes) if not axis.loop and self(axis.dim)]


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
        case Const(value):
            return f"{value:g}"
        case Map(fn, order):
            return f"{fn}{chr(39) * order}({', '.join(args)})"
        case _:
            return f"{type(node.op).__name__.lower()}({', '.join(args)})"


def refuse(node: Node, nodes: Sequence[Node], why: str, fix: str) -> CalculusError:
    """The error for a node outside the calculus."""
    return CalculusError(f"the calculus does not cover `{describe(node, nodes)}`", node.span, why=why, fix=fix)


def is_outer(node: Node, places: list[int], nodes: Sequence[Node], sizes: Sizes) -> bool:
    """Whether a tensor (and its change) is a finite sum of outer products of vectors along these of its axes."""
    if len(places) < 2:
        return True
    match node.op:
        case Scale() | StopGrad():
            return is_outer(nodes[node.args[0]], places, nodes, sizes)
        case Add(axes_of):
            return all(
                is_outer(nodes[a], [k for k, axis in enumerate(axes) if axis in places], nodes, sizes)
                for a, axes in zip(node.args, axes_of, strict=True)
            )
        case Contract(left, right, out):
            wanted = [out[k] for k in places]
            operands = [(nodes[a], indices) for a, indices in zip(node.args, (left, right or ()), strict=False)]
            for arg, indices in operands:
                if any(sizes(axis.dim) and i not in out for i, axis in zip(indices, arg.axes, strict=True)):
                    return False  # a growing sum of outer products
            return not any(i in left and i in (right or ()) for i in wanted) and all(
                is_outer(arg, [k for k, i in enumerate(indices) if i in wanted], nodes, sizes)
                for arg, indices in operands
            )
        case _:
            return False


def contract_plan(
    op: Contract,
    args: list[Node],
    sizes: Sizes,
    nodes: Sequence[Node] = (),
    balance: tuple[bool, bool] = (False, False),
) -> ContractPlan:
    """The growing indices of a contraction, split into summed and kept. `nodes`: those of the program, to see
    whether an operand is a sum of outer products; `balance`: see balanced.py."""
    axes = [axis for arg in args for axis in arg.axes]
    key = (op.left, op.right, op.out, tuple([(sizes(axis.dim), axis.loop) for axis in axes]), balance)
    plan = sizes.plans.get(key)
    if plan is None:
        plan = sizes.same(_contract_plan(op, args, sizes, nodes, balance))
        if len(plan.summed) < 2:  # of more, the operands have a say
            sizes.plans[key] = plan
    return plan


def _contract_plan(
    op: Contract, args: list[Node], sizes: Sizes, nodes: Sequence[Node], balance: tuple[bool, bool]
) -> ContractPlan:
    dims = {i: sizes(axis.dim) for indices, arg in zip((op.left, op.right or ()), args, strict=False)
            for i, axis in zip(indices, arg.axes, strict=True)}  # fmt: skip
    left = {i: k for k, i in enumerate([i for i in op.left if dims[i]])}
    right = {i: k for k, i in enumerate([i for i in op.right or () if dims[i]])}
    summed = tuple(
        Summed(left.get(i, -1), right.get(i, -1), dims[i], dims[i] // 2)
        for i in dims
        if dims[i] and i not in op.out
    )  # fmt: skip
    kept = tuple((left.get(i, -1), right.get(i, -1)) for i in op.out if dims[i])

    def excess(own: dict[int, int], other: dict[int, int], place: int) -> int:
        """An axis that both keep only numbers independent products: no norm couples them. A random tensor is summed
        with u v over two axes by one after the other: its norm on such products is that of its longest axis."""
        over = [i for i in own if i not in op.out]
        gain = sum(dims[i] for i in over)
        if len(over) > 1 and nodes and op.right is not None and all(i in other for i in over):
            indices = (op.left, op.right)[place]
            if is_outer(args[place], [indices.index(i) for i in over], nodes, sizes):
                gain = max(dims[i] for i in over)
        ratio = gain - sum(dims[i] for i in own if i in op.out and i not in other)
        return ratio // 2 if sizes.units.grows(ratio) else 0

    loops = {i: axis.loop for indices, arg in zip((op.left, op.right or ()), args, strict=False)
             for i, axis in zip(indices, arg.axes, strict=True) if axis.loop}  # fmt: skip
    layers = tuple((k, sizes.loops[loops[i]]) for k, i in enumerate([i for i in op.out if dims[i]]) if i in loops)
    crossed = tuple(sizes.loops[k] for k in sorted({loops[i] for i in loops if i not in op.out}, reverse=True))
    return ContractPlan(summed, kept, (excess(left, right, 1), excess(right, left, 0)), layers, crossed, balance)


UNIT: Term = (0, 0, ())
UNKNOWN: tuple[int, int, Terms] = (-1, -1, ())  # of no raw matrices


def products(x: Terms, y: Terms, plan: ContractPlan) -> list[Term]:
    """All pairwise products of terms that are not zero. What a product is, but for its operands' sizes, the plan knows
    once asked."""
    found: list[Term] = []
    for x_size, x_raw, x_grades in x if y else ():
        known = plan.known.get(x_grades)
        if known is None:
            known = plan.known[x_grades] = {}
        for y_size, y_raw, y_grades in y:
            for_x, for_y, product = known.get(y_grades, UNKNOWN)
            if for_x != x_raw or for_y != y_raw:  # seldom: the masks of raw matrices are long, and not hashed
                parts = [finish(part, plan) for part in multiply((0, x_raw, x_grades), (0, y_raw, y_grades), plan)]
                product = tuple([(gain, raw, interned(grades)) for gain, raw, grades in parts])
                known[y_grades] = (x_raw, y_raw, product)
            for gain, raw, grades in product:
                found.append((x_size + y_size + gain, raw, grades))
    return found


def power_size(units: Units, scale: Scale) -> int:
    """The packed exponent of a Scale's factor, its unknowns left out."""
    total = 0
    for dim, power in scale.scalar.powers:
        size = units.size(dim)
        if size:
            total += units.pack_power(units.unpack(size) ** power)
    return total
