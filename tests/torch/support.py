"""The numeric witness: the lowered graph, interpreted by NumPy, gives what the module itself gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
import torch

import tensorprog as tp
from tensorprog.autodiff import differentiate
from tensorprog.dims import BATCH, BATCH_SYMBOL, Dim
from tensorprog.exponents import Power
from tensorprog.graph import Axis, Fold, Graph, Input, Window
from tensorprog.interpret import Interpreter
from tensorprog.legality import assert_legal
from tensorprog.parametrization import Parametrization, ParamExponents
from tensorprog.torch.emit_tp import emit_tp
from tensorprog.torch.model import Reading, read
from tensorprog.torch.positive import POSITIVE
from tensorprog.torch.segments import segmented
from tests.torch.handwritten import CASES


def worst_difference(reading: Reading, point: int = 0, sites: bool = True) -> float:
    """The largest difference between the module's recorded results and the interpreted nodes, relative to the largest
    entry of each, at one of the points. The reading must be of a module in float64."""
    graph, program = reading.lowered.graph, reading.architecture.program
    sizes = dict(reading.points[point])
    batch = sizes.pop(BATCH_SYMBOL, 1)
    neutral = ParamExponents(Power(), Power(), Power(), None, None)
    parametrization = Parametrization("sp", "sgd", dict.fromkeys(graph.parameters, neutral),
                                      dict.fromkeys(graph.unknowns, Power()))  # fmt: skip
    interpreter = Interpreter(program, sizes, sizes, parametrization, functions=POSITIVE, batch=batch)
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


def text_difference(reading: Reading, change: Callable[[str], str] = str) -> float:
    """The largest difference, relative to the largest entry, between an output of the graph and of the text that is
    written from it, for the same random parameters and the data recorded at the first point. `change`: made to the
    text."""
    point = dict(reading.points[0])
    cut, _, _ = segmented(reading.lowered.graph, everywhere=True)
    classes = {path: type(m).__name__ for path, m in reading.module.named_modules()}
    emitted = emit_tp(cut, classes, reading.points[:2])
    text = tp.parse(change(emitted.text))
    random = np.random.default_rng(3)
    arrays = {name: 0.3 * random.standard_normal([int(a.dim.evaluate(point)) for a in p.axes])
              for name, p in cut.parameters.items()}  # fmt: skip
    renamed = {new: arrays[old] for new, old in zip(text.graph.parameters, emitted.parameters, strict=True)}
    inputs = [n for n in cut.nodes if isinstance(n.op, Input) and n.op.name in emitted.inputs]
    data = {n.op.name: reading.lowered.data[n.op.name][0] for n in inputs}
    wanted = _outputs(cut, differentiate(cut), POSITIVE, point, arrays, data)
    worst = []
    for merged in (True, False):  # an axis that holds the batch has it in front, or behind
        given = {emitted.inputs[n.op.name]: _batch_first(data[n.op.name], n, point, merged) for n in inputs}
        found = _outputs(text.graph, text.program, text.functions, point, renamed, given)
        right = [_batch_first(value, cut.nodes[number], point, merged) for number, value in wanted.items()]
        worst.append(max(float(np.abs(a - b.reshape(a.shape)).max() / np.abs(a).max())
                         for a, b in zip(right, found.values(), strict=True)))  # fmt: skip
    return min(worst)


def _outputs(graph: Graph, program: Any, functions: Any, point: dict[str, int], arrays: Any, data: Any
             ) -> dict[int, Any]:  # fmt: skip
    """Node -> value, of the graph's outputs in order of computation."""
    sizes = {s: v for s, v in point.items() if s != BATCH_SYMBOL}
    neutral = ParamExponents(Power(), Power(), Power(), None, None)
    parametrization = Parametrization("sp", "sgd", dict.fromkeys(graph.parameters, neutral),
                                      dict.fromkeys(graph.unknowns, Power()))  # fmt: skip
    interpreter = Interpreter(program, sizes, sizes, parametrization, functions=functions,
                              batch=point.get(BATCH_SYMBOL, 1))  # fmt: skip
    interpreter.set_params(arrays)
    kept = sorted({node for _, node in graph.outputs})
    values = interpreter.run({**interpreter.data, **data}, keep=set(kept), backward=False)
    return {node: np.asarray(values[node]) for node in kept}


def _batch_first(array: Any, node: Any, point: dict[str, int], batch_in_front: bool) -> Any:
    tokens = isinstance(node.op, Input) and node.op.kind == "tokens"
    axes = node.axes[:-1] if tokens else node.axes
    shape, batch = [int(a.dim.evaluate(point)) for a in axes], point.get(BATCH_SYMBOL, 1)
    at = next((k for k, a in enumerate(axes) if BATCH_SYMBOL in a.dim.symbols), None)
    if at is None:
        return np.broadcast_to(np.reshape(array, shape), (batch, *shape))
    rest = shape[at] // batch
    pair = [batch, rest] if batch_in_front else [rest, batch]
    split = np.reshape(array, [*shape[:at], *pair, *shape[at + 1 :]])
    kept = [] if axes[at].dim == BATCH else [rest]
    return np.moveaxis(split, at + (not batch_in_front), 0).reshape([batch, *shape[:at], *kept, *shape[at + 1 :]])


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


@cache
def reading_of(name: str) -> Reading:
    """A model of `handwritten.CASES`, read once; nothing but `changes` alters a reading."""
    return read64(CASES[name].build, CASES[name].inputs)


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
