"""Optimizers of the table as optimizers of PyTorch: classes of `torch.optim`, or those that emitted programs have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from tensorprog.emission.format import Code
from tensorprog.emission.optimizers import construction, definitions
from tensorprog.errors import TensorProgError
from tensorprog.optimizers import OPTIMIZERS, Optimizer
from tensorprog.optimizers.table import fitting
from tensorprog.suggest import nearest


class Many:
    """Several optimizers as one."""

    def __init__(self, optimizers: Sequence[Any]) -> None:
        self.optimizers = tuple(optimizers)

    def step(self) -> None:
        for optimizer in self.optimizers:
            optimizer.step()


def torch_optimizer(
    name: str, groups: Any, lr: float | None = None, known: Mapping[str, Optimizer] = OPTIMIZERS
) -> Any:
    """The optimizer for a name among `known` (`groups`: parameters, or parameter groups).

    Muon comes together with the optimizer of what has fewer than two axes. Raises TensorProgError for a name that is
    unknown, or whose step needs more than a gradient at the parameters.
    """
    if name not in known:
        raise TensorProgError(f"unknown optimizer `{name}`", fix=nearest(name, known) or ", ".join(known),
                              why="these can be built from groups of parameters")  # fmt: skip
    groups = [g if isinstance(g, dict) else {"params": [g]} for g in groups]
    by_name: dict[str, list[dict[str, Any]]] = {}
    for group in groups:
        for axes in (0, 2):
            members = [p for p in group["params"] if (p.ndim >= 2) == (axes == 2)]
            if members:
                row = known[group["optimizer"]] if "optimizer" in group else fitting(known[name], axes)
                kept = {k: v for k, v in group.items() if k not in ("params", "param_names", "optimizer")}
                by_name.setdefault(row.name, []).append({**kept, "params": members})
    made = [_one(known[key], members, lr) for key, members in by_name.items()]
    return made[0] if len(made) == 1 else Many(made)


def _one(row: Optimizer, groups: list[dict[str, Any]], lr: float | None) -> Any:
    if row.probe is not None or row.sampled:
        what = "a second gradient" if row.probe is not None else "gradients for targets drawn from the model"
        known = ", ".join(k for k, o in OPTIMIZERS.items() if o.probe is None and not o.sampled)
        raise TensorProgError(f"`{row.name}` cannot be trained here", why=f"its step needs {what}",
                              fix=f"one of {known}")  # fmt: skip
    names: dict[str, Any] = {"torch": torch}
    exec("\n\n".join(definitions([row])), names)
    defaults = dict(row.defaults)
    names["groups"] = [{"lr": defaults["lr"] if lr is None else lr, **group} for group in groups]
    return eval(construction(row, defaults, Code("groups")).text, names)
