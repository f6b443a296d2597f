"""Existing PyTorch models: derived from their own operations, changed without editing their code, checked.

    import tensorprog.torch as tpt
    p = tpt.derive(lambda n: GPT2LMHeadModel(GPT2Config(n_embd=64 * n, n_head=n)), inputs=tokens, optimizer="adamw")
    print(p)                              # every parameter: what it is now -> what it must be, and why
    groups = p.apply(model, base=4, lr=3e-4)  # the model, at any width: initial values, multipliers, parameter groups
    print(p.check(widths=[4, 8, 16, 32]))     # every operation, measured against its prediction

Everything here needs PyTorch (`pip install 'tensorprog[torch]'`); submodules are imported when first used.
"""

from __future__ import annotations

from typing import Any

_HOMES = {
    "derive": "model", "ImportedDerivation": "model",
    "AppliedWarning": "apply", "check_module": "modulecheck",
    "rule": "lower.registry", "Changes": "changes", "MultiplierChange": "changes", "ParameterChange": "changes",
    "Part": "changes",
}  # fmt: skip

__all__ = [
    "AppliedWarning",
    "Changes",
    "ImportedDerivation",
    "MultiplierChange",
    "ParameterChange",
    "Part",
    "check_module",
    "derive",
    "rule",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _HOMES:
        value = getattr(import_module(f"tensorprog.torch.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'tensorprog.torch' has no attribute {name!r}")
