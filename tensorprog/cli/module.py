"""`tpcalc check --module`: the coordinate check of a PyTorch model that has no .tp file."""

from __future__ import annotations

import argparse
import sys

from tensorprog.cli.terminal import color, progress, show
from tensorprog.errors import TensorProgError

# What the check of a module understands, besides the entries that argparse itself makes.
_UNDERSTOOD = ("module", "file", "optimizer", "lr", "widths", "seeds", "steps", "all", "format", "jobs", "run",
               "command", "default_of", "words")  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """`--module my_model.py:build`, with --optimizer, --lr, --widths, --seeds, --steps, --all and --format."""
    if arguments.file is not None:
        raise TensorProgError("--module takes the place of FILE", fix=f"tpcalc check --module {arguments.module}",
                              why="one network is checked at a time")  # fmt: skip
    for name, value in vars(arguments).items():
        if name not in _UNDERSTOOD and value != arguments.default_of(name):
            option = "--" + name.replace("_", "-")
            raise TensorProgError(f"{option} has no meaning with --module", why="the model is trained as it stands",
                                  fix=f"no {option}")  # fmt: skip
    from tensorprog.torch.building import builder
    from tensorprog.torch.modulecheck import check_module

    report = check_module(
        builder(arguments.module), arguments.optimizer or "adam", lr=arguments.lr, widths=arguments.widths,
        seeds=arguments.seeds or 5, steps=arguments.steps, name=arguments.module,
        progress=progress if sys.stderr.isatty() else None,
    )  # fmt: skip
    show(report.render(arguments.format, color=color(sys.stdout), every=arguments.all))
    return report.exit_code
