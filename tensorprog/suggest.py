"""The nearest known name, for error messages."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name most like `name`, or "" if none is."""
    return next(iter(get_close_matches(name, list(known), n=1, cutoff=0.5)), "")
