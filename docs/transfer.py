"""The experiments of docs/how-to/transfer.md: trains, prints the two tables of that page, and draws its picture.

    python docs/transfer.py [-o runs.sqlite] [--jobs N] [--only "gpt adam" ...] [--write]

About an hour of one core, spread over `--jobs` processes. Finished runs are kept in the file after -o. --write puts
the tables that are whole, one report in full and its picture into the documentation.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import tensorprog as tp  # noqa: E402
from tensorprog import plots  # noqa: E402
from tensorprog.hptransfer.show import curves  # noqa: E402

PAGE = ROOT / "docs" / "how-to" / "transfer.md"
PICTURE = ROOT / "docs" / "images" / "transfer.png"
IN_FULL = "gpt adam"
FOUND = "drift, derived | drift, standard | loss, derived | loss, standard |"
HEADERS = {
    "experiments": f"| network | optimizer | widths | runs | {FOUND} cost |",
    "others": f"| network | optimizer | swept | widths | runs | best, derived | {FOUND}",
}


@dataclass(frozen=True)
class Experiment:
    network: str
    optimizer: str
    widths: tuple[int, ...]
    steps: int
    batch: int
    seeds: int
    parametrizations: tuple[str, ...] = ("derived", "sp")
    sweep: str = "lr"
    lr: float | None = None  # at the base width, while something else is swept

    @property
    def file(self) -> str:
        return f"examples/transfer/{self.network}.tp"

    @property
    def name(self) -> str:
        return f"{self.network} {self.optimizer if self.sweep == 'lr' else self.sweep}"


EXPERIMENTS = (
    Experiment("mlp", "sgd", (32, 128, 512), 40, 64, 6),
    Experiment("mlp", "adam", (128, 512, 2048), 40, 64, 9),
    Experiment("mlp", "muon", (16, 64, 256), 40, 64, 4),
    Experiment("convnet", "sgd", (8, 32, 128), 40, 16, 8),
    Experiment("convnet", "adam", (16, 64, 256), 40, 16, 6),
    Experiment("convnet", "muon", (16, 64, 256), 40, 16, 6),
    Experiment("gpt", "sgd", (16, 64, 256), 100, 8, 4),
    Experiment("gpt", "adam", (16, 32, 64, 128, 256), 100, 8, 4),
    Experiment("gpt", "muon", (16, 64, 256), 60, 8, 4),
)
OTHERS = (
    Experiment("mlp", "adam", (32, 128, 512), 40, 64, 4, sweep="init", lr=0.01),
    Experiment("mlp", "momentum", (32, 128, 512), 40, 64, 4, sweep="momentum"),
    Experiment("gpt_multipliers", "adam", (16, 64, 256), 60, 8, 4, sweep="multiplier:out", lr=0.02),
    Experiment("gpt_multipliers", "adam", (16, 64, 256), 60, 8, 4, sweep="multiplier:scores", lr=0.02),
    Experiment("mlp", "adamw", (32, 128, 512), 300, 64, 3, ("derived",), sweep="weight_decay"),
)


def measured(experiment: Experiment, store: Path | None, jobs: int) -> tp.TransferReport:
    """Trains what is not in the store."""
    return tp.transfer(experiment.file, optimizer=experiment.optimizer, widths=experiment.widths,
                       steps=experiment.steps, batch=experiment.batch, seeds=experiment.seeds, store=store,
                       jobs=jobs, parametrizations=experiment.parametrizations, sweep=experiment.sweep,
                       lr=experiment.lr)  # fmt: skip


def row(experiment: Experiment, report: tp.TransferReport) -> str:
    """One line of its table."""
    moves, losses = [], []
    drifts = {drift.parametrization: drift for drift in report.drifts}
    for name in ("derived", "sp"):
        if name not in drifts:
            moves.append("not trained")
            losses.append("-")
            continue
        drift = drifts[name]
        bars = "" if drift.low is None else f" [{drift.low:+.2f}, {drift.high:+.2f}]"
        moves.append("-" if drift.octaves is None else f"{drift.octaves:+.2f}{bars}")
        carried, best = drift.at_largest, drift.best_at_largest
        losses.append(f"{'-' if carried is None else f'{carried:.3f}'} / {'-' if best is None else f'{best:.3f}'}")
    widths = f"{experiment.widths[0]} to {experiment.widths[-1]}"
    runs = f"{experiment.steps} x {experiment.batch}, {experiment.seeds}"
    if experiment.sweep == "lr":
        saved = report.flops[report.sizes[-1]] / report.flops[report.sizes[0]]
        cells = [experiment.network, experiment.optimizer, widths, runs, *moves, *losses, f"1 / {saved:.0f}"]
    else:
        found = [optimum for optimum in report.optima if optimum.parametrization == "derived"]
        best = ", ".join("-" if o.value is None else f"{o.value:.2g}" for o in found)
        kind, _, name = experiment.sweep.partition(":")
        swept = f"`?{name}`" if name else kind.replace("_", " ")
        cells = [experiment.network, experiment.optimizer, swept, widths, runs, best, *moves, *losses]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, help="file of finished runs")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--only", nargs="*", metavar="NAME", help="such as `gpt adam`, `mlp init`")
    parser.add_argument("--write", action="store_true", help="put the tables into the page")
    options = parser.parse_args()
    os.chdir(ROOT)
    page = PAGE.read_text()
    for name, experiments in (("experiments", EXPERIMENTS), ("others", OTHERS)):
        header = HEADERS[name]
        lines = [header, "|" + " --- |" * (header.count("|") - 1)]
        for experiment in (e for e in experiments if options.only is None or e.name in options.only):
            report = measured(experiment, options.output, options.jobs)
            print(report, file=sys.stderr, flush=True)
            lines.append(row(experiment, report))
            print(lines[-1], flush=True)
            if experiment.name == IN_FULL and options.write:
                page = placed(page, "report", f"```\n{report}```\n")
                PICTURE.write_bytes(plots.render(plots.transfer_curves(curves(report)), "png"))
        if len(lines) == 2 + len(experiments):
            page = placed(page, name, "\n".join(lines) + "\n")
    if options.write:
        PAGE.write_text(page)


def placed(page: str, name: str, text: str) -> str:
    """The page with the text between its marks of that name."""
    between = re.compile(rf"(<!-- {name}: begin -->\n).*?(<!-- {name}: end -->)", re.DOTALL)
    return between.sub(lambda match: match[1] + text + match[2], page)


if __name__ == "__main__":
    main()
