"""What is verified of a module whose choices find everything (see `routed`): as it stands it computes the same."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch

from tensorprog.errors import TensorProgError
from tensorprog.torch.kernels import plain_kernels
from tensorprog.torch.lively import make_lively
from tensorprog.torch.recorder import Recorder
from tensorprog.torch.state import same_state

Tensor = Any
Named = list[tuple[str, Tensor]]


def require_same(module: Any, run: Callable[[], Named], frozen: frozenset[str]) -> None:
    """Raises TensorProgError unless the module as it stands gives the results of `run` and their gradients, too. `run`
    runs it, from the same random numbers each time, to named results, the loss last (None if there is none)."""

    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]

    def results(routed: bool) -> tuple[Named, Named | None]:
        """What is computed, and its gradients; None where there are none."""
        recorder = Recorder(module, {}, frozen)
        watched = recorder.watch() if routed else contextlib.nullcontext()
        with torch.enable_grad(), plain_kernels(module), same_state(module), watched, recorder:
            found = run()
        loss = found[-1][1]
        if loss is None:
            loss = sum(t.square().sum() for _, t in found[:-1] if t.requires_grad)
        try:
            slopes = torch.autograd.grad(loss, [p for _, p in named], allow_unused=True, materialize_grads=True)
        except RuntimeError:
            return found, None
        return found, [(f"the gradient of {name}", g) for (name, _), g in zip(named, slopes, strict=True)]

    plain, slopes = results(False)
    found, others = results(True)
    if [name for name, _ in plain] != [name for name, _ in found]:
        raise _differs("what it returns")
    if slopes is None:  # written over what its backward needs: it can be read, and not trained
        others = slopes = []
    if others is None:
        raise _differs("the gradient")
    _require_near(plain + slopes, found + others)


@contextlib.contextmanager
def lively(module: Any) -> Iterator[None]:
    """While entered, the parameters are random: its own may be zeros, which hide what is behind them."""
    before = [(p, p.detach().clone()) for p in module.parameters()]
    make_lively(module, 0)
    try:
        yield
    finally:
        for p, value in before:
            p.data.copy_(value)


def _require_near(plain: Named, found: Named) -> None:
    least = 1e-6 * max((float(g.abs().max()) for name, g in plain if name.startswith("the ") and g.numel()), default=0)
    for (name, a), (_, b) in zip(plain, found, strict=True):
        if a is None or b is None:
            if a is not b:
                raise _differs(f"`{name}`")
            continue
        a, b = a.detach(), b.detach()
        near = 1e-4 * float(a.nan_to_num().abs().max()) if a.numel() else 0.0
        if a.shape != b.shape or not torch.allclose(a, b, 1e-3, max(near, least), equal_nan=True):
            raise _differs(f"`{name}`")


def _differs(what: str) -> TensorProgError:
    return TensorProgError(
        f"{what} is not the same if every token is found where some are chosen by their values",
        why="sizes that depend on the data have no law, so all tokens are computed",
        fix="every expert on all tokens, times its weight, which is 0 where it is not chosen",
    )
