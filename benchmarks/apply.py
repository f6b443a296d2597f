"""What an applied parametrization costs a training step: `python -m benchmarks.apply`. It measures, it does not judge.

A GPT with tied embeddings, fused projections and growing heads takes training steps with AdamW: as its author wrote
it, twice; with everything that `tensorprog.torch.apply` changes (hooks on the readout and on the queries of every
layer, and two parameter groups); and, if `mup` is installed, with its `MuSharedReadout` and `MuAdamW`. All take turns
in one process, on one thread, and are timed by the processor's time, without garbage collection. A trial is some rounds
with models copied anew, since where a copy lies in memory matters too; its ratio is the median of the rounds' ratios to
the mean of the two unmodified ones. What "unmodified again" shows, by the first one, could be noise. `--compile`
compiles all of them.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import gc
import time
from collections.abc import Callable
from statistics import median
from typing import Any

BASE = 64
WARM = 4  # rounds that are not counted


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


def runs(plain: Any, width: int, batch: int, compiled: bool) -> dict[str, Callable[[], None]]:
    """Name -> one step of a fresh copy of the model."""
    import torch

    from tensorprog.torch.apply import apply
    from tests.torch_apply.by_hand import nanogpt
    from tests.torch_apply.models import TIME, VOCAB

    tokens, targets = (torch.randint(VOCAB, (batch, TIME)) for _ in range(2))
    found = {}
    for name in ("unmodified", "unmodified again", "applied"):
        model = copy.deepcopy(plain)
        given = apply(nanogpt(), model, BASE, lr=1e-3) if name == "applied" else model.parameters()
        found[name] = steps(model, torch.optim.AdamW(given, lr=1e-3), tokens, targets, compiled)
    with contextlib.suppress(ImportError):
        found["mup"] = steps(*with_mup(plain, width), tokens, targets, compiled)
    return found


def trial(taking: dict[str, Callable[[], None]], rounds: int) -> dict[str, tuple[float, float]]:
    """Name -> (milliseconds per step, ratio to the unmodified model), medians of the rounds."""
    taken: dict[str, list[float]] = {name: [] for name in taking}
    names = list(taking)
    for turn in range(rounds + WARM):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:  # nobody always follows the same one
            start = time.process_time()
            taking[name]()
            if turn >= WARM:
                taken[name].append(time.process_time() - start)
    first, again = taken["unmodified"], taken["unmodified again"]
    both = [(a + b) / 2 for a, b in zip(first, again, strict=True)]
    return {name: (1e3 * median(spent), median(a / b for a, b in zip(spent, first if spent is again else both,
                                                                     strict=True)))
            for name, spent in taken.items()}  # fmt: skip


def main() -> None:
    import torch

    from tests.torch_apply.models import NanoGPT

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--trials", type=int, default=7)
    parser.add_argument("--rounds", type=int, default=20, help="of each trial")
    parser.add_argument("--compile", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    gc.disable()
    plain = NanoGPT(arguments.width)
    found = []
    for _ in range(arguments.trials):
        torch._dynamo.reset()
        found.append(trial(runs(plain, arguments.width, arguments.batch, arguments.compile), arguments.rounds))
        gc.collect()
    how = "compiled" if arguments.compile else "eager"
    print(f"{how}, width {arguments.width}, {arguments.batch} sequences, one thread, "
          f"{arguments.trials} trials of {arguments.rounds} rounds")  # fmt: skip
    print(f"{'':18}{'ms a step':>10}{'ratio':>8}   of the trials")
    for name in found[0]:
        spent, ratio = (sorted(one[name][k] for one in found) for k in range(2))
        if name == "unmodified":
            print(f"{name:18}{median(spent):10.2f}{1:8.3f}")
        else:
            print(f"{name:18}{median(spent):10.2f}{median(ratio):8.3f}   {ratio[0]:.3f} to {ratio[-1]:.3f}")


if __name__ == "__main__":
    main()
