"""The stable exponents as a polyhedron: linear constraints on the a, b, c of every parameter.

W = n^-a w, w starts like n^-b, its learning rate is n^-c (Tensor Programs IV, abc-parametrizations). Those of the
start, and for one given start those of the learning rates, with the exponents of the start kept as letters. They are
found by going as far as possible with every learning rate, and against every constraint known so far, and predicting
there; those that others imply at this start are left out.

(Without a given start there are too many: products of the changes of several steps, each with a facet of its own.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from tensorprog.calculus.analysis import MAX_SWEEPS
from tensorprog.calculus.exponents import Exponents
from tensorprog.errors import CalculusError
from tensorprog.parametrizations.gauge import gauge_degree
from tensorprog.programme.branches import Constraint
from tensorprog.programme.knowledge import Knowledge
from tensorprog.programme.simplex import Optimum, Row, Tableau, Vector
from tensorprog.programme.trajectory import Trainer

REACH = 6  # powers of the width: how far to go where nothing bounds
MAX_LOOKS = 250  # points at which to predict
Namer = Callable[[str, str], str]


@dataclass(frozen=True, slots=True)
class Inequality:
    """sum of coefficients[(letter, parameter)] >= bound; letters a, b, c, or "?" with the name of a multiplier. `what`
    must be at most Theta(1), in that `line`. `sound`: it holds for all exponents."""

    coefficients: tuple[tuple[tuple[str, str], int], ...]
    bound: Fraction
    what: str
    line: int
    sound: bool

    def text(self) -> str:
        """`a[W] + b[W] >= 1/2`."""
        return (
            f"{_sum(self, lambda letter, name: f'?{name}' if letter == '?' else f'{letter}[{name}]')} >= {self.bound}"
        )

    def latex(self) -> str:
        r"""`a_{W} + b_{W} \ge \frac{1}{2}`."""
        left = _sum(self, lambda letter, name: f"{'m' if letter == '?' else letter}_{{\\mathrm{{{_escape(name)}}}}}")
        b = self.bound
        size = str(abs(b)) if b.denominator == 1 else rf"\frac{{{abs(b.numerator)}}}{{{b.denominator}}}"
        return rf"{left} \ge {'-' if b < 0 else ''}{size}"


def inequalities(trainer: Trainer, start: Exponents) -> tuple[Inequality, ...]:
    """The irredundant constraints of stability that were found, in the order of the graph. `start`: its initial sizes
    and multipliers are those of the start; its learning rates must be stable. Raises CalculusError for a large network,
    of which there are too many (products of the changes of many layers)."""
    programme = Knowledge(trainer, [], start)
    programme.look(programme.point)
    count, point = len(programme.names), tuple(programme.point)
    rates = [j for affine in programme.unknowns.lr.values() for j in affine.terms]
    tableau = Tableau(count)
    for j in range(count):
        if j not in rates:
            tableau.equal({j: 1}, point[j])
    frame = [Row({j: sign}, sign * point[j] + REACH) for j in rates for sign in (1, -1)]
    for row in frame:
        tableau.add(row)
    numbers: dict[int, int] = {}  # constraint -> its row
    entered = explored = looks = 0
    directions: list[Vector] = [{j: sign} for j in rates for sign in (1, -1)]
    while explored < len(directions):
        for c in programme.constraints[entered:]:
            if not _virtual(programme, c):
                numbers[id(c)] = tableau.add(c.row)
                directions.append(c.row.coefficients)
        entered = len(programme.constraints)
        looks += 1
        if looks > MAX_LOOKS:
            raise CalculusError("this network has too many constraints to list",
                                fix="--region X,Y for a plane through them",
                                why="there is one for every term of every tensor")  # fmt: skip
        found = tableau.maximise(directions[explored])
        assert isinstance(found, Optimum)
        news = [programme.look(found.x, steps).news for steps in (1, 2, MAX_SWEEPS)]  # of one step: the simplest
        if not any(news):
            explored += 1
    kept = [c for c in programme.constraints if c.kind == "stability" and not _virtual(programme, c)]
    for c in sorted(kept, key=_complexity, reverse=True):
        if not set(c.row.coefficients) & set(rates):
            continue  # of the start alone
        tableau.remove(numbers[id(c)])
        best = tableau.maximise(c.row.coefficients)
        if isinstance(best, Optimum) and best.value <= c.row.bound:
            kept = [other for other in kept if other is not c]
        else:
            tableau.add(c.row)
    nodes = trainer.program.forward.nodes
    return tuple(_inequality(programme, c, nodes[c.node].span.line) for c in sorted(kept, key=lambda c: c.node))


def _complexity(constraint: Constraint) -> Fraction:
    return sum((abs(Fraction(c)) for c in constraint.row.coefficients.values()), Fraction(0))


def _virtual(programme: Knowledge, constraint: Constraint) -> bool:
    """Whether it speaks of the initial size of something that starts at zero."""
    trainer = programme.trainer
    zero = {f"init[{name}]" for name, p in trainer.program.forward.parameters.items() if trainer.starts_at_zero(p)}
    return any(programme.names[j] in zero for j in constraint.row.coefficients)


def _inequality(programme: Knowledge, constraint: Constraint, line: int) -> Inequality:
    unknowns = programme.unknowns
    total: dict[tuple[str, str], int] = {}

    def add(letter: str, name: str, value: Fraction | int) -> None:
        total[letter, name] = total.get((letter, name), 0) + int(value)

    owner: dict[int, tuple[str, str]] = {}
    for kind, known in (("init", unknowns.init), ("lr", unknowns.lr), ("?", unknowns.scale), ("?", unknowns.use)):
        for name, affine in known.items():
            owner.update(dict.fromkeys(affine.terms, (kind, name)))
    for j, value in constraint.row.coefficients.items():
        kind, name = owner[j]
        if kind == "init":
            add("a", name, value)
            add("b", name, value)
        elif kind == "lr":
            add("c", name, value)
            add("a", name, value * gauge_degree(programme.trainer, name))
        else:
            add("?", name, -value)
    return Inequality(tuple((key, c) for key, c in total.items() if c), -constraint.row.bound, constraint.text, line,
                      constraint.sound)  # fmt: skip


def _sum(inequality: Inequality, name: Namer) -> str:
    parts = []
    for (letter, param), c in inequality.coefficients:
        factor = "" if abs(c) == 1 else f"{abs(c)} "
        parts.append(f"{'-' if c < 0 else '+'} {factor}{name(letter, param)}")
    joined = " ".join(parts)
    return joined[2:] if joined.startswith("+ ") else "-" + joined[2:]


def _escape(name: str) -> str:
    return name.replace("_", r"\_")
