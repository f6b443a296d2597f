"""The widths of a model that stands before us, from the shapes of its parameters; and the ratios that follow."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import torch

from tensorprog.dims import Dim
from tensorprog.errors import TensorProgError
from tensorprog.torch.changes import Changes

Module = Any
LARGEST = 1 << 40


def unwrapped(model: Module) -> Module:
    """The model inside of `torch.compile` and DistributedDataParallel."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if inner is None and type(model).__name__ in ("DistributedDataParallel", "DataParallel"):
            inner = model.module
        if inner is None:
            return model
        model = inner


def forget_compiled() -> None:
    """What `torch.compile` has compiled does not look for new hooks: it must be compiled again."""
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()


def parameters_by_change(changes: Changes, model: Module) -> dict[str, Any]:
    """Name in `changes` -> the parameter of the model. Raises TensorProgError unless they are the same names."""
    present = dict(model.named_parameters(remove_duplicate=False))
    known = {alias: p.name for p in changes.parameters for alias in (p.name, *p.aliases)}
    for name in present:
        if name not in known:
            raise TensorProgError(f"the model has a parameter `{name}`, which the derived one has not",
                                  why="a derivation holds for models that its builder makes",
                                  fix="derive from the builder that makes this model")  # fmt: skip
    for p in changes.parameters:
        if p.name not in present:
            raise TensorProgError(f"the model has no parameter `{p.name}`, which the derived one has",
                                  why="a derivation holds for models that its builder makes",
                                  fix="derive from the builder that makes this model")  # fmt: skip
        if any(present.get(alias, present[p.name]) is not present[p.name] for alias in p.aliases):
            raise TensorProgError(f"`{p.name}` and `{p.aliases[0]}` are one tensor in the derived model, two in this",
                                  why="the uses of one tensor share one learning rate",
                                  fix="tie them before applying, or derive from an untied builder")  # fmt: skip
    tied: dict[int, str] = {}
    for p in changes.parameters:
        other = tied.setdefault(id(present[p.name]), p.name)
        if other != p.name:
            raise TensorProgError(f"`{other}` and `{p.name}` are one tensor in this model, two in the derived one",
                                  why="the uses of one tensor share one learning rate",
                                  fix="untie them, or derive from a tied builder")  # fmt: skip
    return {p.name: present[p.name] for p in changes.parameters}


def sizes_of(changes: Changes, model: Module) -> dict[str, int]:
    """Symbol -> its value in this model. Raises TensorProgError if the shapes fit no values."""
    found: dict[str, int] = {}
    equations = [(p.name, dim, int(size)) for p, tensor in zip(changes.parameters,
                 parameters_by_change(changes, model).values(), strict=True)
                 for dim, size in zip(p.shape, _shape(p.name, p.shape, tensor), strict=True)]  # fmt: skip
    progress = True
    while progress and len(found) < len(changes.symbols):
        progress = False
        for name, dim, size in equations:
            missing = dim.symbols - found.keys()
            if len(missing) == 1:
                (symbol,) = missing
                found[symbol] = _solve(name, dim, size, symbol, found)
                progress = True
    lost = [s for s in changes.symbols if s not in found]
    if lost:
        raise TensorProgError(f"no parameter's shape tells how large `{lost[0]}` is in this model",
                              why="the sizes of a model are read off its parameters",
                              fix="derive without that symbol, at one value of it")  # fmt: skip
    for name, dim, size in equations:
        if dim.evaluate(found) != size:
            raise TensorProgError(
                f"`{name}` has an axis of {size}; where {_text(found)} it would be {dim} = {dim.evaluate(found)}",
                why="the model is not one that the builder makes", fix="derive from the builder that makes this model",
            )  # fmt: skip
    return {s: found[s] for s in changes.symbols}


def base_sizes(changes: Changes, base: int | Mapping[str, int]) -> dict[str, int]:
    """The base value of every symbol. Raises TensorProgError for an unknown or missing symbol, or a size below 1."""
    given = dict(base) if isinstance(base, Mapping) else dict.fromkeys(changes.symbols, base)
    if set(given) != set(changes.symbols) or not all(isinstance(value, int) for value in given.values()):
        raise TensorProgError(f"the base needs a whole number for each of {', '.join(changes.symbols)}",
                              why="everything is relative to its value there",
                              fix="base={" + ", ".join(f'"{s}": 4' for s in changes.symbols) + "}")  # fmt: skip
    if any(value < 1 for value in given.values()):
        raise TensorProgError("a base width must be at least 1", why="it is the size of a network", fix="base=4")
    return given


def _shape(name: str, dims: tuple[Dim, ...], tensor: Any) -> tuple[int, ...]:
    shape = tuple(tensor.shape)
    if len(shape) != len(dims):
        raise TensorProgError(f"`{name}` has {len(shape)} axes in this model, {len(dims)} in the derived one",
                              why="a derivation holds for models that its builder makes",
                              fix="derive from the builder that makes this model")  # fmt: skip
    return shape


def _solve(name: str, dim: Dim, size: int, symbol: str, known: Mapping[str, int]) -> int:
    """The whole number at which an axis has its size (sizes grow with their symbols)."""
    low, high = 1, LARGEST
    while low < high:
        middle = (low + high) // 2
        if dim.evaluate({**known, symbol: middle}) < size:
            low = middle + 1
        else:
            high = middle
    if dim.evaluate({**known, symbol: low}) != size:
        raise TensorProgError(f"`{name}` has an axis of {size}, which is {dim} for no whole number `{symbol}`",
                              why="the model is not one that the builder makes",
                              fix="derive from the builder that makes this model")  # fmt: skip
    return low


def _text(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{s} = {v}" for s, v in sizes.items())
