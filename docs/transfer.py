"""The experiments of docs/how-to/transfer.md: trains, prints the tables of that page, and draws its picture.

    python docs/transfer.py [-o runs.sqlite] [--jobs N] [--only "gpt adam" ...] [--write]

About an hour and a half of one core, spread over `--jobs` processes. Finished runs are kept in the file after -o.
--write puts the tables, one report in full and its picture into the documentation.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import tensorprog as tp  # noqa: E402
from tensorprog import plots  # noqa: E402
from tensorprog.hptransfer.show import curves  # noqa: E402

PAGE = ROOT / "docs" / "how-to" / "transfer.md"
PICTURE = ROOT / "docs" / "images" / "transfer.png"
FOUND = "drift, derived | drift, standard | loss, derived | loss, standard |"
HEADERS = {
    "experiments": f"| network | optimizer | widths | runs | {FOUND} cost |",
    "others": f"| network | optimizer | swept | widths | runs | best, derived | {FOUND}",
    "random": "| network | optimizer | widths | runs | derived, at random | at zero | standard, at random | at zero |",
    "narrow": "| network | optimizer | from | drift | best learning rate at each width |",
    "losses": "| learning rate | n = {} | {} | {} |",
    "depth": "| parametrization | best lr at L = 2, 4, 8, 16 | drift, octaves per doubling of L | "
             "loss at L = 16, best lr of L = 2 | of its own |",
}  # fmt: skip


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
    depths: tuple[int, ...] | None = None
    values: tuple[float, ...] | None = None
    random: bool = False  # whether the readout starts at random, not at zero

    @property
    def file(self) -> str:
        return f"examples/transfer/{self.network}.tp"

    @property
    def name(self) -> str:
        return f"{self.network} {self.optimizer if self.sweep == 'lr' else self.sweep}"

    @property
    def architecture(self) -> tp.Architecture:
        text = Path(self.file).read_text()
        if self.random:
            text, found = re.subn(r"(param W_out\[\w,\w\]) = zeros", r"\1", text)
            assert found == 1, self.file
        return tp.parse(text, self.file)

    @property
    def cells(self) -> list[str]:
        widths = f"{self.widths[0]} to {self.widths[-1]}"
        return [self.network, self.optimizer, widths, f"{self.steps} x {self.batch}, {self.seeds}"]


HALF_OCTAVES = (0.2, 0.283, 0.4, 0.566, 0.8, 1.13, 1.6)
EXPERIMENTS = (
    Experiment("mlp", "sgd", (32, 128, 512), 40, 64, 6),
    Experiment("mlp", "adam", (128, 512, 2048), 40, 64, 9),
    Experiment("mlp", "muon", (16, 64, 256), 40, 64, 4),
    Experiment("convnet", "sgd", (8, 32, 128), 40, 16, 8),
    Experiment("convnet", "adam", (16, 64, 256), 40, 16, 6),
    Experiment("convnet", "muon", (16, 64, 256), 40, 16, 6),
    Experiment("gpt", "sgd", (16, 64, 256), 100, 8, 8, values=HALF_OCTAVES),  # it diverges beside its best rate
    Experiment("gpt", "adam", (16, 32, 64, 128, 256), 100, 8, 4),
    Experiment("gpt", "muon", (16, 64, 256), 60, 8, 4),
)
NAMED = {experiment.name: experiment for experiment in EXPERIMENTS}
IN_FULL = NAMED["gpt adam"]
OTHERS = (
    Experiment("mlp", "adam", (32, 128, 512), 40, 64, 4, sweep="init", lr=0.01),
    Experiment("mlp", "momentum", (32, 128, 512), 40, 64, 4, sweep="momentum"),
    Experiment("gpt_multipliers", "adam", (16, 64, 256), 60, 8, 4, sweep="multiplier:out", lr=0.02),
    Experiment("gpt_multipliers", "adam", (16, 64, 256), 60, 8, 4, sweep="multiplier:scores", lr=0.02),
    Experiment("mlp", "adamw", (32, 128, 512), 300, 64, 3, ("derived",), sweep="weight_decay"),
)


BOTH_READOUTS = (
    replace(NAMED["mlp adam"], widths=(32, 128, 512), seeds=6),
    NAMED["convnet adam"],
    replace(NAMED["gpt adam"], widths=(16, 64, 256)),
    NAMED["mlp muon"],
    NAMED["gpt muon"],
)
NARROW = tuple(replace(e, parametrizations=("derived",)) for e in (BOTH_READOUTS[0], NAMED["mlp adam"]))
DEPTH = Experiment("gpt", "adam", (32,), 60, 32, 3, depths=(2, 4, 8, 16))


Measure = Callable[[Experiment], tp.TransferReport]


def measured(experiment: Experiment, store: Path | None, jobs: int) -> tp.TransferReport:
    """Trains what is not in the store."""
    e = experiment
    return tp.transfer(e.architecture, optimizer=e.optimizer, widths=e.widths, depths=e.depths, steps=e.steps,
                       batch=e.batch, seeds=e.seeds, store=store, jobs=jobs, parametrizations=e.parametrizations,
                       sweep=e.sweep, lr=e.lr, values=e.values)  # fmt: skip


def found(report: tp.TransferReport, name: str) -> tuple[str, str]:
    """A parametrization's drift, and its losses: with the best value of the smallest network, and with its own."""
    drift = next((drift for drift in report.drifts if drift.parametrization == name), None)
    if drift is None:
        return "not trained", "-"
    bars = "" if drift.low is None else f" [{drift.low:+.2f}, {drift.high:+.2f}]"
    losses = ("-" if loss is None else f"{loss:.3f}" for loss in (drift.at_largest, drift.best_at_largest))
    return "-" if drift.octaves is None else f"{drift.octaves:+.2f}{bars}", " / ".join(losses)


