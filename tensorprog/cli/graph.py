"""`tpcalc graph`: the computation graph."""

from __future__ import annotations

import argparse
from typing import Any

from tensorprog.cli.arguments import add_depth, command
from tensorprog.cli.terminal import show


def add(commands: Any) -> None:
    sub = command(commands, "graph", "print the computation graph", run)
    sub.add_argument("--format", choices=("dot", "json", "mermaid"), default="dot")
    add_depth(sub)


def run(arguments: argparse.Namespace) -> int:
    from tensorprog.architecture import load
    from tensorprog.export import export

    return show(export(load(arguments.file, dict(arguments.depth)).graph, arguments.format))
