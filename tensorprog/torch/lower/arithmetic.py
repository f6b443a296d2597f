"""Sums, products and scalings of values, with PyTorch's broadcasting."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from fractions import Fraction

from tensorprog.graph import Add, Axis, Const, Contract, InvRms, Merge, Node, Param, Scalar, Scale, Split
from tensorprog.norms import by_its_norm, minus_mean
from tensorprog.parameters import Unknown
from tensorprog.torch.lower.axes import Axes
from tensorprog.torch.lower.values import Atom, Complex, Group, Value


class Arithmetic(Axes):
    """Sums, products and scalings of values, with PyTorch's broadcasting."""

    def plain(self, value: Value) -> Value:
        """The value with its mask, if any, added to it."""
        if value.mask is None:
            return value
        mask = value.mask[0]
        return self.add([replace(value, mask=None), mask])

    def materialize(self, value: Value) -> Value:
        """The node's axes are exactly the tensor's, but for those of size 1."""
        value = self.plain(value)
        for dim in range(len(value.dims)):
            value = self.merge(value, dim)
        return self.transpose(value, [a.axis for a in value.atoms if a.axis is not None])

    def broadcast(self, values: Sequence[Value]) -> list[Value]:
        """The same number of axes, the same atoms along each (but for size 1)."""
        rank = max(len(v.dims) for v in values)
        result = [v.with_dims(((),) * (rank - len(v.dims)) + v.dims) for v in map(self.plain, values)]
        for dim in range(rank):
            for _ in range(3):
                for k in range(1, len(result)):
                    other = next((m for m in range(k) if result[m].dims[dim]), None)
                    if other is not None and result[k].dims[dim]:
                        result[other], result[k] = self.align(result[other], dim, result[k], dim)
        return result

    def scale(self, value: Value, scalar: Scalar) -> Value:
        """value * scalar; an unknown multiplier stays last, so that it sees all fixed ones before it."""
        if scalar == Scalar():
            return value
        value = self.use(self.plain(value), "scale")
        node = self.nodes[value.node]
        if isinstance(node.op, Scale):
            inner = node.op.scalar
            if not inner.unknowns:
                whole = inner * scalar
                target = node.args[0]
                if whole == Scalar():
                    return replace(value, node=target)
                return replace(value, node=self.emit(Scale(whole), (target,), node.axes))
            if inner.unknowns[0] in self.products:
                below = self.scale(replace(value, node=node.args[0]), scalar)
                return replace(value, node=self.emit(node.op, (below.node,), node.axes))
        return replace(value, node=self.emit(Scale(scalar), (value.node,), node.axes))

    def add(self, values: Sequence[Value]) -> Value:
        """Their sum, with broadcasting."""
        if len({isinstance(v, Complex) for v in values}) > 1:
            from tensorprog.torch.lower.complexes import as_complex

            values = [as_complex(self, v) for v in values]
        values = self._without_what_means_take(values)
        values = self.broadcast([self.use(self.plain(v), "add") for v in values])
        rank = len(values[0].dims)
        axes: list[Axis] = []
        dims: list[Group] = []
        places: list[dict[int, int]] = [{} for _ in values]
        for dim in range(rank):
            model = next((v.dims[dim] for v in values if v.dims[dim]), ())
            group: list[Atom] = []
            for k, atom in enumerate(model):
                own = [(m, v.dims[dim][k].axis) for m, v in enumerate(values) if v.dims[dim]]
                real = [(m, axis) for m, axis in own if axis is not None]
                group.append(Atom(atom.sizes, len(axes) if real else None))
                for m, axis in real:
                    places[m][axis] = len(axes)
                if real:
                    axes.append(self.axis(atom))
            dims.append(tuple(group))
        order = tuple(tuple(place[k] for k in range(len(place))) for place in places)
        node = self.emit(Add(order), tuple(v.node for v in values), tuple(axes))
        return (Complex if isinstance(values[0], Complex) else Value)(node, tuple(dims))

    def _without_what_means_take(self, values: Sequence[Value]) -> Sequence[Value]:
        """Of x + b - mean(x + b), with b alike along the axes of the mean (a bias in front of a batch norm): the same
        without b, which sizes alone would not cancel."""
        for minus in values:
            whole, axes = minus_mean(self.nodes, minus.node) or (None, ())
            x = next((v for v in values if v.node == whole and self._spread_over(axes, v, minus)), None)
            if whole is None or x is None:
                continue
            node = self.nodes[whole]
            places = node.op.places if isinstance(node.op, Add) else ()
            vary = [k for k, place in enumerate(places) if {*axes} & {*place}]
            if len(vary) < len(places):
                order, args = tuple(places[k] for k in vary), tuple(node.args[k] for k in vary)
                alone = order == (tuple(range(len(node.axes))),)
                made = {whole: args[0] if alone else self.emit(Add(order), args, node.axes)}
                below = [minus.node]
                while below[-1] != whole:
                    below.append(self.nodes[below[-1]].args[0])
                for k, source in zip(below[-2::-1], below[:0:-1], strict=True):
                    made[k] = self.emit(self.nodes[k].op, (made[source],), self.nodes[k].axes)
                values = [replace(v, node=made[v.node]) if v is x or v is minus else v for v in values]
                return self._without_what_means_take(values)  # there may be more
        return values

    def _spread_over(self, axes: tuple[int, ...], whole: Value, minus: Value) -> bool:
        """Whether a mean over these axes meets, in a sum with the whole, each entry in the place it was taken from."""
        kept = tuple(k for k in range(len(self.axes(whole))) if k not in axes)
        at, order = self.nodes[minus.node], tuple(range(len(self.axes(minus))))  # the axes of the mean in `minus`
        while isinstance(at.op, Add):
            order = tuple(order[k] for k in at.op.places[0])
            at = self.nodes[at.args[0]]
        ours, theirs = _strides(whole), _strides(minus)
        return [ours.get(k) for k in kept] == [theirs.get(k) for k in order]

    def constant_of(self, scalar: Scalar) -> Value:
        """A number as a tensor without axes."""
        one = Value(self.emit(Const(float(scalar.coefficient)), (), ()), ())
        return self.scale(one, Scalar(powers=scalar.powers)) if scalar.powers else one

    def shift(self, value: Value, scalar: Scalar) -> Value:
        """value + scalar."""
        return value if not scalar.coefficient else self.add([value, self.constant_of(scalar)])

    def mul(self, a: Value, b: Value) -> Value:
        """The elementwise product, with broadcasting. An unknown multiplier stays behind divisions and masks."""
        for x, y in ((a, b), (b, a)):
            node = self.nodes[x.node]
            if (y.node in self.inverted or self.constant[y.node]) and self._has_multiplier(node):
                assert isinstance(node.op, Scale)
                (name,) = node.op.scalar.unknowns
                divided = self.mul(replace(x, node=node.args[0]), y)
                self.products[name] = divided.node
                return replace(divided, node=self.emit(node.op, (divided.node,), self.axes(divided)))
        pairs = isinstance(a, Complex) or isinstance(b, Complex)
        if pairs:  # an axis more, also for what is real
            a, b = (v if isinstance(v, Complex) else v.with_dims((*v.dims, ())) for v in (a, b))
        for x, r in ((a, b), (b, a)):
            if (found := self._by_its_norm(x, r)) is not None:
                return self.scale(self.mul(*found[:2]), found[2])
        a, b = self.broadcast([self.use(self.plain(a), "mul"), self.use(self.plain(b), "mul")])
        dims = tuple(range(len(a.dims) - pairs))
        a, b = (v.with_dims(v.dims[:-1]) if pairs and not isinstance(v, Complex) else v for v in (a, b))
        return self.contract(a, dims, b, dims, dims)

    def _by_its_norm(self, x: Value, r: Value) -> tuple[Value, Value, Scalar] | None:
        """x / |x| of a product with a multiple of 1 / |x|, the number apart; a parameter is used there once. None for
        other products, and where it is that already."""
        scaled, scalar = self.nodes[r.node], Scalar()
        if isinstance(scaled.op, Scale) and not scaled.op.scalar.unknowns:
            r, scalar = replace(r, node=scaled.args[0]), scaled.op.scalar
        if not isinstance(self.nodes[r.node].op, InvRms):
            return None
        (normed,) = self.nodes[r.node].args
        if x.weight is not None and isinstance(self.nodes[normed].op, Scale) and self.nodes[normed].args == (x.node,):
            return replace(x, node=normed, weight=None), r, scalar
        return (x, r, scalar) if normed == x.node and scalar != Scalar() else None

    def contract(
        self, a: Value, left: Sequence[Hashable], b: Value, right: Sequence[Hashable], out: Sequence[Hashable]
    ) -> Value:
        """An einsum: one label per axis of the tensors; what is not in `out` is summed."""
        if isinstance(a, Complex) or isinstance(b, Complex):
            from tensorprog.torch.lower.complexes import complex_product

            return complex_product(self, a, left, b, right, out)
        a, b = self.plain(a), self.plain(b)
        for i, label in enumerate(left):
            if label in right:
                j = list(right).index(label)
                if a.dims[i] and b.dims[j]:
                    a, b = self.align(a, i, b, j)
        a, b = (self.use(v, ("contract", _summed(labels, v, out))) for v, labels in ((a, left), (b, right)))
        number: dict[tuple[Hashable, int], int] = {}
        first, second = (_indices(number, labels, v, len(self.axes(v))) for v, labels in ((a, left), (b, right)))
        groups: dict[Hashable, Group] = {}
        for labels, value in ((left, a), (right, b)):
            for label, group in zip(labels, value.dims, strict=True):
                groups[label] = groups.get(label) or group
        axes: list[Axis] = []
        order: list[int] = []
        dims: list[Group] = []
        for label in out:
            atoms: list[Atom] = []
            for k, atom in enumerate(groups.get(label, ())):
                index = number.get((label, k))
                atoms.append(Atom(atom.sizes, None if index is None else len(axes)))
                if index is not None:
                    order.append(index)
                    axes.append(self.axis(atom))
            dims.append(tuple(atoms))
        node = self.emit(Contract(first, second, tuple(order)), (a.node, b.node), tuple(axes))
        result = Value(node, tuple(dims))
        gone = [(label, k, atom) for label, group in groups.items() if label not in out for k, atom in enumerate(group)]
        if any((label, k) in number and self.dim(atom.sizes).grows for label, k, atom in gone) and (
            all(self._product(v.node) or self._normalised(v.node) for v in (a, b)) or self._own_state(a.node, b.node)
        ):
            result = self._multiplier(result)
        for label, k, atom in gone:
            if (label, k) not in number:  # the same all along what is summed
                result = self.scale(result, self.size_scalar(atom.sizes, Fraction(1)))
        return result

    def _has_multiplier(self, node: Node) -> bool:
        """Whether an unknown multiplier of a product stands here."""
        return isinstance(node.op, Scale) and any(u in self.products for u in node.op.scalar.unknowns)

    def _product(self, node: int) -> bool:
        """Whether a factor is an activation: neither data alone nor made of parameters alone."""
        return self.live[node] and not self.constant[node]

    def _own_state(self, a: int, b: int) -> bool:
        """Whether one factor is a state made of parameters alone (the query `W z` of a trained z), and the other one an
        activation with one of these (the key `W x`): as W is in both, its size cannot settle that of their product."""
        state, other = (b, a) if self.live[a] else (a, b)
        if self.live[state] or self.constant[state] or not self._product(other):
            return False
        made = self._sources(state)
        vectors = sum(axis.dim.grows for axis in self.nodes[state].axes) <= 1
        sums = any(self._sums_weights(self.nodes[k]) for k in made)
        shared = [k for k in made & self._sources(other) if isinstance(self.nodes[k].op, Param)]
        return vectors and sums and bool(shared)

    def _sums_weights(self, node: Node) -> bool:
        """Whether a product of two tensors is summed over an axis that grows."""
        if not isinstance(node.op, Contract) or node.op.right is None:
            return False
        axes = zip(node.op.left, self.nodes[node.args[0]].axes, strict=True)
        return node.args[0] != node.args[1] and any(i not in node.op.out and axis.dim.grows for i, axis in axes)

    def _sources(self, node: int) -> set[int]:
        """The nodes that a node is made of, itself among them."""
        found, pending = {node}, [node]
        while pending:
            new = {k for k in self.nodes[pending.pop()].args if k not in found}
            found |= new
            pending += new
        return found

    def _normalised(self, node: int) -> bool:
        """Whether a weight is divided by its own norm, up to relabelling and numbers: its start cannot set its size."""
        at = self.nodes[node]
        while isinstance(at.op, Scale | Split | Merge) or (isinstance(at.op, Contract) and at.op.right is None):
            at = self.nodes[at.args[0]]
        return by_its_norm(self.nodes, at) is not None

    def _multiplier(self, value: Value) -> Value:
        """An unknown multiplier behind a sum of products over an axis that grows, of activations or with a normalised
        weight."""
        name = next((u for u, node in self.products.items() if node == value.node), None)
        if name is None:
            prefix = f"{self.module}." if self.module else ""
            name = f"{prefix}{self.op}"
            count = sum(1 for u in self.products if u == name or u.startswith(f"{name}#"))
            name = name if not count else f"{name}#{count + 1}"
            self.products[name] = value.node
            self.unknowns[name] = Unknown(name)
            self.sites[name] = (self.module, self.place)
        return replace(value, node=self.emit(Scale(Scalar(unknowns=(name,))), (value.node,), self.axes(value)))


