"""`tpcalc classify`: what a parametrization does: stable, trivial, kernel regime, feature learning, maximal."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from tensorprog.cli.arguments import add_depth, add_optimizer, command, fraction, in_order, program
from tensorprog.cli.pictures import add_save, saver
from tensorprog.cli.terminal import color, show
from tensorprog.errors import TensorProgError


def add(commands: Any) -> None:
    sub = command(commands, "classify", "stable or not, trivial, kernel regime, feature learning, maximal", run)
    sub.add_argument(
        "--parametrization", default="sp", metavar="NAME", help="sp (default), ntp, mfp, mup, derived or mine.toml"
    )
    add_optimizer(sub)
    sub.add_argument("--lr", type=fraction, metavar="E", help="one learning rate for all parameters, ~ n^E")
    sub.add_argument("--alignment", default="derived", metavar="A",
                     help="derived (default), or assumed: full, none, or alpha,omega,u such as 1,1/2,1")  # fmt: skip
    sub.add_argument(
        "--region", metavar="X,Y", help="two exponents, such as lr[W1],lr[W2]: the polygon of what is stable"
    )
    sub.add_argument("--constraints", action="store_true", help="list the linear constraints on a, b, c")
    sub.add_argument("--format", choices=("table", "json", "latex"), default="table",
                     help="latex: the constraints alone")  # fmt: skip
    add_depth(sub)
    add_save(sub, {"region": "stable_plane"})


def run(arguments: argparse.Namespace) -> int:
    from tensorprog.classify import classify

    if arguments.save is not None and arguments.region is None:
        raise TensorProgError("--save draws the plane of two exponents",
                              fix="--region 'lr[W1],lr[W2]' --save plane.svg",
                              why="a picture has two directions")  # fmt: skip
    save = saver(arguments)
    architecture = program(arguments, dict(arguments.depth))
    found = classify(architecture, arguments.parametrization, arguments.optimizer, arguments.lr,
                     vectors=arguments.vectors, optimizer_for=in_order(arguments.optimizer_for),
                     alignment=arguments.alignment, region=_pair(arguments.region),
                     constraints=arguments.constraints or arguments.format == "latex")  # fmt: skip
    save(found)
    return show(found.render(arguments.format, color=color(sys.stdout)))


def _pair(text: str | None) -> tuple[str, str] | None:
    if text is None:
        return None
    first, comma, second = text.partition(",")
    if not (first and comma and second):
        raise TensorProgError(
            f"`{text}` does not name two exponents", fix="--region 'lr[W1],lr[W2]'", why="a plane has two directions"
        )
    return first, second
