"""`tpcalc explain`: the whole chain behind a parameter's exponents."""

from __future__ import annotations

import argparse
from typing import Any

from tensorprog.cli.arguments import add_derivation, command, derived
from tensorprog.cli.terminal import show


def add(commands: Any) -> None:
    sub = command(commands, "explain", "print the whole chain behind a parameter's exponents", run)
    sub.add_argument("param", metavar="PARAM", help="a parameter, or an unknown multiplier `?name`")
    sub.add_argument(
        "quantity", nargs="?", metavar="QUANTITY", help="init, lr, multiplier, weight_decay or eps (default: all)"
    )
    add_derivation(sub)


def run(arguments: argparse.Namespace) -> int:
    return show(derived(arguments).explain(arguments.param, arguments.quantity), prose=True)
