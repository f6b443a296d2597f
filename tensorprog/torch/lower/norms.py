"""Rules of the composite normalisations: the nodes that the standard blocks of the language are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tensorprog.graph import Scalar
from tensorprog.torch.lower.elementwise import MINUS
from tensorprog.torch.lower.registry import rule
from tensorprog.torch.lower.roots import root
from tensorprog.torch.lower.values import Value, divide

if TYPE_CHECKING:
    from tensorprog.torch.lower import Lowering
    from tensorprog.torch.zipped import Call


def centred(low: Lowering, value: Value, dims: tuple[int, ...]) -> Value:
    return low.add([value, low.scale(low.sum(value, dims, True, mean=True), MINUS)])


def normalised(low: Lowering, value: Value, dims: tuple[int, ...], eps: float, centre: bool = True) -> Value:
    """(x - mean) / rms over some axes of the tensor."""
    value = centred(low, low.plain(value), dims) if centre else low.plain(value)
    return low.mul(value, low.inverse_rms(value, dims, eps))


def affine(low: Lowering, value: Value, call: Call, extra: int) -> Value:
    """times `weight`, plus `bias`; these have `extra` axes of size 1 after theirs."""
    for name, combine in (("weight", low.mul), ("bias", lambda a, b: low.add([a, b]))):
        operand = low.operand(call[name])
        if isinstance(operand, Scalar):
            value = low.scale(value, operand) if name == "weight" else low.shift(value, operand)
        elif operand is not None:
            value = combine(value, operand.with_dims((*operand.dims, *((),) * extra)))
    return value


@rule("native_layer_norm")
def layer_norm(low: Lowering, call: Call) -> tuple[Value, None, None]:
    value = low.value(call["input"])
    rank = len(value.dims)
    dims = tuple(range(rank - len(call["normalized_shape"]), rank))
    return affine(low, normalised(low, value, dims, float(call["eps"])), call, 0), None, None


@rule("_fused_rms_norm", "rms_norm")
def rms_norm(low: Lowering, call: Call) -> Any:
    value = low.value(call["input"])
    rank = len(value.dims)
    dims = tuple(range(rank - len(call["normalized_shape"]), rank))
    eps = float(call["eps"]) if call["eps"] is not None else 1.2e-7
    result = affine(low, normalised(low, value, dims, eps, centre=False), call, 0)
    return (result, None) if len(call.outputs) == 2 else result


@rule("native_group_norm")
def group_norm(low: Lowering, call: Call) -> tuple[Value, None, None]:
    value = low.plain(low.value(call["input"]))
    sizes = [value.sizes(k, low.points) for k in range(len(value.dims))]
    groups = low.integer(call["group"])
    within = divide(sizes[1], groups)
    assert within is not None
    split = low.view(value, [sizes[0], groups, within, *sizes[2:]])
    result = normalised(low, split, tuple(range(2, len(sizes) + 1)), float(call["eps"]))
    whole = result.with_dims((result.dims[0], result.dims[1] + result.dims[2], *result.dims[3:]))
    return affine(low, whole, call, len(sizes) - 2), None, None


@rule("native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_functional", "cudnn_batch_norm",
      "_batch_norm_with_update", "batch_norm")  # fmt: skip
def batch_norm(low: Lowering, call: Call) -> tuple[Value | None, ...]:
    value = low.value(call["input"])
    rank = len(value.dims)
    training = call["training"] if call["training"] is not None else True
    if not training:
        low.refuse("a batch normalisation with stored statistics", "training mode, or a frozen affine map")
    dims = tuple(k for k in range(rank) if k != 1)
    result = affine(low, normalised(low, value, dims, float(call["eps"])), call, rank - 2)
    return (result, *(None,) * (len(call.outputs) - 1))


@rule("_weight_norm_interface")
def weight_norm(low: Lowering, call: Call) -> tuple[Value, None]:
    v, g = low.value(call["v"]), low.value(call["g"])
    dim = low.axis_of(call["dim"], len(v.dims))
    dims = tuple(k for k in range(len(v.dims)) if k != dim)
    squares = low.sum(low.map(v, "square"), dims, True)
    return low.mul(low.mul(v, root(low, squares, inverse=True)), g), None
