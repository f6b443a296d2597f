"""What the solver is asked of an architecture: its units, the call, and errors that tell their place in the file."""

from __future__ import annotations

import gc
import math
from collections.abc import Iterator
from contextlib import contextmanager

from tensorprog.architecture import Architecture
from tensorprog.calculus.solve import Solution, prepare, solve
from tensorprog.calculus.solver import Solver
from tensorprog.errors import TensorProgError
from tensorprog.exponents import Degrees, Units
from tensorprog.graph import Graph, Scale
from tensorprog.optimizers import Choice

Regime = tuple[tuple[str, ...], str]  # widths, and how they grow: "proportional", or "<<" (each below the next)


def solved(architecture: Architecture, choice: Choice, regime: Regime | None = None) -> Solution:
    """The maximal stable exponents of an architecture, found once. `regime`: how its widths grow (default: in
    proportion). Raises TensorProgError if the program is ill-formed, not covered by the calculus, or has no answer."""
    known = next((answer for asked, answer in architecture.solved if asked == (choice, regime)), None)
    if known is not None:
        return known
    try:
        units = units_of(architecture.graph, regime)
        with collector_at_rest():
            solution = solve(architecture.program, units, choice, architecture.functions)
    except TensorProgError as error:
        raise error.located(architecture.source, architecture.file) from None
    architecture.solved.append(((choice, regime), solution))
    return solution


def unsolved(architecture: Architecture, choice: Choice, finer: int = 1) -> Solver:
    """The machinery for other exponents than the derived ones; all are zero. `finer`: how many times finer its units
    are than needed. Raises TensorProgError if the program is ill-formed or not covered by the calculus."""
    try:
        units = units_of(architecture.graph, architecture.model.regime)
        units = units.finer(units.denominator * finer, units.base)
        return prepare(architecture.program, units, choice, architecture.functions)
    except TensorProgError as error:
        raise error.located(architecture.source, architecture.file) from None


def units_of(graph: Graph, regime: Regime | None = None) -> Units:
    """Units fine enough for every exponent that the file writes, and for halves and thirds of them; widths outgrow
    depths. Along a symbolic depth no ties between widths in proportion are broken: in all layers alike, they add up."""
    scalars = [(node.op.scalar, node.span) for node in graph.nodes if isinstance(node.op, Scale)]
    scalars += [(unknown.base, unknown.span) for unknown in graph.unknowns.values()]
    denominators = {power.denominator: span for scalar, span in scalars for _, power in scalar.powers}
    denominator = math.lcm(Units().denominator, *(12 * d for d in denominators))
    if denominator > 10**6:
        raise TensorProgError("the exponents in the file have too many different denominators",
                              denominators[max(denominators)],
                              fix="exponents such as 1/2 or -3/4",
                              why="all exponents are counted in one small unit")  # fmt: skip
    depths = tuple(sorted({symbol for loop in graph.loops for symbol in loop.axis.dim.symbols}))
    groups = *_groups(graph.widths, regime), depths
    return (Degrees if depths and len(groups[0]) > 1 else Units)(*groups, denominator=denominator)


def _groups(widths: tuple[str, ...], declared: Regime | None) -> tuple[tuple[str, ...], ...]:
    """The widths in groups that grow in proportion, the fastest first (`m << n`: every power of m stays below every
    power of n; what the declaration does not name grows like its fastest)."""
    if declared is None or declared[1] == "proportional":
        return (widths,)
    names = declared[0]
    unnamed = tuple(symbol for symbol in widths if symbol not in names)
    return ((names[-1], *unnamed), *((name,) for name in reversed(names[:-1])))


@contextmanager
def collector_at_rest() -> Iterator[None]:
    """Millions of small tuples without a cycle: looking for garbage among them would cost more than the rules. Nor is
    all that was made meanwhile looked through as soon as the collector is back: it counts as old."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            if not gc.get_freeze_count():  # nothing that the caller froze would be released
                gc.freeze()
                gc.unfreeze()
            gc.enable()
