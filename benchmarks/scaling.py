"""How derivations scale, in one run: `python -m benchmarks.scaling [--quick]`. It measures and does not judge.

(a) deriving a GPT unrolled to more and more layers, stage by stage, against the nodes of its program (forward, backward
    and updates), up to 100,000; the fitted power of the number of nodes (goal: at most 1.1);
(b) the same GPT with a symbolic depth: the time at every depth, over that at the first (goal: 1);
(c) the exact linear programme (`derive --fix`), one learning rate for all and the standard initialisation of a
    perceptron, against its number of unknowns.

Processor time of one thread; powers are least-squares fits of logarithms.
"""

from __future__ import annotations

import argparse
import gc
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ParamSpec, TypeVar

from tensorprog.api import derive
from tensorprog.architecture import load, parse
from tensorprog.derivation import Derivation
from tensorprog.programme.completion import complete

GPT = Path(__file__).resolve().parent.parent / "examples" / "gpt.tp"
NODES = (1_000, 3_000, 10_000, 30_000, 100_000)
HIDDEN = (2, 4, 8, 16, 32)
DEPTHS = (2, 100, 10_000)
Given = ParamSpec("Given")
Result = TypeVar("Result")


def timed(run: Callable[Given, Result], *args: Given.args, **options: Given.kwargs) -> tuple[float, Result]:
    """Processor time of one call, and what it gave; garbage of the calls before is not counted."""
    gc.collect()
    start = time.process_time()
    result = run(*args, **options)
    return time.process_time() - start, result


def power(sizes: Sequence[float], times: Sequence[float]) -> float:
    """The exponent of times ~ sizes^exponent."""
    x, y = ([math.log(v) for v in values] for values in (sizes, times))
    middle = sum(x) / len(x)
    return sum((a - middle) * b for a, b in zip(x, y, strict=True)) / sum((a - middle) ** 2 for a in x)


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    print(f"\n{title}")
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        print("  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))


def derivations(nodes: Sequence[int]) -> None:
    per_layer = len(load(GPT, {"L": 3}).program.nodes) - len(load(GPT, {"L": 2}).program.nodes)
    rows, sizes, whole = [], [], []
    for target in nodes:
        layers = max(1, round(target / per_layer))
        read, architecture = timed(load, GPT, {"L": layers})
        build, program = timed(getattr, architecture, "program")
        solve, _ = timed(derive, architecture, "adam")
        total, count = read + build + solve, len(program.nodes)
        sizes.append(count)
        whole.append(total)
        rows.append([f"{count:,}", f"{layers}", *(f"{x:.2f} s" for x in (read + build, solve, total)),
                     f"{1e6 * total / count:.0f} us"])  # fmt: skip
    table("(a) derivation against nodes", ["nodes", "layers", "program", "exponents", "together", "per node"], rows)
    print(f"  time ~ nodes^{power(sizes, whole):.2f}")


def derive_text(text: str) -> Derivation:
    return derive(parse(text), "adam")


def symbolic(depths: Sequence[int]) -> None:
    texts = [GPT.read_text().replace("depth L", f"depth L = {depth}") for depth in depths]
    times = [timed(derive_text, text)[0] for text in texts]
    rows = [[f"{depth:,}", f"{t:.2f} s", f"{t / times[0]:.2f}"] for depth, t in zip(depths, times, strict=True)]
    table("(b) symbolic depth", ["depth", "time", "over the first"], rows)


def perceptron(hidden: int) -> str:
    """A perceptron with so many hidden matrices."""
    layers = [f"param W{k}[k,j]\nh{k + 1}[k] = W{k}[k,j] tanh(h{k}[j])" for k in range(hidden)]
    return "\n".join([
        "width n", "dim d = 8, c = 3", "axis i: d, j: n, k: n, o: c", "input x[i]", "param E[j,i], R[o,j]",
        "h0[j] = E[j,i] x[i]", *layers, f"output f[o] = R[o,j] tanh(h{hidden}[j])", "loss mse(f)",
    ])  # fmt: skip


def programmes(sizes: Sequence[int]) -> None:
    rows, unknowns, times = [], [], []
    for hidden in sizes:
        known = parse(perceptron(hidden))
        taken, _ = timed(complete, known, FIXES, "adam")
        count = 2 * (hidden + 2)
        unknowns.append(count)
        times.append(taken)
        rows.append([f"{hidden}", f"{count}", f"{taken:.2f} s"])
    table("(c) exact programme against unknowns", ["hidden", "unknowns", "time"], rows)
    print(f"  time ~ unknowns^{power(unknowns, times):.2f}")


FIXES = ("lr = global", "init = sp")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--quick", action="store_true", help="the smaller sizes only")
    quick = arguments.parse_args().quick
    derivations(NODES[:3] if quick else NODES)
    symbolic(DEPTHS)
    programmes(HIDDEN[:3] if quick else HIDDEN)


if __name__ == "__main__":
    main()
