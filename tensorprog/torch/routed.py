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

from tensorprog.errors import TensorProgError
from tensorprog.torch.written import OPERANDS, masked, put, written

Tensor = Any
FINDS = (torch.nonzero, torch.Tensor.nonzero, torch.argwhere, torch.Tensor.argwhere, torch.where)
ANY = (torch.any, torch.Tensor.any)
POSITIONS = frozenset("argmax argmin argsort multinomial".split())  # of floating numbers: choices
MASKED = ("masked_select", "masked_scatter", "masked_scatter_")
VALUES_AND_POSITIONS = frozenset("topk sort max min".split())


class Routed(TorchFunctionMode):  # type: ignore[misc]
    """While entered, choices that depend on a parameter find everything. `live`: whether a tensor depends on one;
    `where`: the module that is running; `used`: whether there was such a choice; `failed`: the first call that raised
    an exception, and its module."""

    def __init__(self, live: Callable[[Tensor], bool], where: Callable[[], str]) -> None:
        super().__init__()
        self._live, self._where = live, where
        self.failed: tuple[str, str] | None = None
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
        name = getattr(func, "__name__", "")
        changed = self._written(name, args, kwargs)
        if changed is not None:
            return changed if name != "__setitem__" else None
        try:
            result = func(*args, **kwargs)
        except Exception:
            self.failed = self.failed or (name, self._where())
            raise
        self._measure(name, (args, kwargs), result)
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

    def _kept(self, at: Any) -> Tensor | None:
        """For positions of all tokens, who was chosen."""
        known = self._rows.get(id(at))
        return None if known is None else known[1]

    def _written(self, name: str, args: Any, kwargs: Mapping[str, Any]) -> Any:
        """What a write, or a selection by a mask, gives where all tokens are found; None for any other call."""
        try:
            if name == "__setitem__":
                return self._put(*args)
            if name.rstrip("_") in OPERANDS and len(args) + len(kwargs) > 3 - (name.rstrip("_") == "index_put"):
                return written(name, args, kwargs, self._kept)
        except NotImplementedError:
            raise TensorProgError(
                f"`{name}` in `{self._where() or 'the model'}` writes to tokens that are chosen by their values",
                why="all tokens are computed where some are chosen, and this way of writing is not followed",
                fix="`out[chosen] = values`, or every expert on all tokens, times its weight",
            ) from None
        if name in MASKED and len(args) > 1 and self._selects(args[1]):
            self.used = True
            x, mask = torch.broadcast_tensors(*args[:2])
            if name == "masked_select":
                return x.reshape(-1)
            if args[2].numel() == x.numel():
                found = torch.where(mask, args[2].reshape(x.shape), x)
                return args[0].copy_(found) if name.endswith("_") else found
        return None

    def _put(self, x: Tensor, at: Any, value: Any) -> Tensor | None:
        """`x[at] = value` where `at` depends on a parameter and is a mask, or positions that were chosen."""
        parts = list(at) if isinstance(at, tuple) else [at]
        while len(parts) > 1 and (parts[-1] is Ellipsis or (isinstance(parts[-1], slice) and parts[-1] == slice(None))):
            parts.pop()
        mask = parts[0]
        if len(parts) == 1 and isinstance(mask, torch.Tensor) and mask.dtype == torch.bool and self._live(mask):
            found = masked(x, mask, value)
            self.used = self.used or (found is not None and self._chooses(mask))
            return found
        if any(map(self._selects, parts)):
            parts = [i for part in parts for i in (self._found(part, True) if self._selects(part) else (part,))]
        return None if all(self._kept(i) is None for i in parts) else put(x, tuple(parts), value, False, self._kept)


def _whole(t: Any) -> bool:
    """Whether this is a tensor of whole numbers, or of yes and no."""
    return isinstance(t, torch.Tensor) and not t.is_floating_point() and not t.is_complex()
