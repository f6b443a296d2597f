"""`tpcalc derive`: the exponents of every parameter, with reasons."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from tensorprog.cli.arguments import add_derivation, command, derived, in_order
from tensorprog.cli.terminal import color, show

if TYPE_CHECKING:
    from tensorprog.programme.completion import Completion


def add(commands: Any) -> None:
    sub = command(commands, "derive", "print the exponents of every parameter, with reasons", run)
    add_derivation(sub)
    sub.add_argument("--fix", action="append", default=[], metavar="REQUIREMENT",
                     help='fix exponents, get the best stable completion: "lr[*] = 0", "init = sp", "lr = global", '
                     '"no multipliers", "?scale = -1/2"')  # fmt: skip
    sub.add_argument("--format", choices=("table", "json", "markdown", "latex"), default="table")


def run(arguments: argparse.Namespace) -> int:
    if arguments.fix:
        return show(completed(arguments).render(arguments.format, color=color(sys.stdout)))
    return show(derived(arguments).render(arguments.format, color=color(sys.stdout)))


def completed(arguments: argparse.Namespace) -> Completion:
    """What the arguments ask for, with something fixed."""
    from tensorprog.architecture import load
    from tensorprog.programme.completion import complete

    return complete(
        load(arguments.file, dict(arguments.depth)), arguments.fix, arguments.optimizer, arguments.form,
        vectors=arguments.vectors, optimizer_for=in_order(arguments.optimizer_for), decay_policy=arguments.decay_policy,
    )  # fmt: skip
