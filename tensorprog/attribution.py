"""Which widths an exponent is of, where several grow in proportion.

Then only its total degree says something of the limit: n^-1, m^-1 and n^-1/2 m^-1/2 are the same up to a constant. But
a reader wants each fan-in's own width. What is so in an order of the widths (each above all powers of the one before)
and in its reverse is so in proportion, too: where these agree, and have the degree that was derived in proportion, the
exponent is theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

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
    `found`; if that is known by its degree alone, the one of `ordered` of fewest widths that has it."""
    if found is None or not ordered:
        return found
    degrees = Degrees(*units.given, denominator=units.denominator)
    right = [p for p in ordered if p is not None and degrees.pack_power(p) == degrees.pack_power(found)]
    if right and all(power == right[0] for power in ordered):
        return right[0]
    if isinstance(units, Degrees) and right:
        return min(right, key=lambda power: len(power.exponents))
    return found


def attribute(found: Parametrization, ordered: Sequence[Parametrization], units: Units) -> Parametrization:
    """A parametrization whose exponents are attributed one by one. `ordered`: what is derived in the orders."""

    def of_one(name: str, own: ParamExponents) -> ParamExponents:
        others = [one.params[name] for one in ordered]
        hyper = {key: attributed(power, [other.hyper.get(key) for other in others], units) or power
                 for key, power in own.hyper.items()}  # fmt: skip
        return ParamExponents(
            attributed(own.multiplier, [other.multiplier for other in others], units) or own.multiplier,
            attributed(own.init_std, [other.init_std for other in others], units),
            hyper.get("lr"),
            hyper.get("weight_decay"),
            hyper.get("eps"),
            tuple((key, hyper[key]) for key, _ in own.others),
        )

    unknowns = {}
    for name, power in found.unknowns.items():
        unknowns[name] = attributed(power, [one.unknowns[name] for one in ordered], units) or power
    return replace(found, params={name: of_one(name, own) for name, own in found.params.items()}, unknowns=unknowns)


def _powers(parametrization: Parametrization) -> list[Power]:
    powers = [*parametrization.unknowns.values()]
    for one in parametrization.params.values():
        powers += [one.multiplier, *one.hyper.values(), *([one.init_std] if one.init_std else [])]
    return powers