def best(report: tp.TransferReport, name: str = "derived") -> str:
    optima = (optimum.value for optimum in report.optima if optimum.parametrization == name)
    return ", ".join("-" if value is None else f"{value:.2g}" for value in optima)


def row(experiment: Experiment, measure: Measure) -> list[str]:
    report = measure(experiment)
    moves, losses = zip(found(report, "derived"), found(report, "sp"), strict=True)
    if experiment.sweep == "lr":
        saved = report.flops[report.sizes[-1]] / report.flops[report.sizes[0]]
        return [*experiment.cells, *moves, *losses, f"1 / {saved:.0f}"]
    kind, _, name = experiment.sweep.partition(":")
    network, _, *ran = experiment.cells
    swept = f"`?{name}`" if name else kind.replace("_", " ")
    return [network, experiment.optimizer, swept, *ran, best(report), *moves, *losses]


def both_readouts(experiment: Experiment, measure: Measure) -> list[str]:
    reports = [measure(replace(experiment, random=random)) for random in (True, False)]
    return [*experiment.cells, *(found(report, name)[0] for name in ("derived", "sp") for report in reports)]


def narrow(experiment: Experiment, measure: Measure) -> list[str]:
    report = measure(experiment)
    return [experiment.network, experiment.optimizer, str(experiment.widths[0]), found(report, "derived")[0],
            best(report)]  # fmt: skip


def losses(experiment: Experiment, measure: Measure) -> list[list[str]]:
    """The mean loss at every learning rate that all widths were trained with."""
    runs: dict[float, dict[int, list[float]]] = {}
    for record in measure(experiment).records:
        loss = min(x for x in (record.loss, record.initial) if x is not None)
        runs.setdefault(record.value, {}).setdefault(record.sizes["n"], []).append(loss)
    return [[f"{value:.3g}", *(f"{fmean(by_width[n]):.2f}" for n in experiment.widths)]
            for value, by_width in sorted(runs.items()) if len(by_width) == len(experiment.widths)]  # fmt: skip


def depth(experiment: Experiment, measure: Measure) -> list[list[str]]:
    report = measure(experiment)
    names = {"derived": "derived (branches L^-1)", "sp": "standard"}
    return [[names[name], best(report, name), found(report, name)[0], *found(report, name)[1].split(" / ")]
            for name in names]  # fmt: skip


def tables(measure: Measure, only: Sequence[str] | None) -> Iterator[tuple[str, str, list[list[str]]]]:
    """Mark, header and rows; without the rows of experiments that are not asked for."""

    def asked(experiments: Sequence[Experiment]) -> list[Experiment]:
        return [e for e in experiments if only is None or e.name in only]

    yield "experiments", HEADERS["experiments"], [row(e, measure) for e in asked(EXPERIMENTS)]
    yield "others", HEADERS["others"], [row(e, measure) for e in asked(OTHERS)]
    if only is None:
        first = NARROW[0]
        yield "depth", HEADERS["depth"], depth(DEPTH, measure)
        yield "random", HEADERS["random"], [both_readouts(e, measure) for e in BOTH_READOUTS]
        yield "narrow", HEADERS["narrow"], [narrow(e, measure) for e in NARROW]
        yield "losses", HEADERS["losses"].format(*first.widths), losses(first, measure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, help="file of finished runs")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument(
        "--only", nargs="*", metavar="NAME", help="such as `gpt adam`, `mlp init`: of the first two tables"
    )
    parser.add_argument("--write", action="store_true", help="put the tables into the page")
    options = parser.parse_args()
    os.chdir(ROOT)
    page = PAGE.read_text()

    def measure(experiment: Experiment) -> tp.TransferReport:
        nonlocal page
        report = measured(experiment, options.output, options.jobs)
        print(report, file=sys.stderr, flush=True)
        if experiment == IN_FULL and options.write:
            page = placed(page, "report", f"```\n{report}```\n")
            PICTURE.write_bytes(plots.render(plots.transfer_curves(curves(report)), "png"))
        return report

    for name, header, rows in tables(measure, options.only):
        lines = [header, "|" + " --- |" * (header.count("|") - 1), *("| " + " | ".join(cells) + " |" for cells in rows)]
        print("\n".join(lines), flush=True)
        if options.only is None:
            page = placed(page, name, "\n".join(lines) + "\n")
    if options.write:
        PAGE.write_text(page)


def placed(page: str, name: str, text: str) -> str:
    """The page with the text between its marks of that name."""
    between = re.compile(rf"(<!-- {name}: begin -->\n).*?(<!-- {name}: end -->)", re.DOTALL)
    return between.sub(lambda match: match[1] + text + match[2], page)


if __name__ == "__main__":
    main()
