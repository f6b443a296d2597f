"""Files that the user names: reading them, and what is said where one cannot be read or written."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from tensorprog.errors import TensorProgError

Said = dict[int, tuple[str, str]]  # number of the system's error -> why, and what to write instead

READING: Said = {
    errno.ENOENT: ("there is no file of that name", "the path of {kind} that is there"),
    errno.ENOTDIR: ("a part of its path is a file, not a folder", "the path of {kind}"),
    errno.EISDIR: ("it is a folder", "the path of {kind} in it"),
    errno.EACCES: ("its permissions do not let you read it", "chmod u+r {path}, or a file that you may read"),
}
WRITING: Said = {
    errno.ENOENT: ("its folder is not there", "mkdir -p {folder}, or a file in a folder that is there"),
    errno.ENOTDIR: ("a part of its path is a file, not a folder", "a file in a folder"),
    errno.EISDIR: ("it is a folder", "the name of a file in it"),
    errno.EACCES: ("you may not write there", "a file in a folder of your own"),
    errno.EROFS: ("what it lies on can only be read", "a file in a folder of your own"),
    errno.ENOSPC: ("the disk is full", "a file on another disk, or the same after making room"),
}
OTHERWISE = ("the operating system refuses it", "another file")


def read_text(path: Path | str, kind: str) -> str:
    """The text of a file; `kind` says what is wanted, for messages (`a .tp file`). Raises TensorProgError if it cannot
    be read, or is not UTF-8."""
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise unreadable(path, error, kind) from None
    except UnicodeDecodeError:
        raise TensorProgError(f"cannot read {path}: it is not UTF-8 text", why=f"{kind} is text",
                              fix="the file saved as UTF-8") from None  # fmt: skip


def unreadable(path: Path | str, error: OSError, kind: str) -> TensorProgError:
    """The error for a file of some kind that could not be read; names the file that may have been meant."""
    from tensorprog.suggest import nearest

    path, fix = Path(path), ""
    if error.errno == errno.ENOENT and path.parent.is_dir() and os.access(path.parent, os.R_OK):
        alike = nearest(path.name, (p.name for p in path.parent.iterdir() if p.suffix == path.suffix))
        fix = f"`{path.parent / alike}`" if alike else ""
    return _said("read", path, error, READING, fix, kind=kind)


def unwritable(path: Path | str, error: OSError) -> TensorProgError:
    """The error for a file that could not be written."""
    return _said("write", path, error, WRITING)


def require_writable(path: Path) -> None:
    """Before long work. Raises TensorProgError if no file can be written at `path`."""
    folder = path.absolute().parent
    code = 0
    try:
        if not folder.is_dir():
            code = errno.ENOTDIR if folder.exists() else errno.ENOENT
        elif path.is_dir():
            code = errno.EISDIR
        elif not os.access(path if path.exists() and not path.is_file() else folder, os.W_OK):
            code = errno.EACCES
    except OSError as error:  # a folder on the way that may not be looked into
        raise unwritable(path, error) from None
    if code:
        raise unwritable(path, OSError(code, os.strerror(code)))


def _said(verb: str, path: Path | str, error: OSError, known: Said, fix: str = "", **words: str) -> TensorProgError:
    number = error.errno or 0
    if verb == "write" and number == errno.ENOENT and Path(path).absolute().parent.is_dir():
        number = errno.EACCES  # a folder of the system, such as /proc, that takes no files
    why, usual = known.get(number, OTHERWISE)
    words |= {"path": str(path), "folder": str(Path(path).parent)}
    message = f"cannot {verb} {path}: {error.strerror or error}"
    return TensorProgError(message, why=why, fix=fix or usual.format(**words))
