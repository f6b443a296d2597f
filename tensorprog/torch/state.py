"""The state that a module keeps from pass to pass."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def same_state(module: torch.nn.Module) -> Iterator[None]:
    """What a module keeps from pass to pass (running averages, power iterations) is as before afterwards: the graph is
    that of one pass. Through `data`: a backward pass may still hold the buffers, and does not mind."""
    before = [(buffer, buffer.detach().clone()) for buffer in module.buffers()]
    try:
        yield
    finally:
        for buffer, value in before:
            buffer.data.copy_(value)
