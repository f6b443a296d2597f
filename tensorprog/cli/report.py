"""`tpcalc report`: one HTML page to hand to a colleague."""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tensorprog.cli.arguments import add_derivation, command, derived
from tensorprog.cli.check import add_measurement, measured, workers
from tensorprog.cli.emit import add_base_width, emitted
from tensorprog.cli.terminal import OK, write_whole
from tensorprog.errors import TensorProgError
from tensorprog.files import read_text, require_writable

if TYPE_CHECKING:
    from tensorprog.hptransfer.report import TransferReport


def add(commands: Any) -> None:
    sub = command(commands, "report", "write one HTML page: derived, emitted, measured, and how to do it again", run)
    sub.add_argument("-o", "--output", type=Path, metavar="FILE", required=True, help="where to write the page")
    add_derivation(sub)
    add_base_width(sub)
    sub.add_argument("--no-check", action="store_true", help="train nothing; leave the check out")
    sub.add_argument("--transfer", type=Path, action="append", default=[], metavar="FILE",
                     help="show this result of `tpcalc transfer --format json` (may be repeated)")  # fmt: skip
    add_measurement(sub)


def run(arguments: argparse.Namespace) -> int:
    workers(arguments)
    from tensorprog.report import report_page

    output: Path = arguments.output
    require_writable(output)
    transfers = [_read(path) for path in arguments.transfer]
    derivation, check = (derived(arguments), None) if arguments.no_check else measured(arguments)
    commands = {"This page": shlex.join(["tpcalc", *arguments.words])}
    write_whole(output, report_page(derivation, emitted(arguments, derivation), check, transfers, commands))
    return OK


def _read(path: Path) -> TransferReport:
    from tensorprog.hptransfer.report import TransferReport

    try:
        return TransferReport.from_json(json.loads(read_text(path, "a JSON file")))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise TensorProgError(f"{path} holds no result of a transfer experiment",
                              fix="tpcalc transfer FILE --format json > transfer.json",
                              why="it is no JSON of that command") from None  # fmt: skip
