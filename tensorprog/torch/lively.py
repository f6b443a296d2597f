"""Values of parameters at which everything in a model matters."""

from __future__ import annotations

from typing import Any

import torch

LIVELY = 2.0  # entries of a matrix times the square root of its smaller side


def make_lively(module: Any, seed: int) -> None:
    """Gives the parameters such values, in place: matrices are random and hardly shrink what they multiply; zeros,
    which hide what is behind them, are random too; other vectors (the gains of norms) stay what they are."""
    generator = torch.Generator().manual_seed(seed)
    for p in module.parameters():
        if not (p.is_floating_point() or p.is_complex()) or not p.numel():
            continue
        size = LIVELY * (max(p.shape) / p.numel()) ** 0.5 if p.dim() > 1 else 0.3
        if p.dim() > 1 or not p.any():
            p.data.copy_(size * torch.randn(p.shape, generator=generator, dtype=p.dtype))
