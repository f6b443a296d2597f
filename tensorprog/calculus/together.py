"""Matrices whose rows are added into one tensor, to be flipped together.

In h = U x + W y entry i of h is odd in row i of U or in row i of W, term by term. In row i of both at once it is odd as
a whole, and so is every odd function of it, however many terms they have by then. In a layer of a symbolic loop the
whole matrices are flipped together: they tell that what it makes is of zero mean over layers.
"""

from __future__ import annotations

from tensorprog.calculus.shared import Sizes
from tensorprog.graph import Add, Contract, Param, Program, Scale, StopGrad
from tensorprog.parameters import Parameter

Slices = list[tuple[str, int]]  # parameters, each with the place of an axis among its growing ones


def added_together(program: Program, sizes: Sizes, loop: int = 0) -> list[Slices]:
    """The slices along an axis that sums of linear functions of parameters add up, several each and none twice.
    `loop`: of the parameters of that symbolic loop (0: of those of none)."""
    known: Slices = []
    found: list[int] = []  # masks of the known ones
    made: dict[int, dict[int, int]] = {}  # node -> growing axis -> the slices that its entries are linear in
    for node in program.forward.nodes:
        here: dict[int, int] = {}
        args = [made.get(a, {}) for a in node.args]  # layers of a symbolic loop read each other
        match node.op:
            case Param(name) if _flips(program.forward.parameters[name], loop):
                for k, axis in enumerate(sizes.widths(node.axes)):
                    here[axis] = 1 << len(known)
                    known.append((name, k))
            case Scale() | StopGrad():
                here = args[0]
            case Contract(left, right, out):
                for arg, indices in zip(args, (left, right or ()), strict=False):
                    for axis, slices in arg.items():
                        if indices[axis] in out:
                            at = out.index(indices[axis])
                            here[at] = here.get(at, 0) ^ slices
            case Add(places):
                for arg, place in zip(args, places, strict=True):
                    for axis, slices in arg.items():
                        here[place[axis]] = here.get(place[axis], 0) | slices
                for slices in here.values():
                    if slices & (slices - 1):  # more than one
                        joined = slices
                        for other in [other for other in found if other & slices]:
                            joined |= other
                            found.remove(other)
                        found.append(joined)
        made[node.id] = here
    return [[part for k, part in enumerate(known) if slices >> k & 1] for slices in found]


def _flips(parameter: Parameter, loop: int) -> bool:
    """Whether it starts at random, in that loop. (In one a bit stands for the same slice in every layer.)"""
    at = parameter.layers[-1].loop if parameter.layers else 0
    return at == loop and parameter.init.kind not in ("zeros", "ones", "constant")
