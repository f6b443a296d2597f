"""What an applied parametrization costs a training step: `python -m benchmarks.apply`. It measures, it does not judge.

One GPT with tied embeddings, fused projections and growing heads takes training steps with AdamW in several ways, by
turns: as its author wrote it, twice; with everything that `p.apply` changes (hooks on the readout and on the queries of
every layer, and its parameter groups); and, if `mup` is installed, with its `MuSharedReadout` and the groups of its
`MuAdamW`. It is one model, with the same weights in memory: hooks, readout and groups are put in and taken out between
the steps, since copies differ by more than what is measured. A round's ratio is to the mean of its unmodified steps;
shown is the median of all rounds with its 95% interval (bootstrap). What "unmodified again" shows could be noise.

One thread, the processor's time, no garbage collection, and freed memory is kept (glibc gives it back at every step, or
not, as buffers happen to lie, and the pages are then asked for again; PyTorch keeps its own on a GPU). `--compile`
compiles all ways.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import random
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch.nn import functional

import tensorprog.torch as tpt
from tests.torch_apply.models import NanoGPT

HEADS = 4
WARM = 3  # rounds that are not counted
SIZES = {256: (32, 32, 96), 768: (4, 256, 4096)}  # width -> sequences, their length, vocabulary


@dataclass(frozen=True)
class Way:
    """One of the ways in which the model takes its steps."""

    hooks: bool
    readout: Any
    optimizer: Any
    call: Callable[[Any], Any]


def build(n: int, time: int, vocab: int) -> NanoGPT:
    return NanoGPT(HEADS * n, HEADS, vocab=vocab, time=time)


def mup_groups(model: NanoGPT, width: int, time: int, vocab: int) -> tuple[Any, Any]:
    """The readout and the optimizer of the `mup` package for this model. Raises ImportError without it."""
    import mup

    def shared(one: NanoGPT) -> NanoGPT:
        one.lm_head = mup.MuSharedReadout(one.wte.weight, bias=False)
        return one

    base, delta = (shared(build(n, time, vocab)) for n in (width // HEADS // 4, width // HEADS // 2))
    mup.set_base_shapes(shared(model), base, delta=delta)
    return model.lm_head, mup.MuAdamW(model.parameters(), lr=1e-5)


def ways(model: NanoGPT, width: int, time: int, vocab: int, compiled: bool) -> dict[str, Way]:
    """Name -> a way; all share the model's weights and the optimizer's state."""
    tokens = torch.randint(vocab, (2, 5))
    p = tpt.derive(lambda n: build(n, time, vocab), inputs=tokens, optimizer="adamw")
    plain = model.lm_head, torch.optim.AdamW(model.parameters(), lr=1e-5)
    applied = model.lm_head, torch.optim.AdamW(p.apply(model, base=width // HEADS // 4, lr=1e-5))
    chosen = {"unmodified": (False, *plain), "unmodified again": (False, *plain), "applied": (True, *applied)}
    with contextlib.suppress(ImportError):
        chosen["mup"] = (False, *mup_groups(model, width, time, vocab))
    found = {}
    for name, (hooks, readout, optimizer) in chosen.items():
        optimizer.state = plain[1].state

        def call(x: Any) -> Any:
            return model(x)

        call.__code__ = call.__code__.replace(co_name=name.replace(" ", "_"))  # a compiler keeps graphs by their code
        found[name] = Way(hooks, readout, optimizer, torch.compile(call, fullgraph=True) if compiled else call)
    return found


def rounds(model: NanoGPT, taking: dict[str, Way], data: tuple[Any, Any], count: int) -> dict[str, list[float]]:
    """Name -> seconds of each round."""
    tokens, targets = data
    modules = {*model.modules(), *(way.readout for way in taking.values())}
    places = [(m.__dict__, name) for m in modules for name in ("_forward_hooks", "_forward_pre_hooks")]
    hooked = [(at, name, at[name], OrderedDict[int, Any]()) for at, name in places if at[name]]
    spent: dict[str, list[float]] = {name: [] for name in taking}
    names = list(taking)
    for turn in range(count + WARM):
        for who in names[turn % len(names) :] + names[: turn % len(names)]:  # nobody always follows the same one
            way = taking[who]
            model.lm_head = way.readout
            for at, name, hooks, none in hooked:
                at[name] = hooks if way.hooks else none
            start = time.process_time()
            way.optimizer.zero_grad(set_to_none=True)
            out = way.call(tokens)
            functional.cross_entropy(out.reshape(-1, out.shape[-1]), targets.reshape(-1)).backward()
            way.optimizer.step()
            if turn >= WARM:
                spent[who].append(time.process_time() - start)
        gc.collect()
    return spent


def ratio(spent: list[float], unmodified: list[float]) -> tuple[float, float, float]:
    """The median of the rounds' ratios, and its interval."""
    found = [a / b for a, b in zip(spent, unmodified, strict=True)]
    draw = random.Random(0)
    again = sorted(median(draw.choices(found, k=len(found))) for _ in range(1000))
    return median(found), again[25], again[974]


def keep_memory() -> None:
    """Tells glibc, where there is one, to keep what is freed."""
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-1, -1)  # M_TRIM_THRESHOLD
        libc.mallopt(-4, 0)  # M_MMAP_MAX


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--width", type=int, choices=sorted(SIZES), action="append", help="default: all")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    keep_memory()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    gc.disable()
    for width in options.width or sorted(SIZES):
        batch, length, vocab = SIZES[width]
        model = build(width // HEADS, length, vocab)
        data = tuple(torch.randint(vocab, (batch, length)) for _ in range(2))
        taking = ways(model, width, length, vocab, options.compile)
        spent = rounds(model, taking, data, options.rounds)  # type: ignore[arg-type]
        both = [(a + b) / 2 for a, b in zip(spent["unmodified"], spent["unmodified again"], strict=True)]
        how = "compiled" if options.compile else "eager"
        print(f"{how}, width {width}, {batch} sequences of {length}, vocabulary {vocab}, {options.rounds} rounds")
        print(f"{'':18}{'ms a step':>10}{'ratio':>8}   95% interval")
        for name, taken in spent.items():
            middle, low, high = ratio(taken, both)
            print(f"{name:18}{1e3 * median(taken):10.2f}{middle:8.4f}   [{low:.4f}, {high:.4f}]", flush=True)


if __name__ == "__main__":
    main()
