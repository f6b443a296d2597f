"""All operations on values that the rules are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from tensorprog.dims import Dim
from tensorprog.graph import Add, Axis, Const, Contract, Fold, InvRms, Map, Scalar, Softmax, StopGrad, TopK, Window
from tensorprog.torch.lower.arithmetic import Arithmetic
from tensorprog.torch.lower.values import Atom, Complex, Group, Sizes, Value, divide, is_one

SMALL = 1e-3  # up to here a number only keeps a divisor from being zero


class Builder(Arithmetic):
    """All operations on values that the rules are made of."""

    def map(self, value: Value, fn: str) -> Value:
        value = self.use(self.plain(value), fn)
        return replace(value, node=self.emit(Map(fn), (value.node,), self.axes(value)))

    def stop_gradient(self, value: Value) -> Value:
        value = self.use(self.plain(value), "stop")
        return replace(value, node=self.emit(StopGrad(), (value.node,), self.axes(value)))

    def sum(self, value: Value, dims: Sequence[int], keep: bool, mean: bool = False) -> Value:
        """Over axes of the tensor."""
        value = self.plain(value)
        gone = [a for d in dims for a in value.dims[d]]
        value = self.use(value, ("sum", tuple(a.axis for a in gone)))
        real = {a.axis for a in gone if a.axis is not None}
        result = self._summed_product(value, real, dims, keep) or self._without(value, real, dims, keep)
        for atom in gone:
            power = Fraction(int(atom.axis is None)) - Fraction(int(mean))
            if power:
                result = self.scale(result, self.size_scalar(atom.sizes, power))
        return result

    def _summed_product(self, value: Value, real: set[int], dims: Sequence[int], keep: bool) -> Value | None:
        """The sum over axes, some of which grow, of a product entry by entry of two different tensors: it is one
        product, as if written with `@`, and gets a multiplier like one. None for anything else, such as squares."""
        node = self.nodes[value.node]
        op = node.op
        if (
            not isinstance(op, Contract)
            or op.right is None
            or set(op.left) | set(op.right) != set(op.out)
            or node.args[0] == node.args[1]
            or not any(node.axes[k].dim.grows for k in real)
        ):
            return None
        rest = [k for k in range(len(node.axes)) if k not in real]
        product = Contract(op.left, op.right, tuple(op.out[k] for k in rest))
        summed = self.emit(product, node.args, tuple(node.axes[k] for k in rest))
        result = self._dropped(replace(value, node=summed), rest, dims, keep)
        return self._multiplier(result) if all(self._product(a) for a in node.args) else result

    def inverse_rms(self, value: Value, dims: Sequence[int], eps: float, keep: bool = True) -> Value:
        """(mean of squares over axes of the tensor, plus eps)^(-1/2)."""
        value = self.use(self.plain(value), "norm")
        axes = {a.axis for d in dims for a in value.dims[d] if a.axis is not None}
        if not axes:
            value, position = self.thin(value)
            axes = {position}
        old = self.axes(value)
        rest = [k for k in range(len(old)) if k not in axes]
        node = self.emit(InvRms(tuple(sorted(axes)), eps), (value.node,), tuple(old[k] for k in rest))
        return self._dropped(replace(value, node=node), rest, dims, keep)

    def reciprocal(self, value: Value, positive: bool = False) -> Value:
        """1 / value, where nothing better is known: through 1/|x|, an inverse root mean square over one entry."""
        if isinstance(value, Complex):
            from tensorprog.torch.lower.complexes import inverse

            return inverse(self, value)
        value = self._divisor(self.plain(value))
        if value.node in self.inverse:
            node, order = self.inverse[value.node]
            dims = (tuple(a if a.axis is None else replace(a, axis=order[a.axis]) for a in g) for g in value.dims)
            return replace(value, node=node, dims=tuple(dims), weight=None)
        value = self.use(value, "reciprocal")
        r = self.inverse_rms(value, (), 0.0)
        result = r if positive else self.mul(self.mul(value, r), r)
        self.inverted.add(result.node)
        return result

    def _divisor(self, value: Value) -> Value:
        """What is divided by, without an unknown multiplier (that of the quotient is enough), and without a small
        number beside a sum over an axis that grows."""
        node = self.nodes[value.node]
        if isinstance(node.op, Add) and len(node.args) == 2:
            for k, a in enumerate(node.args):
                op = self.nodes[a].op
                other = self.nodes[node.args[1 - k]]
                small = isinstance(op, Const) and not self.nodes[a].axes and abs(op.value) <= SMALL
                if small and node.op.places[1 - k] == tuple(range(len(node.axes))) and self._has_multiplier(other):
                    self.notes.append("a small number beside a sum over an axis that grows is left out")
                    return self._divisor(replace(value, node=other.id))
        return replace(value, node=node.args[0]) if self._has_multiplier(node) else value

    def softmax(self, value: Value, dim: int) -> Value:
        mask, causal = value.mask or (None, False)
        if mask is not None and not causal:
            value = self.plain(value)
        value = self.use(replace(value, mask=None), "softmax")
        if not value.dims[dim]:
            return self._ones_like(value)
        value = self.merge(value, dim)
        atom = value.dims[dim][0]
        found = None
        if causal:
            value = self.merge(value, dim - 1)
            atom = value.dims[dim][0]
            query = value.dims[dim - 1][0].axis
            assert query is not None and atom.axis is not None
            found = (atom.axis, "<=", query)
        assert atom.axis is not None
        op = Softmax(atom.axis, found)
        return replace(value, node=self.emit(op, (value.node,), self.axes(value)))

    def _ones_like(self, value: Value) -> Value:
        """A share of one entry alone."""
        shape = (value.sizes(k, self.points) for k in range(len(value.dims)))
        dims = tuple(() if is_one(s) else (Atom(s, None),) for s in shape)
        return self.constant_of(Scalar()).with_dims(dims)

    def top_k(self, value: Value, dim: int, k: int) -> Value:
        """1 at the k largest along an axis, else 0."""
        if not value.dims[dim]:
            return self._ones_like(value)
        value = self.merge(self.use(self.plain(value), "topk"), dim)
        axis = value.dims[dim][0].axis
        assert axis is not None
        return replace(value, node=self.emit(TopK(axis, k), (value.node,), self.axes(value)))

    def window(self, value: Value, dim: int, start: Sizes, size: Sizes, stride: int = 1) -> Value:
        """size positions along an axis, from `start` in steps of `stride`."""
        value = self.plain(value)
        whole = value.sizes(dim, self.points)
        if stride == 1 and size == whole and not any(start):
            return value
        group = value.dims[dim]
        if len(group) > 1 and stride == 1:  # a range of the slowest atom, if the cut is there
            inner = divide(whole, group[0].sizes)
            assert inner is not None
            outer_start, outer_size = divide(start, inner), divide(size, inner)
            if outer_start is not None and outer_size is not None:
                dims = (*value.dims[:dim], group[:1], group[1:], *value.dims[dim + 1 :])
                cut = self.window(value.with_dims(dims), dim, outer_start, outer_size)
                joined = cut.dims[dim] + cut.dims[dim + 1]
                return cut.with_dims((*cut.dims[:dim], joined, *cut.dims[dim + 2 :]))
        if not group:
            self.refuse("a slice of an axis of size 1 that is not the whole of it")
        if all(a.axis is None for a in group):
            atom: Group = () if is_one(size) else (Atom(size, None),)
            return value.with_dims((*value.dims[:dim], atom, *value.dims[dim + 1 :]))
        value = self.merge(value, dim)
        (one,) = value.dims[dim]
        assert one.axis is not None
        axes = self.axes(value)
        new = (*axes[: one.axis], Axis(self.dim(size)), *axes[one.axis + 1 :])
        op = Window(one.axis, stride=stride, offset=self.dim(start))
        value = replace(value, node=self.emit(op, (value.node,), new))
        if not is_one(size):
            return value.with_dims((*value.dims[:dim], (Atom(size, one.axis),), *value.dims[dim + 1 :]))
        weight = value.weight
        dropped = self._without(value, {one.axis}, (dim,), True)
        return replace(dropped, weight=weight)

    def taps(self, value: Value, dim: int, size: int, out: Sizes, stride: int, dilation: int, start: int) -> Value:
        """A sliding window: axis `dim` becomes (position, tap), the tap as a last axis of the tensor. Positions outside
        read zero; `start`: where the first window begins."""
        value = self.merge(self.plain(value), dim)
        group = value.dims[dim]
        if not group:
            value, axis = self.thin(value)
        else:
            assert group[0].axis is not None
            axis = group[0].axis
        axes = self.axes(value)
        new = (*axes[:axis], Axis(self.dim(out)), Axis(Dim.of(size)), *axes[axis + 1 :])
        op = Window(axis, stride, dilation, Dim.of(start), taps=True)
        node = self.emit(op, (value.node,), new)

        def moved(a: Atom) -> Atom:
            return replace(a, axis=a.axis + 1) if a.axis is not None and a.axis > axis else a

        dims = [tuple(moved(a) for a in g) for g in value.dims]
        dims[dim] = (Atom(out, axis),)
        dims.append((Atom((size,) * self.points, axis + 1),))
        return self._drop_ones(replace(value, node=node, dims=tuple(dims)))

    def untap(self, value: Value, dim: int, out: Sizes, stride: int, dilation: int, start: int) -> Value:
        """The adjoint of `taps`: axes `dim` (position) and the last (tap) are scattered to an axis of size `out`."""
        last = len(value.dims) - 1
        for d in (dim, last):
            value = self.merge(value, d)
            if not value.dims[d]:
                value, axis = self.thin(value)
                value = value.with_dims((*value.dims[:d], (Atom((1,) * self.points, axis),), *value.dims[d + 1 :]))
        u, a = (value.dims[dim][0].axis, value.dims[last][0].axis)
        assert u is not None and a is not None
        rank = len(self.axes(value))
        others = [k for k in range(rank) if k not in (u, a)]
        before = sum(1 for k in others if k < u)
        value = self.transpose(value, [*others[:before], u, a, *others[before:]])
        axes = self.axes(value)
        new = (*axes[:before], Axis(self.dim(out)), *axes[before + 2 :])
        node = self.emit(Fold(before, stride, dilation, Dim.of(start), taps=True), (value.node,), new)

        def moved(x: Atom) -> Atom:
            return replace(x, axis=x.axis - 1) if x.axis is not None and x.axis > before + 1 else x

        dims = [tuple(moved(x) for x in g) for g in value.dims[:last]]
        dims[dim] = (Atom(out, before),)
        return self._drop_ones(replace(value, node=node, dims=tuple(dims)))

    def fold(self, value: Value, dim: int, start: Sizes, size: Sizes, stride: int = 1) -> Value:
        """The axis inside a longer one of zeros: its first entry stands at `start`."""
        value = self.merge(self.use(self.plain(value), "pad"), dim)
        group = value.dims[dim]
        if not group:
            value, axis = self.thin(value)
        else:
            assert group[0].axis is not None
            axis = group[0].axis
        axes = self.axes(value)
        new = (*axes[:axis], Axis(self.dim(size)), *axes[axis + 1 :])
        node = self.emit(Fold(axis, stride=stride, offset=self.dim(start)), (value.node,), new)
        return replace(
            value, node=node, dims=(*value.dims[:dim], (Atom(size, axis),), *value.dims[dim + 1 :]), weight=None
        )
