"""Data for training: what an architecture wants, where it comes from, and a clear refusal where they do not fit."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tensorprog.architecture import Architecture
from tensorprog.arrays import Array
from tensorprog.dims import BATCH_SYMBOL
from tensorprog.errors import TensorProgError
from tensorprog.graph import Input
from tensorprog.initial import target_classes, whole


@dataclass(frozen=True, slots=True)
class Slot:
    """One input or target of an architecture. kind: "real" | "tokens" | "classes" (a target for cross_entropy) |
    "target" (a real one). `shape`: of one example. `count`: integers lie below it (0: reals)."""

    name: str
    kind: str
    shape: tuple[int, ...]
    count: int = 0

    @property
    def is_target(self) -> bool:
        return self.kind in ("classes", "target")

    def __str__(self) -> str:
        shape = f"[{', '.join(map(str, self.shape))}]"
        what = f"integers below {self.count}" if self.count else "numbers"
        return f"the {'target' if self.is_target else 'input'} `{self.name}`: {what} of shape {shape}"


@dataclass(frozen=True, slots=True)
class Examples:
    """Independent examples: arrays [example, ...] by the names of the slots."""

    name: str
    arrays: Mapping[str, Array]

    def batch(self, rng: np.random.Generator, size: int) -> dict[str, Array]:
        """`size` examples, drawn with replacement."""
        rows = rng.integers(len(next(iter(self.arrays.values()))), size=size)
        return {name: array[rows] for name, array in self.arrays.items()}

    @property
    def id(self) -> str:
        return _fingerprint(self.arrays)


@dataclass(frozen=True, slots=True)
class Windows:
    """Pieces of one long sequence of integers: `tokens` of length `length`, `target` the same moved on by one."""

    name: str
    codes: Array
    tokens: str
    target: str
    length: int

    def batch(self, rng: np.random.Generator, size: int) -> dict[str, Array]:
        """`size` pieces that begin anywhere."""
        starts = rng.integers(len(self.codes) - self.length, size=(size, 1))
        piece = self.codes[starts + np.arange(self.length + 1)]
        return {self.tokens: piece[:, :-1], self.target: piece[:, 1:]}

    @property
    def id(self) -> str:
        return _fingerprint({f"{self.tokens} {self.target} {self.length}": self.codes})


Data = Examples | Windows
OTHER = "--data FILE.npz, or --data module:function, with arrays of that shape"


def _fingerprint(arrays: Mapping[str, Array]) -> str:
    """A hash of names, types, shapes and contents."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def slots(architecture: Architecture, sizes: Mapping[str, int]) -> tuple[Slot, ...]:
    """What the architecture wants of its data at these widths. Raises TensorProgError where a shape depends on them."""
    graph = architecture.graph
    classes = target_classes(graph, sizes)
    found = []
    for node in graph.nodes:
        if not isinstance(node.op, Input):
            continue
        axes = [axis for axis in node.axes if axis.dim.symbols != {BATCH_SYMBOL}]
        growing = next((str(a.dim) for a in axes if a.dim.symbols), None)
        if growing:
            raise TensorProgError(
                f"`{node.op.name}` has an axis of size {growing}",
                why="one set of data serves all widths, so its shape cannot depend on them",
                fix="`dim` instead of `width` for that axis",
            )
        shape = tuple(whole(axis.dim, sizes) for axis in axes)
        match node.op.kind:
            case "tokens":
                found.append(Slot(node.op.name, "tokens", shape[:-1], shape[-1]))
            case "target":
                count = classes.get(node.id, 0)
                found.append(Slot(node.op.name, "classes" if count else "target", shape, count))
            case _:
                found.append(Slot(node.op.name, "real", shape))
    return tuple(found)


def fitted(name: str, wanted: tuple[Slot, ...], arrays: Mapping[str, Array], file: str) -> Examples:
    """Arrays held against the slots: names, number of examples, shapes, ranges. Raises TensorProgError."""
    inputs, targets = ([s for s in wanted if s.is_target is side] for side in (False, True))
    alias = {}
    if len(inputs) == 1 and len(targets) == 1:
        alias = {"inputs": inputs[0].name, "targets": targets[0].name}
    given = {alias.get(key, key): np.asarray(value) for key, value in arrays.items()}
    checked = {}
    for slot in wanted:
        if slot.name not in given:
            names = ", ".join(f"`{key}`" for key in arrays) or "none"
            other = next((f" (or `{a}`)" for a, b in alias.items() if b == slot.name), "")
            raise misfit(name, file, slot, f"it has the arrays {names}", fix=f"an array `{slot.name}`{other}")
        checked[slot.name] = _checked(name, file, slot, given[slot.name])
    lengths = {key: len(array) for key, array in checked.items()}
    if len(set(lengths.values())) != 1 or 0 in lengths.values():
        counts = ", ".join(f"{count} of `{key}`" for key, count in lengths.items())
        raise TensorProgError(f"the data `{name}` have {counts}", why="one row of each array makes an example",
                              fix="arrays of the same length")  # fmt: skip
    return Examples(name, checked)


def _checked(name: str, file: str, slot: Slot, array: Array) -> Array:
    if array.dtype.kind not in "fiub":
        raise misfit(name, file, slot, f"its array is of type {array.dtype}")
    if array.shape[1:] != slot.shape:
        raise misfit(name, file, slot, f"one of its examples has shape {list(array.shape[1:])}")
    if slot.count:
        if array.dtype.kind not in "iu":
            raise misfit(name, file, slot, f"its array is of type {array.dtype}")
        if array.size and (array.min() < 0 or array.max() >= slot.count):
            raise misfit(name, file, slot, f"its integers run from {array.min()} to {array.max()}")
        return array.astype(np.int64)
    if not np.all(np.isfinite(array)):
        raise misfit(name, file, slot, "it holds numbers that are not finite")
    return array.astype(np.float32)


def misfit(name: str, file: str, slot: Slot, has: str, *, fix: str = OTHER) -> TensorProgError:
    """The data and the architecture, both named."""
    return TensorProgError(f"the data `{name}` do not fit {file}", why=f"{file} wants {slot}; {has}", fix=fix)
