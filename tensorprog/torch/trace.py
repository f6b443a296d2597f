"""What a recorded run is made of: operations, leaves, and writes into parts of tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from tensorprog.errors import TensorProgError


def memory_of(tensor: torch.Tensor) -> int:
    """The identity of the memory that a tensor is in, which its views share; a sparse one's is its own."""
    return int(tensor.untyped_storage()._cdata) if tensor.layout is torch.strided else id(tensor)


class TooLargeError(TensorProgError):
    """Reading the model would take too much memory."""


@dataclass(frozen=True, slots=True)
class Ref:
    """A tensor operand: number `value` among the recorded values."""

    value: int


@dataclass(frozen=True, slots=True)
class Operation:
    """One recorded ATen operation. `args`: all operands by name, defaults filled in, tensors as `Ref`. `module`: the
    path of the innermost module that was running. In-place operations stand under the name of the pure one.
    `gradient`: whether gradients pass through it (not under `torch.no_grad`); `by`: whether they pass it by, because it
    wrote, without gradients, into a tensor that has one."""

    op: str
    overload: str
    args: Mapping[str, Any]
    outputs: tuple[int, ...]  # -1: not a tensor
    module: str
    gradient: bool = True
    by: bool = False


@dataclass(frozen=True, slots=True)
class Leaf:
    """A value that no recorded operation made. kind: param | data. `name`: of the parameter; of data, what it is in
    the module (a buffer, an input), or ""."""

    kind: str
    name: str
    tensor: Any


@dataclass(frozen=True, slots=True)
class Box:
    """Where a part lies in a tensor: `start` and `length` along every axis; `dims`: the tensor's axis of each of the
    part's axes (-1: of size 1)."""

    start: tuple[int, ...]
    length: tuple[int, ...]
    dims: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Write:
    """The value that was written, and the layout of the view it was written to. `aside`: past the gradients, into the
    memory of a parameter (`w.data *= mask`)."""

    value: int
    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    aside: bool = False

    def box(self, tensor: torch.Tensor) -> Box | None:
        """Its place in a tensor of the same memory; None if it lies outside. Raises TensorProgError if across."""
        strides = tensor.stride()
        order = sorted(range(tensor.dim()), key=lambda k: (-strides[k], -tensor.shape[k]))
        dims = tuple(-1 if n == 1 else next((k for k in order if strides[k] == s and tensor.shape[k] > 1), -2)
                     for n, s in zip(self.size, self.stride, strict=True))  # fmt: skip
        rest = self.offset - tensor.storage_offset()
        last = sum((n - 1) * s for n, s in zip(tensor.shape, strides, strict=True))
        if rest > last or rest + sum((n - 1) * s for n, s in zip(self.size, self.stride, strict=True)) < 0:
            return None
        start = [0] * tensor.dim()
        for k in order:
            if strides[k] and tensor.shape[k] > 1 and rest >= 0:
                start[k] = min(rest // strides[k], tensor.shape[k] - 1)
                rest -= start[k] * strides[k]
        length = [1] * tensor.dim()
        for k, n in zip(dims, self.size, strict=True):
            if k >= 0:
                length[k] = n
        fits = rest == 0 and -2 not in dims and len({k for k in dims if k >= 0}) == sum(k >= 0 for k in dims)
        if fits and all(a + n <= m for a, n, m in zip(start, length, tensor.shape, strict=True)):
            return Box(tuple(start), tuple(length), dims)
        if rest and all(k >= -1 for k in dims):
            return None  # between the entries of a strided view
        raise TensorProgError(
            "a tensor is written into in place through a view that is no range of its axes",
            why="what is written could not be followed", fix="an operation that returns a new tensor: torch.cat",
        )  # fmt: skip


@dataclass(slots=True)
class Trace:
    """A recorded run. `shapes`, `dtypes`: of every value; `outputs`: (name, value) of the floating results of the
    module; `loss`: value of the loss, None if there is none; `modules`: path -> class name; `routed`: whether choices
    that depend on a parameter were made to find everything."""

    operations: list[Operation] = field(default_factory=list)
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    dtypes: list[str] = field(default_factory=list)
    leaves: dict[int, Leaf] = field(default_factory=dict)
    outputs: list[tuple[str, int]] = field(default_factory=list)
    loss: int | None = None
    results: dict[int, Any] = field(default_factory=dict)  # value -> tensor, of outputs and loss
    modules: dict[str, str] = field(default_factory=dict)
    routed: bool = False
