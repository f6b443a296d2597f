"""Writes to the tokens that are chosen by their values, where all tokens are found: what is not chosen stays as it was.

See `routed`. `kept(at)`: for the positions of all tokens, who was chosen (None for other positions). A write over them
is then the addition of (new - old) times who was chosen, since the same place may be found twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

Tensor = Any
Kept = Callable[[Any], Tensor | None]
OPERANDS = {
    "index_add": ("self", "dim", "index", "source"),
    "index_copy": ("self", "dim", "index", "source"),
    "index_put": ("self", "indices", "values", "accumulate"),
    "scatter_add": ("self", "dim", "index", "src"),
    "scatter": ("self", "dim", "index", "src", "reduce"),
    "scatter_reduce": ("self", "dim", "index", "src", "reduce"),
    "index_reduce": ("self", "dim", "index", "source", "reduce"),
    "index_fill": ("self", "dim", "index", "value"),
}


def written(name: str, args: Any, kwargs: Mapping[str, Any], kept: Kept) -> Any:
    """The result of a call of this name (in place if it ends in _), or None if it does not write to chosen positions.

    Raises NotImplementedError where it writes in a way that is not followed.
    """
    pure = name.rstrip("_")
    given = dict(zip(OPERANDS[pure], args, strict=False)) | {
        "self" if k == "input" else k: v for k, v in kwargs.items()
    }
    x, dim = given["self"], given.get("dim", 0)
    at = given["indices"] if pure == "index_put" else given["index"]
    if all(kept(i) is None for i in (at if pure == "index_put" else (at,))):
        return None
    target = x if name.endswith("_") else x.clone()
    if pure == "index_put":
        return put(target, tuple(at), given["values"], bool(given.get("accumulate")), kept)
    if pure in ("index_add", "index_copy"):
        new = given["source"] if pure == "index_add" else given["source"] - x.index_select(dim, at)
        return target.index_add_(dim, at, new * _along(kept(at), new, dim), alpha=given.get("alpha", 1))
    if pure in ("scatter_add", "scatter") and given.get("reduce") is None:
        new = given["src"] if "src" in given else given["value"]
        if isinstance(new, torch.Tensor) and new.dim():
            new = new[tuple(slice(n) for n in at.shape)]
        new = new if pure == "scatter_add" else new - x.gather(dim, at)
        return target.scatter_add_(dim, at, new * _along(kept(at), new, 0))
    raise NotImplementedError(name)


def put(x: Tensor, at: tuple[Any, ...], value: Any, accumulate: bool, kept: Kept) -> Tensor:
    """`x[at] = value`, or `x[at] += value` for every position, in place."""
    if not all(isinstance(i, torch.Tensor | int) for i in at):
        raise NotImplementedError("__setitem__")
    at = tuple(torch.tensor(i) if isinstance(i, int) else i for i in at)
    new = value if accumulate else value - x[at]
    for i in at:
        chosen = kept(i)
        new = new if chosen is None else new * _along(chosen, new, 0)
    return x.index_put_(at, new, accumulate=True)


def masked(x: Tensor, mask: Tensor, value: Any) -> Tensor | None:
    """`x[mask] = value`, in place, of one value for all entries, or of one for each whether chosen or not; None for
    other values."""
    rest, found = x.dim() - mask.dim(), value
    if isinstance(value, torch.Tensor) and value.dim() > rest:
        if value.dim() == rest + 1 and len(value) == mask.numel():
            found = value.reshape(*mask.shape, *value.shape[1:])
        elif value.dim() > rest + 1 or len(value) != 1:
            return None
    return x.copy_(torch.where(mask.reshape(*mask.shape, *(1,) * rest), found, x))


def _along(chosen: Tensor | None, new: Tensor, dim: int) -> Tensor:
    assert chosen is not None
    return chosen.to(new.dtype).reshape([-1 if k == dim % new.dim() else 1 for k in range(new.dim())])
