"""Multiplying weights in place, and undoing it to the last bit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tensorprog.errors import TensorProgError

Tensor = Any
_INTEGERS = {8: torch.int64, 4: torch.int32, 2: torch.int16, 1: torch.int8}


@dataclass(frozen=True, slots=True)
class Range:
    """The part of a tensor that is multiplied: all of it, or from `start` to `stop` (excluded) along `axis`, in each of
    `blocks` equal parts of that."""

    axis: int | None = None
    start: int = 0
    stop: int = 0
    blocks: int = 1

    def of(self, tensor: Tensor) -> Tensor:
        """A view of that part of what this process holds; complex numbers as pairs of real ones. Raises TensorProgError
        for a part of a sharded tensor."""
        if tensor.is_complex():
            tensor = torch.view_as_real(tensor.detach())
        if hasattr(tensor, "to_local"):  # sharded
            if self.axis is not None:
                raise TensorProgError("a range of rows of a sharded parameter cannot be rescaled",
                                      why="each process holds other rows of it",
                                      fix="apply before fully_shard")  # fmt: skip
            return tensor.detach().to_local()
        if self.axis is None:
            return tensor.detach()
        axis = self.axis % tensor.ndim
        return tensor.detach().unflatten(axis, (self.blocks, -1)).narrow(axis + 1, self.start, self.stop - self.start)


@dataclass(frozen=True)
class Rescaled:
    """One multiplication that was made: `factor`, on a `range` of the parameter `name`.

    `above`, `below`: packed bits, one per entry: dividing gives the next number above or below the one that was there.
    `after`: a sum over all bits of what was left behind, to tell whether the weights have moved since.
    """

    name: str
    range: Range
    factor: float
    dtype: str
    above: npt.NDArray[np.uint8]
    below: npt.NDArray[np.uint8]
    after: int


def rescale(name: str, tensor: Tensor, factor: float, where: Range = Range()) -> Rescaled:
    """Multiplies in place. Raises TensorProgError for weights that are not there yet."""
    _require_values(name, tensor)
    part = where.of(tensor)
    before = part.cpu().clone()
    part.copy_((before.to(torch.float64) * factor).to(part.dtype))  # rounded once: `mul_` rounds the factor, too
    off = _bits(before) - _bits(_divided(part, factor))
    if int(off.abs().max() if off.numel() else 0) > 1:  # it under- or overflows: nothing could undo that
        part.copy_(before)
        raise TensorProgError(f"`{name}` cannot be multiplied by {factor:.3g} in {part.dtype}: digits would be lost",
                              why="`remove` could not give back the weights that were there",
                              fix="apply in float32, then convert")  # fmt: skip
    return Rescaled(name, where, factor, str(part.dtype), _packed(off > 0), _packed(off < 0), checksum(part))


def size_of(name: str, tensor: Tensor) -> float:
    """The root mean square of all entries, on all machines. Raises TensorProgError for weights that are not there."""
    _require_values(name, tensor)
    return float(tensor.detach().abs().double().square().mean().sqrt())


def _require_values(name: str, tensor: Tensor) -> None:
    if tensor.is_meta:
        raise TensorProgError(f"`{name}` has no values yet: it is on the meta device",
                              why="what is rescaled are the initial values",
                              fix="apply after the initialisation")  # fmt: skip


def moved(done: Rescaled, tensor: Tensor) -> bool:
    """Whether the weights are others than the multiplication left behind."""
    return checksum(done.range.of(tensor)) != done.after


def undo(done: Rescaled, tensor: Tensor) -> None:
    """Puts back, to the last bit, what was there before."""
    part = done.range.of(tensor)
    bits = _bits(_divided(part, done.factor))
    bits = bits + _unpacked(done.above, bits) - _unpacked(done.below, bits)
    part.copy_(bits.view(part.dtype))


def checksum(part: Tensor) -> int:
    """A sum over the bits of all entries, by position."""
    bits = _bits(part).reshape(-1).to(torch.int64)
    return int((bits * torch.arange(1, bits.numel() + 1, device=bits.device)).sum())


def _divided(part: Tensor, factor: float) -> Tensor:
    """The quotient, rounded once: on every machine the same."""
    return (part.cpu().to(torch.float64) / factor).to(part.dtype)


def _bits(part: Tensor) -> Tensor:
    return part.contiguous().view(_INTEGERS[part.element_size()])


def _packed(mask: Tensor) -> npt.NDArray[np.uint8]:
    return np.packbits(mask.cpu().numpy().reshape(-1))


def _unpacked(packed: npt.NDArray[np.uint8], like: Tensor) -> Tensor:
    flat = np.unpackbits(packed, count=like.numel())
    return torch.from_numpy(flat).to(like.dtype).reshape(like.shape)
