"""Entrywise nonlinearities: what the Taylor terms, the parity and the tail of a function do to terms.

With x of size s (its largest term): for s < 0 the first Taylor terms rule; for s = 0 all orders matter, and
only parity survives; for s > 0 a homogeneous function scales, others follow their tail.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache

import numpy as np

from tensorprog.calculus.affine import greatest, least
from tensorprog.calculus.grades import (
    CONSTANT,
    FLIPS,
    SAME,
    STAYS,
    UNKNOWN,
    Grade,
    Parity,
    common,
    joint_flip,
    squared,
)
from tensorprog.calculus.terms import (
    Grades,
    Term,
    Terms,
    as_entries,
    interned,
    reduce_terms,
    remembered,
    times,
    uncentred,
)
from tensorprog.functions import Facts, Function

Initial = Callable[[list[Terms]], Terms]
Change = Callable[[list[Terms], list[Terms]], Terms]
Kinds = tuple[tuple[Grade, ...], ...]  # the grades of some terms

# Along a finite axis these are smooth maps of several entries: constant for zero input, with a linear term.
SOFTMAX = Facts(constant=True, order=1, next_order=2, parity="none", degree=None, tail=0)
SELECT = Facts(constant=True, order=None, next_order=None, parity="none", degree=0, tail=0)

JOINT = 4  # up to this many terms of one size, a function of their sum is split into parts even or odd in each


def _largest(terms: Terms) -> int:
    return greatest(term[0] for term in terms)


def _entry_product(x: Term, y: Term) -> Term:
    return (x[0] + y[0], 0, times(x[2], y[2]))


def _power(terms: Terms, order: int) -> list[Term]:
    """Terms of x^order: every product of `order` of them."""
    result: Terms = terms
    for _ in range(order - 1):
        result = reduce_terms([_entry_product(a, b) for a in result for b in terms])
    return list(result)


def _power_change(x: Terms, dx: Terms, order: int) -> list[Term]:
    """Terms of (x + dx)^order - x^order."""
    found: list[Term] = []
    for moved in range(1, order + 1):
        step = _power(dx, moved)
        rest = _power(x, order - moved) if order > moved else []
        found += [_entry_product(a, b) for a in rest for b in step] if rest else step
    return found


def _mirrored(terms: Kinds, axis: int, parity: str) -> int:
    """What a function of that parity of the sum of these terms does under reflection along an axis."""
    found = {grades[axis][2] for grades in terms}
    if found <= {STAYS, SAME}:
        return SAME if found == {SAME} else STAYS
    if found == {FLIPS}:
        return {"odd": FLIPS, "even": STAYS}.get(parity, UNKNOWN)
    return UNKNOWN


@remembered
def _mixed(terms: Kinds, parity: str = "none") -> Grades:
    """Per axis: everything the given terms depend on. What all of them are odd in flips their sum, so that the
    parity of the function decides; the parity in the rest is unknown, but for reflections."""
    return interned(tuple([
        (
            _sum_of([grades[k][0] for grades in terms], parity),
            _sum_of([grades[k][1] for grades in terms], parity),
            _mirrored(terms, k, parity),
        )
        for k in range(len(terms[0]))
    ]))  # fmt: skip


def _sum_of(parities: list[Parity], parity: str) -> Parity:
    """A function of that parity of a sum of terms of these parities."""
    odd, free, _ = common(parities)
    if parity == "odd":
        return (odd, free, 0 if odd else joint_flip(parities))
    return (0, free, 0) if parity == "even" else (0, free | odd, 0)


@remembered
def _monomials(terms: Kinds) -> list[tuple[Grades, bool]]:
    """The grades of all monomials in these terms, and whether their total degree is odd: those that occur to an
    even power leave only what they are free in."""
    result = [(interned((CONSTANT,) * len(terms[0])), False)]
    for term in terms:
        square = interned(tuple(map(squared, term)))
        result = [
            (times(grades, factor), odd != once)
            for grades, odd in result
            for factor, once in ((square, False), (term, True))
        ]
    return result


@remembered
def _parts(terms: Kinds, parity: str) -> list[Grades]:
    """Per axis, the parts of a function of a few terms, even or odd in each of them (together as `parity` says); one
    that knows only what it depends on where there are more."""
    if len(terms) > JOINT:
        return [_mixed(terms, parity)]
    found = [grades for grades, odd in _monomials(terms) if parity not in ("even", "odd") or odd == (parity == "odd")]
    return list(dict.fromkeys(found))


def _slopes(x0: Terms, parity: str) -> list[Grades]:
    """Per axis, what a derivative of f of parity `parity` at x0 depends on; one for each of its parts."""
    size = _largest(x0)
    return _parts(_kinds([term for term in x0 if term[0] == size]), parity)


def _kinds(terms: Iterable[Term]) -> Kinds:
    return tuple([grades for _, _, grades in terms])


def _times(size: int, grades: tuple[Grade, ...], slopes: list[Grades]) -> list[Term]:
    """A term of that size and grades times each of the parts of a slope."""
    return [(size, 0, times(grades, slope)) for slope in slopes]


def facts_of(function: Function, order: int) -> Facts:
    """The facts of a function (its derivative of that order), as far as they matter here. One whose derivative is even
    is odd but for a constant, which is a term of its own."""
    facts = function.facts[order]
    if facts.parity == "none" and facts.constant and order + 1 < len(function.facts):
        facts = replace(facts, parity="odd" if function.facts[order + 1].parity == "even" else "none")
    if facts.degree == 0:  # at exactly 0 a step has PyTorch's value: 0 for relu', not for leaky_relu' or identity'
        facts = replace(facts, constant=bool(function.numpy[order](np.zeros(1))[0]))
    return facts


@cache
def entrywise(facts: Facts, axes: int) -> tuple[Initial, Change]:
    """The rule of f: (initial, change), on tensors with that many growing axes."""
    slope_parity = {"odd": "even", "even": "odd"}.get(facts.parity, "none")
    same_everywhere = facts.degree == 0 and facts.parity == "even" and facts.constant
    jump = (0,) if facts.kink == 0 else ()
    orders = [*jump, *(order for order in (facts.order, facts.next_order) if order is not None)]

    def smooth(order: int) -> bool:
        return facts.kink is None or order < facts.kink

    def homogeneous(order: int) -> tuple[Initial, Change]:
        """The rule of the Taylor term of an order that has another coefficient, or sign, on each side of 0."""
        term = Facts(constant=False, order=order, next_order=None, parity=facts.parity, degree=order, tail=order)
        return entrywise(term, axes)

    def initial(t: list[Terms]) -> Terms:
        return reduce_terms(value(t[0], with_constant=True))

    def value(x: Terms, *, with_constant: bool) -> list[Term]:
        terms: list[Term] = [(0, 0, (CONSTANT,) * axes)] if facts.constant and with_constant else []
        if not x or same_everywhere:
            return terms
        if facts.degree == 1 and facts.parity == "odd":  # the identity keeps matrices as they are
            return list(x)
        if facts.parity == "odd" and facts.order == 1 and len(x) == 1 and x[0][1] and x[0][0] <= 0:
            size, raw, grades = x[0]
            return [*terms, (size, raw, uncentred(grades))]  # an odd function of a random matrix is one
        x = tuple(map(as_entries, x))
        size = _largest(x)
        main = _kinds([term for term in x if term[0] == size])
        rest = [term for term in x if term[0] < size]
        if facts.degree is not None:  # homogeneous: f(x) = |x|^degree f(sign x)
            terms += [(facts.degree * size, 0, grades) for grades in _parts(main, facts.parity)]
            if facts.degree > 0:
                slopes = _parts(main, slope_parity)
                terms += [term for s, _, g in rest for term in _times((facts.degree - 1) * size + s, g, slopes)]
            return terms
        if size < 0:  # the first Taylor terms
            for order in orders:
                terms += _power(x, order) if smooth(order) else homogeneous(order)[0]([x])
            return terms
        # at size 0 as for smaller ones (all are 0), so that a form of the unknowns stays what it is below
        top = (facts.order or 0) * size if size == 0 else (facts.tail or 0) * size
        steep = (max(facts.order or 1, 1) - 1) * size if size == 0 else top - size
        terms += [(top, 0, grades) for grades in _parts(main, facts.parity)]
        if rest:
            slopes = _parts(main, slope_parity)
            terms += [term for s, _, g in rest for term in _times(steep + s, g, slopes)]
        return terms

    def change(t: list[Terms], d: list[Terms]) -> Terms:
        """f(x0 + dx) - f(x0) = f'(x0) dx + f''(x0) dx^2 / 2 + ..., each by the order of its Taylor terms."""
        x, dx = t[0], d[0]
        if not dx or same_everywhere:
            return ()
        if facts.degree == 1 and facts.parity == "odd":
            return dx
        if not x:
            return reduce_terms(value(dx, with_constant=False))
        x, dx = tuple(map(as_entries, x)), tuple(map(as_entries, dx))
        scale, step = _largest(x), _largest(dx)
        if facts.degree is None and scale < 0:  # what x0 is multiplied with does not depend on it to leading order
            if step >= 0:
                return reduce_terms(value((*x, *dx), with_constant=False) + value(x, with_constant=False))
            return reduce_terms([term for order in orders for term in (
                _power_change(x, dx, order) if smooth(order) else homogeneous(order)[1]([x], [dx]))])  # fmt: skip
        slopes, curves = _slopes(x, slope_parity), _slopes(x, facts.parity)
        if facts.degree == 0:  # a step function: the fraction of entries that cross
            start = _mixed(_kinds(x))
            return reduce_terms([(least(0, size - scale), 0, times(_mixed(larger), start))
                                 for size in {s for s, _, _ in dx}
                                 for larger in [_kinds([t for t in dx if t[0] >= size])]])  # fmt: skip
        if facts.degree is not None:
            slope, curve = (facts.degree - 1) * scale, (facts.degree - 2) * scale
            cap = max(facts.degree * step, slope + step)
        else:
            first = facts.order or 1
            if scale > 0:
                slope = curve = max((facts.tail or 0) - 1, -1) * scale
            else:
                slope = (first - 1) * scale
                has_square = 2 in (facts.order, facts.next_order)
                curve = 0 if has_square else max(first - 2, 1) * scale
            cap = max(slope + step, step * (facts.tail or 0) if step > 0 else step * first)
        terms = [term for s, _, g in dx for term in _times(slope + s, g, slopes)]
        for k, a in enumerate(dx):
            for b in dx[k:]:
                size, _, grades = _entry_product(a, b)
                terms += _times(least(curve + size, cap), grades, curves)
        if step > scale:  # x0 + dx is an expansion about dx as well
            terms += value(dx, with_constant=False)
        main = _kinds([term for term in dx if term[0] == step])
        if step >= scale and len(main) > 1:  # all orders of dx are of one size: so are all monomials
            if len(main) > JOINT:
                terms.append((cap, 0, times(_mixed(main), _mixed(_kinds(x)))))
            else:
                for grades, odd in _monomials(main):
                    rest, size = (slopes, slope + step) if odd else (curves, curve + 2 * step)
                    terms += _times(least(size, cap), grades, rest)
        return reduce_terms(terms)

    return initial, change
