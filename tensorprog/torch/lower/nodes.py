"""The nodes of a graph under construction: made once, named, refused with the place in the model."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import NoReturn

from tensorprog.dims import BATCH_SYMBOL, Dim
from tensorprog.errors import TensorProgError
from tensorprog.exponents import Power
from tensorprog.graph import Axis, Const, Contract, Node, Op, Param, Scalar, Scale, reached
from tensorprog.parameters import Parameter, Unknown
from tensorprog.torch.laws import Laws
from tensorprog.torch.lower.values import Atom, Group, Sizes, Value, is_one

OWN_RULE = "other operations, or a rule of your own (`@tpt.rule`)"


def scalar_of(coefficient: float, power: Power | None = None) -> Scalar:
    """A number as the graph keeps it; a coefficient that is a simple fraction up to rounding becomes that."""
    exact = Fraction(coefficient)
    simple = exact.limit_denominator(10**6)
    if abs(float(simple) - coefficient) <= 1e-13 * abs(coefficient):
        exact = simple
    return Scalar(exact, tuple((Dim.of(s), e) for s, e in (power or Power()).exponents))


def renumbered(nodes: Sequence[Node], roots: Iterable[int]) -> tuple[list[Node], dict[int, int]]:
    """The nodes that these are computed from, and old number -> new."""
    wanted = reached(nodes, roots)
    place: dict[int, int] = {}
    kept: list[Node] = []
    for old in nodes:
        if old.id in wanted:
            place[old.id] = len(kept)
            kept.append(replace(old, id=len(kept), args=tuple(place[a] for a in old.args)))
    return kept, place


class Nodes:
    """The nodes so far. `module`, `op` and `place`: what is being lowered, for names and messages."""

    def __init__(self, laws: Laws) -> None:
        self.laws = laws
        self.points = len(laws.points)
        self.nodes: list[Node] = []
        self.parameters: dict[str, Parameter] = {}
        self.unknowns: dict[str, Unknown] = {}
        self.live: list[bool] = []  # per node: made of activations or data, not of parameters (and masks) alone
        self.constant: list[bool] = []  # per node: made of no parameter
        self.inverse: dict[int, tuple[int, tuple[int, ...]]] = {}  # node -> the node 1 / it, and its axes there
        self.notes: list[str] = []  # what was assumed
        self.inverted: set[int] = set()  # the nodes that are 1 / something
        self.products: dict[str, int] = {}  # multiplier at a product of activations -> the product's node
        self.sites: dict[str, tuple[str, int]] = {}  # multiplier -> module, place
        self.module, self.place, self.op = "", 0, ""
        self._known: dict[object, int] = {}
        self._uses: dict[tuple[str, Hashable], str] = {}

    def refuse(self, why: str, fix: str = OWN_RULE) -> NoReturn:
        """Raises the error that names the operation and the module."""
        place = f"`{self.module}`" if self.module else "the model itself"
        raise TensorProgError(f"`aten.{self.op}` in {place} is not covered", why=why, fix=fix)

    def emit(self, op: Op, args: tuple[int, ...], axes: tuple[Axis, ...]) -> int:
        """The node of this operation; an equal one is used again."""
        key = (op, args, tuple(a.dim for a in axes))
        if key not in self._known:
            self._known[key] = len(self.nodes)
            self.nodes.append(Node(len(self.nodes), op, args, axes))
            self.constant.append(not isinstance(op, Param) and all(self.constant[a] for a in args))
            data = not args and not isinstance(op, Param | Const)
            self.live.append(data or (any(self.live[a] for a in args) and not self._masks(op, args)))
        return self._known[key]

    def _masks(self, op: Op, args: tuple[int, ...]) -> bool:
        """Whether a product is a weight times fixed data of the same axes, without the batch: still a weight."""
        if not isinstance(op, Contract) or op.right is None or len(op.out) < 2:
            return False
        return any(not self.live[w] and not self.constant[w] and self.constant[mask] and sorted(own) == sorted(op.out)
                   and not any(BATCH_SYMBOL in a.dim.symbols for a in self.nodes[mask].axes)
                   for w, own, mask in zip(args, (op.left, op.right), args[::-1], strict=True))  # fmt: skip

    def dim(self, sizes: Sizes) -> Dim:
        """The law of a size."""
        dim = self.laws.dim(sizes)
        if dim is None:
            self.refuse(f"a size follows no law: {', '.join(map(str, sizes))} at the widths traced",
                        "larger `widths`, at which nothing is rounded")  # fmt: skip
        return dim

    def axis(self, atom: Atom) -> Axis:
        return Axis(self.dim(atom.sizes))

    def axes(self, value: Value) -> tuple[Axis, ...]:
        return self.nodes[value.node].axes

    def fresh(self, node: int, sizes: Sequence[Sizes]) -> Value:
        """A value whose node has just these axes (those of size 1 left out)."""
        dims: list[Group] = []
        position = 0
        for s in sizes:
            if is_one(s):
                dims.append(())
            else:
                dims.append((Atom(s, position),))
                position += 1
        return Value(node, tuple(dims))

    def size_scalar(self, sizes: Sizes, power: Fraction) -> Scalar:
        """size^power."""
        return Scalar.size(self.dim(sizes), power)

    def use(self, value: Value, key: Hashable) -> Value:
        """A parameter at the place where it is used: behind its multiplier there. `key`: uses in one module that are
        alike share one."""
        if value.weight is None:
            return value
        name = self._uses.get((value.weight, (self.module, key)))
        if name is None:
            count = sum(1 for u in self.unknowns.values() if u.kind == "use" and u.param == value.weight)
            name = f"{value.weight}@{count + 1}"
            self._uses[value.weight, (self.module, key)] = name
            self.unknowns[name] = Unknown(name, kind="use", param=value.weight)
            self.sites[name] = (self.module, self.place)
        node = self.emit(Scale(Scalar(unknowns=(name,))), (value.node,), self.axes(value))
        return replace(value, node=node, weight=None)

    def name(self, node: int, name: str) -> None:
        """What people call this node, unless it has a name."""
        old = self.nodes[node]
        if not old.name:
            self.nodes[node] = replace(old, name=name)
