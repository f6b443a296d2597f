"""Parameters that only rounding errors move, as in coordcheck/rounding.py: an optimizer that normalises makes a whole
step of a gradient that is zero but for them. So it is the gradients, in the two precisions, that tell."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_map

from tensorprog.coordcheck.ladder import Ladder
from tensorprog.coordcheck.rounding import SHRINKS
from tensorprog.torch.kernels import plain_kernels
from tensorprog.torch.measure import Rates, Trained
from tensorprog.torch.predicted import Predicted
from tensorprog.torch.state import same_state
from tensorprog.torch.training import Floats, root_mean_square


def only_rounding(
    trained: Trained, values: Floats, predicted: Predicted, ladder: Ladder, rates: Rates
) -> set[tuple[int, int]]:
    """The parameters that are predicted never to move, and do, as (spot, step), where until that step their gradients
    in the first network of the ladder are 10^5 times smaller in double precision. `values`: [spot, step, ...]."""
    steps = values.shape[1] - 1
    moved = {(k, t): spot.probe.param
             for k, spot in enumerate(trained.spots) for t in range(1, steps + 1) if spot.probe.param
             and predicted.at(spot.probe, t).exponent is None and values[k, t, 0].any()}  # fmt: skip
    if not moved:
        return set()
    names = tuple(dict.fromkeys(moved.values()))
    try:
        single, double = (_gradients(trained, ladder, rates, steps, names, d) for d in (torch.float32, torch.float64))
    except RuntimeError:  # a model that insists on its precision
        return set()
    return {(k, t) for (k, t), name in moved.items()
            if np.all(double[names.index(name), :t] <= SHRINKS * single[names.index(name), :t])}  # fmt: skip


def _gradients(
    trained: Trained, ladder: Ladder, rates: Rates, steps: int, names: tuple[str, ...], dtype: torch.dtype
) -> Floats:
    """Root mean squares [name, step] of the gradients before every step."""
    found = np.zeros((len(names), steps))
    with torch.random.fork_rng(devices=[]):
        built, optimizer = trained.network(ladder.rungs[0], 0, rates)
        built.module.to(dtype)

        def converted(x: Any) -> Any:
            return x.to(dtype) if isinstance(x, torch.Tensor) and x.is_floating_point() else x

        built = replace(built, args=tree_map(converted, built.args), kwargs=tree_map(converted, dict(built.kwargs)))
        parameters = dict(built.module.named_parameters())
        for t in range(steps):
            torch.manual_seed(0)
            with plain_kernels(built.module), same_state(built.module):
                loss = built.loss(built.outputs())
            built.module.zero_grad(set_to_none=True)
            loss.backward()
            for k, name in enumerate(names):
                grad = parameters[name].grad
                found[k, t] = 0.0 if grad is None else root_mean_square(grad)
            optimizer.step()
    return found
