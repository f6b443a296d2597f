"""Numbers, sizes, positions and initialisers as the language writes them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from tensorprog.dims import Dim
from tensorprog.errors import TensorProgError
from tensorprog.graph import Fold, Graph, Node, Scalar
from tensorprog.parameters import Init


def refuse(what: str) -> TensorProgError:
    return TensorProgError(f"{what} cannot be written in the language", why="--emit-tp writes index notation",
                           fix="the command without --emit-tp: only the text cannot be written")  # fmt: skip


def only_use(graph: Graph, scalar: Scalar) -> bool:
    """Whether a number is only what stands between a parameter and a use of it, which the language does not write."""
    return (scalar.coefficient == 1 and not scalar.powers
            and all(graph.unknowns[u].kind == "use" for u in scalar.unknowns))  # fmt: skip


def is_count(scalar: Scalar, dims: list[Dim], sign: int) -> bool:
    """Whether a number is one over the product of these sizes (compared at two sets of symbols)."""
    symbols = {s for d in dims for s in d.symbols} | {s for d, _ in scalar.powers for s in d.symbols}
    for base in (7, 11):
        values = {s: base + k for k, s in enumerate(sorted(symbols))}
        count = Fraction(1)
        for d in dims:
            count *= d.evaluate(values)
        number = scalar.coefficient * sign
        for d, p in scalar.powers:
            if p.denominator != 1:
                return False
            number *= d.evaluate(values) ** int(p)
        if number * count != 1:
            return False
    return True


def times(coefficient: int, name: str) -> str:
    return name if coefficient == 1 else f"{coefficient} {name}"


def tiles(node: Node, nodes: Sequence[Node]) -> bool:
    """Whether a scattering puts windows side by side, without overlap."""
    op = node.op
    if not isinstance(op, Fold) or not op.taps or op.dilation != 1 or op.offset.terms:
        return False
    u, a = (nodes[node.args[0]].axes[op.axis + k].dim for k in (0, 1))
    return a == Dim.of(op.stride) and node.axes[op.axis].dim == u * a


def shifted(name: str, stride: int, offset: Dim) -> str:
    if name == "0":
        return f"{offset}" if offset.constant is not None else f"({offset})"
    text = times(stride, name)
    return text + (offset_text(offset) or (" + 0" if stride == 1 else ""))


def offset_text(offset: Dim) -> str:
    if not offset.terms:
        return ""
    constant = offset.constant
    if constant is not None:
        return f" + {constant}" if constant > 0 else f" - {-constant}"
    negative = all(c < 0 for _, c in offset.terms)
    return f" - ({-offset})" if negative else f" + ({offset})"


def dim_text(dim: Dim) -> str:
    text = str(dim)
    return text if re.fullmatch(r"\w+", text) else f"({text})"


def number_text(value: Fraction) -> str:
    if value.denominator == 1 and abs(value) < 10**12:
        return str(value)
    text = repr(float(value))
    return text if "e" not in text or abs(value) > Fraction(1, 10**300) else "0"


def init_text(init: Init) -> str:
    match init.kind:
        case "zeros" | "ones":
            return f" = {init.kind}"
        case "constant":
            return (
                " = ones" if init.value in (None, 1.0) else f" = constant({number_text(Fraction(init.value or 0.0))})"
            )
        case _:
            return "" if init.value is None else f" = normal({number_text(Fraction(init.value))})"
