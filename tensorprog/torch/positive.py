"""Logarithms and roots: functions of positive numbers, with a singularity at 0.

What the calculus knows of a function are its Taylor terms at 0. These have none. Where the argument stays of order 1
they are like any other smooth function with a constant; that it does is required of every result.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from tensorprog.calculus.shared import describe
from tensorprog.calculus.solve import Solution
from tensorprog.calculus.terms import largest
from tensorprog.errors import TensorProgError
from tensorprog.functions import Facts, Function
from tensorprog.graph import Graph, Map

Array = npt.NDArray[np.float64]


def _log_slope(x: Array) -> Array:
    return 1 / x


def _root_slope(x: Array) -> Array:
    return 0.5 / np.sqrt(x)


POSITIVE: Mapping[str, Function] = {
    "log": Function("log", "log(z)", (Facts(True, 1, 2, "none", None, 1), Facts(True, 1, 2, "none", None, 0)),
                    (np.log, _log_slope), "torch.log({x})"),
    "root": Function("root", "sqrt(z)", (Facts(True, 1, 2, "none", None, 1), Facts(True, 1, 2, "none", None, 0)),
                     (np.sqrt, _root_slope), "torch.sqrt({x})"),
}  # fmt: skip
SHIFTED = {"log": ("log1p", "log((1 + z)^2 + 1e-30) / 2"), "root": ("sqrt1p", "sqrt(sqrt((1 + z)^2 + 1e-30))")}
"""In the language, which wants functions that are finite everywhere and smooth at 0: name and formula of f(1 + z)."""
NAMES = {"log": "a logarithm", "root": "a square root"}


def require_order_one(graph: Graph, solution: Solution) -> None:
    """Raises TensorProgError where such a function's argument vanishes with the width (if it grows, it is refused
    already, as that of any function is)."""
    for node in graph.nodes:
        if isinstance(node.op, Map) and node.op.fn in POSITIVE:
            size = largest(solution.snapshot.initial[node.args[0]])
            if size is None or size < 0:
                how = "is zero at the start" if size is None else f"starts like {solution.solver.units.unpack(size)}"
                what = f"`{describe(graph.nodes[node.args[0]], graph.nodes)}`"
                raise TensorProgError(f"{NAMES[node.op.fn]} of {what}, which {how}",
                                      why="its derivative grows without bound where its argument vanishes",
                                      fix="a constant added to the argument, or a form without it (F.log_softmax, "
                                      "torch.logsumexp, F.softplus)")  # fmt: skip
