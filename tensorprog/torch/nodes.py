"""Every tensor that a module computes on the way to its outputs, one after the other, with its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tensorprog.torch.kernels import plain_kernels
from tensorprog.torch.trace import memory_of

Tensor = Any
Module = Any

# Results of which only the first is a tensor of the network (the others serve the backward pass).
FIRST_ONLY = ("native_layer_norm", "native_batch_norm", "native_group_norm", "native_dropout", "nll_loss_forward",
              "_native_batch_norm_legit", "_fused_rms_norm", "max_pool2d_with_indices")  # fmt: skip
RELABELS = ("clone", "detach", "_to_copy", "_unsafe_view", "lift_fresh", "contiguous", "_reshape_alias", "copy_")

SCALINGS = ("mul", "div")  # by a number, or by a tensor of one entry that depends on no parameter


@dataclass(frozen=True, slots=True)
class Node:
    """One floating-point result. `ordinal`: of the operation, among all of the forward pass; `path`: of the innermost
    module that was running; `op`: the ATen base name; `count`: the how-manieth of its name there."""

    ordinal: int
    path: str
    op: str
    count: int

    @property
    def name(self) -> str:
        """`h.0.attn: softmax`, with a number if that module does it several times."""
        number = f" #{self.count}" if self.count > 1 else ""
        return f"{self.path or '(top)'}: {self.op.strip('_')}{number}"


class Recorder(TorchDispatchMode):  # type: ignore[misc]
    """While active, shows `take(node, tensor)` every floating-point tensor that depends on a parameter, and that is
    not a mere relabelling of another. `ops` are the names of all operations, views included; `reads`, by ordinal of a
    node, whether what reads it only multiplies it by a number."""

    def __init__(self, module: Module, take: Callable[[Node, Tensor], None]) -> None:
        super().__init__()
        self._take = take
        self._paths = {id(part): path for path, part in module.named_modules()}
        self._stack = [""]
        self._counts: dict[tuple[str, str], int] = {}
        self._live = {storage(p) for p in module.parameters()}  # storages of what depends on a parameter
        self._writers: dict[int, int] = {}  # storage -> ordinal of the node that is in it
        self.ops: list[str] = []
        self.reads: dict[int, set[bool]] = {}
        self._aside = False

    def begin_loss(self, own: bool) -> None:
        """What follows is the loss, which the user wrote, or (`own`) we: then results are not shown, but what is read
        there is noted in `reads`."""
        self._stack, self._aside = ["(loss)"], own

    def enter(self, module: Module, _: Any) -> None:
        """A forward pre-hook for all modules."""
        self._stack.append(self._paths.get(id(module), self._stack[-1]))

    def leave(self, module: Module, _: Any, __: Any) -> None:
        """A forward hook for all modules."""
        self._stack.pop()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        op = func.overloadpacket.__name__
        ordinal = len(self.ops)
        if not self._aside:
            self.ops.append(op)
        operands = list(_flat((args, list(kwargs.values()))))
        live = any(storage(t) in self._live for t in operands)
        relabels = _relabels(func, op)
        read = {self._writers[storage(t)] for t in operands if storage(t) in self._writers}
        if not relabels:
            numbers = [t for t in operands if t.numel() == 1 and storage(t) not in self._live]
            number_first = bool(numbers) and numbers[0] is operands[0]  # c / x is no multiple of x
            scales = (
                not self._aside  # where the product has no place
                and op.strip("_") in SCALINGS
                and len(operands) - len(numbers) == 1
                and not (number_first and op.strip("_") == "div")
            )
            for writer in read:
                self.reads.setdefault(writer, set()).add(scales)
        first = True
        for tensor in _flat(result):
            if live:
                self._live.add(storage(tensor))
            else:
                self._live.discard(storage(tensor))  # memory that was freed is used again
            self._writers.pop(storage(tensor), None)
            if relabels and len(read) == 1:
                self._writers[storage(tensor)] = next(iter(read))
            shown = live and not self._aside and tensor.is_floating_point() and tensor.numel() > 0 and not relabels
            if shown and (first or op not in FIRST_ONLY):
                key = (self._stack[-1], op)
                self._counts[key] = self._counts.get(key, 0) + 1
                self._writers[storage(tensor)] = ordinal
                self._take(Node(ordinal, *key, self._counts[key]), tensor)
            first = False
        return result


def _relabels(func: Any, op: str) -> bool:
    aliases = [r.alias_info for r in func._schema.returns]
    return op in RELABELS or any(a is not None and not a.is_write for a in aliases)


def storage(tensor: Tensor) -> int:
    """What a tensor shares with its views, and with parameters that are tied to it."""
    return memory_of(tensor)


def _flat(value: Any) -> Iterator[Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _flat(item)


@contextmanager
def recording(module: Module, take: Callable[[Node, Tensor], None]) -> Iterator[Recorder]:
    """A Recorder for the forward passes of `module` inside the `with`."""
    recorder = Recorder(module, take)
    modules = torch.nn.modules.module
    handles = [modules.register_module_forward_pre_hook(recorder.enter),
               modules.register_module_forward_hook(recorder.leave, always_call=True)]  # fmt: skip
    try:
        with plain_kernels(module), recorder:
            yield recorder
    finally:
        for handle in handles:
            handle.remove()
