"""The best stable completion of what the user fixes: an exact linear programme over the forms of the calculus.

The size of every tensor is made of affine forms of the unknown exponents. First the own updates are made as large as
possible, the smallest first (leximin: no update vanishes faster than it must), then the initial sizes, then the
multipliers. search.py finds a point, which is verified by substitution, and shows that
none is better, as far as corners.py does not find other forms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from tensorprog.calculus.exponents import Exponents
from tensorprog.errors import CalculusError
from tensorprog.exponents import Units
from tensorprog.programme.corners import alone
from tensorprog.programme.fixes import Fix
from tensorprog.programme.refusals import conflict, no_end
from tensorprog.programme.search import Progress, Search
from tensorprog.programme.stages import Lost
from tensorprog.programme.trajectory import Trainer, Trajectory
from tensorprog.programme.unknowns import Unknowns


@dataclass(frozen=True, slots=True)
class Completed:
    """`point`: the values of `unknowns`. `contributions`: parameter -> exponent of its own update. `lost`: what
    vanishes, slowest last. `certified`: whether every branch was followed to its end. `rounds`: predictions made.
    Exponents as `units.number` says them."""

    unknowns: Unknowns
    point: tuple[Fraction, ...]
    exponents: Exponents
    trajectory: Trajectory
    contributions: Mapping[str, Fraction]
    lost: tuple[Lost, ...]
    certified: bool
    rounds: int

    @property
    def units(self) -> Units:
        return self.unknowns.trainer.units


def solve(
    trainer: Trainer,
    fixes: Sequence[Fix],
    start: Exponents,
    *,
    anything: bool = False,
    progress: Progress | None = None,
) -> Completed:
    """The best that is found, or something stable (`anything`). Raises ConflictError if what is fixed leaves nothing
    stable, CalculusError if nothing is found."""
    search = Search(trainer, fixes, start, anything=anything, progress=progress)
    root = search.root()
    if root.contradiction() is None:
        search.begin(root)
    end = search.explore(root)
    if search.best is None:
        raise conflict(search, end.dead) if end is not None else no_end(search)
    best = None
    while search.best is not best:  # until no corner is better
        best = search.best
        lost = _lost(search)
        certified = not lost or (end is not None and all(one.binding for one in lost) and alone(search, root, lost))
        if search.best is not best:
            end = search.explore(root)
    search.refine(best.point)
    exponents = _plain(search.unknowns.exponents(best.point))
    return Completed(search.unknowns, tuple(best.point), exponents, search.trainer.run(exponents), best.sizes[0],
                     tuple(lost), certified, search.rounds)  # fmt: skip


def _lost(search: Search) -> list[Lost]:
    """Which updates vanish at the best point, and why, if that is known."""
    best, found, sign = search.best, search.found, search.trainer.units.sign
    assert best is not None
    updates = best.sizes[0]
    lost = [one for one in found.lost if sign(one.exponent) < 0] if found is not None else []
    if any(c.kind == "box" for one in lost for c in one.binding):
        raise CalculusError("some exponent is bounded by nothing", search.nodes[0].span, fix="fewer `fix` lines",
                            why="at what is fixed, no constraint holds it: any size of it is stable")  # fmt: skip
    if found is None or any(updates[name] != one.exponent for one in lost for name in one.params):
        sizes = sorted({size for size in updates.values() if sign(size) < 0})
        lost = [Lost(tuple(name for name, own in updates.items() if own == size), size, ()) for size in sizes]
    return lost


def _plain(exponents: Exponents) -> Exponents:
    return Exponents({n: int(v) for n, v in exponents.A.items()}, {n: int(v) for n, v in exponents.C.items()},
                     {n: int(v) for n, v in exponents.M.items()})  # fmt: skip
