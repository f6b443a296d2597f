"""The closed set of node kinds, and the flat graph made of them.

One node computes one tensor. Every semantic (size, derivative, NumPy, PyTorch) is one `match` over `Op`. Axes are
positional; index numbers inside `Contract` are local to that node. The batch axis is an ordinary finite axis (dim
`batch`), always first where present. What is legal: see legality.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING

from tensorprog.dims import Dim
from tensorprog.scalar import Scalar as Scalar  # one place for those who read a graph
from tensorprog.syntax import NOWHERE, Span

if TYPE_CHECKING:
    from tensorprog.loops import LayerLoop
    from tensorprog.parameters import Parameter, Unknown


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a tensor: its size, and the index name it was written with (for people only). `loop` k > 0: it
    counts the layers of the k-th symbolic loop (see `Accumulate`)."""

    dim: Dim
    label: str = field(default="", compare=False)
    loop: int = 0


# --- node kinds -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Input:
    """Data. kind "real": standard normal entries. kind "tokens": integers, seen by the graph as one-hot rows
    (last axis = vocabulary). kind "target": what a loss compares with (class indices or reals), no gradient."""

    name: str
    kind: str = "real"


@dataclass(frozen=True, slots=True)
class Param:
    """The raw value w of parameter `name` (before any multiplier)."""

    name: str


@dataclass(frozen=True, slots=True)
class Const:
    """A tensor filled with one number; its axes are the node's."""

    value: float


@dataclass(frozen=True, slots=True)
class Contract:
    """out[out] = sum over indices not in out of left[left] * right[right]; unary if right is None.

    Indices are small integers, none repeated within one tuple; every index in `out` occurs in an operand.
    Matrix and outer products, elementwise products, sums over axes and transpositions are all this.
    """

    left: tuple[int, ...]
    right: tuple[int, ...] | None
    out: tuple[int, ...]

    @property
    def summed(self) -> frozenset[int]:
        """The indices that are summed."""
        return frozenset((*self.left, *(self.right or ()))) - frozenset(self.out)


@dataclass(frozen=True, slots=True)
class Add:
    """Sum of the operands with broadcasting: `places[k][a]` is the output axis of operand k's axis a."""

    places: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Scale:
    """Multiplication by a scalar (which may hold unknown multipliers and powers of sizes)."""

    scalar: Scalar


@dataclass(frozen=True, slots=True)
class Map:
    """Elementwise: the `derivative`-th derivative of function `fn` (see functions.py)."""

    fn: str
    derivative: int = 0


@dataclass(frozen=True, slots=True)
class InvRms:
    """(mean over `axes` of x^2 + eps)^(-1/2); those axes disappear."""

    axes: tuple[int, ...]
    eps: float = 1e-5


@dataclass(frozen=True, slots=True)
class Softmax:
    """Along `axis`. `mask` = (key_axis, op, query_axis): positions where `key op query` fails get weight 0."""

    axis: int
    mask: tuple[int, str, int] | None = None


@dataclass(frozen=True, slots=True)
class SoftmaxGrad:
    """Operands (y, dy): y * (dy - sum over axis of y dy), the derivative of Softmax. Sums to zero along axis."""

    axis: int


@dataclass(frozen=True, slots=True)
class TopK:
    """0/1 mask of the k largest entries along `axis` (ties: lowest position first). No gradient."""

    axis: int
    k: int


@dataclass(frozen=True, slots=True)
class Split:
    """Axis `axis` becomes `count` axes (row-major, first slowest); their sizes are the node's axes."""

    axis: int
    count: int


@dataclass(frozen=True, slots=True)
class Merge:
    """Axes axis .. axis+count-1 become one (row-major). Adjoint of Split."""

    axis: int
    count: int


@dataclass(frozen=True, slots=True)
class Window:
    """y[.., u, a, ..] = x[.., stride*u + dilation*a + offset, ..], zero outside.

    Axis `axis` of x becomes two axes (u, a) in its place, or only u if not `taps`: slices, shifts, strides,
    convolution windows and (via a full-size zero border) padding.
    """

    axis: int
    stride: int = 1
    dilation: int = 1
    offset: Dim = Dim(())
    taps: bool = False


