"""`tpcalc transfer`: does the best learning rate of the small network stay the best of the large one?"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from tensorprog.cli.arguments import add_derivation, command, count, depths, derived, rate, widths
from tensorprog.cli.pictures import add_save, saver
from tensorprog.cli.terminal import Bar, color, show

MAX_JOBS = 8
DEFAULT_WIDTHS = {True: (32, 64, 128, 256, 512), False: (64,)}  # whether it is the width that varies


def add(commands: Any) -> None:
    sub = command(commands, "transfer", "train over a grid of learning rates at every width; where is the best?", run)
    add_derivation(sub)
    sub.add_argument("--sweep", default="lr", metavar="WHAT",
                     help="lr (default), init, momentum, weight_decay or multiplier:NAME")  # fmt: skip
    sub.add_argument("--widths", type=widths, metavar="32,64,..",
                     help="increasing; the first is the base width (default: 32,64,128,256,512)")  # fmt: skip
    sub.add_argument("--depths", type=depths, metavar="2,4,..",
                     help="instead of widths: increasing, at the one width of --widths (default: 64)")  # fmt: skip
    sub.add_argument("--lrs", "--values", dest="values", type=values, metavar="0.01,0.02,..",
                     help="the grid at every width (default: around the optimizer's own value)")  # fmt: skip
    sub.add_argument("--no-extend", dest="extend", action="store_false",
                     help="stay on the grid, even where the best value is at its end")  # fmt: skip
    sub.add_argument("--parametrization", default="derived,sp", metavar="NAMES",
                     help="derived, sp, ntp, mfp, mup, a file; several with commas (default: derived,sp)")  # fmt: skip
    sub.add_argument("--data", metavar="DATA", help="digits, text, text:FILE, FILE.npz or module:function "
                     "(default: text for a network that reads tokens, else digits)")  # fmt: skip
    sub.add_argument("--lr", type=rate, metavar="X", help="learning rate at the base width, if another WHAT is swept")
    sub.add_argument("--steps", type=count, default=100, metavar="N", help="updates per run (default: 100)")
    sub.add_argument("--batch", type=count, default=32, metavar="N", help="examples per step (default: 32)")
    sub.add_argument("--seeds", type=count, default=4, metavar="N", help="runs per value and width (default: 4)")
    sub.add_argument("--jobs", type=count, metavar="N", help="processes (default: one per core, at most 8)")
    sub.add_argument("-o", "--output", type=Path, metavar="FILE",
                     help="SQLite file of finished runs: a sweep that was interrupted continues from it")  # fmt: skip
    sub.add_argument("--format", choices=("table", "json"), default="table")
    add_save(sub, {"curves": "transfer_curves"})


def run(arguments: argparse.Namespace) -> int:
    from tensorprog.api import transfer
    from tensorprog.hptransfer.show import curves

    save = saver(arguments)
    jobs = arguments.jobs or min(os.cpu_count() or 1, MAX_JOBS)
    report = transfer(
        derived(arguments), sweep=arguments.sweep, values=arguments.values, depths=arguments.depths,
        widths=arguments.widths or DEFAULT_WIDTHS[arguments.depths is None],
        extend=arguments.extend, parametrizations=arguments.parametrization.split(","), data=arguments.data,
        lr=arguments.lr, steps=arguments.steps, batch=arguments.batch, seeds=arguments.seeds, jobs=jobs,
        store=arguments.output, progress=Bar().show if sys.stderr.isatty() else None,
    )  # fmt: skip
    if arguments.save is not None:
        save(curves(report))
    show(report.render(arguments.format, color=color(sys.stdout)))
    return report.exit_code


def values(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: write numbers, such as 0.01,0.02,0.04") from None
