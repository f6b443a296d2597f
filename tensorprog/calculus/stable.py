"""Whether exponents keep a network stable: what must stay Theta(1), and whether it does."""

from __future__ import annotations

from tensorprog.calculus.analysis import Snapshot, largest
from tensorprog.calculus.shared import describe
from tensorprog.errors import CalculusError
from tensorprog.exponents import Units
from tensorprog.graph import Add, Loss, Map, Program, Scale, Softmax, TopK


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
