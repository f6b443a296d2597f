"""Whether exponents keep a network stable: what must stay Theta(1), and whether it does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tensorprog.calculus.shared import describe
from tensorprog.calculus.terms import Terms, largest
from tensorprog.errors import CalculusError, NoPowerLawError
from tensorprog.exponents import Units
from tensorprog.functions import BUILTIN, Function
from tensorprog.graph import Add, Loss, Map, Program, Scale, Softmax, TopK

if TYPE_CHECKING:
    from tensorprog.calculus.analysis import Snapshot


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
                function = functions.get(node.op.fn) or BUILTIN[node.op.fn]
                facts = function.facts[node.op.derivative]
                exact = facts.degree is not None or facts.tail == 1
            else:
                exact = False
            tainted = size is not None and size > 0 and not exact
        if tainted:
            result.add(node.id)
    return result
