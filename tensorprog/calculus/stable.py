"""Whether exponents keep a network stable: what must stay Theta(1), and whether it does."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import TYPE_CHECKING

from tensorprog.calculus.normalising import normalises
from tensorprog.calculus.shared import Sizes, describe
from tensorprog.calculus.terms import Terms, largest
from tensorprog.errors import CalculusError, NoPowerLawError
from tensorprog.exponents import Units
from tensorprog.functions import Function, find
from tensorprog.graph import Add, Contract, InvRms, Loss, Map, Param, Program, Scale, Softmax, TopK

if TYPE_CHECKING:
    from tensorprog.calculus.exponents import Snapshot


def require_unit_streams(program: Program, initial: Sequence[Terms], change: Sequence[Terms]) -> None:
    """Raises NoPowerLawError where a stream that stands for one normalised between layers is not Theta(1)."""
    for loop in program.forward.loops:
        for stream in loop.streams:
            start, moved = (largest(terms[stream.path[-1]]) for terms in (initial, change))
            if stream.unit and (start != 0 or (moved or 0) > 0):
                raise NoPowerLawError(
                    "no power law in the depth: a stream is normalised between the layers (post-norm), and what they "
                    "add to it is not small", loop.span,
                    why="every later layer shrinks the share of an earlier one by the same factor",
                    fix="`?branch *` in front of what is added",
                )  # fmt: skip


def blow_up(program: Program, initial: Sequence[Terms], change: Sequence[Terms]) -> CalculusError:
    """The error where sizes grow at every step of training."""
    nodes = program.forward.nodes
    first = next((n for n in nodes if n.name and (largest(change[n.id]) or 0) > 0), None)
    why, fix = "the exponents of the initialisation, the multipliers or the learning rates are too large", ""
    starts = [(n, largest(initial[n.args[0]]), largest(change[n.args[0]])) for n in nodes if isinstance(n.op, InvRms)]
    from_zero = next((n for n, start, _ in starts if start is None), None)
    outgrown = next((n for n, start, moved in starts if moved is not None and moved > (start or 0)), None)
    still = _zero_gain(program)
    if from_zero is not None:
        why = (f"`{describe(from_zero, nodes)}` divides by the norm of what is exactly zero at the start: once that "
               "moves a little, gradients are large")  # fmt: skip
        fix = "normalise something that is not zero at the start, or add it to something that is not"
    elif outgrown is not None and still is not None:
        why = (f"`{describe(outgrown, nodes)}` divides by the norm of what starts smaller than it moves; where gains "
               f"that start at zero, as `{still}` does, keep that from moving for many steps, gradients behind the "
               "norm are large for longer than the calculus finds rates for")  # fmt: skip
        fix = "a gain behind that norm that does not start at zero"
    return CalculusError(
        f"training blows up{f', first in `{first.name}`' if first else ''}: sizes grow at every step",
        (first or nodes[0]).span, why=why, fix=fix,
    )  # fmt: skip


def _zero_gain(program: Program) -> str | None:
    """The first trained parameter that multiplies something and starts at zero."""
    nodes, parameters = program.forward.nodes, program.forward.parameters
    for node in nodes:
        for a in node.args if isinstance(node.op, Contract) and node.op.right is not None else ():
            while isinstance(nodes[a].op, Scale) or (isinstance(nodes[a].op, Add) and len(nodes[a].args) == 1):
                a = nodes[a].args[0]
            of = nodes[a].op
            if isinstance(of, Param) and parameters[of.name].init.kind == "zeros" and of.name in program.updates:
                return of.name
    return None


def runaway(program: Program, initial: Sequence[Terms], sizes: Sizes) -> NoPowerLawError:
    """The error where sizes grow from layer to layer: it names what every layer adds once more, if something is."""
    nodes = program.nodes
    pending = [(stream.increment, loop.axis.dim) for loop in program.forward.loops for stream in loop.streams]
    for k, dim in pending:
        args = nodes[k].args
        if not isinstance(nodes[k].op, Add) or any(axis.loop for a in args for axis in nodes[a].axes):
            pending += [(a, dim) for a in args if isinstance(nodes[k].op, Add | Scale)]
            continue
        size = largest(initial[k])
        if size is not None and sum(sizes.units.part(size + sizes(dim), symbol) for symbol in dim.symbols) > 0:
            source = nodes[args[0]]
            return NoPowerLawError(
                f"no power law in the depth: every layer adds `{describe(source, nodes)}` once more", source.span,
                why="it is the same in all layers, so that their sum grows like their number",
                fix=f"`?inject * {source.name or '(..)'}` in the loop",
            )  # fmt: skip
    return NoPowerLawError(
        "no power law in the depth: sizes grow from layer to layer", program.forward.loops[0].span,
        why="a layer multiplies what it gets by more than one, so that the stack grows exponentially",
        fix="`x = x + ?branch * (..)` in the loop, or a normalisation of what a layer reads",
    )  # fmt: skip


def sensitive(program: Program, *, sums: bool = True) -> set[int]:
    """Forward nodes that a nonlinearity, a sum (unless not `sums`), a selection, the loss or an output consumes: at
    most Theta(1). A sum that only an unknown multiplier consumes does not count: it takes care of the size."""
    found = {node for _, node in program.forward.outputs}
    tamed = _tamed(program) if sums else set()
    for node in program.forward.nodes:
        if isinstance(node.op, Map | Softmax | TopK | Loss) or (
            sums and isinstance(node.op, Add) and node.id not in tamed
        ):
            found.update(node.args)
    return found


def _tamed(program: Program) -> set[int]:
    """Sums whose every consumer is an unknown multiplier."""
    nodes, unknowns = program.forward.nodes, program.forward.unknowns
    free: dict[int, list[bool]] = {node.id: [] for node in nodes if isinstance(node.op, Add)}
    for node in nodes:
        names = node.op.scalar.unknowns if isinstance(node.op, Scale) else ()
        for a in node.args:
            if a in free:
                free[a].append(any(unknowns[u].kind == "multiplier" for u in names))
    return {k for k, flags in free.items() if flags and all(flags)}


def assert_stable(program: Program, snapshot: Snapshot, units: Units) -> None:
    """Every tensor that a nonlinearity, a sum or an output consumes is at most Theta(1), else CalculusError. (A sum
    may grow with the depth alone, if what reads it does not mind: a normalisation.)"""
    nodes, strict = program.forward.nodes, sensitive(program, sums=False)
    depths = {symbol for loop in program.forward.loops for symbol in loop.axis.dim.symbols}
    for node in [nodes[k] for k in sorted(sensitive(program))]:
        for part, terms in (("at initialisation", snapshot.initial), ("after the first updates", snapshot.change)):
            size = largest(terms[node.id])
            if size is None or size <= 0:
                continue
            if node.id in strict or size > sum(units.part(size, symbol) for symbol in depths):
                raise CalculusError(
                    f"`{describe(node, program.nodes)}` grows like {units.unpack(size)} {part}",
                    node.span,
                    why="a nonlinearity, a sum or an output consumes it, so it must stay Theta(1), and with the fixed "
                    "multipliers of the file it does not, where each parameter's own use is Theta(1)",
                    fix="an unknown multiplier in front of it, such as `?scale * (...)`",
                )


def blown_up(program: Program, snapshot: Snapshot, functions: Mapping[str, Function]) -> set[int]:
    """Forward nodes whose prediction is only a bound: below a nonlinearity that is neither homogeneous nor
    given Theta(1) arguments (it saturates, or grows faster than any power)."""
    result: set[int] = set()
    for node in program.forward.nodes:
        tainted = any(a in result for a in node.args)
        if isinstance(node.op, Map | Softmax) and not tainted:
            a = node.args[0]
            size = largest(snapshot.initial[a] + snapshot.change[a])
            if isinstance(node.op, Map):
                function = find(node.op.fn, functions)
                facts = function.facts[node.op.derivative]
                exact = facts.degree is not None or facts.tail == 1
            else:
                exact = False
            tainted = size is not None and size > 0 and not exact
        if tainted:
            result.add(node.id)
    return result


def unbounded(program: Program, bounds: Container[int]) -> set[int]:
    """Nodes of which not even a bound is known, if no more than that is known of `bounds`: the inverse norm of one that
    a saturated function made zero, and what is made of that inverse (but for what it normalises: its norm is 1)."""
    result: set[int] = set()
    for node in program.nodes:
        inverse = isinstance(node.op, InvRms) and node.args[0] in bounds
        if inverse or (any(a in result for a in node.args) and not normalises(node, program)):
            result.add(node.id)
    return result
