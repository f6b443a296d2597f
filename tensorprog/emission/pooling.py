"""Pooling: the largest entry or the mean of each window, as F.max_pool and F.avg_pool."""

from __future__ import annotations

from collections.abc import Sequence

from tensorprog.emission.convolutions import Slide, option, unwind
from tensorprog.emission.format import Code, call
from tensorprog.emission.frame import Frame, Match
from tensorprog.emission.patterns import find_product, find_reduction
from tensorprog.graph import Contract, Merge, Scalar, TopK


def find_pool(frame: Frame, value: int) -> Match | None:
    """A pooling over the last axes of x[batch, channel, ..], in that order."""
    return _find_max(frame, value) or _find_mean(frame, value)


def _find_max(frame: Frame, value: int) -> Match | None:
    """sum over taps of w * top1(w), w = the windows with all taps merged into one last axis."""
    product = find_product(frame, value)
    if (
        product is None
        or product.factor != Scalar()
        or product.lefts != product.rights
        or product.out != product.lefts[:-1]
    ):
        return None
    for p in (product, product.swapped()):
        top = frame.op(p.right)
        if not isinstance(top, TopK) or top.k != 1 or top.axis != len(p.lefts) - 1 or not frame.once(p.right):
            continue
        if frame.args(p.right) != (p.left,) or frame.uses[p.left] != 2:
            continue
        windows, indices = p.left, tuple(range(frame.rank(p.left)))
        merge = frame.op(windows)
        if isinstance(merge, Merge) and merge.axis == len(indices) - 1:
            (windows,) = frame.args(windows)
            indices = tuple(range(frame.rank(windows)))
        taps = indices[len(p.out) :]
        permutation = frame.op(windows)
        if isinstance(permutation, Contract) and permutation.right is None and frame.once(windows):
            if set(permutation.left) != set(permutation.out):
                return None
            indices = tuple(permutation.out.index(i) for i in permutation.left)
            (windows,) = frame.args(windows)
        return _pool(frame, "max", windows, indices, taps)
    return None


def _find_mean(frame: Frame, value: int) -> Match | None:
    found = find_reduction(frame, value)
    if found is None or not found.mean:
        return None
    kept = [axis for axis in range(frame.rank(found.x)) if axis not in found.axes]
    order = {axis: place for place, axis in enumerate([*kept, *found.axes])}
    indices = tuple(order[axis] for axis in range(frame.rank(found.x)))
    return _pool(frame, "avg", found.x, indices, tuple(range(len(kept), len(indices))))


def _pool(frame: Frame, kind: str, windows: int, indices: tuple[int, ...], taps: tuple[int, ...]) -> Match | None:
    """`indices`: the place of every axis of the windows in (output axes, taps)."""
    unwound = unwind(frame, windows, indices)
    if unwound is None:
        return None
    x, entries = unwound
    slides = [e for e in entries if isinstance(e, Slide)]
    plain = [e for e in entries if not isinstance(e, Slide)]
    if len(plain) != 2 or len(slides) > 3 or entries[:2] != (0, 1) or plain != [0, 1]:
        return None
    if tuple(s.a for s in slides) != taps or [s.u for s in slides] != list(range(2, 2 + len(slides))):
        return None
    # beyond the edge a window reads zero, the pooling layers do not: only whole windows
    if any(s.low != 0 or not -s.stride < s.high <= 0 for s in slides):
        return None
    if kind == "avg" and any(s.dilation != 1 for s in slides):
        return None
    options = option("stride", [s.stride for s in slides], 0)
    options |= option("dilation", [s.dilation for s in slides], 1)
    size = option("", [s.taps for s in slides], 0)[""]
    if options.get("stride") == size:
        del options["stride"]  # the default

    def render(codes: Sequence[Code]) -> Code:
        return call(f"F.{kind}_pool{len(slides)}d", codes[0], size, **options)

    return Match((x,), render)
