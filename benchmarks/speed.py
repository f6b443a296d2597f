"""Speed, as ratios between things timed in one run: `python benchmarks/speed.py`. It measures and does not judge.

(a) the process `tpcalc derive examples/mlp.tp` against a process that only imports numpy, lark and networkx;
(b) deriving a GPT unrolled to 12, 24, 48 and 96 layers, and the fitted power of the depth;
(c) deriving every shipped example, reading its file included;
(d) the process `tpcalc check examples/gpt.tp`, seeds added as usual;
(e) the NumPy check of a four-layer perceptron and of a transformer against the coordinate check of the `mup` package
    (needs torch, mup): in one process that has loaded everything, and as two processes, as a user runs them.

(a) to (c) run on one thread, (d) and both sides of (e) on all cores. What is compared alternates; the median counts,
in (b) and (c) of processor time, else of time on the clock. `--only a,e` measures a part.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # this checkout, whether or not it is installed
LAYERS = (12, 24, 48, 96)
Row = tuple[str, str, str]  # what, result, goal


def seconds(run: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """How long one call takes."""
    start = clock()
    run()
    return clock() - start


def alternate(
    runs: Mapping[str, Callable[[], object]], times: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Median time of each, measured in turns after one turn that does not count."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(times + 1):
        for name, run in runs.items():
            spent = seconds(run, clock)
            if turn:
                taken[name].append(spent)
    return {name: median(values) for name, values in taken.items()}


def process(*arguments: str, one_thread: bool = False, good: tuple[int, ...] = (0,)) -> Callable[[], object]:
    """A Python process in this checkout, its output thrown away. What it imports is compiled once, as by installing."""
    without = {*THREADS, "PYTHONDONTWRITEBYTECODE"}
    environment = {name: value for name, value in os.environ.items() if name not in without}
    environment |= {"PYTHONPATH": str(ROOT), **(dict.fromkeys(THREADS, "1") if one_thread else {})}

    def run() -> None:
        done = subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
        if done.returncode not in good:
            raise SystemExit(f"{' '.join(arguments)}: exit code {done.returncode}")

    return run


def start() -> list[Row]:
    """(a) Two processes."""
    taken = alternate(
        {
            "derive": process("-m", "tensorprog.cli", "derive", "examples/mlp.tp", one_thread=True),
            "imports": process("-c", "import numpy, lark, networkx", one_thread=True),
        },
        times=9,
    )
    return [
        ("derive examples/mlp.tp, whole process", f"{taken['derive']:.3f} s", ""),
        ("import numpy, lark, networkx, whole process", f"{taken['imports']:.3f} s", ""),
        ("  ratio", f"{taken['derive'] / taken['imports']:.2f}", "<= 2"),
    ]


def depth() -> list[Row]:
    """(b) Seconds for each number of layers, and the slope of log time against log layers."""
    from tensorprog import derive, load

    def run(layers: int) -> Callable[[], object]:
        return lambda: derive(load(ROOT / "examples" / "gpt.tp", {"L": layers}), "adam")

    runs = {str(layers): run(layers) for layers in LAYERS}
    taken = {int(layers): spent for layers, spent in alternate(runs, 5, time.process_time).items()}
    x, y = [math.log(n) for n in taken], [math.log(t) for t in taken.values()]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    slope = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / sum((a - mean_x) ** 2 for a in x)
    rows = [(f"derive a GPT of {n} layers", f"{spent:.3f} s", "< 2 s" if n == LAYERS[-1] else "")
            for n, spent in taken.items()]  # fmt: skip
    return [*rows, ("  power of the depth", f"{slope:.2f}", "<= 1.1")]


def examples() -> list[Row]:
    """(c) Seconds for each shipped example."""
    from tensorprog import derive

    def run(path: Path) -> Callable[[], object]:
        return lambda: derive(path, "adam")

    runs = {path.stem: run(path) for path in sorted((ROOT / "examples").glob("*.tp"))}
    taken = alternate(runs, 3, time.process_time)
    return [(f"derive examples/{name}.tp", f"{spent:.3f} s", "< 0.5 s") for name, spent in taken.items()]


def check() -> list[Row]:
    """(d) One process on all cores."""
    arguments = ("check", "examples/gpt.tp", "--widths", "64,128,256,512,1024", "--seeds", "5", "--steps", "4")
    spent = seconds(process("-m", "tensorprog.cli", *arguments))
    return [(" ".join(("tpcalc", *arguments)), f"{spent:.1f} s", "< 60 s")]


def coordinates() -> list[Row]:
    """(e) Both checks of both networks, in this process and in processes of their own."""
    from benchmarks import coordinates

    rows: list[Row] = []
    for name, goal in (("perceptron", "<= 0.33; 0.2 wanted"), ("transformer", "<= 1")):
        job = coordinates.JOBS[name]
        widths = f"widths {coordinates.WIDTHS[0]}..{coordinates.WIDTHS[-1]}"
        title = f"{name}, {widths}, {coordinates.SEEDS} seeds, {job.steps} steps"
        try:
            inside = {side: coordinates.run(side, name) for side in ("ours", "mup")}
        except ImportError as error:
            return [*rows, (f"check of a {title}", f"skipped: {error}", "")]
        with tempfile.TemporaryDirectory() as directory:
            file = Path(directory, f"{name}.tp")
            file.write_text(job.source)
            ours = process("-m", "tensorprog.cli", "check", str(file), *coordinates.options(name), good=(0, 1))
            theirs = process("-m", "benchmarks.coordinates", "mup", name)
            for where, runs in (("in one process", inside), ("as processes", {"ours": ours, "mup": theirs})):
                taken = alternate(runs, times=3)
                rows += [
                    (f"{where}: tpcalc check, {title}", f"{taken['ours']:.3f} s", ""),
                    (f"{where}: get_coord_data of mup, the same", f"{taken['mup']:.3f} s", ""),
                    ("  ratio", f"{taken['ours'] / taken['mup']:.2f}", goal),
                ]
    return rows


THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
PARTS = {"a": start, "b": depth, "c": examples, "d": check, "e": coordinates}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="a,e", default=",".join(PARTS), help="parts to measure (default: all)")
    chosen = parser.parse_args().only.split(",")
    os.environ.update(dict.fromkeys(THREADS, "1"))  # before NumPy or PyTorch is imported
    rows: list[Row] = [("measured", "result", "goal")]
    for part, measured in PARTS.items():
        rows += measured() if part in chosen else []
    from tensorprog.tables import columns

    print("\n".join(columns(rows)))


if __name__ == "__main__":
    main()
