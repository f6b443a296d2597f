"""Arguments that several commands share, and the types of their values."""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from tensorprog.errors import TensorProgError

if TYPE_CHECKING:
    from tensorprog.architecture import Architecture
    from tensorprog.derivation import Derivation

MAX_SECONDS = 24 * 3600.0
NEGATIVE = re.compile(r"-\d+(/\d+|\.\d*)?$|-\.\d+$")
MAX_WIDTH, MAX_DEPTH, MAX_COUNT = 1 << 16, 1024, 1_000_000  # of what `check` is asked to train


EXAMPLES = {  # command -> uses of it, shown by --help
    "derive": ("mlp.tp", "gpt.tp --optimizer muon --vectors adamw", "gpt.tp --fix 'lr[*] = 0' --format latex"),
    "explain": ("mlp.tp W3", "mlp.tp W3 lr --optimizer sgd"),
    "emit": ("mlp.tp --base-width n=256 -o model.py",),
    "check": ("mlp.tp --optimizer sgd", "mlp.tp --parametrization sp", "gpt.tp --depths 4,8,16,32",
              "mlp.tp --save slopes.svg --plot slopes", "--module my_model.py:build"),
    "transfer": ("mlp.tp --widths 64,128,256,512", "gpt.tp --data text --optimizer muon --save lr.svg"),
    "report": ("mlp.tp --optimizer adam -o report.html",),
    "classify": ("mlp.tp --parametrization sp --optimizer sgd --lr -1", "mlp.tp --parametrization mine.toml"),
    "import": ("my_model.py:build --optimizer adamw", "my_model.py:build --emit-tp model.tp"),
    "lint": ("my_model.py:build --optimizer adamw",),
    "graph": ("mlp.tp --format mermaid", "mlp.tp --save graph.svg"),
    "fmt": ("mlp.tp", "--check mlp.tp", "--write mlp.tp"),
}  # fmt: skip


def add_command(commands: Any, name: str, summary: str, run: object) -> argparse.ArgumentParser:
    """A command, with examples of its use."""
    sub: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=summary, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="\n".join(["examples:", *(f"  tpcalc {name} {use}" for use in EXAMPLES[name])]),
    )  # fmt: skip
    sub.set_defaults(run=run)
    return sub


def command(commands: Any, name: str, summary: str, run: object, *, optional: bool = False) -> argparse.ArgumentParser:
    """A command that reads one FILE (`optional`: or something else instead)."""
    sub = add_command(commands, name, summary, run)
    sub.add_argument("file", metavar="FILE", nargs="?" if optional else None,
                     help="an architecture in the .tp language (-: standard input)")  # fmt: skip
    sub._negative_number_matcher = NEGATIVE  # so that -1/2 is a value, not an option
    return sub


def add_derivation(sub: argparse.ArgumentParser) -> None:
    """The arguments that `derived` reads."""
    add_optimizer(sub)
    sub.add_argument("--fix", action="append", default=[], metavar="REQUIREMENT",
                     help='fix exponents, get the best stable completion: "lr[*] = 0", "init = sp", "lr = global", '
                     '"no multipliers", "?scale = -1/2"')  # fmt: skip
    sub.add_argument("--decay-policy", metavar="NAME",
                     help="how weight decay scales: product (default), drift, diffusion or constant")  # fmt: skip
    sub.add_argument("--form", help="table8 (default), table3, table9 or unit: equivalent parametrizations")
    add_depth(sub)


