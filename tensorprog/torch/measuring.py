"""The recorder that shows every result of a running model as it is made, and how large independent terms were."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._pytree import tree_leaves

from tensorprog.torch.apply import applied
from tensorprog.torch.changes import OutputHook
from tensorprog.torch.hooks import MultiplyInput, MultiplyOutput
from tensorprog.torch.nodes import storage
from tensorprog.torch.recorder import Recorder
from tensorprog.torch.training import root_mean_square

if TYPE_CHECKING:
    pass

Tensor = Any
Take = Callable[[int, int, Tensor], None]  # place, number of the output, the result
PRODUCTS = frozenset("mm bmm addmm baddbmm convolution".split())


class Measuring(Recorder):
    """The recorder that read the model, showing `take(place, output, tensor)` every result as it is made. What hooks of
    ours do does not count: there were none when the model was read."""

    def __init__(self, module: Any, frozen: Any, take: Take) -> None:
        super().__init__(module, {}, frozen)
        self._take = take
        self.quiet = False
        self.terms: dict[int, float] = {}  # of products: how large independent terms would make them, over their size
        self.started: dict[int, tuple[Tensor, ...]] | None = None  # of products: factors and result at the start
        self._held: dict[int, tuple[tuple[int, int, Any], ...]] = {}  # storage -> (place, output, shape) it has had

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        place = len(self.trace.operations)
        given = {storage(t) for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        result = super().__torch_dispatch__(func, types, args, kwargs)
        if self.quiet:
            del self.trace.operations[place:]
        elif len(self.trace.operations) > place:
            place = len(self.trace.operations) - 1  # before it stands what was assembled of its operands
            if self.started is not None and self.trace.operations[place].op in PRODUCTS:
                self._note(place, self.started, [a for a in args if isinstance(a, torch.Tensor)], result)
            for k, tensor in enumerate(result if isinstance(result, tuple | list) else (result,)):
                if isinstance(tensor, torch.Tensor):
                    self._take(place, k, tensor)
                    known = self._held.get(storage(tensor), ()) if storage(tensor) in given else ()
                    self._held[storage(tensor)] = (*known, (place, k, tensor.shape))
        elif func is torch.ops.aten.clone.default:  # no operation: it is what it is a copy of
            self._held.setdefault(storage(result), self._held.get(storage(args[0]), ()))
        return result

    def _note(self, place: int, known: dict[int, tuple[Tensor, ...]], operands: list[Tensor], result: Tensor) -> None:
        """How large independent terms would make a product, or its change since the start if that is known."""
        a, b = operands[-2:] if operands[-1].dim() > 1 else operands[-3:-1]  # the bias of a convolution comes last
        started = known.get(place, ())
        size = root_mean_square(result, started[-1] if started else None)
        self.terms[place] = _independent(a, b, started) / size if size else 0.0
        if not started:
            known[place] = tuple(t.detach().clone() for t in (a, b, result))

    def measured_again(self, before: Tensor, after: Tensor) -> None:
        """A result that a hook has multiplied counts as it is now, and so do its views."""
        for place, k, shape in self._held.get(storage(before), ()):
            if shape.numel() == after.numel():
                self._take(place, k, after.reshape(shape))


def _independent(a: Tensor, b: Tensor, started: tuple[Tensor, ...]) -> float:
    """How large a sum of products would be if its terms were independent, or its change since it had these factors."""
    count = a.shape[-1] if a.dim() <= 3 and a.dim() == b.dim() and a.shape[-1] == b.shape[-2] else b[0].numel()
    if not started:
        return float(count**0.5 * root_mean_square(a) * root_mean_square(b))
    first, second = started[:2]
    moved, other = root_mean_square(a, first), root_mean_square(b, second)
    return float(count**0.5 * (moved * root_mean_square(second) + root_mean_square(first) * other + moved * other))


@dataclass(frozen=True, slots=True)
class _Quietly:
    """A hook, of whose operations the recorder takes no notice. `counts`: its factor belongs to the module's own
    result, which is then measured behind it."""

    hook: Any
    recorder: Measuring
    counts: bool

    def __call__(self, *args: Any) -> Any:
        self.recorder.quiet = True
        try:
            result = self.hook(*args)
            if self.counts and isinstance(result, torch.Tensor):
                self.recorder.measured_again(args[-1], result)
        finally:
            self.recorder.quiet = False
        return result


@contextmanager
def quiet_hooks(module: Any, recorder: Measuring) -> Iterator[None]:
    record = applied(module)
    placed = record.multipliers if record else ()
    uses = {m.place.module for m in placed if m.change.kind == "use" and m.place == OutputHook(m.change.module)}
    changed = []
    for path, part in module.named_modules():
        for hooks in (part._forward_hooks, part._forward_pre_hooks):
            for key, hook in hooks.items():
                if isinstance(hook, MultiplyOutput | MultiplyInput):
                    changed.append((hooks, key, hook, path in uses and isinstance(hook, MultiplyOutput)))
    try:
        for hooks, key, hook, counts in changed:
            hooks[key] = _Quietly(hook, recorder, counts)
        yield
    finally:
        for hooks, key, hook, _ in changed:
            hooks[key] = hook
