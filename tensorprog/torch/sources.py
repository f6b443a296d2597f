"""Where the nodes of a model's graph come from and go to, in terms of its modules: whose output an operand is, which
modules read a product."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING

from tensorprog.dims import Dim
from tensorprog.functions import BUILTIN
from tensorprog.graph import (
    Add,
    Const,
    Contract,
    Fold,
    Input,
    Map,
    Merge,
    Node,
    Param,
    Scale,
    Split,
    Window,
    reached,
    unscaled,
)
from tensorprog.torch.changes import InputHook, MultiplierChange, OutputHook

if TYPE_CHECKING:
    from tensorprog.torch.reading import Reading


def relabelled(nodes: tuple[Node, ...], node: int) -> int:
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


def sources_of(
    reading: Reading, operands: Iterable[int], sums: bool = False
) -> dict[str, tuple[int, Cut | None]]:  # fmt: skip
    """The modules whose output these nodes are, up to relabelling, windows, scalars and functions like relu (and, with
    `sums`, what rotary positions do): path -> (number of the result, the part of it)."""
    ends: dict[int, list[tuple[str, int]]] = {}
    for path, node, output in ends_of(reading):
        ends.setdefault(node, []).append((path, output))
    found: dict[str, tuple[int, Cut | None]] = {}
    for operand in operands:
        for path, output, part in _linear_sources(reading.lowered.graph.nodes, operand, ends, sums):
            found.setdefault(path, (output, part))
    return found


def other_factors(nodes: tuple[Node, ...], unknown: str) -> list[int]:
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
    nodes, ends = reading.lowered.graph.nodes, ends_of(reading)
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
                for factor in other_factors(nodes, unknown):
                    found |= after & reached(nodes, [factor])
    return found


def leading(nodes: tuple[Node, ...], param: str, products: set[int]) -> set[int]:
    """A parameter and what is made of it on the way to one of the products, which are left out."""
    found = {node.id for node in nodes if isinstance(node.op, Param) and node.op.name == param}
    for node in nodes:
        if found.intersection(node.args) and node.id not in products:
            found.add(node.id)
    return found & reached(nodes, products)


@dataclass(frozen=True, slots=True)
class Cut:
    """A range of an axis of a tensor, in each of `blocks` equal parts of that axis."""

    axis: int
    start: Dim
    stop: Dim
    blocks: Dim = Dim.of(1)


def _linear_sources(
    nodes: tuple[Node, ...], node: int, ends: dict[int, list[tuple[str, int]]], sums: bool = False
) -> Iterator[tuple[str, int, Cut | None]]:
    """Modules whose output is this node, or one that it is made of by relabelling, windows, scalars and functions like
    relu (with `sums`: and by sums, products and concatenation, such as of rotary positions); which part of it.
    `ends`: node -> the modules whose output it is, each with the number of the result."""
    todo: list[tuple[int, tuple[Cut, ...]]] = [(node, ())]
    met = set(todo)
    while todo:
        number, cuts = todo.pop()
        at = nodes[number]
        grown = [cut for cut in cuts if at.axes[cut.axis].dim.grows]  # of channels: positions are left to the trial
        part = replace(grown[-1], axis=grown[-1].axis - len(at.axes)) if grown else None
        for path, output in ends.get(number, ()):
            yield path, output, part
        op = at.op
        if isinstance(op, Window) and not op.taps:
            cuts = (*cuts, Cut(op.axis, op.offset, op.offset + at.axes[op.axis].dim))
            behind = [(at.args[0], cuts)]
        elif isinstance(op, Split | Merge | Scale) or (isinstance(op, Contract) and op.right is None) or (
            isinstance(op, Map) and _passes(op)
        ):  # fmt: skip
            below = (_below(at, cut) for cut in cuts)
            behind = [(a, tuple(cut for cut in below if cut is not None)) for a in at.args]
        elif sums and number not in ends and isinstance(op, Add | Contract | Fold):
            behind = [(a, tuple(_among(at, k, cuts))) for k, a in enumerate(at.args)]
        else:
            behind = []
        fresh = [step for step in behind if step not in met and not isinstance(nodes[step[0]].op, Param)]
        met.update(fresh)
        todo += fresh[::-1]


def _among(at: Node, which: int, cuts: tuple[Cut, ...]) -> Iterator[Cut]:
    """Parts of a sum or product, as those of one of its operands, where that has the axis."""
    match at.op:
        case Add(places):
            axes = places[which]
        case Contract(left, right, out):
            axes = tuple(out.index(i) if i in out else -1 for i in ((left, right)[which] or ()))
        case Fold(axis):
            axes = tuple(-1 if k == axis else k for k in range(len(at.axes)))
        case _:
            axes = ()
    yield from (replace(cut, axis=axes.index(cut.axis)) for cut in cuts if cut.axis in axes)


def _below(at: Node, cut: Cut) -> Cut | None:
    """A part of a relabelled tensor, as one of its operand; None if it is no range there."""
    axis = cut.axis
    match at.op:
        case Contract(left, _, out):
            return replace(cut, axis=left.index(out[axis]))
        case Split(first, count) if first <= axis < first + count:  # of channels, seen as (3, heads, dim), say
            outer, inner = (prod((a.dim for a in axes), start=Dim.of(1))
                            for axes in (at.axes[first:axis], at.axes[axis + 1 : first + count]))  # fmt: skip
            return Cut(first, cut.start * inner, cut.stop * inner, cut.blocks * outer)
        case Split(first, count):
            return replace(cut, axis=axis if axis < first else axis - count + 1)
        case Merge(first, count):
            return None if axis == first else replace(cut, axis=axis if axis < first else axis + count - 1)
    return cut


def times_read(nodes: tuple[Node, ...], readers: Mapping[int, int], product: int | None) -> tuple[int, ...]:
    """How often each tensor is read that the operands of a product are made of: hooks on those do the same only where
    this is the same. `readers`: node -> how many there are."""
    found = []
    for operand in () if product is None else nodes[unscaled(nodes, product)].args:
        at: Node | None = nodes[operand]
        while at is not None:
            found.append(readers[at.id])
            through = isinstance(at.op, Split | Merge | Scale | Window) or (
                at.op.right is None if isinstance(at.op, Contract) else isinstance(at.op, Map) and _passes(at.op)
            )
            at = nodes[at.args[0]] if through else None
    return tuple(found)


def _passes(op: Map) -> bool:
    """Whether a positive factor passes through a function: relu and its like."""
    return not op.derivative and op.fn in BUILTIN and BUILTIN[op.fn].facts[0].degree == 1


def ends_of(reading: Reading) -> list[tuple[str, int, int]]:
    """(module, node, number) of the result of a module's last operation in every call: its output, for simple modules.
    Of modules with others inside only the last call's."""
    sites = [site for site in reading.lowered.sites if site.module]
    last = {site.module: k for k, site in enumerate(sites)}
    inner = {path.rpartition(".")[0] for path in last}
    return [(site.module, site.node, site.output) for k, site in enumerate(sites)
            if k == last[site.module] or (site.module not in inner and sites[k + 1].module != site.module)]  # fmt: skip
