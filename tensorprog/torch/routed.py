"""Tokens that are chosen by their values, as a loop over experts does, without sizes that depend on the data.

`torch.where(choice == expert)`, `x[chosen]` and the like find as many tokens as happen to choose an expert. While a
model is read, they find all of them, and what is then written back or added in their places is multiplied by who was
chosen. So every expert sees every token, all sizes have laws, and the results are the same, which is verified.

A choice is made of whole numbers. What compares floating numbers (`h > 0`, `isnan`) measures, it does not choose.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

Tensor = Any
FINDS = (torch.nonzero, torch.Tensor.nonzero, torch.argwhere, torch.Tensor.argwhere, torch.where)
ADDS = (torch.Tensor.index_add_, torch.Tensor.index_add, torch.index_add)
ANY = (torch.any, torch.Tensor.any)
POSITIONS = frozenset("argmax argmin argsort multinomial".split())  # of floating numbers: choices
VALUES_AND_POSITIONS = frozenset("topk sort max min".split())


class Routed(TorchFunctionMode):  # type: ignore[misc]
    """While entered, choices that depend on a parameter find everything. `live`: whether a tensor depends on one;
    `used`: whether there was such a choice."""

    def __init__(self, live: Callable[[Tensor], bool]) -> None:
        super().__init__()
        self._live = live
        self._rows: dict[int, tuple[Tensor, Tensor]] = {}  # identity of positions -> they, and who was chosen (0 or 1)
        self._measured: dict[int, Tensor] = {}  # identity -> whole numbers that compare floating ones, kept alive
        self.used = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in FINDS and len(args) == 1 and self._chooses(args[0]):
            return self._found(args[0], func is torch.where or kwargs.get("as_tuple", False))
        if func in ANY and len(args) == 1 and not kwargs and self._chooses(args[0]):
            self.used = True
            return torch.tensor(True)
        if func is torch.Tensor.__getitem__ and self._selects(args[1]):
            self.used = True
            return args[0].flatten(0, args[1].dim() - 1).clone()
        if func is torch.Tensor.__getitem__ and isinstance(args[1], tuple) and any(map(self._selects, args[1])):
            at = [self._found(i, True) if self._selects(i) else (i,) for i in args[1]]
            return args[0][tuple(i for group in at for i in group)]
        if func is torch.Tensor.__setitem__ and self._put(*args):
            return None
        if func in ADDS and len(args) > 3 and id(args[2]) in self._rows:
            x, dim, at, source = args[:4]
            shape = [-1 if k == dim % source.dim() else 1 for k in range(source.dim())]
            return func(x, dim, at, source * self._kept(at, source).reshape(shape), *args[4:], **kwargs)
        result = func(*args, **kwargs)
        self._measure(getattr(func, "__name__", ""), (args, kwargs), result)
        known = next((self._rows[id(t)][1] for t in tree_leaves(args) if id(t) in self._rows), None)
        for t in () if known is None else tree_leaves(result):
            assert known is not None
            if isinstance(t, torch.Tensor) and t.dim() and len(t) == len(known) and t.dtype == torch.int64:
                self._rows[id(t)] = (t, known)  # row by row the same positions, seen in another way
        return result

    def _chooses(self, mask: Any) -> bool:
        """Whether this is a mask that depends on a parameter: yes or no, or 0 or 1."""
        if not _whole(mask) or id(mask) in self._measured or not mask.dim() or not self._live(mask):
            return False
        return mask.dtype == torch.bool or bool(((mask.numpy() == 0) | (mask.numpy() == 1)).all())

    def _measure(self, name: str, arguments: Any, result: Any) -> None:
        """Notes whole numbers that were made of floating ones, or of such, unless they are positions."""
        tensors = [t for t in tree_leaves(arguments) if isinstance(t, torch.Tensor)]
        if name in POSITIONS or not any(not _whole(t) or id(t) in self._measured for t in tensors):
            return
        made = [tensors[0]] if name == "__setitem__" else tree_leaves(result)
        if name in VALUES_AND_POSITIONS and isinstance(result, tuple):
            made = made[:-1]
        self._measured |= {id(t): t for t in made if _whole(t) and self._live(t)}

    def _selects(self, at: Any) -> bool:
        """Whether an index is such a mask: integers would be positions."""
        return isinstance(at, torch.Tensor) and at.dtype == torch.bool and self._chooses(at)

    def _found(self, mask: Tensor, apart: bool) -> Any:
        """The positions of all entries, which know who was chosen."""
        self.used = True
        every = torch.ones(mask.shape, dtype=torch.bool).nonzero(as_tuple=apart)
        for t in tree_leaves(every):
            self._rows[id(t)] = (t, mask.reshape(-1))
        return every

    def _kept(self, at: Tensor, source: Tensor) -> Tensor:
        return self._rows[id(at)][1].to(source.dtype)

    def _put(self, x: Tensor, at: Any, value: Any) -> bool:
        """`x[at] = value` where `at` is a choice, and there is a value for every position."""
        if isinstance(at, tuple) and all(isinstance(i, slice) and i == slice(None) for i in at[1:]):
            at = at[0]
        if not isinstance(value, torch.Tensor) or not value.dim() or not isinstance(at, torch.Tensor):
            return False
        if id(at) in self._rows:
            kept = self._kept(at, value).reshape(-1, *(1,) * (value.dim() - 1))
            x.index_put_((at,), (value - x[at]) * kept, accumulate=True)
            return True
        if self._selects(at) and len(value) == at.numel():
            self.used = True
            mask = at.reshape(*at.shape, *(1,) * (x.dim() - at.dim()))
            x.copy_(torch.where(mask, value.reshape(*at.shape, *value.shape[1:]), x))
            return True
        return False


def _whole(t: Any) -> bool:
    """Whether this is a tensor of whole numbers, or of yes and no."""
    return isinstance(t, torch.Tensor) and not t.is_floating_point() and not t.is_complex()
