"""Whether what was aimed at is what decides: an update is a maximum of forms, too.

A linear programme can only aim at one form of each update; one that is smaller where it looked may be larger where
starts are smaller. So other forms are looked for at corners of what is possible.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction

from tensorprog.exponents import Power
from tensorprog.programme.branches import Branch
from tensorprog.programme.search import Search
from tensorprog.programme.simplex import Optimum, Row
from tensorprog.programme.stages import Lost
from tensorprog.programme.trajectory import ManyTermsError

REACH = 2  # powers of the width, around the answer
CORNERS = 24  # at which to look
TRIES = 4  # to find a corner that is stable


def alone(search: Search, root: Branch, lost: Sequence[Lost]) -> bool:
    """Whether what was aimed at is the largest form of each update that is lost, wherever one looks. Where a corner is
    better, it is the best point afterwards."""
    best = search.best
    assert best is not None
    linear = any(search.trainer.optimizers[name].linear for one in lost for name in one.params)
    for corner in _corners(search, root, best.point):
        if linear:
            return False  # gradients depend on starts in many ways
        try:
            search.visit(corner)
        except ManyTermsError:
            return False
    if search.best is not best:
        return False
    root.enter(search.constraints)
    return all(
        root.holds(row, search.aims[0][name]) is not None
        for one in lost for name in one.params for row in search.forms[name]
    )  # fmt: skip


def _corners(search: Search, root: Branch, point: Sequence[Fraction]) -> Iterator[Sequence[Fraction]]:
    """Some corners of what is possible around a point: as far as one can go with one start or multiplier, and up with
    one learning rate. One that is not stable is looked for again, on its side of what matters there."""
    trainer, seen = search.trainer, set[tuple[Fraction, ...]]()
    reach = trainer.units.number(Power.of({trainer.units.symbols[0]: REACH}))
    root.enter(search.constraints)
    around = root.copy()
    for j, value in enumerate(point):
        for sign in (1, -1):
            around.tableau.add(Row({j: sign}, sign * value + reach))
    parameters = trainer.program.forward.parameters
    starts = {f"init[{name}]" for name, p in parameters.items() if not trainer.starts_at_zero(p)}
    starts.update(name for name in search.names if name.startswith("?"))
    for j, name in enumerate(search.names):
        for sign in (1, -1) if name in starts else (1,) if name.startswith("lr[") else ():
            here = around
            for _ in range(TRIES):
                here.enter(search.constraints)
                found = here.tableau.maximise({j: sign})
                if not isinstance(found, Optimum) or found.x[j] == point[j] or len(seen) == CORNERS:
                    break
                seen.add(tuple(found.x))
                yield found.x
                if search.look(found.x).stable:
                    break
                here.enter(search.constraints)
                for plane in here.question(found.x):
                    here = here.child(plane, 1 if plane.over(found.x) >= 0 else -1)
