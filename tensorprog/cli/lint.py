"""`tpcalc lint`: what is wrong with how a PyTorch model scales, as it stands."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from tensorprog.cli.arguments import add_command
from tensorprog.cli.terminal import color, show


def add(commands: Any) -> None:
    summary = "print what scales wrongly in a PyTorch model as it stands, worst first"
    sub = add_command(commands, "lint", summary, run)
    sub.add_argument("module", metavar="model.py:build", help="a function of the width that returns the model")
    sub.add_argument("--optimizer", default="adamw", metavar="NAME", help="sgd, adam, adamw, ... (default: adamw)")
    sub.add_argument("--format", choices=("table", "json"), default="table")


def run(arguments: argparse.Namespace) -> int:
    from tensorprog.torch.building import builder
    from tensorprog.torch.lint import lint
    from tensorprog.torch.model import derive

    p = derive(builder(arguments.module), optimizer=arguments.optimizer, name=arguments.module)
    report = lint(p)
    show(report.render(arguments.format, color=color(sys.stdout)))
    return report.exit_code
