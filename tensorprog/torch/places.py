"""Multipliers of the model: how each scales now, how it must, and where it can be put without editing code.

A place is proposed from the structure (a float attribute of the module, a hook on a module's input or output) and kept
only if it does what the multiplier does: with the factor 3/2 there, the module gives what the graph gives with the
multiplier at 3/2.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from tensorprog.derivation import Derivation
from tensorprog.dims import Dim
from tensorprog.exponents import Power
from tensorprog.graph import (
    Contract,
    Merge,
    Node,
    Param,
    Scale,
    Split,
    reached,
    unscaled,
)
from tensorprog.torch.changes import (
    UNIT,
    Absorb,
    Attribute,
    ConfigField,
    InputHook,
    MultiplierChange,
    OutputHook,
    ParameterChange,
    Place,
)
from tensorprog.torch.lower.scalars import scalar_power
from tensorprog.torch.place_text import place_text
from tensorprog.torch.placing import channel_axis
from tensorprog.torch.ranges import range_multipliers
from tensorprog.torch.sources import Cut, ends_of, other_factors, read_through, relabelled, sources_of, times_read

if TYPE_CHECKING:
    from tensorprog.torch.reading import Reading
    from tensorprog.torch.trial import Trial

POWERS = tuple(map(Fraction, ("1", "-1", "1/2", "-1/2", "2", "-2")))  # of a number in a multiplier


def multiplier_changes(
    reading: Reading, derivation: Derivation, parameters: tuple[ParameterChange, ...]
) -> tuple[MultiplierChange, ...]:
    """Every multiplier of the model: products of activations, parameters whose uses differ, and ranges of parameters
    that would need a learning rate of their own."""
    from tensorprog.torch.trial import Trial

    graph = reading.lowered.graph
    unknowns = derivation.parametrization.unknowns
    tied = {p for p in graph.parameters if sum(u.kind == "use" and u.param == p for u in graph.unknowns.values()) > 1}
    found: dict[str, MultiplierChange] = {}
    trial = Trial(reading)
    known: dict[object, tuple[int, ...]] = {}
    readers = Counter(a for node in graph.nodes for a in node.args)
    for name, unknown in graph.unknowns.items():
        power = unknowns[name]
        module, _ = reading.lowered.multipliers[name]
        if unknown.kind == "multiplier":
            now = present(graph.nodes, reading.lowered.products[name])
            change = MultiplierChange(name, "product", module, now, now * power, (), reason=
                                      "a sum of products of activations over an axis that grows")  # fmt: skip
        elif unknown.param in tied:
            label = f"{module or 'model'} ({unknown.param})"
            change = MultiplierChange(label, "use", module, UNIT, power, (), unknown.param,
                                      f"the uses of {unknown.param} need different sizes")  # fmt: skip
        else:
            continue
        if power != UNIT:
            read = times_read(graph.nodes, readers, reading.lowered.products.get(name))
            kind = (re.sub(r"\d+", "*", name), re.sub(r"\d+", "*", module), power, read)
            options = list(_places(reading, trial, name, module, change.kind))
            shapes = tuple(re.sub(r"\d+", "*", place_text(p)) for p in options)
            if not known.get((kind, shapes)):  # where one has no place, its like may (conv1 before a norm, conv2 not)
                known[kind, shapes] = tuple(k for k, p in enumerate(options) if trial.works([name], p))
            change = replace(change, places=tuple(options[k] for k in known[kind, shapes]))
            if not change.places and change.kind == "product" and trial.idle(name):
                change = replace(change, needed=change.now, reason="nothing depends on it: it cancels in a quotient")
        found[name] = change
    return (*_sharing(reading, trial, found), *range_multipliers(parameters, trial))


def _sharing(reading: Reading, trial: Trial, found: dict[str, MultiplierChange]) -> Iterator[MultiplierChange]:
    """The multipliers. Alike ones of a module that is called several times, or adds such products, have the place that
    serves all of them, where each has none but in a weight."""
    homeless: dict[object, list[str]] = {}
    for name, m in found.items():
        if m.factor != UNIT and all(isinstance(place, Absorb) for place in m.places):
            homeless.setdefault((m.kind, m.module, m.param, m.now, m.needed), []).append(name)
    for names in homeless.values():
        if len(names) > 1:
            first = found[names[0]]
            options = dict.fromkeys(
                o for name in names for o in _places(reading, trial, name, first.module, first.kind)
            )
            if places := tuple(o for o in options if trial.works(names, o)):
                for k, name in enumerate(names):
                    found[name] = replace(found[name], places=places, shared_with=first.name if k else "")
    yield from found.values()


def present(nodes: tuple[Node, ...], product: int) -> Power:
    """How the fixed scalars at a product of activations scale together: those on its operands, up to relabelling, and
    those that follow it."""
    total = UNIT
    after = next((n for n in nodes if product in n.args and isinstance(n.op, Scale)), None)
    if after is not None and isinstance(after.op, Scale):
        total = total * scalar_power(after.op.scalar)
    while isinstance((scale := nodes[product].op), Scale):
        total = total * scalar_power(scale.scalar)
        product = nodes[product].args[0]
    for a in nodes[product].args:
        at = nodes[a]
        while isinstance(at.op, Split | Merge | Scale) or (isinstance(at.op, Contract) and at.op.right is None
                                                           and len(at.op.out) == len(at.op.left)):  # fmt: skip
            if isinstance(at.op, Scale):
                total = total * scalar_power(at.op.scalar)
            at = nodes[at.args[0]]
    return total


# --- proposals ------------------------------------------------------------------------------------------


def _places(reading: Reading, trial: Trial, name: str, module: str, kind: str) -> Iterator[Place]:
    """Where a multiplier could be, best first: numbers that the model holds, hooks, a weight."""
    yield from _numbers(reading, trial, module)
    if kind == "use":
        yield OutputHook(module)
        yield InputHook(module)
        yield from _hooks(reading, sources_of(reading, other_factors(reading.lowered.graph.nodes, name)))
    else:
        yield from _product_places(reading, name, module)


def _numbers(reading: Reading, trial: Trial, module: str) -> Iterator[Place]:
    """The numbers that the module, those around it and the configuration hold, and that the results depend on, each
    with the powers to which it could stand in the multiplier."""
    parts = module.split(".")
    paths = dict.fromkeys(".".join(parts[:k]) for k in range(len(parts), -1, -1))
    held: list[ConfigField | Attribute] = [ConfigField(key) for key in _floats(getattr(reading.module, "config", None))]
    held += [Attribute(path, key) for path in paths for key in _floats(reading.module.get_submodule(path))]
    for place in held:
        if trial.matters(place):
            yield from (replace(place, power=power) for power in POWERS)


def _floats(holder: Any) -> list[str]:
    """The names under which an object holds numbers that are no counts."""
    own = vars(holder) if hasattr(holder, "__dict__") else {}
    return sorted(k for k, v in own.items() if isinstance(v, float) and v and not k.startswith("_"))


def _product_places(reading: Reading, name: str, module: str) -> Iterator[Place]:
    nodes = reading.lowered.graph.nodes
    product = unscaled(nodes, reading.lowered.products[name])
    found = sources_of(reading, nodes[product].args)
    found.pop(module, None)
    yield from _hooks(reading, found)
    seen = {path: part for path, (_, part) in found.items()}
    leads, inside = reached(nodes, nodes[product].args), f"{module}." if module else ""
    for path, node, output in ends_of(reading):  # through sums too, such as rotary positions
        if path.startswith(inside) and path not in seen and node in leads:
            seen[path] = None
            yield OutputHook(path, output)
    rotated = sources_of(reading, nodes[product].args, sums=True)
    yield from _hooks(reading, {path: end for path, end in rotated.items() if path.startswith(inside) and end[1]
                                and path not in found})  # fmt: skip
    for argument in range(3):
        yield InputHook(module, argument)
    yield from read_through(reading, product)[1]
    for path, part in seen.items():  # a weight whose module is linear in it
        own = list(reading.module.get_submodule(path).named_parameters(recurse=False))
        if len(own) == 1 and own[0][1].dim() > 1 and (part is None or part.blocks == Dim.of(1)):
            yield Absorb(f"{path}.{own[0][0]}", *((None,) if part is None else (0, part.start, part.stop)))
    stored = dict(reading.module.named_parameters())
    for operand in nodes[product].args:  # a weight without a module of its own
        factor = nodes[relabelled(nodes, operand)]
        ends = [nodes[relabelled(nodes, a)].op for a in factor.args] if isinstance(factor.op, Contract) else []
        yield from (Absorb(op.name) for op in ends if isinstance(op, Param) and op.name in stored)


def _hooks(reading: Reading, sources: dict[str, tuple[int, Cut | None]]) -> Iterator[OutputHook]:
    for path, (output, part) in sources.items():
        if part is None:
            yield OutputHook(path, output)
        else:
            axis = channel_axis(reading.module.get_submodule(path), part.axis)
            yield OutputHook(path, output, axis, part.start, part.stop, part.blocks)
