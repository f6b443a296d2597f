"""Multipliers as forward hooks: plain objects of importable classes, so that a model with them can be copied, pickled,
compiled and sharded. They hang on modules, never on tensors, and do not enter the state dict."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

Tensor = Any
Module = Any


class _Multiply:
    factor: float
    axis: int | None
    start: int
    stop: int
    blocks: int

    def _times(self, x: Tensor) -> Tensor:
        if self.axis is None:
            return x * self.factor
        behind = x.ndim - 1 - self.axis if self.axis >= 0 else -1 - self.axis
        known = type(x) is torch.Tensor and not torch.compiler.is_compiling()  # a compiler makes and fuses its own
        made = _kept if known else _factors
        part = self.start, self.stop, self.blocks
        return x * made(self.factor, *part, x.shape[self.axis], behind, x.dtype, x.device)


def _factors(k: float, start: int, stop: int, blocks: int, size: int, behind: int, dtype: Any, device: Any) -> Tensor:
    """A vector with k in a range of each block, 1 elsewhere: one product with it, since slices would cost more going
    backward."""
    factors = torch.ones(size, dtype=dtype, device=device)
    factors.view(blocks, -1)[:, start:stop] = k
    return factors.view(-1, *[1] * behind)


@lru_cache(maxsize=256)
def _kept(*arguments: Any) -> Tensor:
    """The same, made once: in a small model that costs as much as the product."""
    with torch.inference_mode(False):  # for those who train later
        return _factors(*arguments)


@dataclass(frozen=True)
class MultiplyOutput(_Multiply):
    """A forward hook: output number `output` (or the only one) times `factor`; with `axis` only its range from `start`
    to `stop` (excluded), in each of `blocks` equal parts."""

    factor: float
    output: int = 0
    axis: int | None = None
    start: int = 0
    stop: int = 0
    blocks: int = 1

    def __call__(self, module: Module, args: Any, output: Any) -> Any:
        if isinstance(output, torch.Tensor):
            return self._times(output)
        if isinstance(output, tuple | list):
            parts = list(output)
            parts[self.output] = self._times(parts[self.output])
            return type(output)(parts)
        key = list(output)[self.output]
        output[key] = self._times(output[key])
        return output


@dataclass(frozen=True)
class MultiplyInput(_Multiply):
    """A forward pre-hook (with keyword arguments): input number `argument`, or the one called `name` if it is given by
    its name, times `factor`; with `axis` only a range, as above."""

    factor: float
    argument: int = 0
    axis: int | None = None
    start: int = 0
    stop: int = 0
    name: str = ""
    blocks: int = 1

    def __call__(self, module: Module, args: Any, kwargs: Any) -> Any:
        if self.argument >= len(args):
            return args, {**kwargs, self.name: self._times(kwargs[self.name])}
        parts = list(args)
        parts[self.argument] = self._times(parts[self.argument])
        return tuple(parts), kwargs
