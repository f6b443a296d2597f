"""Train one small GPT at two widths with the same learning rate, on the source code of Python's standard library.

    python examples/train_gpt.py
    python examples/train_gpt.py --widths 64 128 256 --lr 0.01 --optimizer muon --steps 100

`tensorprog.emit` writes examples/gpt.tp as a PyTorch program for the width that was tuned (the first of --widths).
Used at a larger width, the program scales its initialisation, its multipliers and its learning rates by itself:
the wider network learns with the same --lr, and ends lower. With --standard every width is its own base, so that
all of them are the usual network with one learning rate, for comparison.
"""

from __future__ import annotations

import argparse
import sysconfig
import time
from pathlib import Path
from types import ModuleType

import torch

import tensorprog

EXAMPLE = Path(__file__).with_name("gpt.tp")
CONTEXT = 32  # as in the file
RATES = {"sgd": 0.5, "adam": 8e-3, "adamw": 8e-3, "muon": 4e-2}  # the best at width 64


def corpus(limit: int = 2_000_000) -> torch.Tensor:
    """The text as numbers below 96: newline, then the printable characters of ASCII."""
    files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    text = ""
    for file in files:
        text += file.read_text(encoding="utf-8", errors="ignore")
        if len(text) >= limit:
            break
    codes = torch.tensor([ord(c) - 31 if " " <= c <= "~" else 0 for c in text if c == "\n" or " " <= c <= "~"])
    assert int(codes.max()) < 96
    return codes


def program(optimizer: str, base_width: int) -> ModuleType:
    """The emitted file as a module; it could as well be saved, and imported."""
    source = tensorprog.emit(EXAMPLE, optimizer=optimizer, base_width=base_width)
    module = ModuleType("emitted_gpt")
    exec(compile(source, "<emitted gpt.tp>", "exec"), module.__dict__)
    return module


def batches(text: torch.Tensor, steps: int, size: int) -> list[torch.Tensor]:
    """The same random pieces of text for every network: [size, CONTEXT + 1] each."""
    generator = torch.Generator().manual_seed(0)
    starts = torch.randint(len(text) - CONTEXT, (steps, size, 1), generator=generator)
    return list(text[starts + torch.arange(CONTEXT + 1)])


def train(network: torch.nn.Module, data: list[torch.Tensor], lr: float) -> list[float]:
    """The loss of every batch, before the network is trained on it."""
    optimizer = network.configure_optimizer(lr=lr)
    losses = []
    for piece in data:
        loss = network.loss(network(piece[:, :-1]), piece[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def table(widths: list[int], losses: list[list[float]], every: int) -> str:
    """Losses side by side, each the mean of the last `every` steps."""
    head = "step " + "".join(f"{f'width {w}':>12}" for w in widths)
    rows = (
        f"{end:<5}" + "".join(f"{sum(run[end - every : end]) / every:12.4f}" for run in losses)
        for end in range(every, len(losses[0]) + 1, every)
    )
    return "\n".join([head, *rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 256], help="multiples of 16; the first is tuned")
    parser.add_argument("--optimizer", default="adam", choices=sorted(RATES))
    parser.add_argument("--lr", type=float, help="at the first width (default: one that is good there)")
    parser.add_argument("--standard", action="store_true", help="the usual parametrization: no scaling with the width")
    parser.add_argument("--batch", type=int, default=32)
    arguments = parser.parse_args()

    lr = arguments.lr or RATES[arguments.optimizer]
    text = corpus()
    data = batches(text, arguments.steps, arguments.batch)
    print(f"{len(text):,} characters; {arguments.optimizer}, learning rate {lr:g} at width {arguments.widths[0]}")
    runs = []
    for width in arguments.widths:
        module = program(arguments.optimizer, base_width=width if arguments.standard else arguments.widths[0])
        torch.manual_seed(0)
        network = module.Gpt(n=width)
        start = time.perf_counter()
        runs.append(train(network, data, lr))
        size = sum(p.numel() for p in network.parameters())
        print(f"width {width}: {size:,} parameters, {time.perf_counter() - start:.0f} s")
    every = max(1, min(20, arguments.steps))
    print(table(arguments.widths, runs, every))
    finals = ", ".join(
        f"{sum(r[-every:]) / every:.4f} at width {w}" for w, r in zip(arguments.widths, runs, strict=True)
    )
    print(f"final losses: {finals}")


if __name__ == "__main__":
    main()
