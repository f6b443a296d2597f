"""The report as text: best values by size, then what follows from them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tensorprog.hptransfer.report import Drift, Optimum, TransferReport, Wider
from tensorprog.tables import align, fold

if TYPE_CHECKING:
    from tensorprog.plots import Sweep

RED, GREEN, YELLOW, PLAIN = "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[0m"
COLORS = {"transfers": GREEN, "drifts": RED, "inconclusive": YELLOW}


def table(report: TransferReport, *, color: bool = False) -> str:
    """For people."""
    symbol = " = ".join(report.axis)
    fixed = "" if report.lr is None else f", lr {report.lr:g}"
    head = (f"{report.file}: transfer of {words(report.sweep)} along {symbol}, {report.optimizer}{fixed}",
            setting(report))  # fmt: skip
    header = ("parametrization", symbol, f"best {words(report.sweep)}", "95% interval", "loss", "values tried")
    rows = [_row(report, optimum) for optimum in report.optima]
    lines = [*map(fold, head), "", *align(rows, header), ""]
    for first, *others in findings(report):
        lines += [fold(first), *(fold(f"  {line}") for line in others), ""]
    return "\n".join([*_colored(lines, color), cost(report)]) + "\n"


def setting(report: TransferReport) -> str:
    """What was trained, in a line."""
    base = ", ".join(f"{s} = {n}" for s, n in report.base.items())
    return f"data {report.data}; {report.steps} steps of {report.batch} examples, {report.seeds} seeds; base {base}"


def origin(report: TransferReport) -> str:
    """What one needs to train the same again, beside `setting`."""
    sizes = f"{' = '.join(report.axis)} = {', '.join(map(str, report.sizes))}"
    made = ", ".join(f"{package} {version}" for package, version in report.versions.items())
    names = ", ".join(report.parametrizations)
    return f"{report.file}, {report.optimizer}, form {report.form}: {names} at {sizes}; {setting(report)}; {made}"


def words(sweep: str) -> str:
    """As in a sentence."""
    kind, _, name = sweep.partition(":")
    return f"?{name}" if name else {"init": "init scale"}.get(kind, kind.replace("_", " "))


def movement(drift: Drift) -> str:
    """`+0.02 [-0.05, +0.09]`, "" where there is no estimate."""
    if drift.octaves is None:
        return ""
    bars = "" if drift.low is None or drift.high is None else f" [{drift.low:+.2f}, {drift.high:+.2f}]"
    return f"{drift.octaves:+.2f}{bars}"


def _row(report: TransferReport, o: Optimum) -> tuple[str, ...]:
    size = str(report.size(o.sizes))
    if o.value is None or o.loss is None:
        why = {"below": "below all values tried", "above": "above all values tried"}.get(o.status, o.status)
        return (o.parametrization, size, why, "-", "-", str(o.tried))
    interval = "-" if o.low is None or o.high is None else f"[{o.low:.3g}, {o.high:.3g}]"
    return (o.parametrization, size, f"{o.value:.3g}", interval, f"{o.loss:.4g}", str(o.tried))


def findings(report: TransferReport) -> list[list[str]]:
    """What follows, of every parametrization: how its optimum moves, then what that means."""
    return [_findings(report, drift, wider) for drift, wider in zip(report.drifts, report.wider, strict=True)]


def _findings(report: TransferReport, drift: Drift, wider: Wider) -> list[str]:
    what, symbol = words(report.sweep), " = ".join(report.axis)
    lines = []
    if drift.octaves is None:
        lines.append(f"{drift.parametrization}: no drift, since an optimum is missing: inconclusive")
    else:
        lines.append(f"{drift.parametrization}: the best {what} moves by {movement(drift)} octaves per doubling of "
                     f"{symbol}: {drift.verdict}")  # fmt: skip
    if drift.at_largest is not None and drift.best_at_largest is not None:
        lines.append(f"loss at {symbol} = {report.sizes[-1]}: {drift.at_largest:.4g} with the best {what} of "
                     f"{symbol} = {report.sizes[0]}, {drift.best_at_largest:.4g} with the best of its own")  # fmt: skip
    count = wider.better + wider.alike + wider.worse
    text = f"larger at the same {what}: better {wider.better} of {count} times"
    text += f", alike {wider.alike}, worse {wider.worse}"
    if wider.worst:
        value, small, large = wider.worst
        text += f" (most at {value:.3g}, from {small} to {large})"
    return [*lines, text]


def cost(report: TransferReport) -> str:
    """What tuning the smallest network saves."""
    small, large = report.sizes[0], report.sizes[-1]
    symbol, ratio = " = ".join(report.axis), report.flops[large] / report.flops[small]
    return (f"cost of a run: {report.flops[small]:.2g} FLOPs at {symbol} = {small}, {report.flops[large]:.2g} at "
            f"{symbol} = {large}: tuning the small one saves a factor of {ratio:.3g}")  # fmt: skip


def curves(report: TransferReport) -> Sweep:
    """What `tensorprog.plots.transfer_curves` draws (needs matplotlib)."""
    from tensorprog.plots import Optimum, Run, Sweep

    runs = (Run(r.parametrization, report.size(r.sizes), r.value, r.seed, r.loss) for r in report.records)
    best = (Optimum(o.parametrization, report.size(o.sizes), o.value, o.low, o.high, o.loss) for o in report.optima)
    notes = tuple((d.parametrization, _note(d)) for d in report.drifts)
    title = f"{report.file}, {report.optimizer}, data {report.data}"
    return Sweep(title, words(report.sweep), " = ".join(report.axis), tuple(runs), tuple(best), notes)


def _note(drift: Drift) -> str:
    return drift.verdict if drift.octaves is None else f"drift {movement(drift)} octaves per doubling"


def _colored(lines: list[str], color: bool) -> list[str]:
    if not color:
        return lines
    for verdict, code in COLORS.items():
        lines = [f"{line[: -len(verdict)]}{code}{verdict}{PLAIN}" if line.endswith(verdict) else line for line in lines]
    return lines
