"""Multipliers of the model: how each scales now, how it must, and where it can be put without editing code.

A place is proposed from the structure (a float attribute of the module, a hook on a module's input or output) and kept
only if it does what the multiplier does: with the factor 3/2 there, the module gives what the graph gives with the
multiplier at 3/2.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from math import prod
from typing import TYPE_CHECKING, Any

from tensorprog.derivation import Derivation
from tensorprog.dims import Dim
from tensorprog.exponents import Power
from tensorprog.functions import BUILTIN
from tensorprog.graph import (
    Const,
    Contract,
    Input,
    Map,
    Merge,
    Node,
    Op,
    Param,
    Scalar,
    Scale,
    Split,
    Window,
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
from tensorprog.torch.place_text import place_text
from tensorprog.torch.ranges import range_multipliers

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
            kind = (re.sub(r"\d+", "*", name), re.sub(r"\d+", "*", module), power)
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
    """The multipliers, those of a module that is called several times with the place that serves all its calls."""
    homeless: dict[object, list[str]] = {}
    for name, m in found.items():
        if m.factor != UNIT and not m.places:
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


def scalar_power(scalar: Scalar) -> Power:
    """How a number scales with the widths."""
    total = UNIT
    for dim, power in scalar.powers:
        total = total * Power.of({s: Fraction(p) for s, p in dim.growth}) ** power
    return total


# --- proposals ------------------------------------------------------------------------------------------


def _places(reading: Reading, trial: Trial, name: str, module: str, kind: str) -> Iterator[Place]:
    """Where a multiplier could be, best first: numbers that the model holds, hooks, a weight."""
    yield from _numbers(reading, trial, module)
    if kind == "use":
        yield OutputHook(module)
        yield InputHook(module)
        yield from _hooks(_sources_of(reading, _other_factors(reading.lowered.graph.nodes, name)))
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
    found = _sources_of(reading, nodes[product].args)
    found.pop(module, None)
    yield from _hooks(found)
    seen = {path: window for path, (_, window) in found.items()}
    leads, inside = reached(nodes, nodes[product].args), f"{module}." if module else ""
    for path, node, output in _ends(reading):  # through sums too, such as rotary positions
        if path.startswith(inside) and path not in seen and node in leads:
            seen[path] = None
            yield OutputHook(path, output)
    for argument in range(3):
        yield InputHook(module, argument)
    yield from read_through(reading, product)[1]
    for path, window in seen.items():  # a weight whose module is linear in it
        own = list(reading.module.get_submodule(path).named_parameters(recurse=False))
        if len(own) == 1 and own[0][1].dim() > 1:
            yield Absorb(f"{path}.{own[0][0]}", *((None,) if window is None else (0, *window)))
    stored = dict(reading.module.named_parameters())
    for operand in nodes[product].args:  # a weight without a module of its own
        factor = nodes[_relabelled(nodes, operand)]
        ends = [nodes[_relabelled(nodes, a)].op for a in factor.args] if isinstance(factor.op, Contract) else []
        yield from (Absorb(op.name) for op in ends if isinstance(op, Param) and op.name in stored)


def _relabelled(nodes: tuple[Node, ...], node: int) -> int:
    """What a node is a rearranged multiple of."""
    while isinstance((op := nodes[node].op), Scale | Split | Merge) or (isinstance(op, Contract) and op.right is None):
        node = nodes[node].args[0]
    return node


def read_through(reading: Reading, product: int) -> tuple[set[int], list[InputHook]]:
    """A product and what only relabels or scales it; and the inputs, or ranges of inputs, of modules whose weights
    read these."""
    nodes, passed, found = reading.lowered.graph.nodes, {product}, []
    ranges = {part.name: (whole, part) for whole, parts in reading.lowered.parts.items() for part in parts}
    for node in nodes:
        if not passed.intersection(node.args):
            continue
        others = [nodes[unscaled(nodes, a)] for a in node.args if a not in passed]
        if isinstance(node.op, Scale | Split | Merge) or (
            isinstance(node.op, Contract) and all(isinstance(o.op, Input | Const) for o in others)
        ):
            passed.add(node.id)
        elif isinstance(node.op, Contract) and others and isinstance(param := others[0].op, Param):
            whole, part = ranges.get(param.name, (param.name, None))
            path = whole.rpartition(".")[0]
            found.append(InputHook(path) if part is None else InputHook(path, 0, -1, part.start, part.stop))
    return passed, found


def _sources_of(reading: Reading, operands: Iterable[int]) -> dict[str, tuple[int, tuple[Dim, Dim] | None]]:
    """The modules whose output these nodes are, up to relabelling, windows, scalars and functions like relu: path ->
    (number of the result, the range of it)."""
    ends: dict[int, list[tuple[str, int]]] = {}
    for path, node, output in _ends(reading):
        ends.setdefault(node, []).append((path, output))
    found: dict[str, tuple[int, tuple[Dim, Dim] | None]] = {}
    for operand in operands:
        for path, output, window in _linear_sources(reading.lowered.graph.nodes, operand, ends):
            found.setdefault(path, (output, window))
    return found


def _hooks(sources: dict[str, tuple[int, tuple[Dim, Dim] | None]]) -> Iterator[OutputHook]:
    for path, (output, window) in sources.items():
        yield OutputHook(path, output) if window is None else OutputHook(path, output, -1, window[0], window[1])


def _other_factors(nodes: tuple[Node, ...], unknown: str) -> list[int]:
    """What a use of a parameter is multiplied with."""
    used: set[int] = set()
    others = []
    for node in nodes:
        if isinstance(node.op, Scale) and unknown in node.op.scalar.unknowns:
            used.add(node.id)
        elif isinstance(node.op, Contract) and node.op.right is not None:
            others += [other for a, other in zip(node.args, node.args[::-1], strict=True) if a in used]
        elif isinstance(node.op, Scale | Split | Merge | Contract) and used.intersection(node.args):
            used.add(node.id)
    return others


def behind_hooks(reading: Reading, multipliers: Iterable[MultiplierChange]) -> set[int]:
    """The nodes between the output that a hook multiplies for a use of a parameter, and that use: in the model they
    have the factor already."""
    nodes, ends = reading.lowered.graph.nodes, _ends(reading)
    found: set[int] = set()
    for m in multipliers:
        paths = {p.module for p in m.places if isinstance(p, OutputHook) and p.module != m.module}
        hooked = {node for path, node, _ in ends if path in paths}
        if m.kind != "use" or not hooked:
            continue
        after: set[int] = set()
        for node in nodes:
            if (hooked | after).intersection(node.args):
                after.add(node.id)
        for unknown, u in reading.lowered.graph.unknowns.items():
            if u.param == m.param and reading.lowered.multipliers[unknown][0] == m.module:
                for factor in _other_factors(nodes, unknown):
                    found |= after & reached(nodes, [factor])
    return found


def leading(nodes: tuple[Node, ...], param: str, products: set[int]) -> set[int]:
    """A parameter and what is made of it on the way to one of the products, which are left out."""
    found = {node.id for node in nodes if isinstance(node.op, Param) and node.op.name == param}
    for node in nodes:
        if found.intersection(node.args) and node.id not in products:
            found.add(node.id)
    return found & reached(nodes, products)


def _linear_sources(
    nodes: tuple[Node, ...], node: int, ends: dict[int, list[tuple[str, int]]]
) -> Iterator[tuple[str, int, tuple[Dim, Dim] | None]]:
    """Modules whose output is this node, or one that it is made of by relabelling, windows, scalars and functions like
    relu. `ends`: node -> the modules whose output it is, each with the number of the result."""
    at, window = nodes[node], None
    cut: tuple[int, Dim, Dim] | None = None  # a finite axis of the node, and the range of it that is taken
    while True:
        for path, output in ends.get(at.id, ()):
            yield path, output, window
        op = at.op
        if isinstance(op, Window) and not op.taps:
            ends_at = op.offset + at.axes[op.axis].dim
            if nodes[at.args[0]].axes[op.axis].dim.grows:  # of channels; a range of positions is left to the trial
                window = (op.offset, ends_at)
            else:
                cut = (op.axis, op.offset, ends_at)
        elif isinstance(op, Split) and cut is not None and cut[0] == op.axis:  # of channels, seen as (3, heads, dim)
            inner = prod((a.dim for a in at.axes[op.axis + 1 : op.axis + op.count]), start=Dim.of(1))
            window, cut = (cut[1] * inner, cut[2] * inner), None
        elif not (isinstance(op, Split | Merge | Scale) or (isinstance(op, Contract) and op.right is None)
                  or (isinstance(op, Map) and _passes(op))):  # fmt: skip
            return
        elif cut is not None:
            axis = _axis_below(op, cut[0])
            cut = None if axis is None else (axis, *cut[1:])
        if not at.args or isinstance(nodes[at.args[0]].op, Param):
            return
        at = nodes[at.args[0]]


def _axis_below(op: Op, axis: int) -> int | None:
    """Which axis of its operand an axis of a relabelled tensor is, if it is one."""
    match op:
        case Contract(left, _, out):
            return left.index(out[axis])
        case Split(first, count):
            return axis if axis < first else axis - count + 1 if axis >= first + count else None
        case Merge(first, count):
            return axis if axis < first else axis + count - 1 if axis > first else None
    return axis


def _passes(op: Map) -> bool:
    """Whether a positive factor passes through a function: relu and its like."""
    return not op.derivative and op.fn in BUILTIN and BUILTIN[op.fn].facts[0].degree == 1


def _ends(reading: Reading) -> list[tuple[str, int, int]]:
    """(module, node, number) of the result of a module's last operation in every call: its output, for simple modules.
    Of modules with others inside only the last call's."""
    sites = [site for site in reading.lowered.sites if site.module]
    last = {site.module: k for k, site in enumerate(sites)}
    inner = {path.rpartition(".")[0] for path in last}
    return [(site.module, site.node, site.output) for k, site in enumerate(sites)
            if k == last[site.module] or (site.module not in inner and sites[k + 1].module != site.module)]  # fmt: skip
