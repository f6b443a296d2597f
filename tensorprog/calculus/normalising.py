"""Rules of centring and normalisation, of softmax's derivative and of the losses."""

from __future__ import annotations

from tensorprog.calculus.affine import given, greatest, least
from tensorprog.calculus.grades import CONSTANT, EVEN, SAME, STAYS, UNKNOWN, forget, grade_product, squared
from tensorprog.calculus.multiply import ContractPlan
from tensorprog.calculus.shared import Change, Initial, Rule, Sizes, contract_plan, products
from tensorprog.calculus.terms import Replaced, Term, Terms, marked, reduce_terms
from tensorprog.graph import Add, Const, Contract, Node, Program
from tensorprog.norms import by_its_norm, minus_mean, starts_at_one


def centrings(node: Node, program: Program, sizes: Sizes) -> dict[int, tuple[int, int]]:
    """The operands x of a sum that also holds -mean(x) over one growing axis: operand -> (the operand that is the mean,
    the place of the axis among the growing ones)."""
    assert isinstance(node.op, Add)
    found: dict[int, tuple[int, int]] = {}
    means = {k: mean for k, arg in enumerate(node.args) if (mean := minus_mean(program.nodes, arg)) is not None}
    for k, (x, (axis, *more)) in means.items():
        if more:
            continue
        for place, (arg, axes_of) in enumerate(zip(node.args, node.op.places, strict=True)):
            whole = axes_of == tuple(range(len(node.axes)))
            if arg == x and whole and place not in found and sizes(node.axes[axis].dim):
                found[place] = (k, sizes.growing(node.axes).index(axis))
                break
    return found


def centred(terms: Terms, position: int) -> Terms:
    """Terms of x - mean(x) along a growing axis: what is alike along it is gone."""
    return tuple([(size, raw, marked(g, position)) for size, raw, g in terms if g[position] != CONSTANT])


def since_start(node: Node, program: Program) -> Rule | None:
    """The rule of w - 1, with w a parameter that starts at 1: exactly zero until w moves; None for other sums."""
    if len(node.args) != 2:
        return None
    w, one = node.args
    if program.nodes[one].op != Const(-1.0) or not starts_at_one(program.nodes, w, program.forward.parameters):
        return None

    def initial(t: list[Terms]) -> Terms:
        return tuple([(max(size, 0), raw, grades) for size, raw, grades in t[0] if size])

    return Rule(initial, lambda _, d: d[0])


def inverse_rms(arg: Node, axes: tuple[int, ...], sizes: Sizes) -> tuple[Initial, Change]:
    """r = (mean x^2)^(-1/2): size -|x|. Over a growing axis the mean is a constant by the law of large numbers.

    Relative change: mean(x dx) / mean(x^2), a contraction like any other, never more than Theta(1). Once x has
    outgrown its start, the initial r is gone.
    """
    indices = tuple(range(len(arg.axes)))
    kept_axes = tuple(k for k in indices if k not in axes)
    plan = contract_plan(Contract(indices, indices, kept_axes), [arg, arg], sizes)
    averaged = any(s.full for s in plan.summed)
    count = sum(s.full for s in plan.summed)

    def initial(t: list[Terms]) -> Terms:
        if not t[0]:
            return ((0, 0, (EVEN,) * len(plan.kept)),)
        size = t[0][0][0] if len(t[0]) == 1 else greatest(term[0] for term in t[0])
        main = [term for term in t[0] if term[0] == size]
        if averaged:
            return ((-size, 0, (EVEN,) * len(plan.kept)),)
        grades = []
        for i, _ in plan.kept:
            depends = EVEN
            for term in main:  # the square is even in what a single term is odd in
                g = term[2][i]
                even = UNKNOWN if g[2] & SAME == UNKNOWN else STAYS
                depends = grade_product(depends, (*squared(g)[:2], even) if len(main) == 1 else forget(g, even))
            grades.append(depends)
        return ((-size, 0, tuple(grades)),)

    def change(t: list[Terms], d: list[Terms]) -> Terms:
        x, dx = t[0], d[0]
        if not dx:
            return ()
        small = greatest(term[0] for term in x) if x else None
        if small is None:  # what epsilon made of an exact zero
            return Replaced((), initial([dx]), initial([x]), everywhere=not plan.kept)
        large = greatest(term[0] for term in dx)
        if large > small:
            gained, lost = (  # elsewhere the change of r is less: by how much x has not outgrown its start, twice
                tuple([(given(size, large, small, 2), raw, grades) for size, raw, grades in terms])
                for terms in (initial([dx]), initial([x]))
            )
            return Replaced((), gained, lost, everywhere=not plan.kept)
        x = tuple([(size, 0, grades) for size, _, grades in x])
        dx = tuple([(size, 0, grades) for size, _, grades in dx])
        (r,) = initial(t)
        terms = []
        for size, _, grades in products(x, dx, plan) + products(dx, dx, plan):
            relative = least(0, size - count - 2 * small)
            terms.append((relative - small, 0, tuple(map(grade_product, grades, r[2]))))
        return reduce_terms(terms)

    return initial, change


def normalises(node: Node, program: Program) -> bool:
    """Whether it is x * rms_scale(x): its root mean square is 1, whatever becomes of x."""
    place = by_its_norm(program.nodes, node)
    return place is not None and len(node.axes) == len(program.nodes[node.args[place]].axes)


def softmax_grad(growing: int) -> Rule:
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


def loss(kind: str) -> tuple[Initial, Change]:
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


def loss_grad(kind: str, growing: int, entries: int) -> tuple[Initial, Change]:
    """dL/df: cross entropy: bounded, softmax(f) - target; mse: f - target, over the number of entries."""
    constant: Term = (-entries, 0, (EVEN,) * growing)

    def bounded(terms: Terms) -> list[Term]:
        if kind == "mean":
            return []
        cap = 0 if kind == "cross_entropy" else None
        return [((size if cap is None else least(size, cap)) - entries, 0,
                 grades if kind == "mse" else tuple(map(forget, grades)))
                for size, _, grades in terms]  # fmt: skip

    return (lambda t: reduce_terms([constant, *bounded(t[0])])), (lambda _, d: reduce_terms(bounded(d[0])))