def add_optimizer(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--optimizer", metavar="NAME", help="sgd, adam, adamw, muon, ... (default: the file's, else adam)")
    sub.add_argument("--vectors", metavar="NAME", help="the optimizer of parameters with at most one growing axis")
    sub.add_argument("--optimizer-for", type=assignment, action="append", default=[], metavar="PATTERN=NAME",
                     help="the optimizer of the parameters so called, such as 'embed*=adamw'")  # fmt: skip


def add_depth(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--depth", type=depth, action="append", default=[], metavar="L=4",
                     help="finite depth at which a `repeat` symbol is unrolled")  # fmt: skip


def program(arguments: argparse.Namespace, depths: Mapping[str, int] | None = None) -> Architecture:
    """The file that is named, or what stands in for it on standard input (`-`)."""
    from tensorprog.architecture import load, parse

    if arguments.file != "-":
        return load(arguments.file, depths)
    try:
        return parse(sys.stdin.buffer.read().decode("utf-8-sig"), "<stdin>", depths)
    except UnicodeDecodeError:
        raise TensorProgError("cannot read standard input: it is not UTF-8 text", why="a .tp file is text",
                              fix="the file saved as UTF-8") from None  # fmt: skip


def derived(arguments: argparse.Namespace, *, symbolic: bool = False) -> Derivation:
    """What the shared arguments ask for. `symbolic`: depths stay symbols, whatever finite ones are given."""
    from tensorprog.cli.terminal import passing_bar
    from tensorprog.deriving import derive

    depths = {} if symbolic else dict(arguments.depth)
    with passing_bar() as progress:
        return derive(
            program(arguments, depths), arguments.optimizer, arguments.form, vectors=arguments.vectors,
            optimizer_for=in_order(arguments.optimizer_for), decay_policy=arguments.decay_policy, fixes=arguments.fix,
            progress=progress,
        )  # fmt: skip


# --- types of values --------------------------------------------------------------------------------


def depth(text: str) -> tuple[str, int]:
    name, _, value = text.partition("=")
    if not name.isidentifier() or not value.isdigit() or not 1 <= int(value) <= MAX_DEPTH:
        raise argparse.ArgumentTypeError(f"{text!r}: write a depth symbol and a number up to {MAX_DEPTH}, such as L=4")
    return name, int(value)


def in_order(rules: list[tuple[str, str]]) -> dict[str, str]:
    """Pattern -> optimizer, in the order in which each was given last."""
    found: dict[str, str] = {}
    for pattern, name in rules:
        found.pop(pattern, None)
        found[pattern] = name
    return found


def assignment(text: str) -> tuple[str, str]:
    pattern, _, name = text.rpartition("=")
    if not pattern or not name:
        raise argparse.ArgumentTypeError(f"{text!r}: write names of parameters and an optimizer, such as embed*=adamw")
    return pattern, name


def base_width(text: str) -> tuple[str, int]:
    name, _, value = text.rpartition("=")
    if (name and not name.isidentifier()) or not value.isdigit() or int(value) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: write a width such as 256, or n=256")
    return name, int(value)


def widths(text: str) -> tuple[int, ...]:
    parts = text.replace(" ", "").split(",")
    if not all(p.isdigit() for p in parts):
        raise argparse.ArgumentTypeError(f"{text!r}: write increasing widths, such as 64,128,256,512")
    widths = tuple(map(int, parts))
    if max(widths) > MAX_WIDTH:
        raise argparse.ArgumentTypeError(f"a width above {MAX_WIDTH}: write narrower networks, such as 64,128,256,512")
    return widths


def depths(text: str) -> tuple[int, ...]:
    parts = text.replace(" ", "").split(",")
    if not all(p.isdigit() and 1 <= int(p) <= MAX_DEPTH for p in parts):
        raise argparse.ArgumentTypeError(f"{text!r}: write increasing depths up to {MAX_DEPTH}, such as 4,8,16,32")
    return tuple(map(int, parts))


def count(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= MAX_COUNT:
        raise argparse.ArgumentTypeError(f"{text!r}: write a whole number from 1 to {MAX_COUNT}")
    return int(text)


def rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = math.nan
    if not 0 < rate < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r}: write a positive number, such as 0.01")
    return rate


def seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|h)?", text.strip())
    value = float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2] or "s"] if found else 0.0
    if not 0 < value <= MAX_SECONDS:
        raise argparse.ArgumentTypeError(f"{text!r}: write a time of at most 24h, such as 60s, 5m or 1h")
    return value


def names(text: str) -> tuple[str, ...]:
    return tuple(part for part in text.replace(" ", "").split(",") if part)


def fraction(text: str) -> Fraction:
    from tensorprog.powers import read_number

    number = read_number(text)
    if number is None:
        raise argparse.ArgumentTypeError(f"{text!r}: write a rational number, such as -1 or -1/2")
    return number
