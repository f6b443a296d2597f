"""Rules of sums of products: matrix products, convolutions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tensorprog.graph import Scalar
from tensorprog.torch.lower.registry import rule
from tensorprog.torch.lower.values import Sizes, Value, divide, is_one

if TYPE_CHECKING:
    from tensorprog.torch.lower import Lowering
    from tensorprog.torch.zipped import Call


@rule("mm")
def mm(low: Lowering, call: Call) -> Value:
    return low.contract(low.value(call["self"]), "ik", low.value(call["mat2"]), "kj", "ij")


@rule("bmm")
def bmm(low: Lowering, call: Call) -> Value:
    return low.contract(low.value(call["self"]), "bik", low.value(call["mat2"]), "bkj", "bij")


@rule("mv")
def mv(low: Lowering, call: Call) -> Value:
    return low.contract(low.value(call["self"]), "ik", low.value(call["vec"]), "k", "i")


@rule("dot", "vdot")
def dot(low: Lowering, call: Call) -> Value:
    return low.contract(low.value(call["self"]), "k", low.value(call["tensor"] or call["other"]), "k", "")


@rule("_trilinear")
def trilinear(low: Lowering, call: Call) -> Value:
    """The product of three tensors, each with axes of size 1 put in, summed over some axes."""
    values, rank = [], len(low.shape(call["i1"])) + len(call["expand1"])
    for operand, expand in (("i1", "expand1"), ("i2", "expand2"), ("i3", "expand3")):
        value = low.plain(low.value(call[operand]))
        dims = iter(value.dims)
        new = {low.axis_of(k, rank) for k in call[expand]}
        values.append(value.with_dims(tuple(() if k in new else next(dims) for k in range(rank))))
    labels, summed = list(range(rank)), {low.axis_of(k, rank) for k in call["sumdim"]}
    kept = [k for k in labels if k not in summed]
    first = {k for k in summed if not values[1].dims[k]}  # in the first two factors alone
    inner = [k for k in labels if k not in first or values[0].dims[k]]
    return low.contract(low.contract(values[0], labels, values[2], labels, inner), inner, values[1], labels, kept)


@rule("addmm", "_sparse_addmm", "baddbmm", "addmv", "addbmm")
def addmm(low: Lowering, call: Call) -> Value:
    if call.op == "addmv":
        product = low.contract(low.value(call["mat"]), "ik", low.value(call["vec"]), "k", "i")
    elif call.op.endswith("addmm"):
        product = low.contract(low.value(call["mat1"]), "ik", low.value(call["mat2"]), "kj", "ij")
    else:
        out = "bij" if call.op == "baddbmm" else "ij"
        product = low.contract(low.value(call["batch1"]), "bik", low.value(call["batch2"]), "bkj", out)
    product = low.scale(product, low.number(call["alpha"]))
    beta = low.number(call["beta"])
    if not beta.coefficient:
        return product
    other = low.operand(call["self"])
    if isinstance(other, Scalar):
        return low.shift(product, beta * other)
    assert other is not None
    return low.add([product, low.scale(other, beta)])


@rule("_addmm_activation")
def addmm_activation(low: Lowering, call: Call) -> Value:
    value = addmm(low, call)
    return low.map(value, "gelu" if call["use_gelu"] else "relu")


@rule("_grouped_mm")
def grouped_mm(low: Lowering, call: Call) -> Value:
    low.refuse(
        "groups of rows of data-dependent length", 'experts in a plain form (`experts_implementation="batched_mm"`)'
    )


@rule("convolution", "_convolution", "mkldnn_convolution", "conv1d", "conv2d")
def convolution(low: Lowering, call: Call) -> Value:
    """out[b, (g o), u..] = sum over i and taps of x[b, (g i), stride u + dilation a - padding ..] w[(g o), i, a..]."""
    x, w = low.plain(low.value(call["input"])), low.value(call["weight"])
    spatial = len(low.out_shape(call)) - 2
    stride, padding, dilation = (_each(low, call[k], spatial) for k in ("stride", "padding", "dilation"))
    groups = low.integer(call["groups"])
    if call["transposed"]:
        y = _transposed(low, call, x, w, groups, stride, padding, dilation)
    else:
        y = _direct(low, call, x, w, groups, stride, padding, dilation)
    bias = low.operand(call["bias"])
    if bias is None:
        return y
    assert isinstance(bias, Value)
    return low.add([y, bias.with_dims((*bias.dims, *((),) * spatial))])


@rule("convolution_backward")
def backward_of_convolution(low: Lowering, call: Call) -> tuple[Value | None, ...]:
    """The gradient of what is convolved, as in a gradient penalty: the transposed convolution."""
    if not call["output_mask"][0] or any(call["output_mask"][1:]):
        low.refuse("the gradient of a convolution's weight inside the model", "that of its input alone")
    g, w = low.plain(low.value(call["grad_output"])), low.value(call["weight"])
    spatial = len(low.out_shape(call)) - 2
    numbers = (_each(low, call[k], spatial) for k in ("stride", "padding", "dilation"))
    back = _direct if call["transposed"] else _transposed
    return back(low, call, g, w, low.integer(call["groups"]), *numbers), None, None


def _each(low: Lowering, arg: Any, count: int) -> list[int]:
    numbers = [low.constant_int(k) for k in (arg if isinstance(arg, list) else [arg])]
    return numbers * count if len(numbers) == 1 else numbers


def _grouped(low: Lowering, value: Value, dim: int, groups: Sizes) -> Value:
    """An axis of channels as (group, channel within it)."""
    whole = [value.sizes(k, low.points) for k in range(len(value.dims))]
    rest = divide(whole[dim], groups)
    assert rest is not None
    return low.view(value, [*whole[:dim], groups, rest, *whole[dim + 1 :]])


def _direct(low: Lowering, call: Call, x: Value, w: Value, groups: Sizes, stride: list[int], padding: list[int],
            dilation: list[int]) -> Value:  # fmt: skip
    spatial = len(stride)
    out, kernel = low.out_shape(call), low.shape(call["weight"])
    taps: list[str] = []
    for k in range(spatial):
        size = low.constant_int(kernel[2 + k][0]) if len(set(kernel[2 + k])) == 1 else low.refuse("a kernel that grows")
        if size == 1 and stride[k] == 1 and not padding[k]:
            taps.append("")
        elif size == 1 and not padding[k]:
            x = low.window(x, 2 + k, (0,) * low.points, out[2 + k], stride[k])
            taps.append("")
        else:
            x = low.taps(x, 2 + k, size, out[2 + k], stride[k], dilation[k], -padding[k])
            taps.append(f"a{k}")
    # x: b, (g i), u.., taps..   w: (g o), i, a..
    x, w = _grouped(low, x, 1, groups), _grouped(low, w, 0, groups)
    u = [f"u{k}" for k in range(spatial)]
    left = ["b", "g", "i", *u, *(t for t in taps if t)]
    right = ["g", "o", "i", *(t or f"one{k}" for k, t in enumerate(taps))]
    y = low.contract(x, left, w, right, ["b", "g", "o", *u])
    return _joined_groups(y)


def _joined_groups(y: Value) -> Value:
    return y.with_dims((y.dims[0], y.dims[1] + y.dims[2], *y.dims[3:]))


def _transposed(low: Lowering, call: Call, x: Value, w: Value, groups: Sizes, stride: list[int], padding: list[int],
                dilation: list[int]) -> Value:  # fmt: skip
    spatial = len(stride)
    out, kernel = low.out_shape(call), low.shape(call["weight"])
    # x: b, (g i), u..   w: (g i), o, a..
    x, w = _grouped(low, x, 1, groups), _grouped(low, w, 0, groups)
    u, a = [f"u{k}" for k in range(spatial)], [f"a{k}" for k in range(spatial)]
    y = _joined_groups(low.contract(x, ["b", "g", "i", *u], w, ["g", "i", "o", *a], ["b", "g", "o", *u, *a]))
    for k in range(spatial):
        rank = len(y.dims)
        order = [d for d in range(rank) if d != 2 + spatial]  # the next tap axis goes last
        y = y.with_dims((*(y.dims[d] for d in order), y.dims[2 + spatial]))
        if is_one(kernel[2 + k]) and stride[k] == 1 and not padding[k]:
            y = y.with_dims(y.dims[:-1])
        else:
            y = low.untap(y, 2 + k, out[2 + k], stride[k], dilation[k], -padding[k])
    return y
