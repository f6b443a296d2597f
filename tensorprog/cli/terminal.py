"""The terminal and the disk: the only module that writes to either."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tensorprog.errors import TensorProgError
from tensorprog.files import unwritable

OK, DISAGREES, BAD_INPUT, FAULT = 0, 1, 2, 3  # exit codes
PATIENCE = 1.5  # seconds of silence, before a bar is shown for what is usually quick


class OutputError(Exception):
    """Standard output could not be written: what the system said."""

    def __init__(self, said: OSError) -> None:
        super().__init__(str(said))
        self.said = said


@contextmanager
def writing() -> Iterator[None]:
    """What the system says of standard output, apart from what it says of anything else. Raises OutputError."""
    try:
        yield
    except OSError as error:
        raise OutputError(error) from error


def show(text: str, *, prose: bool = False) -> int:
    """Print a command's result. `prose`: on a narrow terminal, indented lines are broken between words."""
    if sys.stdout is None:
        raise TensorProgError("cannot write the output: standard output is closed", fix="the same command with > FILE",
                              why="the result is printed there")  # fmt: skip
    if prose and sys.stdout.isatty():
        from tensorprog.tables import fold

        columns = shutil.get_terminal_size().columns
        text = "\n".join(fold(line, columns) if line.startswith(" ") else line for line in text.split("\n"))
    with writing():
        sys.stdout.write(text if text.endswith("\n") else text + "\n")
    return OK


def discard_output() -> None:
    """Nothing more reaches standard output, not even what Python still holds back when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def color(stream: object) -> bool:
    """Whether to colour what is written to a stream: only on a terminal, unless NO_COLOR is set."""
    return bool(getattr(stream, "isatty", lambda: False)()) and "NO_COLOR" not in os.environ


def progress(done: int, total: int, seeds: int) -> None:
    """A progress bar on standard error."""
    filled = 30 * done // total
    end = "\r\x1b[K" if done == total else ""
    sys.stderr.write(f"\r[{'#' * filled}{'.' * (30 - filled)}] {100 * done // total:3d}% of {seeds} seeds{end}")
    sys.stderr.flush()


class Bar:
    """A progress bar on standard error, with the time left at the pace since its first call."""

    def __init__(self) -> None:
        self._start: tuple[float, float] | None = None  # time, work done

    def show(self, done: float, total: float) -> None:
        """`done` of `total` units of work; the total may grow."""
        now = time.monotonic()
        since, before = self._start = self._start or (now, done)
        left = ""
        if done > before and now > since:
            left = f" {_clock((now - since) * (total - done) / (done - before))} left"
        filled = int(30 * done / total)
        end = "\r\x1b[K" if done >= total else "\x1b[K"
        sys.stderr.write(f"\r[{'#' * filled}{'.' * (30 - filled)}] {int(100 * done / total):3d}%{left}{end}")
        sys.stderr.flush()


@contextmanager
def passing_bar() -> Iterator[Callable[[float, float], None] | None]:
    """What shows on a terminal how far some work is, if it takes long; nothing is left of it afterwards."""
    if not sys.stderr.isatty():
        yield None
        return
    bar, begun = Bar(), time.monotonic()

    def show(done: float, total: float) -> None:
        if time.monotonic() - begun > PATIENCE:
            bar.show(done, total)

    try:
        yield show
    finally:
        show(1, 1)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file completely or not at all (a device or a pipe: directly). Raises TensorProgError if it cannot be
    written."""
    data = content.encode() if isinstance(content, str) else content
    temporary = None
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            path.write_bytes(data)
            return
        target = path.resolve()  # a link stays, what it leads to is written
        mode = target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask()
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        temporary = Path(name)
        with open(handle, "wb") as out:
            out.write(data)
        temporary.chmod(mode)
        temporary.replace(target)
        temporary = None
    except OSError as error:
        raise unwritable(path, error) from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
