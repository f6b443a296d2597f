"""Names of a .tp file for the tensors, parameters and axes of an imported graph."""

from __future__ import annotations

import keyword
import re

from tensorprog.dims import Dim
from tensorprog.functions import BUILTIN
from tensorprog.graph import Graph
from tensorprog.lexing import TAKEN

LETTERS = "ijklpqruvwxyz"
WORDS = frozenset(
    "width depth dim axis regime input in param block repeat shared scan if else output loss optimizer frozen normal "
    "zeros ones constant orthogonal return fn sum mean max rms_scale softmax topk concat stop_gradient sqrt log "
    "cross_entropy mse true false proportional batch scalar flag".split()
)


def is_reserved(name: str) -> bool:
    """Whether the language or the generated code means something else by a name."""
    return keyword.iskeyword(name) or name in TAKEN or name in WORDS or name in BUILTIN or name.startswith("__")


class Names:
    """Hands out names, each once; the same thing always has the same."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.taken: set[str] = set(graph.widths)
        first = {name.split(".")[0] for name in graph.parameters}
        self.prefix = next(iter(first)) if len(first) == 1 and "." in next(iter(graph.parameters)) else ""
        self._nodes: dict[int, str] = {}
        self._params: dict[str, str] = {}
        self._inputs: dict[str, str] = {}
        self._unknowns: dict[str, str] = {}
        self._dims: dict[Dim, str] = {}

    def fresh(self, wish: str) -> str:
        """A free name like the wish."""
        name = re.sub(r"\W+", "_", wish).strip("_") or "x"
        if name[0].isdigit():
            name = f"x{name}"
        base, count = name[:60], 1
        name = base
        while name in self.taken or is_reserved(name):
            count += 1
            name = f"{base}_{count}"
        self.taken.add(name)
        return name

    def short(self, path: str) -> str:
        return path.removeprefix(f"{self.prefix}.") if self.prefix else path

    def of_param(self, name: str) -> str:
        if name not in self._params:
            self._params[name] = self.fresh(self.short(name).split("[")[0])
        return self._params[name]

    def of_input(self, name: str) -> str:
        if name not in self._inputs:
            self._inputs[name] = self.fresh("x" if name == "input" else name)
        return self._inputs[name]

    def of_unknown(self, name: str) -> str:
        if name not in self._unknowns:
            self._unknowns[name] = self.fresh(self.short(name))
        return self._unknowns[name]

    def of_node(self, number: int, keyword: str = "") -> str:
        if number not in self._nodes:
            own = self.graph.nodes[number].name
            parts = self.short(own).split(".") if own else ["x"]
            self._nodes[number] = self.fresh("_".join(parts))
        return self._nodes[number]

    def index(self, dim: Dim, number: int) -> str:
        """The index names of one size are a letter with numbers."""
        if dim not in self._dims:
            position = len(self._dims)
            self._dims[dim] = LETTERS[position % len(LETTERS)] + ("" if position < len(LETTERS) else "x")
        return self.fresh(self._dims[dim] + (str(number + 1) if number else ""))
