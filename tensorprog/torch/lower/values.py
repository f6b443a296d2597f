"""What a recorded tensor is in the graph: a node, and how its axes make up the tensor's axes.

An axis of a PyTorch tensor is a row-major group of atoms. An atom is an axis of the node, or one along which the node
does not vary (`axis` None). So transposing, merging, expanding and inserting axes of size 1 need no node, and a
reshape needs one only where it splits an axis.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

Sizes = tuple[int, ...]  # of one axis, at every point at which the model was run


@dataclass(frozen=True, slots=True)
class Atom:
    """`sizes` at every point; `axis`: of the node, None if the tensor is the same all along it."""

    sizes: Sizes
    axis: int | None


Group = tuple[Atom, ...]


@dataclass(frozen=True, slots=True)
class Value:
    """`dims`: one group per axis of the tensor, empty for size 1. `weight`: the parameter that this is, relabelled,
    and not yet used. `mask`: to be added before a softmax: None, or (additive mask, whether it is the causal one)."""

    node: int
    dims: tuple[Group, ...]
    weight: str | None = None
    mask: tuple[Value, bool] | None = None

    @property
    def atoms(self) -> Group:
        """All atoms, row-major."""
        return tuple(atom for group in self.dims for atom in group)

    def sizes(self, dim: int, points: int) -> Sizes:
        """The size of one axis at every point."""
        result = (1,) * points
        for atom in self.dims[dim]:
            result = times(result, atom.sizes)
        return result

    def with_dims(self, dims: tuple[Group, ...]) -> Value:
        return replace(self, dims=dims)


class Complex(Value):
    """Complex numbers as pairs (real, imaginary): the last axis is not one of the tensor's."""


def times(a: Sizes, b: Sizes) -> Sizes:
    return tuple(x * y for x, y in zip(a, b, strict=True))


def divide(a: Sizes, b: Sizes) -> Sizes | None:
    """a / b where that is a whole number at every point."""
    if any(y == 0 or x % y for x, y in zip(a, b, strict=True)):
        return None
    return tuple(x // y for x, y in zip(a, b, strict=True))


def is_one(a: Sizes) -> bool:
    return all(x == 1 for x in a)
