"""Windows and folds that are no part of a convolution: slices, shifts, padding; a helper function for the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

from tensorprog.dims import Dim
from tensorprog.emission.format import ATOM, Code, call, index
from tensorprog.emission.frame import Frame, Match
from tensorprog.graph import Fold, Window


def match_window(frame: Frame, value: int, op: Window) -> Match:
    (x,) = frame.args(value)
    before, after = frame.dims(x)[op.axis], frame.dims(value)[op.axis]
    last = after * Dim.of(op.stride) - Dim.of(op.stride) + op.offset  # position read by the last u
    marks = [":"] * op.axis
    if not op.taps and _never_negative(op.offset) and _never_negative(before - last - Dim.of(1)):
        low = "" if op.offset == Dim(()) else position_text(frame, op.offset)
        end = last + Dim.of(1)
        high = "" if end == before or (op.stride > 1 and _covers(end, before, op.stride)) else position_text(frame, end)
        step = f":{op.stride}" if op.stride > 1 else ""
        return Match((x,), lambda c: index(c[0], *marks, f"{low}:{high}{step}"))
    if not op.taps and op.stride == 1:
        front, back = -op.offset, last + Dim.of(1) - before
        return Match((x,), _padded(frame, op.axis, frame.rank(x), front, back))
    name = frame.owner.helper("windows")
    taps = frame.axes(value)[op.axis + 1] if op.taps else None
    counts = [frame.size(after).text, frame.size(taps.dim, taps.label).text if taps else "None"]
    rest = [str(op.stride), str(op.dilation), frame.size(op.offset).text]
    return Match((x,), lambda c: call(name, c[0], str(op.axis), *counts, *rest))


def match_fold(frame: Frame, value: int, op: Fold) -> Match:
    (x,) = frame.args(value)
    size = frame.dims(value)[op.axis]
    if not op.taps and op.stride == 1:
        back = size - op.offset - frame.dims(x)[op.axis]
        return Match((x,), _padded(frame, op.axis, frame.rank(x), op.offset, back))
    name = frame.owner.helper("unwindows")
    rest = [frame.size(size).text, str(op.stride), str(op.dilation), frame.size(op.offset).text, str(op.taps)]
    return Match((x,), lambda c: call(name, c[0], str(op.axis), *rest))


def _padded(frame: Frame, axis: int, rank: int, front: Dim, back: Dim) -> Callable[[Sequence[Code]], Code]:
    pads = ["0"] * (2 * (rank - 1 - axis)) + [_signed(frame, front), _signed(frame, back)]
    return lambda codes: call("F.pad", codes[0], f"({', '.join(pads)})")


def position_text(frame: Frame, dim: Dim) -> str:
    return str(dim.constant) if dim.constant is not None else frame.size(dim).text


def _signed(frame: Frame, dim: Dim) -> str:
    if dim.constant is not None:
        return str(dim.constant)
    return frame.size(dim).text if _never_negative(dim) else f"-{frame.size(-dim).at(ATOM)}"


def _never_negative(dim: Dim) -> bool:
    """At all widths from 1 on (enough: no negative coefficient)."""
    if all(c > 0 for _, c in dim.terms):
        return True
    constants = sum((c for m, c in dim.terms if not m), Fraction(0))
    grows = [c for m, c in dim.terms if m]
    return bool(grows) and all(c > 0 for c in grows) and sum(grows) + constants >= 0


def _covers(end: Dim, size: Dim, stride: int) -> bool:
    rest = (size - end).constant
    return rest is not None and 0 <= rest < stride
