"""A small forward evaluator, written independently of the interpreter, to compare graphs with plain NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tensorprog import graph as g
from tensorprog.functions import BUILTIN
from tensorprog.legality import assert_legal
from tests.elaborate.graphs import graph_of

Array = npt.NDArray[Any]


class Run:
    """The graph of `source` evaluated with random data; `inputs`, `params`, `outputs` by name."""

    def __init__(self, source: str, width: int = 4, batch: int = 3, seed: int = 0) -> None:
        self.graph = graph_of(source)
        assert_legal(self.graph)
        self.sizes = {"batch": batch, **dict.fromkeys(self.graph.widths, width)}
        self.rng = np.random.default_rng(seed)
        self.inputs: dict[str, Array] = {}
        self.params: dict[str, Array] = {}
        self.values: list[Array] = []
        for node in self.graph.nodes:
            value = self.compute(node, [self.values[a] for a in node.args])
            assert value.shape == self.shape(node.axes), (node, value.shape)
            self.values.append(value)
        self.outputs = {name: self.values[node] for name, node in self.graph.outputs}
        self.named = {node.name: self.values[node.id] for node in self.graph.nodes if node.name}

    def shape(self, axes: tuple[g.Axis, ...]) -> tuple[int, ...]:
        return tuple(int(axis.dim.evaluate(self.sizes)) for axis in axes)

    def compute(self, node: g.Node, args: list[Array]) -> Array:
        shape = self.shape(node.axes)
        match node.op:
            case g.Input(name=name, kind="tokens"):
                tokens = self.inputs[name] = self.rng.integers(0, shape[-1], shape[:-1])
                return np.eye(shape[-1])[tokens]
            case g.Input(name=name):
                value = self.inputs[name] = self.rng.standard_normal(shape)
                return value
            case g.Param(name=name):
                value = self.params[name] = self.rng.standard_normal(shape)
                return value
            case g.Const(value=number):
                return np.full(shape, number)
            case g.Contract(left=left, right=None, out=out):
                return np.asarray(np.einsum(args[0], list(left), list(out)))
            case g.Contract(left=left, right=right, out=out):
                assert right is not None
                return np.asarray(np.einsum(args[0], list(left), args[1], list(right), list(out)))
            case g.Add(places=places):
                total = np.zeros(shape)
                for value, place in zip(args, places, strict=True):
                    order = np.argsort(place)
                    spread = [shape[k] if k in place else 1 for k in range(len(shape))]
                    total = total + value.transpose(order).reshape(spread)
                return total
            case g.Scale(scalar=scalar):
                factor = float(scalar.coefficient)
                for dim, power in scalar.powers:
                    factor *= float(dim.evaluate(self.sizes)) ** float(power)
                return args[0] * factor
            case g.Map(fn=fn):
                return np.asarray(BUILTIN[fn].numpy[0](args[0]))
            case g.InvRms(axes=axes, eps=eps):
                return np.asarray(((args[0] ** 2).mean(axis=axes) + eps) ** -0.5)
            case g.Softmax(axis=axis, mask=mask):
                x = args[0]
                if mask is not None:
                    grid = np.indices(shape)
                    op = {"<=": np.less_equal, "<": np.less, ">=": np.greater_equal, ">": np.greater}[mask[1]]
                    x = np.where(op(grid[mask[0]], grid[mask[2]]), x, -np.inf)
                e = np.exp(x - x.max(axis=axis, keepdims=True))
                return np.asarray(e / e.sum(axis=axis, keepdims=True))
            case g.TopK(axis=axis, k=k):
                rank = np.argsort(np.argsort(-args[0], axis=axis, kind="stable"), axis=axis)
                return (rank < k).astype(float)
            case g.Split() | g.Merge():
                return args[0].reshape(shape)
            case g.Window():
                return _window(node.op, args[0], shape, self.sizes)
            case g.Fold():
                return _fold(node.op, args[0], shape, self.sizes)
            case g.StopGrad():
                return args[0]
            case _:
                return np.zeros(shape)


def _positions(op: g.Window | g.Fold, parts: tuple[int, ...], sizes: dict[str, int]) -> list[tuple[Any, int]]:
    offset = int(op.offset.evaluate(sizes))
    if op.taps:
        return [((u, a), op.stride * u + op.dilation * a + offset)
                for u in range(parts[op.axis]) for a in range(parts[op.axis + 1])]  # fmt: skip
    return [((u,), op.stride * u + offset) for u in range(parts[op.axis])]


def _window(op: g.Window, x: Array, shape: tuple[int, ...], sizes: dict[str, int]) -> Array:
    out = np.zeros(shape)
    before: tuple[Any, ...] = (slice(None),) * op.axis
    for place, position in _positions(op, shape, sizes):
        if 0 <= position < x.shape[op.axis]:
            out[(*before, *place)] = x[(*before, position)]
    return out


def _fold(op: g.Fold, x: Array, shape: tuple[int, ...], sizes: dict[str, int]) -> Array:
    out = np.zeros(shape)
    before: tuple[Any, ...] = (slice(None),) * op.axis
    for place, position in _positions(op, x.shape, sizes):
        if 0 <= position < shape[op.axis]:
            out[(*before, position)] += x[(*before, *place)]
    return out
