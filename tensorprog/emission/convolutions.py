"""Convolutions: a contraction of a weight with windows of x, of any rank, stride, dilation, padding and grouping."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from tensorprog.dims import Dim
from tensorprog.emission.format import Code, call, method
from tensorprog.emission.frame import Frame, Match, permuted
from tensorprog.emission.patterns import Product, find_product
from tensorprog.graph import Contract, Merge, Split, Window


@dataclass(frozen=True, slots=True)
class Slide:
    """One spatial axis: output index u, tap index a, and where the window lies."""

    u: int
    a: int
    stride: int
    dilation: int
    low: int  # zeros in front (negative: positions dropped)
    high: int
    taps: int  # how many


@dataclass(frozen=True, slots=True)
class Convolution:
    """x[batch, group*, channel*, slides..] with weight[group*, out*, channel*, taps..]."""

    x: int
    weight: int
    product: Product
    base: tuple[int | Slide, ...]
    batch: int
    groups: tuple[int, ...]
    channels: tuple[int, ...]
    outs: tuple[int, ...]
    slides: tuple[Slide, ...]

    @property
    def result(self) -> tuple[int, ...]:
        return (self.batch, *self.groups, *self.outs, *(s.u for s in self.slides))


def find_convolution(frame: Frame, value: int) -> Convolution | None:
    """The convolution that computes `value` (its axes still in any order)."""
    product = find_product(frame, value)
    if product is None:
        return None
    for p in (product, product.swapped()):
        if frame.is_weight(p.right) and (found := _with_weight(frame, p)):
            return found
    return None


def _with_weight(frame: Frame, p: Product) -> Convolution | None:
    unwound = unwind(frame, p.left, p.lefts)
    if unwound is None:
        return None
    x, entries = unwound
    slides = tuple(e for e in entries if isinstance(e, Slide))
    taps, spatial = {s.a for s in slides}, {s.u for s in slides}
    plain = [e for e in entries if isinstance(e, int)]
    if not slides or len(slides) > 3 or not taps <= set(p.rights) or taps & set(p.out) or spatial & set(p.rights):
        return None
    if not spatial <= set(p.out):
        return None
    batch = [i for i in plain if i not in p.rights and i in p.out]
    groups = tuple(i for i in plain if i in p.rights and i in p.out)
    channels = tuple(i for i in plain if i in p.rights and i not in p.out)
    outs = tuple(i for i in p.rights if i not in p.lefts)
    if len(batch) != 1 or len(batch) + len(groups) + len(channels) != len(plain) or not set(outs) <= set(p.out):
        return None
    if len(groups) > 1 or len(channels) > 1 or len(outs) > 1:
        return None
    return Convolution(x, p.right, p, entries, batch[0], groups, channels, outs, slides)


def unwind(frame: Frame, value: int, indices: tuple[int, ...]) -> tuple[int, tuple[int | Slide, ...]] | None:
    """The tensor behind the windows, with what each of its axes became; None if there are no windows."""
    entries: list[int | Slide] = list(indices)
    while isinstance(op := frame.op(value), Window) and op.taps and frame.once(value):
        u, a = entries[op.axis], entries[op.axis + 1]
        (inner,) = frame.args(value)
        count, taps = (frame.dims(value)[op.axis + k].constant for k in (0, 1))
        size, offset = frame.dims(inner)[op.axis].constant, op.offset.constant
        if not isinstance(u, int) or not isinstance(a, int):
            return None
        if count is None or taps is None or size is None or offset is None:
            return None
        reach = op.stride * (count - 1) + op.dilation * (taps - 1) + offset - (size - 1)
        low, high = int(-offset), int(reach)
        if 0 <= low - high < op.stride:
            high = low  # as layers pad, alike on both sides: no window reaches the difference
        entries[op.axis : op.axis + 2] = [Slide(u, a, op.stride, op.dilation, low, high, int(taps))]
        value = inner
    return (value, tuple(entries)) if any(isinstance(e, Slide) for e in entries) else None


def convolution_match(frame: Frame, found: Convolution, bias: int | None = None, merged: bool = False) -> Match:
    """Code of the convolution; `merged`: groups and output channels stay one axis (what a Merge asked for)."""
    p = found.product
    base = [e.u if isinstance(e, Slide) else e for e in found.base]
    layout = [found.batch, *found.groups, *found.channels, *(s.u for s in found.slides)]
    split = frame.op(found.x)
    grouped = len(found.groups) == 1 and len(found.channels) == 1
    order = [base.index(i) for i in layout]
    whole = grouped and isinstance(split, Split) and (split.axis, split.count) == (1, 2) and order[:3] == [0, 1, 2]
    whole = whole and frame.once(found.x)
    x = frame.args(found.x)[0] if whole else found.x
    dimensions = len(found.slides)

    def render(codes: Sequence[Code]) -> Code:
        data, weight = codes[0], codes[1]
        if not whole:
            data = permuted(data, order)
            if grouped:
                data = method(data, "flatten", "1", "2")
            elif not found.groups and not found.channels:
                data = method(data, "unsqueeze", "1")
        weight_layout = [*found.groups, *found.outs, *found.channels, *(s.a for s in found.slides)]
        weight = permuted(weight, [p.rights.index(i) for i in weight_layout])
        if found.groups and found.outs:
            weight = method(weight, "flatten", "0", "1")
        if not found.groups and not found.outs:
            weight = method(weight, "unsqueeze", "0")
        if not found.channels:
            weight = method(weight, "unsqueeze", "1")
        data = frame.scaled(p.factor, data)
        options: dict[str, str] = {}
        options |= option("stride", [s.stride for s in found.slides], 1)
        if all(s.low == s.high >= 0 for s in found.slides):
            options |= option("padding", [s.low for s in found.slides], 0)
        else:
            padding = [str(n) for s in reversed(found.slides) for n in (s.low, s.high)]
            data = call("F.pad", data, f"({', '.join(padding)})")
        options |= option("dilation", [s.dilation for s in found.slides], 1)
        if found.groups:
            options["groups"] = frame.size(*_group(frame, found)).text
        code = call(f"F.conv{dimensions}d", data, weight, *codes[2:], **options)
        if merged:
            return code
        result = list(found.result)
        if found.groups and found.outs:
            group = frame.size(*_group(frame, found)).text
            code = method(code, "unflatten", "1", f"({group}, -1)")
        elif not found.groups and not found.outs:
            code = method(code, "squeeze", "1")
        return permuted(code, [result.index(i) for i in p.out])

    return Match((x, found.weight) if bias is None else (x, found.weight, bias), render)


def _group(frame: Frame, found: Convolution) -> tuple[Dim, str]:
    axis = frame.axes(found.weight)[found.product.rights.index(found.groups[0])]
    return axis.dim, axis.label


def option(name: str, values: list[int], default: int) -> dict[str, str]:
    if all(v == default for v in values):
        return {}
    return {name: str(values[0]) if len(set(values)) == 1 else f"({', '.join(map(str, values))})"}


def channel_axis(found: Convolution, merged: bool) -> int | None:
    """Which axis of the result a bias over output channels runs along; None if a bias cannot be fused."""
    if merged:
        return 1
    if len(found.groups) + len(found.outs) != 1:
        return None
    channel = (*found.groups, *found.outs)[0]
    return found.product.out.index(channel)


def find_merged(frame: Frame, value: int) -> Convolution | None:
    """A grouped convolution whose (group, channel) axes are merged."""
    op = frame.op(value)
    if not isinstance(op, Merge) or (op.axis, op.count) != (1, 2):
        return None
    body = frame.args(value)[0]
    if not frame.once(body) or not isinstance(frame.op(body), Contract):
        return None
    found = find_convolution(frame, body)
    if found and len(found.groups) == len(found.outs) == 1 and found.product.out == found.result:
        return found
    return None


def find_transposed(frame: Frame, value: int, bias: int | None = None) -> Match | None:
    """A transposed convolution: every position of x becomes a block of positions, `y[o,(h a),(w b)]`."""
    merged: list[tuple[int, int]] = []
    body = value
    while isinstance(op := frame.op(body), Merge) and (body == value or frame.once(body)):
        merged.append((op.axis, op.count))
        (body,) = frame.args(body)
    spatial = len(merged)
    if spatial not in (1, 2, 3) or merged != [(2 + k, 2) for k in reversed(range(spatial))] or not frame.once(body):
        return None
    found = find_product(frame, body)
    for p in (found, found.swapped()) if found else ():
        if not frame.is_weight(p.right) or len(p.summed) != 1:
            continue
        (batch, features, *rest), (channel,) = p.out, p.summed
        places, taps = rest[::2], rest[1::2]
        if set(p.lefts) == {batch, channel, *places} and set(p.rights) == {features, channel, *taps}:
            strides = [frame.dims(p.right)[p.rights.index(a)].constant for a in taps]
            if None not in strides:
                return _transposed(frame, p, (batch, channel, *places), (channel, features, *taps), strides, bias)
    return None


def _transposed(
    frame: Frame,
    p: Product,
    data: tuple[int, ...],
    weight: tuple[int, ...],
    strides: Sequence[Fraction | None],
    bias: int | None,
) -> Match:
    def render(codes: Sequence[Code]) -> Code:
        x = frame.scaled(p.factor, permuted(codes[0], [p.lefts.index(i) for i in data]))
        w = permuted(codes[1], [p.rights.index(i) for i in weight])
        options = option("stride", [int(s or 0) for s in strides], 1)
        return call(f"F.conv_transpose{len(strides)}d", x, w, *codes[2:], **options)

    return Match((p.left, p.right) if bias is None else (p.left, p.right, bias), render)