@dataclass(frozen=True, slots=True)
class Fold:
    """The adjoint of the Window with the same fields: scatters (u, a) back and adds. Also transposed
    convolution (after a Contract) and zero-padding, so that concatenation is an Add of Folds."""

    axis: int
    stride: int = 1
    dilation: int = 1
    offset: Dim = Dim(())
    taps: bool = False


@dataclass(frozen=True, slots=True)
class StopGrad:
    """The identity, whose derivative is zero."""


@dataclass(frozen=True, slots=True)
class Accumulate:
    """y[.., l] = sum over k < l of x[.., k] along the last axis, which counts layers (`reverse`: over k > l).

    The stream of a residual stack before layer l. What it sums is computed from it, layer by layer, so that its
    operand may stand behind it: the only node kind that refers forward. Graphs that hold it are analysed; trained
    are those whose loops were unrolled."""

    reverse: bool = False


@dataclass(frozen=True, slots=True)
class Loss:
    """Operands (x, target) -> scalar, averaged over all leading axes. kind: cross_entropy (target: class
    index over the last axis) | mse (mean over all entries of (x - target)^2 / 2) | mean (of x; no target)."""

    kind: str


@dataclass(frozen=True, slots=True)
class LossGrad:
    """Operands (x, target) -> dLoss/dx."""

    kind: str


@dataclass(frozen=True, slots=True)
class Update:
    """Operand: the gradient of parameter `param`. The optimizer's step, to be added to the parameter."""

    param: str


Op = (
    Input | Param | Const | Contract | Add | Scale | Map | InvRms | Softmax | SoftmaxGrad | TopK | Split | Merge
    | Window | Fold | StopGrad | Accumulate | Loss | LossGrad | Update
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Node:
    """Tensor number `id` (its position in the graph), computed by `op` from earlier tensors `args`.

    `name`: as the user wrote it, with the path of the block use in front (`layers.0.attention.scores`), or ""
    for intermediate results of one line, whose `label` describes them.
    """

    id: int
    op: Op
    args: tuple[int, ...]
    axes: tuple[Axis, ...]
    name: str = ""
    span: Span = field(default=NOWHERE, compare=False)


def unscaled(nodes: Sequence[Node], node: int) -> int:
    """What a node is a multiple of: below all its Scale nodes; else itself."""
    while isinstance(nodes[node].op, Scale):
        node = nodes[node].args[0]
    return node


def readers(nodes: Sequence[Node]) -> list[list[int]]:
    """What reads each node, in order, each once."""
    found: list[list[int]] = [[] for _ in nodes]
    for node in nodes:
        for a in dict.fromkeys(node.args):
            found[a].append(node.id)
    return found


def reached(nodes: Sequence[Node], roots: Iterable[int], stops: tuple[type, ...] = ()) -> set[int]:
    """The nodes that these are computed from, and they themselves; not through ops of the kinds `stops`."""
    seen = set(roots)
    todo = list(seen)
    while todo:
        node = nodes[todo.pop()]
        new = [a for a in node.args if a not in seen and not isinstance(node.op, stops)]
        seen.update(new)
        todo += new
    return seen


@dataclass(frozen=True, slots=True)
class Graph:
    """The forward pass, in order of computation.

    `outputs`: (name, node). `loss`: the scalar node. `depths`: symbols that were unrolled, with the count used.
    `loops`: the symbolic loops, the k-th of which owns the axes with `loop` k.
    """

    nodes: tuple[Node, ...]
    parameters: dict[str, Parameter]
    unknowns: dict[str, Unknown]
    outputs: tuple[tuple[str, int], ...]
    loss: int
    widths: tuple[str, ...]
    depths: tuple[tuple[str, int], ...] = ()
    optimizer: str | None = None
    optimizer_options: tuple[tuple[str, Fraction], ...] = ()
    name: str = "model"
    loops: tuple[LayerLoop, ...] = ()


@dataclass(frozen=True, slots=True)
class Program:
    """Forward, backward and update nodes of one training step, in order; the first len(forward.nodes) nodes
    are the forward graph's. `grads` and `updates`: parameter -> node (absent: no path to the loss).
    `cotangents`: forward node -> the node of the gradient with respect to it."""

    forward: Graph
    nodes: tuple[Node, ...]
    grads: dict[str, int]
    updates: dict[str, int]
    cotangents: dict[int, int] = field(default_factory=dict)
