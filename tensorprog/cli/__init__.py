"""The command line `tpcalc`: one file per command; `terminal` is the only module that prints.

Exit codes: 0 done (for `check`: nothing disagrees); 1 `check` found a disagreement, or `fmt --check` a file that
is not formatted; 2 bad usage or bad input.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from traceback import extract_tb
from typing import Any, NoReturn

from tensorprog.cli import check, classify, derive, emit, explain, fmt, graph, import_, lint, report, transfer
from tensorprog.cli.terminal import BAD_INPUT, FAULT, OK, OutputError, discard_output, writing
from tensorprog.errors import InternalError, TensorProgError
from tensorprog.files import unwritable

PACKAGE = Path(__file__).parents[1]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    try:
        words = list(sys.argv[1:] if argv is None else argv)
        top, commands = _parsers()
        arguments, rest = top.parse_known_args(words)
        if rest:
            raise _superfluous(arguments.command, rest[0], commands[arguments.command])
        arguments.words = words
        code: int = arguments.run(arguments)
        with writing():
            sys.stdout.flush()
        return code
    except InternalError as error:
        print(error.render(), file=sys.stderr)
        return FAULT
    except TensorProgError as error:
        print(error.render(), file=sys.stderr)
        return BAD_INPUT
    except MemoryError:
        large = TensorProgError("out of memory", why="a network is too large", fix="smaller widths or --batch")
        print(large.render(), file=sys.stderr)
        return BAD_INPUT
    except OutputError as error:
        discard_output()
        if isinstance(error.said, BrokenPipeError):  # whoever reads it has seen enough
            return OK
        print(unwritable("the output", error.said).render(), file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print(("\r\x1b[K" if sys.stderr.isatty() else "") + "interrupted", file=sys.stderr)  # over the progress bar
        return 130
    except Exception as error:
        if sys.flags.dev_mode:
            raise
        print(InternalError(_fault(error)).render(), file=sys.stderr)
        return FAULT


def _fault(error: Exception) -> str:
    """An exception that nothing foresaw, and where in tensorprog it was raised."""
    own = [frame for frame in extract_tb(error.__traceback__) if Path(frame.filename).is_relative_to(PACKAGE)]
    said = " ".join(str(error).split())[:200]
    place = f"{Path(own[-1].filename).relative_to(PACKAGE).as_posix()}:{own[-1].lineno}" if own else "?"
    return f"{type(error).__name__}{f': {said}' * bool(said)} ({place})"


def _superfluous(command: str, word: str, sub: argparse.ArgumentParser) -> TensorProgError:
    """The error for a word of the command line that no option takes; names the option that may have been meant."""
    from tensorprog.suggest import nearest

    name = word.partition("=")[0]
    if not word.startswith("-"):
        return TensorProgError(f"`{word}` is one argument too many", why=f"`tpcalc {command}` works on one network",
                               fix="one network at a time, and quotes around what holds spaces")  # fmt: skip
    known = [option for action in sub._actions for option in action.option_strings]
    meant = nearest(name, known, 0.7 if len(name) > 3 else 0.9)  # of three letters, two make most others
    return TensorProgError(f"`tpcalc {command}` has no option `{name}`", why="it would change nothing",
                           fix=meant or f"one of `tpcalc {command} --help`")  # fmt: skip


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    return _parsers()[0]


def _parsers() -> tuple[_Parser, dict[str, _Parser]]:
    """The whole command line, and that of each command."""
    top = _Parser(prog="tpcalc", description="Derive, emit and check the width exponents of a neural network (muP).")
    top.add_argument("--version", action="version", version=_Version())
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in (derive, explain, emit, check, transfer, report, classify, import_, lint, graph, fmt):
        command.add(commands)
    return top, commands.choices


class _Parser(argparse.ArgumentParser):
    """Says what is wrong as every other error does; the usage is for --help. An option's value may not be empty."""

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        if action.option_strings and "" in arg_strings:
            raise argparse.ArgumentError(action, "the value is empty")
        return super()._get_values(action, arg_strings)

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"error: {message}\n  see `{self.prog} --help`\n")


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
