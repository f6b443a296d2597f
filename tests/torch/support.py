"""The numeric witness: the lowered graph, interpreted by NumPy, gives what the module itself gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import torch

from tensorprog.dims import BATCH_SYMBOL, Dim
from tensorprog.exponents import Power
from tensorprog.graph import Axis, Fold, Graph, Input, Window
from tensorprog.interpret import Interpreter
from tensorprog.legality import assert_legal
from tensorprog.parametrization import Parametrization, ParamExponents
from tensorprog.torch.model import Reading, read


def worst_difference(reading: Reading, point: int = 0, sites: bool = True) -> float:
    """The largest difference between the module's recorded results and the interpreted nodes, relative to the largest
    entry of each, at one of the points. The reading must be of a module in float64."""
    graph, program = reading.lowered.graph, reading.architecture.program
    sizes = dict(reading.points[point])
    batch = sizes.pop(BATCH_SYMBOL, 1)
    neutral = ParamExponents(Power(), Power(), Power(), None, None)
    parametrization = Parametrization("sp", "sgd", dict.fromkeys(graph.parameters, neutral),
                                      dict.fromkeys(graph.unknowns, Power()))  # fmt: skip
    interpreter = Interpreter(program, sizes, sizes, parametrization, batch=batch)
    trace = reading.zipped.traces[point]
    interpreter.set_params(reading.arrays(point))
    data = {name: arrays[point] for name, arrays in reading.lowered.data.items()}
    for node in graph.nodes:
        if isinstance(node.op, Input) and node.op.name not in data:
            data[node.op.name] = interpreter.data[node.op.name]
    kept = {node for _, node in graph.outputs}
    result = interpreter.run(data, keep=kept, backward=False)
    worst = 0.0
    for (_, node), (_, value) in zip(graph.outputs, trace.outputs or [("loss", trace.loss)], strict=True):
        wanted = trace.results[value].double().numpy()
        found = np.asarray(result[node]).reshape(wanted.shape)
        scale = float(np.abs(wanted).max()) or 1.0
        worst = max(worst, float(np.abs(found - wanted).max()) / scale)
    return worst


def read64(build: Callable[..., Any], inputs: Any, **options: Any) -> Reading:
    """A reading of the model in float64."""

    def double(*args: Any, **kwargs: Any) -> Any:
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            built = build(*args, **kwargs)
        finally:
            torch.set_default_dtype(before)
        module = built[0] if isinstance(built, tuple) else built
        module.double()
        return built

    double.__signature__ = __import__("inspect").signature(build)  # type: ignore[attr-defined]
    return read(double, inputs, **options)


def legal(graph: Graph) -> None:
    """`assert_legal`, with the batch axis taken as one of any finite size: here it may stand anywhere."""

    def finite(dim: Dim) -> Dim:
        total = Dim(())
        for monomial, coefficient in dim.terms:
            rest = tuple((s, p) for s, p in monomial if s != BATCH_SYMBOL)
            power = sum(p for s, p in monomial if s == BATCH_SYMBOL)
            total = total + Dim(((rest, coefficient * Fraction(3) ** power),))
        return total

    nodes = tuple(
        replace(node, axes=tuple(Axis(finite(a.dim), a.label) for a in node.axes), op=_finite_op(node.op, finite))
        for node in graph.nodes
    )
    assert_legal(replace(graph, nodes=nodes))


def _finite_op(op: Any, finite: Callable[[Dim], Dim]) -> Any:
    if isinstance(op, Window | Fold):
        return replace(op, offset=finite(op.offset))
    return op
