"""The graph of a text, in one call."""

from __future__ import annotations

from collections.abc import Mapping

from tensorprog.architecture import parse
from tensorprog.graph import Graph


def graph_of(source: str, file: str = "<string>", depths: Mapping[str, int] | None = None) -> Graph:
    """The forward graph of a .tp text, checked. Raises TensorProgError with the place in `source`."""
    return parse(source, file, depths).graph
