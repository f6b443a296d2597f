"""How each node kind is written in PyTorch: the recognised layers first, then one plain rule per kind."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import assert_never

from tensorprog.emission import convolutions as conv
from tensorprog.emission import norms, patterns
from tensorprog.emission.attention import find_attention
from tensorprog.emission.format import Code, call, ints, method, number, over, plus
from tensorprog.emission.frame import Frame, Match, permuted, product
from tensorprog.emission.functions import applied
from tensorprog.emission.pooling import find_pool
from tensorprog.emission.windows import match_fold, match_window
from tensorprog.errors import InternalError
from tensorprog.graph import (
    Accumulate,
    Add,
    Const,
    Contract,
    Fold,
    Input,
    InvRms,
    Loss,
    LossGrad,
    Map,
    Merge,
    Param,
    Scalar,
    Scale,
    Softmax,
    SoftmaxGrad,
    Split,
    StopGrad,
    TopK,
    Update,
    Window,
)

_COMPARE = {"<=": "torch.le", "<": "torch.lt", ">=": "torch.ge", ">": "torch.gt"}


def match_value(frame: Frame, value: int) -> Match:
    """How to compute `value`. Raises InternalError for what only a backward pass holds."""
    op, args = frame.op(value), frame.args(value)
    assert op is not None
    match op:
        case Contract(left, None, out):
            found = patterns.find_select(frame, value) or find_pool(frame, value) or _reduction(frame, value)
            return found or _sum(frame, args[0], left, out)
        case Contract():
            return _contract(frame, value)
        case Add():
            return _add(frame, value)
        case Scale(scalar):
            return _layer(frame, value) or Match(args, lambda c: frame.scaled(scalar, c[0]))
        case Map(fn, derivative):
            if derivative:
                raise InternalError(f"the derivative of {fn} cannot be emitted")
            template = frame.owner.function(fn)
            return Match(args * template.count("{x}"), lambda c: applied(template, c[0]))
        case InvRms(axes, eps):
            return Match(args, lambda c: patterns.inverse_root(c[0], axes, eps))
        case Softmax():
            return _softmax(frame, op, args)
        case TopK(axis, k):
            name = frame.owner.helper("top_k_mask")
            return Match(args, lambda c: call(name, c[0], str(k), dim=str(axis)))
        case Split(axis, count):
            sizes = [frame.size(a.dim, a.label).text for a in frame.axes(value)[axis : axis + count]]
            return Match(args, lambda c: method(c[0], "unflatten", str(axis), ints(sizes)))
        case Merge(axis, count):
            return _merge(frame, value, axis, count)
        case Window():
            return match_window(frame, value, op)
        case Fold():
            return match_fold(frame, value, op)
        case StopGrad():
            return Match(args, lambda c: method(c[0], "detach"))
        case Loss(kind):
            return _loss(frame, kind, args)
        case Param() | Input() | Const():
            raise AssertionError("leaves have no rule")
        case SoftmaxGrad() | LossGrad() | Update() | Accumulate():
            raise InternalError("only forward passes can be emitted")
        case _:
            assert_never(op)


# --- contractions -------------------------------------------------------------------------------------


def _contract(frame: Frame, value: int) -> Match:
    norm = norms.find_norm(frame, value)
    convolution = conv.find_convolution(frame, value)
    return (
        patterns.find_embedding(frame, value)
        or find_attention(frame, value)
        or (norms.render_norm(frame, value, norm) if norm else None)
        or norms.find_group_norm(frame, value)
        or (conv.convolution_match(frame, convolution) if convolution else None)
        or find_pool(frame, value)
        or patterns.find_max(frame, value)
        or patterns.find_linear(frame, value)
        or patterns.find_einsum(frame, value)
        or _elementwise(frame, value)
    )


def _elementwise(frame: Frame, value: int) -> Match:
    op, (left, right) = frame.op(value), frame.args(value)
    assert isinstance(op, Contract)
    assert op.right is not None
    places = [[op.out.index(i) for i in part] for part in (op.left, op.right)]
    rank = len(op.out)

    def render(codes: Sequence[Code]) -> Code:
        return product(frame.aligned(codes[0], places[0], rank), frame.aligned(codes[1], places[1], rank))

    return Match((left, right), render)


def _layer(frame: Frame, scaled: int) -> Match | None:
    """A scaling that is part of a mean."""
    return find_pool(frame, scaled) or _reduction(frame, scaled)


def _reduction(frame: Frame, value: int) -> Match | None:
    found = patterns.find_reduction(frame, value)
    if found is None:
        return None
    name = "mean" if found.mean else "sum"
    return Match((found.x,), lambda c: method(c[0], name, patterns.dims_text(found.axes)))


def _sum(frame: Frame, x: int, left: tuple[int, ...], out: tuple[int, ...]) -> Match:
    """A transposition, perhaps of a sum."""
    kept = [i for i in left if i in out]
    gone = [axis for axis, i in enumerate(left) if i not in out]

    def render(codes: Sequence[Code]) -> Code:
        code = method(codes[0], "sum", patterns.dims_text(gone)) if gone else codes[0]
        return permuted(code, [kept.index(i) for i in out])

    return Match((x,), render)


# --- sums -----------------------------------------------------------------------------------------------


def _add(frame: Frame, value: int) -> Match:
    if found := patterns.find_concat(frame, value):
        return found
    if (norm := norms.find_norm(frame, value)) and (found := norms.render_norm(frame, value, norm)):
        return found
    return norms.find_group_norm(frame, value) or _biased(frame, value) or _plain_add(frame, value)


def _biased(frame: Frame, value: int) -> Match | None:
    op, args = frame.op(value), frame.args(value)
    if not isinstance(op, Add) or len(args) != 2:
        return None
    for a, b in ((0, 1), (1, 0)):
        body, bias = args[a], args[b]
        if op.places[a] != tuple(range(frame.rank(value))) or len(op.places[b]) != 1 or not frame.is_weight(bias):
            continue
        if not frame.once(body):
            continue
        (place,) = op.places[b]
        if place == frame.rank(value) - 1 and (found := patterns.find_linear(frame, body, bias)):
            return found
        merged = conv.find_merged(frame, body)
        convolution = merged or conv.find_convolution(frame, body)
        if convolution and conv.channel_axis(convolution, bool(merged)) == place:
            return conv.convolution_match(frame, convolution, bias, bool(merged))
        if place == 1 and (transposed := conv.find_transposed(frame, body, bias)):
            return transposed
    return None


def _plain_add(frame: Frame, value: int) -> Match:
    op, args = frame.op(value), list(frame.args(value))
    assert isinstance(op, Add)
    rank = frame.rank(value)
    constants: dict[int, float] = {}
    factors: dict[int, Scalar] = {}
    for k, arg in enumerate(args):
        if isinstance(scaling := frame.op(arg), Scale) and frame.once(arg) and not _layer(frame, arg):
            factors[k], args[k] = scaling.scalar, frame.args(arg)[0]
    covered: set[int] = set()
    for k, arg in enumerate(args):
        leaf = frame.op(arg)
        if isinstance(leaf, Const) and len(args) > 1:
            constants[k] = leaf.value
        else:
            covered |= set(op.places[k])
    if covered != set(range(rank)):
        constants = {}
    dense = {p for k in range(len(args)) if k not in constants for p in op.places[k]}
    inputs = tuple(arg for k, arg in enumerate(args) if k not in constants)
    sizes: list[str] = []
    if len(dense) < rank:
        sizes = [frame.size(a.dim, a.label).text for a in frame.axes(value)]

    def render(codes: Sequence[Code]) -> Code:
        given = iter(codes)
        total: Code | None = None
        for k, places in enumerate(op.places):
            term = number(constants[k]) if k in constants else frame.aligned(next(given), places, rank)
            term = frame.scaled(factors.get(k, Scalar()), term)
            total = term if total is None else plus(total, term)
        assert total is not None
        return method(total, "expand", *sizes) if sizes else total

    return Match(inputs, render)


# --- axes -------------------------------------------------------------------------------------------------


def _merge(frame: Frame, value: int, axis: int, count: int) -> Match:
    if group := norms.find_group_norm(frame, value):
        return group
    if convolution := conv.find_merged(frame, value):
        return conv.convolution_match(frame, convolution, merged=True)
    if transposed := conv.find_transposed(frame, value):
        return transposed
    return Match(frame.args(value), lambda c: method(c[0], "flatten", str(axis), str(axis + count - 1)))


# --- the rest -----------------------------------------------------------------------------------------------


def _softmax(frame: Frame, op: Softmax, args: tuple[int, ...]) -> Match:
    if op.mask is None:
        return Match(args, lambda c: call("F.softmax", c[0], dim=str(op.axis)))
    key, compare, query = op.mask
    name = frame.owner.helper("masked_softmax")
    return Match(args, lambda c: call(name, c[0], str(op.axis), str(key), _COMPARE[compare], str(query)))


def _loss(frame: Frame, kind: str, args: tuple[int, ...]) -> Match:
    rank = frame.rank(args[0])

    def render(codes: Sequence[Code]) -> Code:
        if kind == "mean":
            return method(codes[0], "mean")
        if kind == "mse":
            return over(call("F.mse_loss", *codes), number(Fraction(2)))
        logits, target = codes
        if rank > 2:
            logits, target = method(logits, "flatten", "0", str(rank - 2)), method(target, "flatten")
        return call("F.cross_entropy", logits, target)

    if kind not in ("mean", "mse", "cross_entropy"):
        raise InternalError(f"the loss {kind!r} cannot be emitted")
    return Match(args[:1] if kind == "mean" else args, render)
