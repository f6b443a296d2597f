"""Multipliers as forward hooks: plain objects of importable classes, so that a model with them can be copied, pickled,
compiled and sharded. They hang on modules, never on tensors, and do not enter the state dict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

Tensor = Any
Module = Any


class _Multiply:
    factor: float
    axis: int | None
    start: int
    stop: int

    def _times(self, x: Tensor) -> Tensor:
        if self.axis is None:
            return x * self.factor
        factors = x.new_ones(x.shape[self.axis])  # one product with a vector: slices would cost more going backward
        factors[self.start : self.stop] = self.factor
        behind = x.ndim - 1 - self.axis if self.axis >= 0 else -1 - self.axis
        return x * factors.view(-1, *[1] * behind)


@dataclass(frozen=True)
class MultiplyOutput(_Multiply):
    """A forward hook: output number `output` (or the only one) times `factor`; with `axis` only its range from `start`
    to `stop` (excluded)."""

    factor: float
    output: int = 0
    axis: int | None = None
    start: int = 0
    stop: int = 0

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
    """A forward pre-hook: positional input number `argument` times `factor`; with `axis` only a range, as above."""

    factor: float
    argument: int = 0
    axis: int | None = None
    start: int = 0
    stop: int = 0

    def __call__(self, module: Module, args: Any) -> Any:
        parts = list(args)
        parts[self.argument] = self._times(parts[self.argument])
        return tuple(parts)
