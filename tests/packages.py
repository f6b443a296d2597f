"""Packages that only some tests need (`pip install 'tensorprog[models]'`): without them these tests are skipped."""

from __future__ import annotations

import importlib.util
from functools import cache

import pytest


def needs(*packages: str) -> None:
    """Skip the test where one of the packages is missing. What they import can be imported afterwards."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: pip install 'tensorprog[models]'")
    torchvision_of_another_build()


@cache
def torchvision_of_another_build() -> object:
    """timm and transformers import torchvision, which cannot be imported beside a PyTorch of another build (a CPU's,
    where the registry has torchvision for CUDA only): its compiled operators are missing, and two of them are given
    shapes without asking. No model calls them, so they are declared."""
    if importlib.util.find_spec("torchvision") is None:
        return None
    import torch

    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor boxes, Tensor scores, float threshold) -> Tensor")
        return library  # which lasts as long as this object
    return None
