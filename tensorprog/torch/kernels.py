"""Composite kernels forced apart, so that every run of a model is made of the same plain operations."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

EXPERTS = "_experts_implementation"  # in a configuration of transformers


@contextlib.contextmanager
def plain_kernels(module: torch.nn.Module) -> Iterator[None]:
    """Attention by matrix products; no mkldnn, so that recurrent layers are not one kernel (setting its flags warns of
    GPUs of another kind). TorchScript runs its operations one by one, as it does at first, and not through derivatives
    of its own, behind which everything is detached. Experts of transformers, in `module`, are applied to all their
    tokens at once, and not to groups of them whose lengths depend on the data: the results are the same.
    """
    runs = torch._C._jit_set_num_profiled_runs(10**9)
    try:
        with warnings.catch_warnings(), _batched_experts(module), sdpa_kernel(SDPBackend.MATH):
            warnings.filterwarnings("ignore", message="TF32")
            with torch.backends.mkldnn.flags(enabled=False):
                yield
    finally:
        torch._C._jit_set_num_profiled_runs(runs)


@contextlib.contextmanager
def _batched_experts(module: torch.nn.Module) -> Iterator[None]:
    configs = {
        id(c): c for m in module.modules() if getattr(c := getattr(m, "config", None), EXPERTS, None) is not None
    }
    before = {key: getattr(config, EXPERTS) for key, config in configs.items()}
    try:
        for config in configs.values():
            setattr(config, EXPERTS, "batched_mm")
        yield
    finally:
        for key, config in configs.items():
            setattr(config, EXPERTS, before[key])
