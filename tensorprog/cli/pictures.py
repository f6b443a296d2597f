"""`--save`, `--plot` and `--theme`: what commands that draw their result share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tensorprog.cli.terminal import write_whole
from tensorprog.errors import TensorProgError
from tensorprog.files import require_writable

FORMATS = ("svg", "png", "pdf")


def picture(text: str) -> Path:
    """The type of a picture's path: its ending says the format."""
    if Path(text).suffix.lower().lstrip(".") not in FORMATS:
        raise argparse.ArgumentTypeError(f"{text!r}: the ending says the format; write .svg, .png or .pdf")
    return Path(text)


def add_save(sub: argparse.ArgumentParser, plots: Mapping[str, str]) -> None:
    """The arguments that `saver` reads. `plots`: name on the command line -> function in tensorprog.plots; the first is
    the default."""
    sub.add_argument("--save", type=picture, metavar="FILE", help="draw the result too: a .svg, .png or .pdf file")
    if len(plots) > 1:
        sub.add_argument("--plot", choices=tuple(plots), help=f"what --save draws (default: {next(iter(plots))})")
    sub.add_argument("--theme", choices=("light", "dark"), help="colours of --save (default: light)")
    sub.set_defaults(plots=plots)


def saver(arguments: argparse.Namespace) -> Callable[[Any], None]:
    """What draws a result as the arguments ask, or does nothing. Raises TensorProgError at once if it could not."""
    path: Path | None = arguments.save
    plot, theme = getattr(arguments, "plot", None), arguments.theme
    if path is None:
        for option, value in (("--plot", plot), ("--theme", theme)):
            if value is not None:
                raise TensorProgError(
                    f"{option} is about a picture", fix=f"--save picture.svg, or no {option}", why="no picture is drawn"
                )
        return lambda _: None
    from tensorprog import plots

    require_writable(path)
    draw = getattr(plots, arguments.plots[plot or next(iter(arguments.plots))])
    colours, ending = plots.THEMES[theme or "light"], path.suffix.lower().lstrip(".")
    return lambda result: write_whole(path, plots.render(draw(result, colours), ending))
