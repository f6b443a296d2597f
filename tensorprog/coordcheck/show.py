"""The check's report as an aligned table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tensorprog.tables import align

if TYPE_CHECKING:
    from tensorprog.coordcheck.run import CheckReport, Row

_ORDER = {"disagrees": 0, "inconclusive": 1, "agrees": 2}
_COLOR = {"disagrees": "\x1b[31m", "inconclusive": "\x1b[33m", "agrees": "\x1b[32m"}


def _number(x: float | None) -> str:
    return "-" if x is None else f"{x:+.2f}"


def _cells(row: Row, own: bool) -> tuple[str, ...]:
    interval = "-" if row.low is None or row.high is None else f"[{row.low:+.2f}, {row.high:+.2f}]"
    when = "init" if row.part == "init" else f"change {row.step}"
    cells = (row.tensor, when, row.predicted or "zero", _number(row.measured), interval, row.verdict)
    return (*cells, row.calculus or "zero", row.calculus_verdict, row.reason) if own else (*cells, row.reason)


def table(report: CheckReport, *, color: bool, every: bool) -> str:
    """One line for the start and one for the worst step of every tensor (`every`: all), then the counts."""
    own = report.parametrization != "derived"
    chosen: list[Row] = []
    by_tensor: dict[str, list[Row]] = {}
    for row in report.rows:
        by_tensor.setdefault(row.tensor, []).append(row)
    for rows in by_tensor.values():
        if every:
            chosen += rows
            continue
        chosen.append(rows[0])
        chosen.append(min(rows[1:], key=lambda r: (_ORDER[r.verdict], r.step)))
    header = ["tensor", "part", "predicted", "measured", "95% interval", "verdict"]
    header += ["calculus", "its verdict", ""] if own else [""]
    lines = align([_cells(row, own) for row in chosen], header)
    if color:
        for k, row in enumerate(chosen):
            lines[k + 2] = lines[k + 2].replace(row.verdict, _COLOR[row.verdict] + row.verdict + "\x1b[0m", 1)
    widths = ", ".join(map(str, report.widths))
    head = (f"{report.file}: {report.optimizer}, {report.parametrization} parametrization, {report.backend}; "
            f"widths {widths}; {report.seeds} seeds, {report.steps} steps, tolerance {report.tolerance}")  # fmt: skip
    counts = ", ".join(f"{report.count(v)} {v}" for v in _ORDER)
    tail = [f"{len(report.rows)} rows: {counts}"]
    if report.left_out:
        tail.append(f"{len(report.left_out)} tensors are not measured: the {report.backend} program does not make them")
    if own:
        tail.append("predicted: what the derived parametrization demands; calculus: what is predicted for "
                    f"{report.parametrization}")  # fmt: skip
        agree = sum(r.calculus_verdict == "agrees" for r in report.rows)
        tail.append(f"the calculus' own predictions for {report.parametrization}: {agree} of {len(report.rows)} agree")
    return "\n".join([head, "", *lines, "", *tail]) + "\n"
