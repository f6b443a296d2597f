"""What a multiplier without a stated value is in a check: the number its exponent makes of the widths themselves.

Emitted, `?name` is 1 at the base width, where the file is the program as it is written. In front of a sum over n terms
that is n times too large for a check, which trains with no constants tuned: a softmax is saturated at the narrow end of
the ladder and not at the wide one, and the transient hides every law. So here it is n^e, not (n / base)^e.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

from tensorprog.architecture import Architecture
from tensorprog.dims import Dim
from tensorprog.exponents import Power
from tensorprog.graph import Scalar
from tensorprog.model import Loop, Model, Module, Use


def with_natural_multipliers(known: Architecture, exponents: Mapping[str, Power]) -> Architecture:
    """The same network, with a base value of width^e for every `?name` that has no stated one and whose exponent e of
    the widths (in `exponents`, by name) is negative. Powers of the depth stay relative to the base."""
    graph, bases = known.graph, dict[str, Scalar]()
    for name, unknown in graph.unknowns.items():
        powers = {width: exponents[name][width] for width in graph.widths if exponents[name][width]}
        if unknown.kind == "multiplier" and not unknown.stated and sum(powers.values(), Fraction(0)) < 0:
            bases[name] = Scalar(powers=tuple((Dim.of(width), power) for width, power in powers.items()))
    if not bases:
        return known
    graph = replace(
        graph, unknowns={name: replace(u, base=bases.get(name, u.base)) for name, u in graph.unknowns.items()}
    )
    found = replace(known)
    found.__dict__.update(
        model=_restated(known.model, bases), graph=graph, program=replace(known.program, forward=graph)
    )
    return found


def _restated(model: Model, bases: Mapping[str, Scalar]) -> Model:
    """The structured model with those base values. Modules that are one stay one."""
    known: dict[int, Module] = {}

    def module(old: Module) -> Module:
        if id(old) not in known:
            steps = [
                replace(step, module=module(step.module)) if isinstance(step, Use)
                else replace(step, body=module(step.body)) if isinstance(step, Loop) else step
                for step in old.steps
            ]  # fmt: skip
            unknowns = tuple(replace(u, base=bases.get(u.name, u.base)) for u in old.unknowns)
            known[id(old)] = replace(old, steps=tuple(steps), unknowns=unknowns)
        return known[id(old)]

    return replace(model, top=module(model.top))
