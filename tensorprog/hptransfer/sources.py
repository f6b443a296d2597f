"""Where data come from: `digits`, `text`, `text:FILE`, `FILE.npz`, `module:function`."""

from __future__ import annotations

import contextlib
import importlib
import sys
import sysconfig
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tensorprog.arrays import Array
from tensorprog.errors import TensorProgError
from tensorprog.files import unreadable
from tensorprog.hptransfer.data import Data, Examples, Slot, Windows, fitted, misfit

KINDS = "digits, text, text:FILE, FILE.npz or module:function"
CHARACTERS = 96  # newline, then the printable ones of ASCII
LONGEST = 2_000_000  # characters that are read
DIGITS_SHAPES = ((64,), (8, 8), (1, 8, 8))


def load_data(name: str, wanted: tuple[Slot, ...], file: str) -> Data:
    """The data of that name, fitted to what `file` wants. Raises TensorProgError for unknown data and misfits."""
    if name == "digits":
        return _digits(wanted, file)
    if name == "text" or name.startswith("text:"):
        return _text(name, wanted, file)
    if name.endswith(".npz"):
        return fitted(name, wanted, _npz(name), file)
    module, colon, function = name.partition(":")
    if colon and all(part.isidentifier() for part in module.split(".")) and function.isidentifier():
        return fitted(name, wanted, _called(name, module, function), file)
    raise TensorProgError(f"unknown data `{name}`", fix=KINDS, why="a network is trained on data")


def default_data(wanted: tuple[Slot, ...]) -> str:
    """`text` for an architecture that reads tokens, else `digits`."""
    return "text" if any(slot.kind == "tokens" for slot in wanted) else "digits"


def _digits(wanted: tuple[Slot, ...], file: str) -> Examples:
    """1797 images of 8 x 8 with zero mean and unit variance, in 10 classes."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise TensorProgError("scikit-learn is not installed", why="the data `digits` come with it",
                              fix="pip install 'tensorprog[transfer]'") from None  # fmt: skip
    bunch: Any = load_digits()
    images = np.asarray(bunch.data, np.float64)
    images = (images - images.mean()) / images.std()
    for slot in wanted:
        if slot.kind == "real" and slot.shape not in DIGITS_SHAPES:
            has = "its images have shape " + ", ".join(map(str, map(list, DIGITS_SHAPES[:-1]))) + " or [1, 8, 8]"
            raise misfit("digits", file, slot, has)
        if slot.kind not in ("real", "classes"):
            raise misfit("digits", file, slot, "it has images and their classes, below 10")
    shape = next((slot.shape for slot in wanted if slot.kind == "real"), (64,))
    arrays = {"inputs": images.reshape(-1, *shape), "targets": np.asarray(bunch.target, np.int64)}
    return fitted("digits", wanted, arrays, file)


def _text(name: str, wanted: tuple[Slot, ...], file: str) -> Windows:
    """Characters as numbers below 96; the target is the next character at every place."""
    path = name.partition(":")[2]
    text = _read(path) if path else _standard_library()
    tokens = next((slot for slot in wanted if slot.kind == "tokens"), None)
    target = next(slot for slot in wanted if slot.is_target)
    for slot in wanted:
        if slot not in (tokens, target) or (slot is target and slot.kind != "classes"):
            raise misfit(name, file, slot, f"it has tokens and the next token at every place, below {CHARACTERS}")
        if len(slot.shape) != 1 or (tokens is not None and slot.shape != tokens.shape):
            raise misfit(name, file, slot, "it has a target at every place of a sequence of tokens")
        if slot.count < CHARACTERS:
            has = f"it has {CHARACTERS} characters: newline, and the printable ones of ASCII"
            raise misfit(name, file, slot, has, fix=f"{CHARACTERS} tokens in {file}, or --data module:function")
    assert tokens is not None  # a loss depends on some input, and all others were refused
    raw = np.frombuffer(text.encode("ascii", "ignore"), np.uint8)
    raw = raw[(raw == 10) | ((raw >= 32) & (raw < 127))]
    if len(raw) < 2 * tokens.shape[0] + 2:
        raise misfit(name, file, tokens, f"it has {len(raw)} characters")
    codes = np.where(raw == 10, 0, raw.astype(np.int64) - 31)
    return Windows(name, codes, tokens.name, target.name, tokens.shape[0])


def _standard_library() -> str:
    """The source code of Python's standard library, as far as it is needed."""
    text = ""
    for file in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        text += file.read_text(encoding="utf-8", errors="ignore")
        if len(text) >= LONGEST:
            break
    if len(text) < LONGEST // 4:
        raise TensorProgError("the standard library's source code, the data `text`, is not installed here",
                              why="some systems come without it", fix="--data text:FILE")  # fmt: skip
    return text


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="ignore")[:LONGEST]
    except OSError as error:
        raise unreadable(path, error, "a text file") from None


def _npz(path: str) -> dict[str, Array]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except OSError as error:
        raise unreadable(path, error, "an .npz file") from None
    except (ValueError, EOFError, zipfile.BadZipFile):
        raise TensorProgError(f"cannot read {path}: it is no archive of plain arrays", why="the data are in it",
                              fix="numpy.savez(path, inputs=.., targets=..)") from None  # fmt: skip


def _called(name: str, module: str, function: str) -> Mapping[str, Array]:
    """What the user's function returns: (inputs, targets), or a dict of arrays by the names of the file. What it prints
    is no part of a result on standard output."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            found = getattr(importlib.import_module(module), function)()
    except Exception as error:
        raise TensorProgError(f"the data `{name}` cannot be had: {type(error).__name__}: {error}",
                              why=f"`{function}` of the module `{module}` is called for them",
                              fix="a function of a file in this folder") from error  # fmt: skip
    finally:
        sys.path.remove(here)
    if isinstance(found, tuple) and len(found) == 2:
        found = {"inputs": found[0], "targets": found[1]}
    if not isinstance(found, Mapping):
        raise TensorProgError(f"the data `{name}` are of type {type(found).__name__}",
                              why="what the function returns is one array for each input and target",
                              fix="return inputs, targets, or a dict of arrays")  # fmt: skip
    return {str(key): np.asarray(value) for key, value in found.items()}
