"""Why there is no completion: what conflicts, or what stays open."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tensorprog.errors import CalculusError, TensorProgError
from tensorprog.fixing import COMMAND_LINE, said
from tensorprog.programme.stages import Constraint

if TYPE_CHECKING:
    from tensorprog.programme.complete import Programme

NAMED = 4  # parameters in a message


class ConflictError(TensorProgError):
    """What is fixed cannot be had together. `fixes`: the texts of a set of requirements that conflict. `tied`: only
    because of something like n^1/2 m^-1/2, where n and m grow in proportion."""

    fixes: tuple[str, ...] = ()
    tied: bool = False


def conflict(programme: Programme, constraints: Sequence[Constraint]) -> ConflictError:
    """The error for requirements that cannot be had together."""
    texts = {c.text for c in constraints if c.kind == "fix"}
    fixed = [fix.said for fix in programme.fixes if fix.text in texts]
    lines = [said(fix) for fix in fixed]
    nodes = programme.nodes
    lines += list(dict.fromkeys(f"{c.text} (line {nodes[c.node].span.line}) at most Theta(1)"
                                for c in constraints if c.kind == "stability"))  # fmt: skip
    places = [fix.span for fix in fixed if fix.span.file != COMMAND_LINE]
    places += [nodes[c.node].span for c in constraints if c.kind == "stability"]
    span = next(iter(places), nodes[0].span)
    error = ConflictError("no stable completion: " + "; ".join(lines), span,
                          why="these requirements cannot be had together, though without any one the others can",
                          fix="leave out one of them")  # fmt: skip
    error.fixes = tuple(map(str, fixed))
    return error


def no_end(programme: Programme, why: str) -> CalculusError:
    """The error for rounds that go on, with the parameters whose updates were the smallest in the last one."""
    sizes = {name: -cut.row.slack(programme.point) for name, cut in programme.updates.items()}
    least = [name for name, size in sizes.items() if size == min(sizes.values())]
    names = ", ".join(f"`{name}`" for name in least[:NAMED]) + (", .." if len(least) > NAMED else "")
    node = programme.trainer.uses_by_param(least[0])[0].node if least else 0
    return CalculusError(
        f"no best stable completion was found in {programme.rounds} rounds: it is open how large the own updates of "
        f"{names} may be",
        programme.nodes[node].span,
        why=why,
        fix='leave less open: fix more, such as "init = sp"',
    )
