"""Loops over a symbolic depth: where in a graph the layers are, and what they carry."""

from __future__ import annotations

from dataclasses import dataclass, field

from tensorprog.graph import Axis
from tensorprog.syntax import NOWHERE, Span


@dataclass(frozen=True, slots=True)
class Stream:
    """A tensor that a loop carries from layer to layer. `path`: its nodes within a layer, the last is its value before
    the layer. `increment`: the node of what the layer adds to it. `unit`: it stands for one that is normalised between
    the layers, and does so while it is Theta(1) (postnorm.py)."""

    path: tuple[int, ...]
    increment: int
    unit: bool = False


@dataclass(frozen=True, slots=True)
class LayerLoop:
    """A `repeat` over a symbolic depth. `prefix`: in front of the names inside (`layers.*.`). `streams`: for every
    tensor that it carries from layer to layer, where it is. `strange`: nodes that stand for nothing in the network
    (`postnorm.as_prenorm`). `around`: the number of the loop that it stands in; 0: of none."""

    prefix: str
    axis: Axis
    span: Span = field(default=NOWHERE, compare=False)
    streams: tuple[Stream, ...] = ()
    strange: frozenset[int] = frozenset()
    around: int = 0
