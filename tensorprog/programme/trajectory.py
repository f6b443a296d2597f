"""Training at given exponents, step by step: until something exceeds Theta(1), or until no new term appears."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from tensorprog.calculus.analysis import MAX_SWEEPS, largest
from tensorprog.calculus.exponents import Exponents, Snapshot
from tensorprog.calculus.shared import describe
from tensorprog.calculus.solver import Solver
from tensorprog.calculus.stable import sensitive
from tensorprog.calculus.terms import Terms
from tensorprog.calculus.uses import Occurrence
from tensorprog.errors import CalculusError
from tensorprog.optimizers import Optimizer
from tensorprog.syntax import Span

MOST_EFFORT = 150_000  # for one prediction; in units of some 10 microseconds
EVALUATION = 4  # of these, besides the pairs of terms


@dataclass(frozen=True, slots=True)
class Excess:
    """A tensor larger than Theta(1): node, step (0: initialisation), packed exponent, and which part of it."""

    node: int
    step: int
    size: int
    part: str  # "initial" | "change"

    @property
    def at(self) -> tuple[int, int, str]:
        """What it is the size of."""
        return self.node, self.step, self.part


@dataclass(frozen=True, slots=True)
class Trajectory:
    """What training does. `snapshot`: of the last step looked at; what it holds is true of every later step if
    `settled`. `excess`: everything above Theta(1) at the first step at which something is, in graph order."""

    snapshot: Snapshot
    step: int
    settled: bool
    excess: tuple[Excess, ...]

    @property
    def stable(self) -> bool:
        """Whether nothing ever exceeds Theta(1)."""
        return self.settled and not self.excess


class ManyTermsError(CalculusError):
    """A tensor is a sum of more terms than a trainer is to follow."""

    def __init__(self, message: str, span: Span) -> None:
        super().__init__(message, span, why="sizes far from balance do not merge, and each is followed by itself",
                         fix="fewer fixed exponents, or exponents nearer to the derived ones")  # fmt: skip


@dataclass
class Trainer(Solver):
    """A solver that predicts instead: its exponents are given, and may be forms. `strict`: of widths in proportion,
    n^1/2 m^-1/2 is too large as well (or m^1/2 n^-1/2, if m stands first in the units). `most`: how many terms a
    tensor may have (0: any number); far from balance hardly two have the same size, and they multiply. `effort`: of all
    predictions so far, a measure of their work that does not depend on the machine."""

    strict: bool = False
    most: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.solved = True
        self.watched = watched(self)
        self.effort = 0
        self._spent = 0  # of that, before this one

    def update_terms(self, name: str, gradient: Terms) -> Terms:
        """As the optimizer's rule says. A gradient that is a single term, normalised, does not depend on its size."""
        if len(gradient) == 1 and not self.optimizers[name].linear:
            gradient = ((0, *gradient[0][1:]),)
        return super().update_terms(name, gradient)

    def evaluate(self, k: int) -> bool:
        """Raises ManyTermsError."""
        moved = super().evaluate(k)
        initial, change = len(self.initial[k]), len(self.change[k])
        self.effort += EVALUATION + initial**2 + change**2  # terms multiply
        if self.most and (max(initial, change) > self.most or self.effort > self._spent + MOST_EFFORT):
            node = self.nodes[k]
            raise ManyTermsError(f"`{describe(node, self.program.nodes)}` has too many terms", node.span)
        return moved

    def run(
        self, exponents: Exponents, steps: int = MAX_SWEEPS, seen: Callable[[int], None] | None = None
    ) -> Trajectory:
        """Train at these exponents for at most that many steps; one step at least, even if the start is too large.
        `seen` is called after each step at which nothing exceeds Theta(1). Of a step at which something does, the
        gradients are not looked at: far from balance they may have thousands of terms."""
        self.exponents, self._spent = exponents, self.effort
        self.restart()
        self.sweep()
        excess = self._excess(0)
        step, settled = 0, False
        if seen is not None and not excess:
            seen(0)
        forward = len(self.program.forward.nodes)
        while not settled and step < max(1, steps) and (not step or not excess):
            step += 1
            if not self.train():
                settled = True
            else:
                moved = self.sweep(forward)
                excess = excess or self._excess(step)
                settled = not excess and not (self.sweep() or moved)
            if seen is not None and not excess:
                seen(step)
        return Trajectory(self.snapshot(), step, settled and not excess, tuple(excess))

    def _excess(self, step: int) -> list[Excess]:
        found = []
        for k in self.watched:
            for part, terms in (("initial", self.initial[k]), ("change", self.change[k])):
                size = largest(terms)
                if size is not None and (size > 0 if self.strict else self.units.grows(int(size))):
                    found.append(Excess(k, step, size, part))
        return found

    def record_steps(self) -> None:
        """Keep the optimizer's steps at C = 0 of the last run, as solving does."""
        self.step = {name: tuple((size + self.exponents.C[name], raw, grades) for size, raw, grades in terms)
                     for name, terms in self.moved.items()}  # fmt: skip

    def starting(self, occurrence: Occurrence) -> int | None:
        """The size of a use's value for a W that starts at size 0, with all that it meets."""
        return self.used(occurrence, self.begun(occurrence.param))


def require_own_steps(optimizers: Iterable[Optimizer]) -> None:
    """Raises CalculusError for an optimizer whose step of one parameter depends on the size of all gradients."""
    for optimizer in optimizers:
        if optimizer.normalisation == "global":
            raise CalculusError(
                f"{optimizer.name} divides by the norm of the whole gradient",
                why="under arbitrary exponents that norm couples all learning rates, which is not covered yet",
                fix="--optimizer sgd, or an optimizer that normalises each parameter by itself",
            )


def layer_node(solver: Solver, name: str) -> list[int]:
    """The nodes that hold the values of a parameter's uses, after the scalars that follow, in graph order."""
    return [o.tail[-1] if o.tail else o.node for o in solver.uses_by_param(name)]


def watched(solver: Solver) -> Sequence[int]:
    """Forward nodes that must stay at most Theta(1), in order: what nonlinearities, sums and outputs consume, and the
    value of every use of a parameter."""
    found = sensitive(solver.program)
    for name in solver.uses_of:
        found.update(layer_node(solver, name))
    return sorted(found)
