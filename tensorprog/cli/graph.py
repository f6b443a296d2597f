"""`tpcalc graph`: the computation graph."""

from __future__ import annotations

import argparse
from typing import Any

from tensorprog.cli.arguments import add_derivation, command, derived, program
from tensorprog.cli.pictures import add_save, saver
from tensorprog.cli.terminal import OK, show
from tensorprog.errors import TensorProgError


def add(commands: Any) -> None:
    sub = command(commands, "graph", "print the computation graph", run)
    sub.add_argument("--format", choices=("dot", "json", "mermaid"), default="dot")
    add_derivation(sub)
    add_save(sub, {"graph": "computation_graph"})


def run(arguments: argparse.Namespace) -> int:
    save = saver(arguments)
    if arguments.save is not None:
        save(derived(arguments))
        return OK
    for name in ("optimizer", "vectors", "optimizer_for", "decay_policy", "form", "fix"):
        if getattr(arguments, name):
            raise TensorProgError(f"--{name.replace('_', '-')} has a meaning only for a picture",
                                  why="the text shows no exponents", fix="--save graph.svg")  # fmt: skip
    from tensorprog.export import export

    return show(export(program(arguments, dict(arguments.depth)).graph, arguments.format))
