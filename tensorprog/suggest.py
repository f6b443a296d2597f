"""The nearest known name, for error messages."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(name: str, known: Iterable[str], cutoff: float = 0.5) -> str:
    """The known name most like `name`, or "" if none is. Another case, or another order of letters, is a small
    difference."""
    alike = {other.lower(): other for other in sorted(known)}
    close = get_close_matches(name.lower(), alike, n=5, cutoff=cutoff)
    return alike[min(close, key=lambda other: sorted(other) != sorted(name.lower()))] if close else ""
