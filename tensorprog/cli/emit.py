"""`tpcalc emit`: a PyTorch module with the derived parametrization."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tensorprog.cli.arguments import add_derivation, base_width, command, derived
from tensorprog.cli.terminal import OK, show, write_whole

if TYPE_CHECKING:
    from tensorprog.derivation import Derivation


def add(commands: Any) -> None:
    sub = command(commands, "emit", "write a PyTorch module with this parametrization", run)
    add_derivation(sub)
    sub.add_argument("-o", "--output", type=Path, metavar="FILE", help="where to write (default: standard output)")
    add_base_width(sub)
    sub.add_argument("--framework", choices=("torch",), default="torch")


def add_base_width(sub: argparse.ArgumentParser) -> None:
    """The argument that `emitted` reads."""
    sub.add_argument("--base-width", type=base_width, action="append", default=[], metavar="N|n=N",
                     help="the width at which the model is exactly the standard one (default 256)")  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    source = emitted(arguments, derived(arguments, symbolic=True), arguments.framework)
    if arguments.output is None:
        return show(source)
    write_whole(arguments.output, source)
    return OK


def emitted(arguments: argparse.Namespace, derivation: Derivation, framework: str = "torch") -> str:
    """The program that the arguments ask for."""
    from tensorprog.api import emit

    everywhere = [value for name, value in arguments.base_width if not name]
    base: dict[str, int] = dict.fromkeys(derivation.widths, everywhere[-1]) if everywhere else {}
    base.update({name: value for name, value in arguments.base_width if name})
    return emit(derivation, base_width=base, framework=framework, depths=dict(arguments.depth))
