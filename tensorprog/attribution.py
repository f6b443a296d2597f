"""Which widths an exponent is of, where several grow in proportion.

Then only its total degree says something of the limit: n^-1, m^-1 and n^-1/2 m^-1/2 are the same up to a constant. But
a reader wants each fan-in's own width. What is so in an order of the widths (each above all powers of the one before)
and in its reverse is so in proportion, too, and a start of fan_in^-1/2, which it has in one of them, is simpler than
that of the other. So a parameter has its exponents in the order in which they are simplest, if both have an answer and
that has the degrees that were derived in proportion.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

from tensorprog.exponents import Degrees, Power, Units
from tensorprog.parametrization import Parametrization, ParamExponents

Order = tuple[str, ...]  # of widths, the slowest first


def orders(units: Units, widths: Sequence[str]) -> tuple[Order, ...]:
    """The orders that are asked: one of the widths in proportion, and its reverse; each pair comes in both. `widths`:
    all symbols but depths. What is slower by declaration stays so."""
    fastest, *slower = units.given or ((),)
    if len(fastest) < 2:
        return ()
    below = tuple(symbol for group in reversed(slower) for symbol in group if symbol in widths)
    return below + fastest, below + fastest[::-1]


def ambiguous(parametrization: Parametrization, units: Units) -> bool:
    """Whether orders are to be asked: exponents are known by their degrees alone, or one is a product of several
    widths, which ties between sizes may have brought about."""
    together = units.given[0] if units.given else ()
    products = any(sum(power[symbol] != 0 for symbol in together) > 1 for power in _powers(parametrization))
    return isinstance(units, Degrees) or products


def attributed(found: Power | None, ordered: Sequence[Power | None], units: Units) -> Power | None:
    """The exponent that all `ordered` have, if its degree is that of `found` (in proportion, of these units). Else
    `found`; if that is known by its degree alone, the simplest of `ordered` that has it."""
    if found is None or not ordered:
        return found
    right = [power for power in ordered if power is not None and _alike([power], [found], units)]
    if right and all(power == right[0] for power in ordered):
        return right[0]
    return min([found, *right], key=lambda power: _simple([power])) if isinstance(units, Degrees) else found


def dominant(powers: Sequence[Power], units: Units) -> Power | None:
    """The largest of several exponents. Where those of the same degree differ, in powers of widths in proportion: of
    them together it is 1 if they have no degree in these, else the simplest of them."""
    degrees = {power: units.as_one.pack_power(power) for power in powers}
    ties = [power for power, degree in degrees.items() if degree == max(degrees.values())]
    if len(ties) < 2:
        return next(iter(ties), None)
    together = units.given[0]
    if sum(ties[0][symbol] for symbol in together):
        return min(ties, key=lambda power: _simple([power]))
    return Power(tuple((symbol, e) for symbol, e in ties[0].exponents if symbol not in together))


Forms = tuple[Parametrization, Parametrization]  # in the form that is asked for, and without multipliers


def attribute(
    found: Forms,
    ordered: Sequence[Forms],
    owners: Mapping[str, str],
    units: Units,
    fixed: Mapping[tuple[str, str], Power] | None = None,
) -> Parametrization:
    """A parametrization whose exponents are attributed. A parameter has all of them from one source, so that they fit
    each other, and the forms are one training run: from that of the orders, or (where ties were broken) of `found`, in
    which they are simplest without multipliers, of those with the right degrees. `owners`: use -> parameter; `fixed`:
    (quantity, name) -> what it must be: of a parameter's quantities, "init" (of multiplier * w), or "scale"."""
    sources = [*ordered, *([] if isinstance(units, Degrees) else [found])]
    params, unknowns = dict(found[0].params), dict(found[0].unknowns)
    fixed = fixed or {}
    for name, old in found[0].params.items():
        given = {quantity: power for (quantity, of), power in fixed.items() if of == name and quantity != "scale"}
        fitting = [(_simple(_of(free.params[name])), k) for k, (form, free) in enumerate(sources)
                   if _alike(_of(free.params[name]), _of(found[1].params[name]), units)
                   and _with(form.params[name], given) == form.params[name]]  # fmt: skip
        uses = [use for use, owner in owners.items() if owner == name]
        if fitting:
            chosen = sources[min(fitting)[1]][0]
            params[name] = chosen.params[name]
            unknowns.update({use: chosen.unknowns[use] for use in uses})
        else:
            params[name] = _with(old, given)
            unknowns.update({use: unknowns[use] * params[name].multiplier / old.multiplier for use in uses})
    for name in unknowns.keys() - owners.keys():
        asked = [one.unknowns[name] for one, _ in ordered]
        unknowns[name] = fixed.get(("scale", name)) or attributed(unknowns[name], asked, units) or unknowns[name]
    return replace(found[0], params=params, unknowns=unknowns)


def _with(one: ParamExponents, given: Mapping[str, Power]) -> ParamExponents:
    """The same, with quantities as they are given."""
    one = replace(one, multiplier=given.get("multiplier", one.multiplier), lr=given.get("lr", one.lr))
    start = given["init"] / one.multiplier if "init" in given else one.init_std
    return replace(one, init_std=given.get("init_std", start))


def _of(one: ParamExponents) -> list[Power | None]:
    return [one.multiplier, one.init_std, one.lr, one.weight_decay, one.eps, *(power for _, power in one.others)]


def _alike(ones: Sequence[Power | None], others: Sequence[Power | None], units: Units) -> bool:
    """Whether exponents are the same in proportion."""
    degree = units.as_one.pack_power
    return all(a == b or (a is not None and b is not None and degree(a) == degree(b))
               for a, b in zip(ones, others, strict=True))  # fmt: skip


def _simple(powers: Sequence[Power | None]) -> tuple[int, Fraction, str]:
    """How many symbols they have, to what powers; in the end by name, so that the order of declaration has no say."""
    exponents = [abs(e) for power in powers if power is not None for _, e in power.exponents]
    return len(exponents), sum(exponents, Fraction(0)), " ".join(map(str, powers))


def _powers(parametrization: Parametrization) -> list[Power]:
    of_parameters = [power for one in parametrization.params.values() for power in _of(one) if power is not None]
    return [*parametrization.unknowns.values(), *of_parameters]
