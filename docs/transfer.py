"""The experiments of docs/how-to/transfer.md: trains, prints the table of that page, and draws its picture.

    python docs/transfer.py [-o runs.sqlite] [--jobs N] [--only WORD] [--write]

About 20 minutes of one core, spread over `--jobs` processes. Finished runs are kept in the file after -o.
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
PAGE = ROOT / "docs" / "how-to" / "transfer.md"
TABLE = re.compile(r"(<!-- experiments: begin -->\n).*?(<!-- experiments: end -->)", re.DOTALL)
HEADER = "| network | optimizer | widths | drift, derived | drift, standard | loss, derived | loss, standard | cost |"


@dataclass(frozen=True)
class Experiment:
    network: str
    optimizer: str
    widths: tuple[int, ...]
    steps: int
    batch: int
    seeds: int

    @property
    def file(self) -> str:
        return f"examples/transfer/{self.network}.tp"


EXPERIMENTS = (
    Experiment("mlp", "sgd", (32, 64, 128, 256, 512), 40, 64, 6),
    Experiment("mlp", "adam", (32, 64, 128, 256, 512), 40, 64, 8),
    Experiment("mlp", "muon", (16, 32, 64, 128, 256), 40, 64, 4),
    Experiment("convnet", "sgd", (8, 16, 32, 64, 128), 40, 16, 4),
    Experiment("convnet", "adam", (16, 32, 64, 128, 256), 40, 16, 4),
    Experiment("convnet", "muon", (8, 16, 32, 64, 128), 40, 16, 4),
    Experiment("gpt", "sgd", (16, 32, 64, 128, 256), 100, 8, 3),
    Experiment("gpt", "adam", (16, 32, 64, 128, 256), 100, 8, 4),
    Experiment("gpt", "muon", (16, 64, 256), 30, 8, 3),
)


def row(experiment: Experiment, store: Path | None, jobs: int) -> str:
    """One line of the table."""
    import tensorprog as tp

    report = tp.transfer(ROOT / experiment.file, optimizer=experiment.optimizer, widths=experiment.widths,
                         steps=experiment.steps, batch=experiment.batch, seeds=experiment.seeds, store=store,
                         jobs=jobs)  # fmt: skip
    print(report, file=sys.stderr, flush=True)
    moves, losses = [], []
    for drift in report.drifts:
        bars = "" if drift.low is None else f" [{drift.low:+.2f}, {drift.high:+.2f}]"
        moves.append("-" if drift.octaves is None else f"{drift.octaves:+.2f}{bars}")
        carried, best = drift.at_largest, drift.best_at_largest
        losses.append(f"{'-' if carried is None else f'{carried:.3f}'} / {'-' if best is None else f'{best:.3f}'}")
    saved = report.flops[report.sizes[-1]] / report.flops[report.sizes[0]]
    widths = f"{experiment.widths[0]} to {experiment.widths[-1]}"
    cells = [experiment.network, experiment.optimizer, widths, *moves, *losses, f"1 / {saved:.0f}"]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, help="file of finished runs")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--only", default="", help="experiments with this word, such as gpt or adam")
    parser.add_argument("--write", action="store_true", help="put the table into the page")
    options = parser.parse_args()
    chosen = [e for e in EXPERIMENTS if options.only in f"{e.network} {e.optimizer}"]
    lines = [HEADER, "|" + " --- |" * (HEADER.count("|") - 1)]
    for experiment in chosen:
        lines.append(row(experiment, options.output, options.jobs))
        print(lines[-1], flush=True)
    if options.write:
        table = "\n".join(lines) + "\n"
        PAGE.write_text(TABLE.sub(lambda m: m[1] + table + m[2], PAGE.read_text()))


if __name__ == "__main__":
    main()
