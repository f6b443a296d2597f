"""The check's report as an aligned table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tensorprog.coordcheck.report import when
from tensorprog.tables import align, counted

if TYPE_CHECKING:
    from tensorprog.coordcheck.run import CheckReport, Row

_ORDER = {"disagrees": 0, "inconclusive": 1, "agrees": 2}
_COLOR = {"disagrees": "\x1b[31m", "inconclusive": "\x1b[33m", "agrees": "\x1b[32m"}


def _number(x: float | None) -> str:
    return "-" if x is None else f"{x:+.2f}"


def _cells(row: Row, own: bool) -> tuple[str, ...]:
    interval = "-" if row.low is None or row.high is None else f"[{row.low:+.2f}, {row.high:+.2f}]"
    cells = (
        row.tensor,
        when(row.part, row.step),
        row.predicted or "zero",
        _number(row.measured),
        interval,
        row.verdict,
    )
    return (*cells, row.calculus or "zero", row.calculus_verdict, row.reason) if own else (*cells, row.reason)


def worst(rows: Sequence[Row]) -> list[Row]:
    """Of every part of a tensor, the first row that agrees least."""
    by_part: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        by_part.setdefault((row.tensor, row.part), []).append(row)
    return [min(alike, key=lambda r: (_ORDER[r.verdict], r.step)) for alike in by_part.values()]


def table(report: CheckReport, *, color: bool, every: bool) -> str:
    """One line for every part of a tensor, at the step that agrees least (`every`: all), then the counts."""
    own = report.parametrization != "derived" and not report.unpredicted
    chosen = list(report.rows) if every else worst(report.rows)
    header = ["tensor", "part", "predicted", "measured", "95% interval", "verdict"]
    header += ["calculus", "its verdict", ""] if own else [""]
    lines = align([_cells(row, own) for row in chosen], header)
    if color:
        for k, row in enumerate(chosen):
            lines[k + 2] = lines[k + 2].replace(row.verdict, _COLOR[row.verdict] + row.verdict + "\x1b[0m", 1)
    ladder = f"{', '.join(report.axis) or 'width'} = {', '.join(map(str, report.widths))}"
    if report.held:
        ladder += " at " + ", ".join(f"{symbol} = {size}" for symbol, size in report.held.items())
    runs = f"{counted(report.seeds, 'seed')}, {counted(report.steps, 'step')}"
    head = (f"{report.file}: {report.optimizer}, {report.parametrization} parametrization, {report.backend}; "
            f"{ladder}; {runs}, tolerance {report.tolerance}")  # fmt: skip
    counts = ", ".join(f"{report.count(v)} {v}" for v in _ORDER)
    tail = [f"{len(report.rows)} rows: {counts}"]
    if report.budget is not None:
        tail.append(f"{report.seeds} seeds within a budget of {report.budget:g} s")
    if report.fault:
        tail.append(str(report.fault))
    if report.control:
        tail.append(str(report.control))
    if report.uncontrolled:
        tail.append("no negative control: no learning rate put wrong would show in an activation by then")
    if report.left_out:
        tail.append(
            f"not measured: {counted(len(report.left_out), 'tensor')} that the {report.backend} program does not make"
        )
    if report.held:
        tail.append(f"only the powers of {report.axis[0]} are measured; the others: --climb {' or '.join(report.held)}")
    if report.unpredicted:
        tail.append("predicted: what the derived parametrization demands; nothing is predicted for "
                    f"{report.parametrization}: {report.unpredicted}")  # fmt: skip
    if own:
        tail.append("predicted: what the derived parametrization demands; calculus: what is predicted for "
                    f"{report.parametrization}")  # fmt: skip
        agree = sum(r.calculus_verdict == "agrees" for r in report.rows)
        tail.append(f"the calculus' own predictions for {report.parametrization}: {agree} of {len(report.rows)} agree")
    return "\n".join([head, "", *lines, "", *tail]) + "\n"
