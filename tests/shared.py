"""What many tests look at, made once in each process: nothing of it can be changed."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from tensorprog import api
from tensorprog.architecture import Architecture
from tensorprog.architecture import load as load_file
from tensorprog.derivation import Derivation


def load(path: str | Path, depths: Mapping[str, int] | None = None) -> Architecture:
    """As `tensorprog.load`; what has been solved for an architecture stays with it."""
    return _loaded(Path(path), tuple(sorted((depths or {}).items())))


@cache
def _loaded(path: Path, depths: tuple[tuple[str, int], ...]) -> Architecture:
    return load_file(path, dict(depths))


def derive(subject: Architecture | str | Path, *arguments: Any, **options: Any) -> Derivation:
    """As `tensorprog.derive`."""
    return api.derive(subject if isinstance(subject, Architecture) else load(subject), *arguments, **options)
