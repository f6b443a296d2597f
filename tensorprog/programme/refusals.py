"""Why there is no completion: what conflicts, or what stays open."""

from __future__ import annotations

from collections.abc import Sequence

from tensorprog.errors import CalculusError, TensorProgError
from tensorprog.fixing import COMMAND_LINE, said
from tensorprog.programme.branches import ZERO, Branch, Constraint
from tensorprog.programme.search import Search
from tensorprog.programme.simplex import Infeasible, Row, maximise

NAMED = 4  # requirements in a message


class ConflictError(TensorProgError):
    """What is fixed cannot be had together. `fixes`: the texts of a set of requirements that conflict. `tied`: only
    because of something like n^1/2 m^-1/2, where n and m grow in proportion."""

    fixes: tuple[str, ...] = ()
    tied: bool = False


def conflict(search: Search, branches: Sequence[Branch]) -> ConflictError:
    """The error for constraints that cannot be had together in any branch, from a certificate for each."""
    fixed = [(c, sign) for c in search.constraints if c.kind == "fix" for sign in (1, -1)]
    together: list[Constraint] = []
    tied = False
    for branch in branches:
        signed = [*fixed, *((c, 1) for c in branch.numbered.values())]
        rows = [Row({j: sign * v for j, v in c.row.coefficients.items()}, sign * c.row.bound) for c, sign in signed]
        found = maximise({}, rows, len(search.names))
        assert isinstance(found, Infeasible)
        together += [signed[k][0] for k in sorted(found.conflict)]
        missing = sum((y * rows[k].bound for k, y in found.conflict.items()), ZERO)
        tied = tied or not search.trainer.units.sign(missing)
    error = _together(search, together)
    error.tied = tied
    return error


def _together(search: Search, constraints: Sequence[Constraint]) -> ConflictError:
    texts = {c.text for c in constraints if c.kind == "fix"}
    fixed = [fix.said for fix in search.fixes if fix.text in texts]
    lines = [said(fix) for fix in fixed]
    nodes = search.nodes
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


def no_end(search: Search) -> CalculusError:
    """The error for a search that was given up before anything stable was found. Its place is that of the first
    requirement in the file, else of what exceeded Theta(1) when it was given up."""
    names = [fix.text for fix in search.fixes]
    shown = ", ".join(names[:NAMED]) + (", .." if len(names) > NAMED else "")
    places = [fix.said.span for fix in search.fixes if fix.said.span.file != COMMAND_LINE]
    grown = [c for c in search.constraints if c.kind == "stability" and c.excess(search.point, {}) > 0]
    too_large = ""
    if grown:
        places.append(search.nodes[grown[-1].node].span)
        too_large = f" (in the last one {grown[-1].text}, line {places[-1].line})"
    return CalculusError(
        f"no stable completion of {shown} was found in {search.rounds} rounds",
        next(iter(places), search.nodes[0].span),
        why=f"in every answer of the linear programme something else grew{too_large}; that there is none is not shown",
        fix='leave less open: fix more, such as "init = sp"',
    )
