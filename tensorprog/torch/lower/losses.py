"""Rules of losses."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from tensorprog.graph import Loss, Scalar
from tensorprog.torch.lower.elementwise import MINUS, inverted, product
from tensorprog.torch.lower.registry import rule
from tensorprog.torch.lower.values import Value
from tensorprog.torch.trace import Ref

if TYPE_CHECKING:
    from tensorprog.torch.lower import Lowering
    from tensorprog.torch.zipped import Call


@rule("_log_softmax", "log_softmax")
def log_softmax(low: Lowering, call: Call) -> None:
    """Kept aside for the cross entropy that reads it."""
    value = low.plain(low.value(call["self"]))
    dim = low.axis_of(call["dim"], len(value.dims))
    low.logits[call.outputs[0]] = value, dim


@rule("logsumexp")
def log_sum_exp(low: Lowering, call: Call) -> Value:
    value = low.plain(low.value(call["self"]))
    dims = [low.axis_of(k, len(value.dims)) for k in call["dim"]]
    for dim in dims:
        value = log_sum(low, value, dim)
    return value if call["keepdim"] else value.with_dims(tuple(g for k, g in enumerate(value.dims) if k not in dims))


@rule("logaddexp")
def log_add_exp(low: Lowering, call: Call) -> Value:
    return log_add(low, low.value(call["self"]), low.value(call["other"]))


def log_add(low: Lowering, a: Value, b: Value) -> Value:
    """log(exp a + exp b) = b + softplus(a - b)."""
    return low.add([b, low.map(low.add([a, low.scale(b, MINUS)]), "softplus")])


def log_sum(low: Lowering, value: Value, dim: int) -> Value:
    """log sum exp along an axis, which is kept with size 1: half of it against the other half, and so on."""
    value = low.merge(value, dim)
    size = low.dim(value.sizes(dim, low.points)).constant
    if size is None:
        low.refuse("the logarithm of a sum of exponentials along an axis that grows", "a finite axis")
    left, rest = int(size), None
    points = low.points
    while left > 1:
        half = left // 2
        if left % 2:  # the last one waits
            last = low.window(value, dim, (left - 1,) * points, (1,) * points)
            rest = last if rest is None else log_add(low, rest, last)
        value = log_add(low, low.window(value, dim, (0,) * points, (half,) * points),
                        low.window(value, dim, (half,) * points, (half,) * points))  # fmt: skip
        left = half
    return value if rest is None else log_add(low, value, rest)


def log_softmax_of(low: Lowering, number: int) -> Value:
    """The log-softmax itself, for what is not a cross entropy: x - log sum exp x."""
    logits, dim = low.logits[number]
    return low.add([logits, low.scale(log_sum(low, logits, dim), MINUS)])


@rule("nll_loss_forward", "nll_loss2d_forward")
def nll_loss(low: Lowering, call: Call) -> tuple[Value, None]:
    """Cross entropy. Entries that the loss leaves out count as ordinary ones: that changes constants only."""
    arg = call["self"]
    if not isinstance(arg, Ref) or arg.value not in low.logits:
        low.refuse("it is not taken of a log-softmax", "F.cross_entropy")
    logits, classes = low.logits[arg.value]
    order = [k for k in range(len(logits.dims)) if k != classes] + [classes]
    logits = logits.with_dims(tuple(logits.dims[k] for k in order))
    for dim in range(len(logits.dims)):
        logits = low.spread(logits, dim)
    last = low.merge(logits, len(logits.dims) - 1)
    ordered = low.transpose(last, [a.axis for a in last.atoms if a.axis is not None])
    axes = low.axes(ordered)
    target = low.data.target(low.data.at(call["target"].value), axes[:-1], "target") if _given(low, call) else None
    if target is None:
        low.refuse("its target depends on parameters")
    loss = Value(low.emit(Loss("cross_entropy"), (ordered.node, target), ()), ())
    if low.constant_int(call["reduction"]) == 2:  # a sum: of finitely many
        for axis in axes[:-1]:
            loss = low.scale(loss, Scalar.size(axis.dim))
    return loss, None


def _given(low: Lowering, call: Call) -> bool:
    return isinstance(call["target"], Ref) and low.zipped.leaf(call["target"].value) is not None


@rule("mse_loss")
def mse_loss(low: Lowering, call: Call) -> Value:
    a, b = low.value(call["self"]), low.value(call["target"])
    return reduced(low, call, low.map(low.add([a, low.scale(b, MINUS)]), "square"))


def reduced(low: Lowering, call: Call, terms: Value) -> Value:
    """The mean or sum of all entries, or these themselves."""
    reduction = low.constant_int(call["reduction"])
    if reduction == 0:
        return terms
    return low.sum(terms, tuple(range(len(terms.dims))), False, mean=reduction == 1)


@rule("huber_loss", "smooth_l1_loss")
def huber_loss(low: Lowering, call: Call) -> Value:
    """x^2 / 2 up to d, then d (|x| - d / 2): (x^2 - relu(|x| - d)^2) / 2; over d, the smooth L1 loss."""
    a, b = low.value(call["self"]), low.value(call["target"])
    difference = low.add([a, low.scale(b, MINUS)])
    smooth = call.op == "smooth_l1_loss"
    bound = low.number(call["beta" if smooth else "delta"])
    if not bound.coefficient:
        return reduced(low, call, low.map(difference, "abs"))
    above = low.map(low.shift(low.map(difference, "abs"), MINUS * bound), "relu")
    terms = low.add([low.map(difference, "square"), low.scale(low.map(above, "square"), MINUS)])
    terms = low.scale(terms, Scalar(Fraction(1, 2)) * (inverted(bound) if smooth else Scalar()))
    return reduced(low, call, terms)


@rule("binary_cross_entropy_with_logits", "soft_margin_loss")
def logistic_loss(low: Lowering, call: Call) -> Value:
    """log(1 + exp x) - t x, where a `pos_weight` w makes it (1 - t) x + (1 + (w - 1) t) log(1 + exp -x); for the soft
    margin, log(1 + exp -t x)."""
    x, target = low.value(call["self"]), low.operand(call["target"])
    minus = low.scale(x, MINUS)
    if call.op == "soft_margin_loss":
        return reduced(low, call, low.map(product(low, minus, target), "softplus"))
    if call["pos_weight"] is None:
        terms = low.add([low.map(x, "softplus"), product(low, minus, target)])
    else:
        more = product(low, low.shift(low.value(call["pos_weight"]), MINUS), target)
        positive = low.mul(low.shift(more, Scalar()), low.map(minus, "softplus"))
        terms = low.add([x, product(low, minus, target), positive])
    if call["weight"] is not None:
        terms = product(low, terms, low.operand(call["weight"]))
    return reduced(low, call, terms)
