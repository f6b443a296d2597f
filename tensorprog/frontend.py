"""From text to checked graph in one call: parse, elaborate, inline, check."""

from __future__ import annotations

from collections.abc import Mapping

from tensorprog.elaborate import elaborate
from tensorprog.errors import TensorProgError
from tensorprog.graph import Graph
from tensorprog.inline import inline
from tensorprog.legality import check
from tensorprog.model import Model
from tensorprog.parser import parse


def model_and_graph(
    source: str, file: str = "<string>", depths: Mapping[str, int] | None = None
) -> tuple[Model, Graph]:
    """The structured program and its forward graph. Raises TensorProgError with the place in `source`.

    `depths`: how often to unroll each `depth` symbol; else the value in the file, else 2.
    """
    try:
        arch = parse(source, file)
        model = elaborate(arch, depths)
        graph = inline(model)
        check(graph, arch)
    except TensorProgError as error:
        raise error.located(source, file) from None
    return model, graph


def graph_of(source: str, file: str = "<string>", depths: Mapping[str, int] | None = None) -> Graph:
    """The forward graph of a .tp text, checked. Raises TensorProgError with the place in `source`."""
    return model_and_graph(source, file, depths)[1]
