"""The command line `tpcalc`: the only module that prints or exits.

Exit codes: 0 done (for `check`: nothing disagrees); 1 `check` found a disagreement, or `fmt --check` a file that
is not formatted; 2 bad usage or bad input.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from tensorprog.errors import TensorProgError

if TYPE_CHECKING:
    from tensorprog.derivation import Derivation

MAX_JOBS = 8
OK, DISAGREES, BAD_INPUT = 0, 1, 2
MAX_WIDTH, MAX_COUNT = 1 << 16, 1_000_000  # of what `check` is asked to train


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    try:
        arguments = parser().parse_args(argv)
        code: int = arguments.run(arguments)
        sys.stdout.flush()
        return code
    except TensorProgError as error:
        print(error.render(), file=sys.stderr)
        return BAD_INPUT
    except MemoryError:
        print("error: out of memory\n  write instead: smaller widths, or a smaller --batch", file=sys.stderr)
        return BAD_INPUT
    except BrokenPipeError:
        _discard_output()
        return OK
    except OSError as error:  # files that are named in the arguments give a TensorProgError
        _discard_output()
        print(f"error: cannot write the output: {error.strerror or error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print(("\r\x1b[K" if sys.stderr.isatty() else "") + "interrupted", file=sys.stderr)  # over the progress bar
        return 130


# --- arguments --------------------------------------------------------------------------------------


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(
        prog="tpcalc", description="Derive, emit and check the width exponents of a neural network (muP)."
    )
    top.add_argument("--version", action="version", version=_Version())
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, summary: str, run: object) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=summary, description=summary)
        sub.add_argument("file", metavar="FILE", help="an architecture in the .tp language")
        sub.set_defaults(run=run)
        return sub

    def derivation(sub: argparse.ArgumentParser) -> None:
        sub.add_argument(
            "--optimizer", metavar="NAME", help="sgd, adam, adamw, muon, ... (default: the file's, else adam)"
        )
        sub.add_argument("--form", help="table8 (default), table3, table9 or unit: equivalent parametrizations")
        sub.add_argument("--depth", type=_depth, action="append", default=[], metavar="L=4",
                         help="finite depth at which a `repeat` symbol is unrolled")  # fmt: skip

    sub = command("derive", "print the exponents of every parameter, with reasons", _derive)
    derivation(sub)
    sub.add_argument("--format", choices=("table", "json", "markdown", "latex"), default="table")

    sub = command("explain", "print the whole chain behind a parameter's exponents", _explain)
    sub.add_argument("param", metavar="PARAM", help="a parameter, or an unknown multiplier `?name`")
    sub.add_argument(
        "quantity", nargs="?", metavar="QUANTITY", help="init, lr, multiplier, weight_decay or eps (default: all)"
    )
    derivation(sub)

    sub = command("emit", "write a PyTorch module with this parametrization", _emit)
    derivation(sub)
    sub.add_argument("-o", "--output", type=Path, metavar="FILE", help="where to write (default: standard output)")
    sub.add_argument("--base-width", type=_base_width, action="append", default=[], metavar="N|n=N",
                     help="the width at which the model is exactly the standard one (default 256)")  # fmt: skip
    sub.add_argument("--framework", choices=("torch",), default="torch")

    sub = command("check", "train at a ladder of widths; measured against derived exponents", _check)
    derivation(sub)
    sub.add_argument("--widths", type=_widths, metavar="64,128,..", help="increasing (default: by the network's size)")
    sub.add_argument(
        "--seeds", type=_count, metavar="N", help="networks per width (default: 5); more are added where needed"
    )
    sub.add_argument("--max-seeds", type=_count, metavar="N", help="at most this many (default: 4 times --seeds)")
    sub.add_argument("--steps", type=_count, default=3, metavar="N", help="updates per run (default: 3)")
    sub.add_argument("--batch", type=_count, metavar="N", help="examples per step (default: from the network's size)")
    sub.add_argument("--lr", type=_rate, metavar="X", help="learning rate at the base width (default: calibrated)")
    sub.add_argument(
        "--lr-exponent", type=_fraction, metavar="E", help="global learning rate ~ n^E, with --parametrization"
    )
    sub.add_argument("--backend", choices=("numpy", "torch"), default="numpy")
    sub.add_argument("--parametrization", default="derived", metavar="NAME", help="derived (default), sp or ntp")
    sub.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    sub.add_argument("--jobs", type=_count, metavar="N", help="networks trained at once (default: one per core)")
    sub.add_argument("--all", action="store_true", help="print every row, not only the worst step of each tensor")
    sub.add_argument("--format", choices=("table", "json"), default="table")

    sub = command("graph", "print the computation graph", _graph)
    sub.add_argument("--format", choices=("dot", "json", "mermaid"), default="dot")
    sub.add_argument("--depth", type=_depth, action="append", default=[], metavar="L=4")

    sub = command("fmt", "print the file in canonical layout", _fmt)
    sub.add_argument(
        "--check", action="store_true", help="print nothing; exit 1 if the file is not in canonical layout"
    )
    sub.add_argument("-w", "--write", action="store_true", help="rewrite the file in place")
    return top


class _Version(str):
    """The version, looked up only when it is printed."""

    def __mod__(self, _: object) -> str:
        from importlib.metadata import PackageNotFoundError, version

        try:
            return f"tpcalc {version('tensorprog')}"
        except PackageNotFoundError:
            return "tpcalc (not installed)"

    def __contains__(self, _: object) -> bool:
        return True


def _depth(text: str) -> tuple[str, int]:
    name, _, value = text.partition("=")
    if not name.isidentifier() or not value.isdigit() or not 1 <= int(value) <= 1024:
        raise argparse.ArgumentTypeError(f"{text!r}: write a depth symbol and a number, such as L=4")
    return name, int(value)


def _base_width(text: str) -> tuple[str, int]:
    name, _, value = text.rpartition("=")
    if (name and not name.isidentifier()) or not value.isdigit() or int(value) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: write a width such as 256, or n=256")
    return name, int(value)


def _widths(text: str) -> tuple[int, ...]:
    parts = text.replace(" ", "").split(",")
    if not all(p.isdigit() for p in parts):
        raise argparse.ArgumentTypeError(f"{text!r}: write increasing widths, such as 64,128,256,512")
    widths = tuple(map(int, parts))
    if max(widths) > MAX_WIDTH:
        raise argparse.ArgumentTypeError(f"a width above {MAX_WIDTH}: write narrower networks, such as 64,128,256,512")
    return widths


def _count(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= MAX_COUNT:
        raise argparse.ArgumentTypeError(f"{text!r}: write a whole number from 1 to {MAX_COUNT}")
    return int(text)


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = math.nan
    if not 0 < rate < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r}: write a positive number, such as 0.01")
    return rate


def _fraction(text: str) -> Fraction:
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(f"{text!r}: write a rational number, such as -1 or -1/2") from None


# --- commands ---------------------------------------------------------------------------------------


def _derivation(arguments: argparse.Namespace) -> Derivation:
    from tensorprog.architecture import load
    from tensorprog.derivation import derive

    return derive(load(arguments.file, dict(arguments.depth)), arguments.optimizer, arguments.form)


def _derive(arguments: argparse.Namespace) -> int:
    return _print(_derivation(arguments).render(arguments.format, color=_color(sys.stdout)))


def _explain(arguments: argparse.Namespace) -> int:
    return _print(_derivation(arguments).explain(arguments.param.lstrip("?"), arguments.quantity))


def _emit(arguments: argparse.Namespace) -> int:
    from tensorprog.api import emit

    derivation = _derivation(arguments)
    everywhere = [value for name, value in arguments.base_width if not name]
    base: dict[str, int] = dict.fromkeys(derivation.widths, everywhere[-1]) if everywhere else {}
    base.update({name: value for name, value in arguments.base_width if name})
    source = emit(derivation, base_width=base, framework=arguments.framework)
    if arguments.output is None:
        return _print(source)
    write_whole(arguments.output, source)
    return OK


def _check(arguments: argparse.Namespace) -> int:
    from tensorprog.api import check

    if arguments.lr_exponent is not None and arguments.parametrization == "derived":
        raise TensorProgError("--lr-exponent has no meaning for the derived parametrization",
                              fix="--parametrization sp, or no --lr-exponent")  # fmt: skip
    jobs = arguments.jobs or min(os.cpu_count() or 1, MAX_JOBS)
    if jobs > 1:  # one core each: more threads inside of each would only wait for one another
        for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ.setdefault(variable, "1")
    derivation = _derivation(arguments)
    options = {
        name: value
        for name in ("seeds", "max_seeds", "batch", "widths")
        if (value := getattr(arguments, name)) is not None
    }
    report = check(
        derivation, steps=arguments.steps, lr=arguments.lr, lr_exponent=arguments.lr_exponent,
        backend=arguments.backend, parametrization=arguments.parametrization, dtype=arguments.dtype,
        jobs=jobs, progress=_progress if sys.stderr.isatty() else None, **options,
    )  # fmt: skip
    _print(report.render(arguments.format, color=_color(sys.stdout), every=arguments.all))
    return report.exit_code


def _graph(arguments: argparse.Namespace) -> int:
    from tensorprog.architecture import load
    from tensorprog.export import export

    return _print(export(load(arguments.file, dict(arguments.depth)).graph, arguments.format))


def _fmt(arguments: argparse.Namespace) -> int:
    from tensorprog.architecture import load
    from tensorprog.printer import format_source

    source = load(arguments.file).source
    formatted = format_source(source, arguments.file)
    if arguments.check:
        return OK if formatted == source else DISAGREES
    if not arguments.write:
        return _print(formatted)
    if formatted != source:
        write_whole(Path(arguments.file), formatted)
    return OK


# --- the terminal and the disk ----------------------------------------------------------------------


def _print(text: str) -> int:
    if sys.stdout is None:
        raise TensorProgError("cannot write the output: standard output is closed")
    sys.stdout.write(text if text.endswith("\n") else text + "\n")
    return OK


def _discard_output() -> None:
    """Nothing more reaches standard output, not even what Python still holds back when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _color(stream: object) -> bool:
    return bool(getattr(stream, "isatty", lambda: False)()) and "NO_COLOR" not in os.environ


def _progress(done: int, total: int, seeds: int) -> None:
    filled = 30 * done // total
    end = "\r\x1b[K" if done == total else ""
    sys.stderr.write(f"\r[{'#' * filled}{'.' * (30 - filled)}] {100 * done // total:3d}% of {seeds} seeds{end}")
    sys.stderr.flush()


def write_whole(path: Path, text: str) -> None:
    """Write a file completely or not at all (a device or a pipe: directly). Raises TensorProgError if it cannot be
    written."""
    temporary = None
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            path.write_text(text, encoding="utf-8")
            return
        target = path.resolve()  # a link stays, what it leads to is written
        mode = target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask()
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        temporary = Path(name)
        with open(handle, "w", encoding="utf-8") as out:
            out.write(text)
        temporary.chmod(mode)
        temporary.replace(target)
        temporary = None
    except OSError as error:
        raise TensorProgError(f"cannot write {path}: {error.strerror}") from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


if __name__ == "__main__":
    sys.exit(main())
