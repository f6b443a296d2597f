"""`tpcalc import`: the exponents of an existing PyTorch model, from its own operations."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from tensorprog.cli.arguments import add_command, add_optimizer
from tensorprog.cli.terminal import color, show, write_whole
from tensorprog.errors import TensorProgError


def add(commands: Any) -> None:
    summary = "print what an existing PyTorch model is now and must be, parameter by parameter"
    sub = add_command(commands, "import", summary, run)
    sub.add_argument("builder", metavar="model.py:build", help="a function of n that returns module, inputs, loss")
    add_optimizer(sub)
    sub.add_argument("--decay-policy", metavar="NAME",
                     help="how weight decay scales: product (default), drift, diffusion or constant")  # fmt: skip
    sub.add_argument(
        "--inputs",
        metavar="model.py:inputs",
        help="where `build` returns only a module: a function of n that returns its inputs",
    )
    sub.add_argument("--widths", metavar="3,5,7,10", help="values of n to look at, four or more (default: small ones)")
    sub.add_argument("--format", choices=("table", "json"), default="table")
    sub.add_argument("--emit-tp", metavar="model.tp", type=Path, help="write the architecture as a .tp file")


def run(arguments: argparse.Namespace) -> int:
    from tensorprog.torch.building import builder
    from tensorprog.torch.model import derive

    inputs = None if arguments.inputs is None else builder(arguments.inputs)
    result = derive(
        builder(arguments.builder), inputs, arguments.optimizer or "adam", _widths(arguments.widths),
        name=arguments.builder.rpartition(":")[0], vectors=arguments.vectors,
        optimizer_for=dict(arguments.optimizer_for), decay_policy=arguments.decay_policy,
    )  # fmt: skip
    if arguments.emit_tp is not None:
        write_whole(arguments.emit_tp, result.to_tp())
    return show(result.render(arguments.format, color=color(sys.stdout)))


def _widths(text: str | None) -> Any:
    """`3,5,7,10`, or `hidden=8,16,24 ffn=..` with one entry per symbol."""
    if text is None:
        return None
    try:
        if "=" not in text:
            return [int(w) for w in text.split(",")]
        return {name: [int(w) for w in values.split(",")] for name, _, values in
                (part.partition("=") for part in text.split())}  # fmt: skip
    except ValueError:
        raise TensorProgError(
            f"{text!r} are no widths", fix="--widths 3,5,7,10", why="the sizes at several widths say which axes grow"
        ) from None
