"""What an applied parametrization costs a training step: `python -m benchmarks.apply`. It measures, it does not judge.

A GPT with tied embeddings, fused projections and growing heads takes training steps with AdamW: as its author wrote it;
with everything that `tensorprog.torch.apply` changes (hooks on the readout and on the queries of every layer, and
two parameter groups); and, if `mup` is installed, with its `MuSharedReadout` and `MuAdamW`. All are timed in turns in
one process, on one thread; the median of the ratios to the unmodified model (the mean of two) counts. `--compile`
compiles all of them.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from statistics import median
from typing import Any

BASE = 64


def steps(model: Any, optimizer: Any, tokens: Any, targets: Any, compiled: bool) -> Callable[[], None]:
    """One training step of a model."""
    import torch
    from torch.nn import functional

    call = torch.compile(model, fullgraph=True) if compiled else model

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        out = call(tokens)
        functional.cross_entropy(out.reshape(-1, out.shape[-1]), targets.reshape(-1)).backward()
        optimizer.step()

    return step


def with_mup(plain: Any, width: int) -> tuple[Any, Any]:
    """The same model in the `mup` package's way. Raises ImportError without it."""
    import mup

    from tests.torch_apply.models import NanoGPT

    def build(n: int) -> Any:
        model = copy.deepcopy(plain) if n == width else NanoGPT(n)
        weight = model.wte.weight
        model.lm_head = mup.MuSharedReadout(weight, bias=False)
        return model

    model = build(width)
    mup.set_base_shapes(model, build(BASE), delta=build(2 * BASE))
    return model, mup.MuAdamW(model.parameters(), lr=1e-3)


def ratios(width: int, batch: int, rounds: int, compiled: bool) -> dict[str, tuple[float, float]]:
    """Name -> (milliseconds per step, ratio to the unmodified model), medians."""
    import torch

    from tensorprog.torch.apply import apply
    from tests.torch_apply.by_hand import nanogpt
    from tests.torch_apply.models import TIME, VOCAB, NanoGPT

    torch.set_num_threads(1)
    torch.manual_seed(0)
    tokens, targets = (torch.randint(VOCAB, (batch, TIME)) for _ in range(2))
    plain = NanoGPT(width)
    changed, again = copy.deepcopy(plain), copy.deepcopy(plain)
    groups = apply(nanogpt(), changed, BASE, lr=1e-3)
    runs = {"unmodified": steps(plain, torch.optim.AdamW(plain.parameters(), lr=1e-3), tokens, targets, compiled),
            "unmodified again": steps(again, torch.optim.AdamW(again.parameters(), lr=1e-3), tokens, targets, compiled),
            "applied": steps(changed, torch.optim.AdamW(groups), tokens, targets, compiled)}  # fmt: skip
    try:
        theirs, optimizer = with_mup(plain, width)
        runs["mup"] = steps(theirs, optimizer, tokens, targets, compiled)
    except ImportError:
        pass
    taken: dict[str, list[float]] = {name: [] for name in runs}
    names = list(runs)
    for turn in range(rounds + len(names)):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:  # nobody always follows the same one
            start = time.process_time()
            runs[name]()
            if turn >= len(names):
                taken[name].append(time.process_time() - start)
    usual = [(a + b) / 2 for a, b in zip(taken["unmodified"], taken["unmodified again"], strict=True)]
    return {name: (1e3 * median(spent), median(a / b for a, b in zip(spent, usual, strict=True)))
            for name, spent in taken.items()}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--compile", action="store_true")
    arguments = parser.parse_args()
    found = ratios(arguments.width, arguments.batch, arguments.rounds, arguments.compile)
    how = "compiled" if arguments.compile else "eager"
    print(f"{how}, width {arguments.width}, {arguments.batch} sequences, one thread, {arguments.rounds} rounds")
    for name, (spent, ratio) in found.items():
        print(f"{name:18}{spent:9.2f} ms{ratio:9.3f}")


if __name__ == "__main__":
    main()
