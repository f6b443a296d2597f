"""One real run of a module, recorded operation by operation.

The run is in training mode, on the CPU, at a tiny width. Only what depends on a parameter is recorded: everything else
(masks, positions, rotary tables, the inputs themselves) is data, kept by value where a recorded operation reads it.
Composite kernels are forced apart (attention by matrix products, no mkldnn), and dropout keeps everything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from tensorprog.errors import TensorProgError
from tensorprog.torch.building import not_a_loss, tensors
from tensorprog.torch.kernels import plain_kernels
from tensorprog.torch.recorder import Recorder
from tensorprog.torch.state import same_state
from tensorprog.torch.trace import Trace
from tensorprog.torch.verified import lively, require_same


def _loss_and_outputs(result: Any) -> tuple[Any, list[tuple[str, Any]]]:
    """The model's own loss (`.loss`, or a single number), and its floating results: at the top level, or where there
    are none, nested ones."""

    def floating(t: Any) -> bool:
        return isinstance(t, torch.Tensor) and t.is_floating_point()

    if floating(result):
        return (result, [("output", result)]) if result.dim() == 0 else (None, [("output", result)])
    items: list[tuple[str, Any]]
    if isinstance(result, Mapping):
        items = [(str(k), v) for k, v in result.items()]
    elif isinstance(result, tuple | list):
        items = [(f"output{k}" if k else "output", v) for k, v in enumerate(result)]
    elif hasattr(result, "__dict__"):
        items = list(vars(result).items())
    else:
        items = []
    loss = next((v for k, v in items if k == "loss" and floating(v) and v.dim() == 0), None)
    outputs = [(k, v) for k, v in items if floating(v) and k != "loss"]
    if loss is None and not outputs:
        nested = [(k, leaf) for k, v in items for leaf in tensors(v) if floating(leaf)]
        outputs = [(f"{k}_{j}" if j else k, leaf) for j, (k, leaf) in enumerate(nested)]
    return loss, outputs


def record(
    module: torch.nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    loss: Callable[..., Any] | None = None,
    frozen: frozenset[str] = frozenset(),
    verify: bool = True,
) -> Trace:
    """The trace of `module(*args, **kwargs)` in training mode, then of `loss(result)` if given. `frozen`: buffers that
    count as parameters, because they are random. `verify`: whether functions that have a backward of their
    own have the right one.

    Raises TensorProgError if nothing floating comes out that depends on a parameter, TooLargeError for too long a run.
    """
    names = {}
    for path, leaf in _named((args, dict(kwargs))):
        names[id(leaf)] = (path, leaf)
    recorder = Recorder(module, names, frozen, limited=True)
    was_training = {m: m.training for m in module.modules()}
    module.train()
    try:
        with (
            torch.enable_grad(),
            plain_kernels(module),
            same_state(module),
            recorder.watch(verify),
            recorder,
        ):
            state = torch.get_rng_state()
            result = module(*args, **kwargs)
            own, outputs = _loss_and_outputs(result)
            if loss is not None:
                own = loss(result)
                trains = any(p.requires_grad for p in module.parameters())
                if not isinstance(own, torch.Tensor) or own.numel() != 1 or own.requires_grad < trains:
                    raise not_a_loss(own)
        if recorder.routed.used:

            def run() -> list[tuple[str, Any]]:
                torch.set_rng_state(state)
                result = module(*args, **kwargs)
                own, outputs = _loss_and_outputs(result)
                return [*outputs, ("loss", own if loss is None else loss(result))]

            require_same(module, run, frozen)
            with lively(module):
                require_same(module, run, frozen)
    except TensorProgError:
        raise
    except Exception as error:
        _require_own(recorder, module, args, kwargs, loss, error)
        raise
    finally:
        for m, training in was_training.items():
            m.training = training
    trace = recorder.trace
    trace.routed = recorder.routed.used
    for name, tensor in outputs:
        if recorder._is_live(tensor):
            number = recorder.value(tensor)
            trace.outputs.append((name, number))
            trace.results[number] = tensor.detach()
    if own is not None and recorder._is_live(own):
        trace.loss = recorder.value(own)
        trace.results[trace.loss] = own.detach()
    if not trace.outputs and trace.loss is None:
        raise TensorProgError(
            f"{type(module).__name__} returns nothing that depends on a parameter",
            why="there is no floating tensor among its results",
            fix="a module that returns its output, or a `loss` that makes a number of its result",
        )
    return trace


def _require_own(recorder: Recorder, module: Any, args: Any, kwargs: Any, loss: Any, error: Exception) -> None:
    """Raises TensorProgError unless the module as it stands fails, too (see `routed`)."""
    if not recorder.routed.used or recorder.routed.failed is None:
        return
    try:
        with same_state(module):
            result = module(*args, **kwargs)
            if loss is not None:
                loss(result)
    except Exception:
        return
    name, where = recorder.routed.failed
    raise TensorProgError(
        f"`{name}` in `{where or 'the model'}` fails if every token is found where some are chosen by their values",
        why=f"sizes that depend on the data have no law, so all tokens are computed ({error})",
        fix="every expert on all tokens, times its weight, which is 0 where it is not chosen",
    ) from error


def _named(inputs: tuple[tuple[Any, ...], dict[str, Any]]) -> Iterator[tuple[str, Any]]:
    """(name, tensor) of all tensors among the inputs."""
    args, kwargs = inputs
    for k, arg in enumerate(args):
        for j, leaf in enumerate(tree_leaves(arg)):
            if isinstance(leaf, torch.Tensor):
                yield ("input" if not k and not j else f"input{k}" + (f"_{j}" if j else "")), leaf
    for key, arg in kwargs.items():
        for j, leaf in enumerate(tree_leaves(arg)):
            if isinstance(leaf, torch.Tensor):
                yield key + (f"_{j}" if j else ""), leaf
