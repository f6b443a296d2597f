"""Values whose axes are regrouped: one axis as several, several as one, two values with the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tensorprog.dims import ONE
from tensorprog.graph import Axis, Const, Contract, Merge, Split
from tensorprog.torch.lower.nodes import Nodes
from tensorprog.torch.lower.values import Atom, Group, Sizes, Value, divide, is_one, times


class Axes(Nodes):
    """Values whose axes are regrouped: one axis as several, several as one, two values with the same."""

    def split(self, value: Value, dim: int, at: int, first: Sizes) -> Value:
        """Atom number `at` of an axis as (first, rest)."""
        group = value.dims[dim]
        atom = group[at]
        rest = divide(atom.sizes, first)
        assert rest is not None
        if atom.axis is None:
            return self._regroup(value, dim, at, (Atom(first, None), Atom(rest, None)))
        axis = atom.axis
        axes = self.axes(value)
        new = (*axes[:axis], Axis(self.dim(first)), Axis(self.dim(rest)), *axes[axis + 1 :])
        node = self.emit(Split(axis, 2), (value.node,), new)

        def moved(a: Atom) -> Atom:
            return replace(a, axis=a.axis + 1) if a.axis is not None and a.axis > axis else a

        dims = tuple(tuple(moved(a) for a in g) for g in value.dims)
        value = replace(value, node=node, dims=dims)
        return self._regroup(value, dim, at, (Atom(first, axis), Atom(rest, axis + 1)))

    @staticmethod
    def _regroup(value: Value, dim: int, at: int, atoms: Group) -> Value:
        group = value.dims[dim]
        new = (*group[:at], *atoms, *group[at + 1 :])
        return value.with_dims((*value.dims[:dim], new, *value.dims[dim + 1 :]))

    def spread(self, value: Value, dim: int) -> Value:
        """All atoms of an axis as axes of the node."""
        for k, atom in enumerate(value.dims[dim]):
            if atom.axis is None:
                axes = self.axes(value)
                new = (*axes, self.axis(atom))
                op = Contract(tuple(range(len(axes))), (len(axes),), tuple(range(len(new))))
                ones = self.emit(Const(1.0), (), (new[-1],))
                value = replace(value, node=self.emit(op, (value.node, ones), new))
                value = self._regroup(value, dim, k, (Atom(atom.sizes, len(axes)),))
        return value

    def merge(self, value: Value, dim: int) -> Value:
        """An axis as a single axis of the node."""
        value = self.spread(value, dim)
        group = value.dims[dim]
        if len(group) <= 1:
            return value
        wanted = [a.axis for a in group]
        assert all(axis is not None for axis in wanted)
        start = wanted[0]
        assert start is not None
        if wanted != list(range(start, start + len(wanted))):
            rank = len(self.axes(value))
            others = [k for k in range(rank) if k not in wanted]
            before = sum(1 for k in others if k < start)
            order = [*others[:before], *(w for w in wanted if w is not None), *others[before:]]
            value = self.transpose(value, order)
            start = before
        axes = self.axes(value)
        total = (1,) * self.points
        for a in group:
            total = times(total, a.sizes)
        count = len(group)
        new = (*axes[:start], Axis(self.dim(total)), *axes[start + count :])
        node = self.emit(Merge(start, count), (value.node,), new)

        def moved(a: Atom) -> Atom:
            return replace(a, axis=a.axis - count + 1) if a.axis is not None and a.axis > start else a

        dims = [tuple(moved(a) for a in g) for g in value.dims]
        dims[dim] = (Atom(total, start),)
        return replace(value, node=node, dims=tuple(dims))

    def transpose(self, value: Value, order: Sequence[int]) -> Value:
        """The node's axes in another order (the tensor's stay)."""
        if list(order) == list(range(len(order))):
            return value
        axes = self.axes(value)
        op = Contract(tuple(range(len(axes))), None, tuple(order))
        node = self.emit(op, (value.node,), tuple(axes[k] for k in order))
        place = {old: new for new, old in enumerate(order)}
        dims = tuple(tuple(a if a.axis is None else replace(a, axis=place[a.axis]) for a in g) for g in value.dims)
        return replace(value, node=node, dims=dims)

    def view(self, value: Value, sizes: Sequence[Sizes]) -> Value:
        """Row-major reshape."""
        pending = [(dim, atom) for dim, group in enumerate(value.dims) for atom in group]
        flat = value.with_dims((tuple(a for _, a in pending),))
        dims: list[list[int]] = []
        position = 0
        for size in sizes:
            need = size
            members: list[int] = []
            while not is_one(need):
                if position >= len(flat.dims[0]):
                    self.refuse("the sizes of the reshape do not fit")
                atom = flat.dims[0][position]
                rest = divide(need, atom.sizes)
                if rest is None:
                    if divide(atom.sizes, need) is None:
                        flat, position = self._rejoin(flat, position, need)
                        continue
                    flat = self.split(flat, 0, position, need)
                    rest = (1,) * self.points
                members.append(position)
                need = rest
                position += 1
            dims.append(members)
        group = flat.dims[0]
        return flat.with_dims(tuple(tuple(group[k] for k in members) for members in dims))

    def _rejoin(self, flat: Value, position: int, need: Sizes) -> tuple[Value, int]:
        """Two neighbouring atoms as one, where a reshape cuts across them."""
        group = flat.dims[0]
        if position + 1 >= len(group):
            self.refuse("a reshape cuts an axis into parts that do not divide it")
        before, both, after = group[:position], group[position : position + 2], group[position + 2 :]
        joined = self.merge(flat.with_dims((before, both, after)), 1)
        return joined.with_dims((tuple(a for g in joined.dims for a in g),)), position

    def align(self, a: Value, i: int, b: Value, j: int) -> tuple[Value, Value]:
        """The same atoms along axis i of a and axis j of b: the coarser one is split, unless it is a weight; then the
        finer one is merged."""
        for _ in range(64):
            sa, sb = [x.sizes for x in a.dims[i]], [x.sizes for x in b.dims[j]]
            if sa == sb:
                return a, b
            k = next(k for k, (x, y) in enumerate(zip(sa, sb, strict=False)) if x != y)
            x, y = a.dims[i][k], b.dims[j][k]
            if divide(x.sizes, y.sizes) is not None:
                if x.axis is None or not self._stays_whole(a, x):
                    a = self.split(a, i, k, y.sizes)
                    continue
                b = self._merge_some(b, j, k, x.sizes)
            elif divide(y.sizes, x.sizes) is not None:
                if y.axis is None or not self._stays_whole(b, y):
                    b = self.split(b, j, k, x.sizes)
                    continue
                a = self._merge_some(a, i, k, y.sizes)
            else:
                a, b = self.merge(a, i), self.merge(b, j)
        raise AssertionError("two axes of one size could not be aligned")

    def _stays_whole(self, value: Value, atom: Atom) -> bool:
        return self.dim(atom.sizes).grows and not self.live[value.node] and not self.constant[value.node]

    def _merge_some(self, value: Value, dim: int, at: int, target: Sizes) -> Value:
        """The atoms from `at` on that make up `target`, as one; all of the axis where they do not."""
        total, stop = (1,) * self.points, at
        group = value.dims[dim]
        while stop < len(group) and total != target:
            total = times(total, group[stop].sizes)
            stop += 1
        if total != target:
            return self.merge(value, dim)
        dims = (*value.dims[:dim], group[:at], group[at:stop], group[stop:], *value.dims[dim + 1 :])
        merged = self.merge(value.with_dims(dims), dim + 1)
        rejoined = tuple(x for g in merged.dims[dim : dim + 3] for x in g)
        return merged.with_dims((*merged.dims[:dim], rejoined, *merged.dims[dim + 3 :]))

    def thin(self, value: Value) -> tuple[Value, int]:
        """The value with one more axis of size 1 on its node, and where that is."""
        axes = self.axes(value)
        new = (*axes, Axis(ONE))
        ones = self.emit(Const(1.0), (), (new[-1],))
        op = Contract(tuple(range(len(axes))), (len(axes),), tuple(range(len(new))))
        return replace(value, node=self.emit(op, (value.node, ones), new)), len(axes)

    def _without(self, value: Value, axes: set[int], dims: Sequence[int], keep: bool) -> Value:
        """The unary contraction over these axes of the node; the tensor's axes `dims` become 1, or go."""
        old = self.axes(value)
        rest = [k for k in range(len(old)) if k not in axes]
        node = value.node
        if axes:
            op = Contract(tuple(range(len(old))), None, tuple(rest))
            node = self.emit(op, (value.node,), tuple(old[k] for k in rest))
        return self._dropped(replace(value, node=node), rest, dims, keep)

    @staticmethod
    def _dropped(value: Value, rest: Sequence[int], dims: Sequence[int], keep: bool) -> Value:
        place = {old: new for new, old in enumerate(rest)}
        groups: list[Group] = []
        for d, group in enumerate(value.dims):
            if d in dims:
                if keep:
                    groups.append(())
                continue
            groups.append(tuple(a if a.axis is None else replace(a, axis=place[a.axis]) for a in group))
        return value.with_dims(tuple(groups))

    def _drop_ones(self, value: Value) -> Value:
        """Axes of size 1 leave the node."""
        ones = {a.axis for a in value.atoms if a.axis is not None and is_one(a.sizes)}
        if not ones:
            return value
        dims = tuple(tuple(a for a in g if not is_one(a.sizes)) for g in value.dims)
        return self._without(value.with_dims(dims), ones, (), True)
