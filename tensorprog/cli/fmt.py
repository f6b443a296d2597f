"""`tpcalc fmt`: the file in canonical layout."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from tensorprog.cli.arguments import command, program
from tensorprog.cli.terminal import DISAGREES, OK, show, write_whole
from tensorprog.errors import TensorProgError


def add(commands: Any) -> None:
    sub = command(commands, "fmt", "print the file in canonical layout", run)
    either = sub.add_mutually_exclusive_group()
    either.add_argument(
        "--check", action="store_true", help="print nothing; exit 1 if the file is not in canonical layout"
    )
    either.add_argument("-w", "--write", action="store_true", help="rewrite the file in place")


def run(arguments: argparse.Namespace) -> int:
    from tensorprog.printer import format_source

    if arguments.write and arguments.file == "-":
        raise TensorProgError("there is no file to rewrite", why="`-` is standard input", fix="tpcalc fmt -")
    known = program(arguments)
    source, formatted = known.source, format_source(known.source, known.file)
    if arguments.check:
        return OK if formatted == source else DISAGREES
    if not arguments.write:
        return show(formatted)
    if formatted != source:
        write_whole(Path(arguments.file), formatted)
    return OK
