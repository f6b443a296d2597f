"""Normalisation layers: layer, rms, batch and group norm, with or without gain and bias."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from tensorprog.emission.format import Code, call
from tensorprog.emission.frame import Frame, Match, is_inverse_size
from tensorprog.graph import Add, Contract, InvRms, Merge, Scalar, Scale, Split

MINUS = Scalar(Fraction(-1))


@dataclass(frozen=True, slots=True)
class Norm:
    """x divided by its root mean square over axes, perhaps after subtracting its mean there; gain, bias per `side`."""

    x: int
    axes: tuple[int, ...]
    eps: float
    centred: bool
    gain: int | None = None
    bias: int | None = None
    side: int | None = None
    inside: frozenset[int] = frozenset()


def find_norm(frame: Frame, value: int) -> Norm | None:
    """A normalisation whose pieces nobody else needs."""
    norm = _find_norm(frame, value)
    return norm if norm and _closed(frame, norm, value) else None


def _closed(frame: Frame, norm: Norm, value: int) -> bool:
    """Whether all uses of the inner values come from the pattern itself."""
    inner = norm.inside - {norm.x}
    used: dict[int, int] = {}
    for v in {*inner, value}:
        for a in frame.args(v):
            used[a] = used.get(a, 0) + 1
    return all(frame.uses[v] <= used.get(v, 0) for v in inner)


def _find_norm(frame: Frame, value: int) -> Norm | None:
    op = frame.op(value)
    if isinstance(op, Add) and len(op.places) == 2:
        for a, b in ((0, 1), (1, 0)):
            body, bias = frame.args(value)[a], frame.args(value)[b]
            if op.places[a] != tuple(range(frame.rank(value))) or len(op.places[b]) != 1:
                continue
            norm = _find_norm(frame, body)
            if norm and norm.bias is None and norm.side in (None, op.places[b][0]):
                return replace(norm, bias=bias, side=op.places[b][0], inside=norm.inside | {body})
        return None
    if not isinstance(op, Contract) or op.right is None or set(op.left) | set(op.right) != set(op.out):
        return None
    for a, b in ((0, 1), (1, 0)):
        indices = (op.left, op.right)
        body, other = frame.args(value)[a], frame.args(value)[b]
        if indices[a] != op.out:
            continue
        inverse = frame.op(other)
        if isinstance(inverse, InvRms) and frame.args(other)[0] == body:
            kept = tuple(i for axis, i in enumerate(op.out) if axis not in inverse.axes)
            if indices[b] != kept:
                continue
            plain = Norm(body, inverse.axes, inverse.eps, False, inside=frozenset({other}))
            return _centred(frame, plain) or plain
        if len(indices[b]) == 1:
            norm = _find_norm(frame, body)
            side = op.out.index(indices[b][0])
            if norm and norm.gain is None and norm.bias is None:
                return replace(norm, gain=other, side=side, inside=norm.inside | {body})
    return None


def _centred(frame: Frame, norm: Norm) -> Norm | None:
    """The same norm with the subtraction of the mean included."""
    op = frame.op(norm.x)
    if not isinstance(op, Add) or len(op.places) != 2:
        return None
    for a, b in ((0, 1), (1, 0)):
        x, negative = frame.args(norm.x)[a], frame.args(norm.x)[b]
        scaling = frame.op(negative)
        if op.places[a] != tuple(range(frame.rank(norm.x))) or not isinstance(scaling, Scale):
            continue
        kept = tuple(axis for axis in op.places[a] if axis not in norm.axes)
        if op.places[b] != kept:
            continue
        total = frame.args(negative)[0]
        scalar = MINUS * scaling.scalar
        inner = {negative, norm.x}
        while isinstance(more := frame.op(total), Scale):
            scalar = scalar * more.scalar
            inner.add(total)
            total = frame.args(total)[0]
        summing = frame.op(total)
        if not isinstance(summing, Contract) or summing.right is not None or frame.args(total) != (x,):
            continue
        inner.add(total)
        gone = tuple(axis for axis, i in enumerate(summing.left) if i not in summing.out)
        order = tuple(i for i in summing.left if i in summing.out)
        if gone == norm.axes and order == summing.out and is_inverse_size(scalar, [frame.dims(x)[g] for g in gone]):
            return replace(norm, x=x, centred=True, inside=norm.inside | frozenset(inner))
    return None


def render_norm(frame: Frame, value: int, norm: Norm) -> Match | None:
    """`F.layer_norm`, `F.rms_norm`, `F.batch_norm`, if it is one of these."""
    rank = frame.rank(norm.x)
    if (norm.gain is not None and frame.rank(norm.gain) != 1) or (norm.bias is not None and frame.rank(norm.bias) != 1):
        return None
    dims = frame.axes(norm.x)
    side = norm.side
    affine = tuple(v for v in (norm.gain, norm.bias) if v is not None)

    def options(codes: Sequence[Code]) -> dict[str, str]:
        rest = list(codes[1:])
        found = {}
        if norm.gain is not None:
            found["weight"] = rest.pop(0).text
        if norm.bias is not None:
            found["bias"] = rest.pop(0).text
        return found

    eps = repr(norm.eps)
    if norm.axes == (rank - 1,) and side in (None, rank - 1) and (norm.centred or norm.bias is None):
        name = "F.layer_norm" if norm.centred else "F.rms_norm"

        def last_axis(codes: Sequence[Code]) -> Code:
            size = frame.size(dims[-1].dim, dims[-1].label).text
            return call(name, codes[0], f"({size},)", **options(codes), eps=eps)

        return Match((norm.x, *affine), last_axis)
    if norm.centred and rank > 1 and norm.axes == tuple(a for a in range(rank) if a != 1) and side in (None, 1):

        def batch(codes: Sequence[Code]) -> Code:
            return call("F.batch_norm", codes[0], "None", "None", **options(codes), training="True", eps=eps)

        return Match((norm.x, *affine), batch)
    return None


def find_group_norm(frame: Frame, value: int) -> Match | None:
    """Channels split into groups, normalised over all but the batch and the group, and merged again."""
    op, gain, bias = frame.op(value), None, None
    merged = value
    inner: list[int] = []
    if isinstance(op, Add) and len(op.places) == 2:
        for a, b in ((0, 1), (1, 0)):
            if op.places[b] == (1,) and op.places[a] == tuple(range(frame.rank(value))):
                merged, bias = frame.args(value)[a], frame.args(value)[b]
                op = frame.op(merged)
                inner.append(merged)
                break
    if isinstance(op, Contract) and op.right is not None and set(op.left) | set(op.right) == set(op.out):
        for a, b in ((0, 1), (1, 0)):
            indices = (op.left, op.right)
            if indices[a] == op.out and indices[b] == op.out[1:2]:
                gain = frame.args(merged)[b]
                merged = frame.args(merged)[a]
                op = frame.op(merged)
                inner.append(merged)
                break
    if not isinstance(op, Merge) or (op.axis, op.count) != (1, 2) or not frame.once(*inner):
        return None
    body = frame.args(merged)[0]
    norm = find_norm(frame, body)
    if norm is None or not frame.once(body) or not norm.centred or norm.gain is not None or norm.bias is not None:
        return None
    split = frame.op(norm.x)
    if not isinstance(split, Split) or (split.axis, split.count) != (1, 2):
        return None
    if norm.axes != tuple(range(2, frame.rank(norm.x))) or frame.uses[norm.x] > 2:
        return None
    groups = frame.axes(norm.x)[1]
    affine = [v for v in (gain, bias) if v is not None]

    def render(codes: Sequence[Code]) -> Code:
        rest = list(codes[1:])
        options = {"weight": rest.pop(0).text} if gain is not None else {}
        if bias is not None:
            options["bias"] = rest.pop(0).text
        count = frame.size(groups.dim, groups.label).text
        return call("F.group_norm", codes[0], count, **options, eps=repr(norm.eps))

    return Match((frame.args(norm.x)[0], *affine), render)
