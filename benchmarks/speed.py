"""Speed, as ratios between things timed in one run: `python -m benchmarks.speed`. It measures and does not judge.

(a) the process `tpcalc derive examples/mlp.tp` against a process that only imports numpy, lark and networkx;
(b) deriving a GPT unrolled to 12, 24, 48 and 96 layers, and the fitted power of the depth;
(c) the NumPy check of a four-layer perceptron against the coordinate check of the `mup` package (needs torch, mup).

(a) and (b) run on one thread, both sides of (c) on all cores. What is compared alternates, and the median counts.
"""

from __future__ import annotations

import contextlib
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LAYERS = (12, 24, 48, 96)
WIDTHS, SEEDS, STEPS, BATCH = (64, 128, 256, 512, 1024), 5, 3, 64
FEATURES, CLASSES = 64, 10

PERCEPTRON = f"""\
width n
dim d = {FEATURES}, classes = {CLASSES}
axis i: d, j: n, k: n, l: n, c: classes
input x[i]
param W1[j,i], W2[k,j], W3[l,k], W4[c,l]
h1[j] = W1[j,i] x[i]
x1[j] = relu(h1[j])
h2[k] = W2[k,j] x1[j]
x2[k] = relu(h2[k])
h3[l] = W3[l,k] x2[k]
x3[l] = relu(h3[l])
output f[c] = W4[c,l] x3[l]
loss cross_entropy(f)
"""


def seconds(run: Callable[[], object]) -> float:
    """Wall-clock time of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def alternate(runs: Mapping[str, Callable[[], object]], times: int) -> dict[str, float]:
    """Median time of each, measured in turns after one turn that does not count."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(times + 1):
        for name, run in runs.items():
            spent = seconds(run)
            if turn:
                taken[name].append(spent)
    return {name: median(values) for name, values in taken.items()}


def start() -> dict[str, float]:
    """(a) Two processes."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def process(*arguments: str) -> Callable[[], object]:
        return lambda: subprocess.run(
            [sys.executable, *arguments], cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL
        )

    return alternate(
        {
            "derive": process("-m", "tensorprog.cli", "derive", "examples/mlp.tp"),
            "imports": process("-c", "import numpy, lark, networkx"),
        },
        times=9,
    )


def depth() -> tuple[dict[int, float], float]:
    """(b) Seconds for each number of layers, and the slope of log time against log layers."""
    from tensorprog import derive, load

    def run(layers: int) -> Callable[[], object]:
        return lambda: derive(load(ROOT / "examples" / "gpt.tp", {"L": layers}), "adam")

    taken = {int(layers): spent for layers, spent in alternate({str(n): run(n) for n in LAYERS}, times=5).items()}
    x, y = [math.log(n) for n in taken], [math.log(t) for t in taken.values()]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    slope = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / sum((a - mean_x) ** 2 for a in x)
    return taken, slope


def coordinates() -> dict[str, float]:
    """(c) Seconds of both checks on the same job. Raises ImportError without torch and mup."""
    import torch
    from mup import MuReadout, get_shapes, make_base_shapes, set_base_shapes
    from mup.coord_check import get_coord_data
    from torch import nn

    from tensorprog import check, derive, parse

    cores = os.cpu_count() or 1
    torch.set_num_threads(cores)
    derivation = derive(parse(PERCEPTRON), "adam")

    def ours() -> object:
        return check(derivation, widths=WIDTHS, seeds=SEEDS, max_seeds=SEEDS, steps=STEPS, batch=BATCH,
                     jobs=cores)  # fmt: skip

    def network(width: int) -> Any:
        sizes = (FEATURES, width, width, width)
        hidden = [m for a, b in pairwise(sizes) for m in (nn.Linear(a, b, bias=False), nn.ReLU())]
        return nn.Sequential(*hidden, MuReadout(width, CLASSES, bias=False))

    with tempfile.TemporaryDirectory() as directory:
        shapes = str(Path(directory, "shapes.bsh"))
        make_base_shapes(get_shapes(network(WIDTHS[0])), get_shapes(network(WIDTHS[1])), shapes)

        def lazy(width: int) -> Callable[[], Any]:
            def build() -> Any:
                model = set_base_shapes(network(width), shapes)
                for parameter in model.parameters():
                    if parameter.dim() > 1:
                        nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
                return model

            return build

        data = [(torch.randn(BATCH, FEATURES), torch.randint(CLASSES, (BATCH,)))]
        models = {width: lazy(width) for width in WIDTHS}

        def theirs() -> object:
            with contextlib.redirect_stdout(None):
                return get_coord_data(
                    models, data, optimizer="adam", mup=True, lr=1e-2, nsteps=STEPS, nseeds=SEEDS, cuda=False,
                    show_progress=False,
                )  # fmt: skip

        return alternate({"ours": ours, "mup": theirs}, times=3)


def main() -> None:
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"  # before NumPy or PyTorch is imported
    rows = [("measured", "result", "goal")]
    a = start()
    rows.append(("derive examples/mlp.tp, whole process", f"{a['derive']:.3f} s", ""))
    rows.append(("import numpy, lark, networkx, whole process", f"{a['imports']:.3f} s", ""))
    rows.append(("  ratio", f"{a['derive'] / a['imports']:.2f}", "<= 2"))
    taken, slope = depth()
    for layers, spent in taken.items():
        rows.append((f"derive a GPT of {layers} layers", f"{spent:.3f} s", "< 2 s" if layers == LAYERS[-1] else ""))
    rows.append(("  power of the depth", f"{slope:.2f}", "<= 1.1"))
    try:
        c = coordinates()
    except ImportError as error:
        rows.append(("coordinate check", f"skipped: {error}", ""))
    else:
        job = f"4-layer perceptron, widths {WIDTHS[0]}..{WIDTHS[-1]}, {SEEDS} seeds, {STEPS} steps"
        rows.append((f"tpcalc check, {job}", f"{c['ours']:.3f} s", ""))
        rows.append(("mup.coord_check.get_coord_data, same job", f"{c['mup']:.3f} s", ""))
        rows.append(("  ratio", f"{c['ours'] / c['mup']:.2f}", "<= 0.33"))
    columns = [max(len(row[k]) for row in rows) for k in range(3)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, columns, strict=True)).rstrip())


if __name__ == "__main__":
    main()
