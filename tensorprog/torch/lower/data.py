"""Data: tensors that depend on no parameter (inputs, masks, tables), known by their values at every point."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tensorprog.arrays import rms
from tensorprog.dims import BATCH_SYMBOL, Dim
from tensorprog.exponents import Power
from tensorprog.graph import Axis, Input, Scalar
from tensorprog.torch.lower.nodes import scalar_of
from tensorprog.torch.lower.values import Atom, Complex, Group, Sizes, Value, is_one

if TYPE_CHECKING:
    from tensorprog.torch.lower import Lowering

BIG = 1e4  # from here on an additive entry is a mask
MASKED = -1e30


class Data:
    """The data operands of one lowering. `arrays`: input name -> its values at every point."""

    def __init__(self, low: Lowering) -> None:
        self.low = low
        self.arrays: dict[str, tuple[Any, ...]] = {}
        self._values: dict[object, Value] = {}
        self._names: dict[bytes, str] = {}
        self._numpy: dict[int, tuple[Any, ...]] = {}

    def at(self, value: int) -> tuple[Any, ...]:
        """The arrays of a recorded data value, one per point."""
        if value not in self._numpy:
            leaf = self.low.zipped.leaf(value)
            assert leaf is not None
            self._numpy[value] = tuple(as_numpy(x.tensor) for x in leaf)
        return self._numpy[value]

    def uniform(self, value: int) -> Scalar | None:
        """The number that fills a tensor, with its law; None if it is not uniform."""
        arrays = self.at(value)
        if any(
            a.size == 0 or a.dtype == bool or (a.dtype.kind == "c" and a.any()) or (a != a.flat[0]).any()
            for a in arrays
        ):
            return None
        numbers = [float(a.flat[0].real) for a in arrays]
        if not all(np.isfinite(numbers)):
            return scalar_of(MASKED) if all(n < 0 for n in numbers) else None
        law = self.low.laws.number(numbers) or self.low.laws.number(numbers, _rounding(numbers))
        return None if law is None else scalar_of(*law)

    def value(self, value: int) -> Value:
        """A data operand as an input of the graph."""
        if value not in self._values:
            leaf = self.low.zipped.leaf(value)
            assert leaf is not None
            arrays, name = self.at(value), leaf[0].name or "data"
            if arrays[0].dtype.kind == "c":
                pairs = self.real(tuple(np.stack([a.real, a.imag], -1) for a in arrays), name)
                self._values[value] = Complex(pairs.node, pairs.dims)
            else:
                self._values[value] = self._apart(arrays, name) or self.real(arrays, name)
        return self._values[value]

    def _apart(self, arrays: tuple[Any, ...], name: str) -> Value | None:
        """Data of which a growing range of an axis is one value, beside a finite range: the two parts, joined. So a
        recurrence on `cat([x, h])` starts, with h zero. None for other data."""
        for axis in range(arrays[0].ndim):
            sizes = tuple(a.shape[axis] for a in arrays)
            rest = self._finite_part(sizes)
            for before in (rest, *range(rest)) if rest else ():  # zeros may go on in what is beside them
                ends = [(before, before + size - rest) for size in sizes]
                found = zip(arrays, ends, strict=True)
                if all((_range(a, axis, *e) == _range(a, axis, e[0], e[0] + 1)).all() for a, e in found):
                    cuts = [[(0, e[0]) for e in ends], ends, [(e[1], s) for e, s in zip(ends, sizes, strict=True)]]
                    return self._joined(arrays, axis, cuts, sizes, name)
        return None

    def _finite_part(self, sizes: Sizes) -> int:
        """c where an axis has the size c + something that grows; else 0."""
        dim = self.low.dim(sizes)
        rest = dict(dim.terms).get((), 0)
        return int(rest) if dim.grows and rest > 0 and BATCH_SYMBOL not in dim.symbols else 0

    def _joined(
        self, arrays: tuple[Any, ...], axis: int, cuts: list[list[tuple[int, int]]], total: Sizes, name: str
    ) -> Value | None:
        """Ranges of an axis among zeros, added; what is zero is left out."""
        parts = []
        for ends in cuts:
            part = tuple(_range(a, axis, *e) for a, e in zip(arrays, ends, strict=True))
            if any(p.any() for p in part):
                parts.append(self.low.fold(self.real(part, name), axis, tuple(start for start, _ in ends), total))
        return self.low.add(parts) if parts else None

    def real(self, arrays: tuple[Any, ...], name: str = "data") -> Value:
        """An input of real numbers with these values; it does not have the axes along which it is the same."""
        arrays = tuple(a.astype(np.float64) for a in arrays)
        kept, dims = self._kept(arrays)
        thin = tuple(_reduce(a, kept) for a in arrays)
        power = self._size(thin, name)
        thin = tuple(a / self.low.laws.power_at(power, k) for k, a in enumerate(thin))
        axes = tuple(Axis(self.low.dim(tuple(a.shape[k] for a in arrays))) for k in kept)
        node = self.low.emit(Input(self._name(thin, name), "real"), (), axes)
        result = Value(node, dims)
        if power.exponents:
            result = self.low.scale(result, Scalar(powers=tuple((Dim.of(s), e) for s, e in power.exponents)))
        return result

    def tokens(self, arrays: tuple[Any, ...], vocabulary: Sizes, name: str) -> Value:
        """Integers as one-hot rows: a last axis of the tensor, the vocabulary, is added."""
        arrays = tuple(a.astype(np.int64) for a in arrays)
        arrays = tuple(np.where(a < 0, a + vocabulary[k], a) for k, a in enumerate(arrays))
        kept, dims = self._kept(arrays)
        thin = tuple(_reduce(a, kept) for a in arrays)
        axes = [Axis(self.low.dim(tuple(a.shape[k] for a in arrays))) for k in kept]
        axes.append(Axis(self.low.dim(vocabulary)))
        node = self.low.emit(Input(self._name(thin, name), "tokens"), (), tuple(axes))
        return Value(node, (*dims, (Atom(vocabulary, len(kept)),)))

    def target(self, arrays: tuple[Any, ...], axes: tuple[Axis, ...], name: str) -> int:
        """The node of a loss's target, with just these axes."""
        points = self.low.laws.points
        arrays = tuple(a.reshape([int(x.dim.evaluate(p)) for x in axes]) for a, p in zip(arrays, points, strict=True))
        return self.low.emit(Input(self._name(arrays, name), "target"), (), axes)

    def _kept(self, arrays: tuple[Any, ...]) -> tuple[list[int], tuple[Group, ...]]:
        """The axes along which the values differ, and the groups of all axes."""
        kept: list[int] = []
        dims: list[Group] = []
        for k in range(arrays[0].ndim):
            sizes = tuple(a.shape[k] for a in arrays)
            if is_one(sizes):
                dims.append(())
            elif all((a == np.take(a, [0], axis=k)).all() for a in arrays):
                dims.append((Atom(sizes, None),))
            else:
                dims.append((Atom(sizes, len(kept)),))
                kept.append(k)
        return kept, tuple(dims)

    def _size(self, arrays: tuple[Any, ...], name: str) -> Power:
        """How the typical entry scales: the power nearest to its trend, 1 for tables that have none."""
        sizes = [rms(a[np.isfinite(a) & (np.abs(a) < -MASKED)]) for a in arrays]
        if not all(sizes) or not all(np.isfinite(sizes)):
            return Power()
        exact = self.low.laws.number(sizes)
        if exact is not None:
            return exact[1]
        trend = self.low.laws.trend(sizes)
        if trend is None and self.low.laws.erratic(sizes):
            self.low.notes.append(f"the data `{name}` follow no law in size ({', '.join(f'{r:.3g}' for r in sizes)}): "
                                  "taken to be of order 1")  # fmt: skip
            return Power()
        if trend is None:
            self.low.refuse(f"the data `{name}` follow no law in size: {', '.join(f'{r:.3g}' for r in sizes)}",
                            "data whose typical entry is a power of the sizes")  # fmt: skip
        return trend

    def _name(self, arrays: tuple[Any, ...], wish: str) -> str:
        """A name for these values; equal values have one name."""
        key = b"|".join(repr((a.shape, a.dtype.str)).encode() + a.tobytes() for a in arrays)
        if key not in self._names:
            base = wish.replace(".", "_")
            taken = set(self._names.values())
            name, count = base, 1
            while name in taken:
                count += 1
                name = f"{base}{count}"
            self._names[key] = name
            self.arrays[name] = arrays
        return self._names[key]


def _range(array: Any, axis: int, start: int, stop: int) -> Any:
    return array[(slice(None),) * axis + (slice(start, stop),)]


def _reduce(array: Any, kept: list[int]) -> Any:
    index = tuple(slice(None) if k in kept else 0 for k in range(array.ndim))
    return np.where(np.isneginf(array[index]), MASKED, array[index]) if array.dtype.kind == "f" else array[index]


def _rounding(numbers: list[float]) -> float:
    """The relative error of numbers that have been through bfloat16 or float16, which all their digits tell."""
    import torch

    exact = torch.tensor(numbers, dtype=torch.float64)
    kinds = (torch.bfloat16, torch.float16)
    return max((torch.finfo(kind).eps for kind in kinds if (exact.to(kind).double() == exact).all()), default=0.0)


def as_numpy(tensor: Any) -> Any:
    """A tensor as an array; low precision becomes float32."""
    tensor = tensor.detach().cpu()
    if tensor.dtype.is_floating_point and tensor.element_size() < 4:
        tensor = tensor.float()
    return tensor.numpy()