def _strides(value: Value) -> dict[int, tuple[int, tuple[int, ...]]]:
    """Where each axis of a node lies: the axis of the tensor, counted from its end, and the stride in it."""
    found: dict[int, tuple[int, tuple[int, ...]]] = {}
    for dim, group in enumerate(value.dims):
        for k, atom in enumerate(group):
            if atom.axis is not None:
                inner = [1] * len(atom.sizes)
                for other in group[k + 1 :]:
                    inner = [x * y for x, y in zip(inner, other.sizes, strict=True)]
                found[atom.axis] = dim - len(value.dims), tuple(inner)
    return found


def _summed(labels: Sequence[Hashable], value: Value, out: Sequence[Hashable]) -> tuple[int | None, ...]:
    """The axes of a node that are summed, however the tensor is turned: those of W in `W x`, in `y W` others."""
    gone = {a.axis for label, group in zip(labels, value.dims, strict=True) if label not in out for a in group}
    return tuple(sorted(gone, key=lambda axis: -1 if axis is None else axis))


def _indices(
    number: dict[tuple[Hashable, int], int], labels: Sequence[Hashable], value: Value, rank: int
) -> tuple[int, ...]:
    """The index numbers of a node's axes, from the labels of the tensor's."""
    own = [-1] * rank
    for label, group in zip(labels, value.dims, strict=True):
        for k, atom in enumerate(group):
            if atom.axis is not None:
                own[atom.axis] = number.setdefault((label, k), len(number))
    return tuple(own)
