"""`tpcalc check`: measured against derived exponents."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Any

from tensorprog.cli import module
from tensorprog.cli.arguments import (
    add_derivation,
    command,
    count,
    depths,
    derived,
    fraction,
    names,
    rate,
    seconds,
    widths,
)
from tensorprog.cli.pictures import add_save, saver
from tensorprog.cli.terminal import color, progress, show
from tensorprog.errors import TensorProgError

if TYPE_CHECKING:
    from tensorprog.coordcheck.report import CheckReport
    from tensorprog.derivation import Derivation

MAX_JOBS = 8


def add(commands: Any) -> None:
    sub = command(commands, "check", "train at a ladder of widths; measured against derived exponents", run,
                  optional=True)  # fmt: skip
    sub.set_defaults(default_of=sub.get_default)
    sub.add_argument("--module", metavar="model.py:build", help="instead of FILE: check your own PyTorch model")
    add_derivation(sub)
    add_measurement(sub)
    sub.add_argument("--all", action="store_true", help="print every row, not only the worst step of each tensor")
    sub.add_argument("--format", choices=("table", "json"), default="table")
    add_save(sub, {"widths": "coordinate_check", "slopes": "slope_forest"})


def add_measurement(sub: argparse.ArgumentParser) -> None:
    """The arguments that `measured` reads."""
    sub.add_argument("--widths", type=widths, metavar="64,128,..", help="increasing (default: by the network's size)")
    sub.add_argument("--depths", type=depths, metavar="4,8,..", help="a ladder of depths instead, at one width")
    sub.add_argument(
        "--climb", metavar="m", help="of widths in an order (m << n), the one that grows (default: the last)"
    )
    sub.add_argument(
        "--seeds", type=count, metavar="N", help="networks per width (default: 5); more are added where needed"
    )
    sub.add_argument("--max-seeds", type=count, metavar="N", help="at most this many (default: 4 times --seeds)")
    sub.add_argument("--budget", type=seconds, metavar="60s", help="add seeds where needed for so long")
    sub.add_argument("--steps", type=count, default=3, metavar="N", help="updates per run (default: 3)")
    sub.add_argument("--batch", type=count, metavar="N", help="examples per step (default: from the network's size)")
    sub.add_argument("--lr", type=rate, metavar="X", help="learning rate at the base width (default: calibrated)")
    sub.add_argument(
        "--lr-exponent", type=fraction, metavar="E", help="global learning rate ~ n^E, with --parametrization"
    )
    sub.add_argument("--backend", choices=("numpy", "torch"), default="numpy")
    sub.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="for --backend torch")
    sub.add_argument(
        "--parametrization",
        default="derived",
        metavar="NAME",
        help="derived (default), sp, ntp, mfp, mup or a file such as mine.toml",
    )
    sub.add_argument(
        "--set", action="append", default=[], metavar="'lr[W1]=-1'", help="an exponent put otherwise (may be repeated)"
    )
    sub.add_argument(
        "--also", type=names, default=(), metavar="WHAT,..", help="measure also: split, spectral, updates, gradients"
    )
    sub.add_argument("--no-control", action="store_true", help="run no negative control")
    sub.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    sub.add_argument("--jobs", type=count, metavar="N", help="networks trained at once (default: one per core)")


def run(arguments: argparse.Namespace) -> int:
    if arguments.module is not None:
        return module.run(arguments)
    if arguments.file is None:
        raise TensorProgError("there is nothing to check", fix="tpcalc check FILE, or --module my_model.py:build",
                              why="a check measures one network")  # fmt: skip
    workers(arguments)
    save = saver(arguments)
    _, report = measured(arguments)
    save(report)
    show(report.render(arguments.format, color=color(sys.stdout), every=arguments.all))
    return report.exit_code


def workers(arguments: argparse.Namespace) -> int:
    """How many networks are trained at once. Call it before anything loads NumPy, which then takes one core for each:
    more threads inside of each would only wait for one another."""
    jobs: int = arguments.jobs or min(os.cpu_count() or 1, MAX_JOBS)
    if jobs > 1:
        for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ.setdefault(variable, "1")
    return jobs


def measured(arguments: argparse.Namespace) -> tuple[Derivation, CheckReport]:
    """The derivation and the check that the arguments ask for."""
    if arguments.lr_exponent is not None and arguments.parametrization == "derived":
        raise TensorProgError("--lr-exponent has no meaning for the derived parametrization",
                              fix="--parametrization sp, or no --lr-exponent",
                              why="what is derived has learning rates of its own")  # fmt: skip
    jobs = workers(arguments)
    from tensorprog.api import check

    derivation = derived(arguments)
    options = {
        name: value
        for name in ("seeds", "max_seeds", "budget", "batch", "widths", "depths", "climb")
        if (value := getattr(arguments, name)) is not None
    }
    return derivation, check(
        derivation, steps=arguments.steps, lr=arguments.lr, lr_exponent=arguments.lr_exponent,
        backend=arguments.backend, device=arguments.device, parametrization=arguments.parametrization,
        dtype=arguments.dtype, overrides=arguments.set, also=arguments.also, control=not arguments.no_control,
        jobs=jobs, progress=progress if sys.stderr.isatty() else None, **options,
    )  # fmt: skip
