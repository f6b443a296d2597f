"""`tpcalc derive`: the exponents of every parameter, with reasons."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from tensorprog.cli.arguments import add_derivation, command, derived
from tensorprog.cli.terminal import color, show


def add(commands: Any) -> None:
    sub = command(commands, "derive", "print the exponents of every parameter, with reasons", run)
    add_derivation(sub)
    sub.add_argument("--format", choices=("table", "json", "markdown", "latex"), default="table")


def run(arguments: argparse.Namespace) -> int:
    text = derived(arguments).render(arguments.format, color=color(sys.stdout))
    return show(text, prose=arguments.format == "table")
