"""Why there is no completion: what conflicts, or what stays open."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tensorprog.errors import CalculusError, TensorProgError
from tensorprog.fixing import COMMAND_LINE, said
from tensorprog.programme.branches import Constraint

if TYPE_CHECKING:
    from tensorprog.programme.complete import Programme

NAMED = 4  # requirements in a message


class ConflictError(TensorProgError):
    """What is fixed cannot be had together. `fixes`: the texts of a set of requirements that conflict. `tied`: only
    because of something like n^1/2 m^-1/2, where n and m grow in proportion."""

    fixes: tuple[str, ...] = ()
    tied: bool = False


def conflict(programme: Programme, constraints: Sequence[Constraint]) -> ConflictError:
    """The error for requirements that cannot be had together, whichever side of a plane one is on (branches.py)."""
    texts = {c.text for c in constraints if c.kind == "fix"}
    fixed = [fix.said for fix in programme.fixes if fix.text in texts]
    lines = [said(fix) for fix in fixed]
    nodes = programme.nodes
    bounds = list(dict.fromkeys(f"{c.text} (line {nodes[c.node].span.line}) at most Theta(1)"
                                for c in constraints if c.kind == "stability"))  # fmt: skip
    lines += [*bounds[:NAMED], *([f"and {len(bounds) - NAMED} more"] if len(bounds) > NAMED else [])]
    places = [fix.span for fix in fixed if fix.span.file != COMMAND_LINE]
    places += [nodes[c.node].span for c in constraints if c.kind == "stability"]
    span = next(iter(places), nodes[0].span)
    error = ConflictError("no stable completion: " + "; ".join(lines), span,
                          why="these requirements cannot be had together, though without any one the others can",
                          fix="leave out one of them")  # fmt: skip
    error.fixes = tuple(map(str, fixed))
    return error


def no_end(programme: Programme) -> CalculusError:
    """The error for a search that was given up before anything stable was found."""
    names = [fix.text for fix in programme.fixes]
    shown = ", ".join(names[:NAMED]) + (", .." if len(names) > NAMED else "")
    return CalculusError(
        f"no stable completion of {shown} was found in {programme.rounds} rounds",
        programme.nodes[0].span,
        why="every answer of the linear programme was unstable for yet another reason; that there is none is not shown",
        fix='leave less open: fix more, such as "init = sp"',
    )
