"""`tpcalc classify`: what a parametrization does: stable, trivial, kernel regime, feature learning, maximal."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from tensorprog.cli.arguments import add_depth, add_optimizer, command, fraction, in_order
from tensorprog.cli.terminal import color, show


def add(commands: Any) -> None:
    sub = command(commands, "classify", "stable or not, trivial, kernel regime, feature learning, maximal", run)
    sub.add_argument("--parametrization", default="sp", metavar="NAME", help="sp (default), ntp, mfp, mup or mine.toml")
    add_optimizer(sub)
    sub.add_argument("--lr", type=fraction, metavar="E", help="one learning rate for all parameters, ~ n^E")
    sub.add_argument("--format", choices=("table", "json"), default="table")
    add_depth(sub)


def run(arguments: argparse.Namespace) -> int:
    from tensorprog.architecture import load
    from tensorprog.classify import classify

    architecture = load(arguments.file, dict(arguments.depth))
    found = classify(architecture, arguments.parametrization, arguments.optimizer, arguments.lr,
                     vectors=arguments.vectors, optimizer_for=in_order(arguments.optimizer_for))  # fmt: skip
    return show(found.render(arguments.format, color=color(sys.stdout)))
