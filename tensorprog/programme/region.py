"""A plane through the space of exponents: the polygon of what is stable in it, with exact vertices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from fractions import Fraction
from math import lcm

from tensorprog.calculus.affine import Form, pack
from tensorprog.calculus.exponents import Exponents, Snapshot
from tensorprog.calculus.shared import describe
from tensorprog.calculus.stable import blown_up
from tensorprog.errors import TensorProgError
from tensorprog.parametrizations.gauge import gauge_degree
from tensorprog.programme.trajectory import Excess, Trainer

REACH = 2  # powers of the width around the parametrization that the picture shows
QUANTITIES = ("multiplier", "init_std", "lr")
Corner = tuple[Fraction, Fraction]


@dataclass(frozen=True, slots=True)
class Edge:
    """x * first + y * second <= bound: a side of the polygon. `text`: which tensor it keeps at Theta(1), or the frame
    of the picture; `line`: of the file, 0 for the frame. `sound`: it holds everywhere, not only while the same terms
    rule a division."""

    first: int
    second: int
    bound: Fraction
    text: str
    line: int = 0
    sound: bool = True

    def room(self, corner: Corner) -> Fraction:
        """How far inside a corner is; negative: outside."""
        return self.bound - self.first * corner[0] - self.second * corner[1]


@dataclass(frozen=True, slots=True)
class Region:
    """What is stable when two exponents vary and all others stay. `labels`: of the axes; `here`: where the
    parametrization is; `vertices`, in order, `edges[k]` from vertex k to the next one. No vertices: nothing is stable.
    `exact`: every vertex was seen to be stable and every edge holds everywhere."""

    labels: tuple[str, str]
    here: Corner
    vertices: tuple[Corner, ...]
    edges: tuple[Edge, ...]
    exact: bool


@dataclass(frozen=True, slots=True)
class Axis:
    """An exponent that varies: `quantity` of all parameters that match, or of a multiplier `?name`."""

    label: str
    quantity: str
    names: tuple[str, ...]


def read_axis(trainer: Trainer, text: str) -> Axis:
    """`lr[W1]`, `init_std[layers.*]`, `lr[*]`, `?scale`. Raises TensorProgError if there is no such thing."""
    text = text.strip()
    graph = trainer.program.forward
    if text.startswith("?") and text[1:] in graph.unknowns:
        return Axis(text, "scale", (text[1:],))
    quantity, _, pattern = text.removesuffix("]").partition("[")
    names = tuple(name for name in graph.parameters if fnmatchcase(name, pattern))
    if quantity == "lr":
        names = tuple(name for name in names if name in trainer.program.updates)
    if quantity not in QUANTITIES or not names:
        example = next(iter(graph.parameters))
        raise TensorProgError(f"`{text}` is no exponent of this program",
                              fix=f"lr[{example}], init_std[{example}], multiplier[{example}], or ?name",
                              why="a direction is an exponent of the program")  # fmt: skip
    return Axis(text, quantity, names)


def region(trainer: Trainer, base: Exponents, axes: tuple[Axis, Axis], here: Corner) -> Region:
    """The stable polygon around `here`, where the exponents are `base`.

    Begins with the frame of the picture; a corner that is not stable shows constraints that cut it off; ends when every
    corner is stable. Convexity does the rest, unless a constraint divides by a norm (`exact`)."""
    x, y = here
    frame = [Edge(1, 0, x + REACH, "frame"), Edge(0, 1, y + REACH, "frame"), Edge(-1, 0, REACH - x, "frame"),
             Edge(0, -1, REACH - y, "frame")]  # fmt: skip
    polygon = [((x + REACH, y - REACH), frame[0]), ((x + REACH, y + REACH), frame[1]),
               ((x - REACH, y + REACH), frame[2]), ((x - REACH, y - REACH), frame[3])]  # fmt: skip
    stable: set[Corner] = set()
    while polygon and (corner := next((c for c, _ in polygon if c not in stable), None)) is not None:
        cuts = _cuts(trainer, base, axes, here, corner)
        if not cuts:
            stable.add(corner)
        for cut in cuts:
            polygon = clip(polygon, cut)
    exact = all(edge.sound for _, edge in polygon)
    return Region((axes[0].label, axes[1].label), here, tuple(c for c, _ in polygon),
                  tuple(e for _, e in polygon), exact)  # fmt: skip


def clip(polygon: Sequence[tuple[Corner, Edge]], cut: Edge) -> list[tuple[Corner, Edge]]:
    """The part of a convex polygon inside an edge. Each corner comes with the edge that leads to the next one."""
    result: list[tuple[Corner, Edge]] = []
    for k, (corner, edge) in enumerate(polygon):
        after = polygon[(k + 1) % len(polygon)][0]
        now, then = cut.room(corner), cut.room(after)
        if now >= 0:
            result.append((corner, edge if then >= 0 or now > 0 else cut))
        if (now > 0 > then) or (now < 0 < then):
            t = now / (now - then)
            crossing = (corner[0] + t * (after[0] - corner[0]), corner[1] + t * (after[1] - corner[1]))
            result.append((crossing, cut if then < 0 else edge))
    count = len(result)
    return [item for k, item in enumerate(result) if count == 1 or item[0] != result[(k + 1) % count][0]]


def _cuts(trainer: Trainer, base: Exponents, axes: tuple[Axis, Axis], here: Corner, corner: Corner) -> list[Edge]:
    """The constraints that a corner violates; none: it is stable. Raises TensorProgError if that cannot be told."""
    denominator = lcm(trainer.units.denominator, corner[0].denominator, corner[1].denominator)
    finer = denominator // trainer.units.denominator
    fine = trainer if finer == 1 else replace(trainer, units=trainer.units.finer(denominator))
    shifts = (corner[0] - here[0], corner[1] - here[1])
    result = fine.run(_moved(fine, base, finer, axes, shifts))
    if result.stable:
        return []
    initial, change = result.snapshot.initial, result.snapshot.change
    if result.excess and not result.excess[0].step:
        change = ((),) * len(change)
    hidden = blown_up(fine.program, Snapshot(initial, change), fine.functions)
    first = [e for e in result.excess if e.node not in hidden] or list(result.excess)
    if not first:
        raise TensorProgError("sizes keep growing, but nothing exceeds Theta(1)",
                              file=trainer.program.forward.name, fix="other exponents for --region, or none",
                              why="a region has an edge where a size does")  # fmt: skip
    return [_edge(fine, excess, corner) for excess in first]


def _edge(trainer: Trainer, excess: Excess, corner: Corner) -> Edge:
    size = excess.size if isinstance(excess.size, Form) else Form(excess.size)
    first, second = size.coefficients(2)
    bound = first * corner[0] + second * corner[1] - trainer.units.degree(int(size))
    nodes = trainer.program.forward.nodes
    part = "start" if excess.part == "initial" else "change"
    node = nodes[excess.node]
    return Edge(first, second, bound, f"the {part} of `{describe(node, nodes)}`", node.span.line, not size.below)


def _moved(
    trainer: Trainer, base: Exponents, finer: int, axes: tuple[Axis, Axis], shifts: tuple[Fraction, Fraction]
) -> Exponents:
    """The exponents with both axes shifted, as forms of the two."""
    symbol = trainer.units.symbols[0]
    forms = [Form(trainer.units.pack({symbol: s}), pack([int(k == 0), int(k == 1)]), rates=axis.quantity == "lr")
             for k, (s, axis) in enumerate(zip(shifts, axes, strict=True))]  # fmt: skip
    A, C, M = (_scaled(part, finer) for part in (base.A, base.C, base.M))
    for axis, form in zip(axes, forms, strict=True):
        for name in axis.names:
            match axis.quantity:
                case "scale":
                    M[name] = form + M[name]
                case "init_std":
                    A[name] = _minus(A[name], form)
                case "multiplier":
                    A[name] = _minus(A[name], form)
                    C[name] = _minus(C[name], form * gauge_degree(trainer, name))
                case _:
                    C[name] = _minus(C[name], form)
    return Exponents(A, C, M)


def _minus(size: int, form: Form) -> Form:
    return (size if isinstance(size, Form) else Form(size)) - form


def _scaled(sizes: Mapping[str, int], factor: int) -> dict[str, int]:
    return {name: factor * size for name, size in sizes.items()}
