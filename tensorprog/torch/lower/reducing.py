"""The rule that gathers many entries into one place: the sum, mean or largest of what is written there."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from tensorprog.graph import Scalar
from tensorprog.torch.lower.data import BIG, MASKED
from tensorprog.torch.lower.elementwise import MINUS, product
from tensorprog.torch.lower.nodes import scalar_of
from tensorprog.torch.lower.positions import row_values
from tensorprog.torch.lower.registry import rule
from tensorprog.torch.lower.values import Value
from tensorprog.torch.trace import Ref

if TYPE_CHECKING:
    from tensorprog.torch.lower import Lowering
    from tensorprog.torch.zipped import Call


@rule("scatter_reduce")
def scatter_reduce(low: Lowering, call: Call) -> Value:
    """out[.., i, ..] of the entries whose index is i, and, if it is included, of what was there."""
    out, how, base = low.out_shape(call), call["reduce"], low.operand(call["self"])
    assert base is not None
    if how not in ("sum", "mean", "amax", "amin"):
        low.refuse(f"it reduces by `{how}`", "sum, mean, amax or amin")
    counts = _counts(low, call["index"], low.axis_of(call["dim"], len(out)), tuple(zip(*out, strict=True)))
    sign = MINUS if how == "amin" else Scalar()
    source, base = low.scale(low.value(call["src"]), sign), _product(low, base, sign)
    dim = low.axis_of(call["dim"], len(out))
    rows = row_values(low, call["index"], out[dim])
    old: list[Any] = [("old", k) for k in range(len(out))]
    own = [("new", k) if k == dim else ("old", k) for k in range(len(out))]
    if how.startswith("am"):
        others = low.scale(low.shift(low.scale(rows, MINUS), Scalar()), scalar_of(MASKED))
        rows = low.mul(rows, low.top_k(low.add([source.with_dims((*source.dims, ())), others]), dim, 1))
    part = low.contract(rows, [*own, ("old", dim)], source, own, old)
    included = bool(call["include_self"])
    if how == "mean":
        shares = tuple(1.0 / np.maximum(c + included, 1) for c in counts)
        part = low.mul(part, low.data.real(shares, "shares"))
        base = _product(low, base, low.data.real(shares, "shares")) if included else base
    nothing = isinstance(base, Scalar) and base.coefficient <= -BIG
    if included and how.startswith("am") and not nothing:
        larger = low.map(_plus(low, part, _product(low, base, MINUS)), "relu")
        part = low.mul(larger, low.data.real(tuple((c > 0).astype(float) for c in counts), "hit"))
    elif not included or nothing:
        free = tuple((c == 0).astype(float) for c in counts)
        base = _product(low, base, low.data.real(free, "free")) if any(f.any() for f in free) else Scalar(Fraction(0))
    return low.scale(_plus(low, part, base), sign)


def _product(low: Lowering, a: Value | Scalar, b: Value | Scalar) -> Value | Scalar:
    if isinstance(a, Scalar) and (isinstance(b, Scalar) or not a.coefficient):
        return a * b if isinstance(b, Scalar) else a
    return product(low, a, b)


def _plus(low: Lowering, a: Value, b: Value | Scalar) -> Value:
    return low.shift(a, b) if isinstance(b, Scalar) else low.add([a, b])


def _counts(low: Lowering, arg: Any, dim: int, shapes: Any) -> tuple[Any, ...]:
    """How many entries are written to each place, at every point."""
    if not isinstance(arg, Ref) or low.zipped.leaf(arg.value) is None:
        low.refuse("it writes to positions that depend on activations", "scatter_add")
    counts = []
    for at, shape in zip(low.data.at(arg.value), shapes, strict=True):
        places = list(np.indices(at.shape))
        places[dim] = at
        counts.append(np.zeros(shape))
        np.add.at(counts[-1], tuple(places), 1)
    return tuple(counts)
