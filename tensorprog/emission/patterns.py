"""Layers a PyTorch user recognises, found in the steps of a module: linear, embedding, reductions, selection, concat.

Every `find_*` looks at one value and returns how to compute it, or None. A value inside a pattern must have no
other user: `Frame.once`. Larger patterns: attention.py, norms.py, convolutions.py, pooling.py.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tensorprog.dims import BATCH, Dim
from tensorprog.emission.format import Code, call, index, method
from tensorprog.emission.frame import Frame, Match, is_inverse_size, permuted
from tensorprog.graph import Add, Contract, Fold, Scalar, Scale, TopK, Window


@dataclass(frozen=True, slots=True)
class Product:
    """A binary contraction: factor * sum left[l] right[r] -> out, with scalings moved into the factor."""

    factor: Scalar
    left: int
    right: int
    lefts: tuple[int, ...]
    rights: tuple[int, ...]
    out: tuple[int, ...]

    def swapped(self) -> Product:
        return replace(self, left=self.right, right=self.left, lefts=self.rights, rights=self.lefts)

    @property
    def summed(self) -> frozenset[int]:
        return frozenset((*self.lefts, *self.rights)) - frozenset(self.out)


def find_product(frame: Frame, value: int) -> Product | None:
    op = frame.op(value)
    if not isinstance(op, Contract) or op.right is None:
        return None
    left, right = frame.args(value)
    (first, left), (second, right) = frame.peel(left), frame.peel(right)
    return Product(first * second, left, right, op.left, op.right, op.out)


# --- contractions with a weight -----------------------------------------------------------------------


def find_embedding(frame: Frame, value: int) -> Match | None:
    """Tokens looked up in a table."""
    product = find_product(frame, value)
    if product is None:
        return None
    if product.left not in frame.tokens:
        product = product.swapped()
    if product.left not in frame.tokens:
        return None
    *places, word = product.lefts
    if product.summed != {word} or set(places) & set(product.rights):
        return None
    axis = product.rights.index(word)
    kept = [i for i in product.rights if i != word]
    found = (*places, *kept)
    scaled = frame.scaled

    def render(codes: Sequence[Code]) -> Code:
        tokens, table = codes
        table = permuted(table, [axis, *(a for a in range(len(product.rights)) if a != axis)])
        code = call("F.embedding", tokens, table) if len(product.rights) == 2 else index(table, tokens.text)
        return scaled(product.factor, permuted(code, [found.index(i) for i in product.out]))

    return Match((product.left, product.right), render, (0,))


def find_linear(frame: Frame, value: int, bias: int | None = None) -> Match | None:
    """A matrix applied to the last axis, with an optional bias; matrix products of two activations."""
    product = find_product(frame, value)
    if product is None or len(product.summed) != 1 or {product.left, product.right} & frame.tokens:
        return None
    for p in (product, product.swapped()):
        (k,) = product.summed
        if len(p.lefts) < 1 or p.lefts[-1] != k or not frame.is_weight(p.right) or set(p.lefts[:-1]) & set(p.rights):
            continue
        if len(p.rights) == 2 and p.rights[1] == k and p.out == (*p.lefts[:-1], p.rights[0]):
            return _linear(frame, p, bias)
        if bias is None and len(p.rights) == 2 and p.rights[0] == k and p.out == (*p.lefts[:-1], p.rights[1]):
            return _matmul(frame, p, "", "")
        if bias is None and p.rights == (k,) and p.out == p.lefts[:-1]:
            return _matmul(frame, p, "", "")
    if bias is not None:
        return None
    for p in (product, product.swapped()):
        m, n = p.out[-2:] if len(p.out) >= 2 else (-1, -1)
        common = p.out[:-2]
        if len(p.lefts) != len(p.rights) or len(p.lefts) < 2 or p.lefts[:-2] != common or p.rights[:-2] != common:
            continue
        (k,) = product.summed
        left, right = p.lefts[-2:], p.rights[-2:]
        if set(left) == {m, k} and set(right) == {k, n}:
            return _matmul(frame, p, "" if left == (m, k) else ".mT", "" if right == (k, n) else ".mT")
    return None


def _linear(frame: Frame, p: Product, bias: int | None) -> Match:
    def render(codes: Sequence[Code]) -> Code:
        x, *others = codes
        return call("F.linear", frame.scaled(p.factor, x), *others)

    return Match((p.left, p.right) if bias is None else (p.left, p.right, bias), render)


def _matmul(frame: Frame, p: Product, left: str, right: str) -> Match:
    def render(codes: Sequence[Code]) -> Code:
        a, b = codes
        a = method_free(a, left)
        b = method_free(b, right)
        return Code(f"{frame.scaled(p.factor, a).at(2)} @ {b.at(3)}", 2)

    return Match((p.left, p.right), render)


def method_free(code: Code, suffix: str) -> Code:
    """`code.mT`."""
    return Code(f"{code.at(5)}{suffix}") if suffix else code


def find_einsum(frame: Frame, value: int) -> Match | None:
    """Any contraction that sums something."""
    product = find_product(frame, value)
    if product is None or not product.summed:
        return None
    letters = _letters(frame, product)
    spec = ",".join("".join(letters[i] for i in part) for part in (product.lefts, product.rights))
    spec += "->" + "".join(letters[i] for i in product.out)

    def render(codes: Sequence[Code]) -> Code:
        return frame.scaled(product.factor, call("torch.einsum", f'"{spec}"', *codes))

    return Match((product.left, product.right), render)


def _letters(frame: Frame, product: Product) -> dict[int, str]:
    """A letter per index: its own name if that is one letter and free, `b` for the batch."""
    found: dict[int, str] = {}
    spare = list(string.ascii_letters)
    axes = [
        *zip(product.lefts, frame.axes(product.left), strict=True),
        *zip(product.rights, frame.axes(product.right), strict=True),
    ]
    for i, axis in sorted(axes, key=lambda pair: pair[1].dim != BATCH):
        letter = "b" if axis.dim == BATCH else axis.label
        if i not in found and letter in spare:
            found[i] = letter
            spare.remove(letter)
    for i, _ in axes:
        if i not in found:
            found[i] = spare.pop(0)
    return found


# --- reductions and selection -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Mean:
    """A sum or mean of x over axes."""

    x: int
    axes: tuple[int, ...]
    mean: bool


def find_reduction(frame: Frame, value: int) -> Mean | None:
    """sum or mean over axes, the others in order."""
    op = frame.op(value)
    scalar = Scalar()
    total = value
    if isinstance(op, Scale):
        scalar, total = op.scalar, frame.args(value)[0]
        if not frame.once(total):
            return None
        op = frame.op(total)
    if not isinstance(op, Contract) or op.right is not None or len(op.out) == len(op.left):
        return None
    axes = tuple(a for a, i in enumerate(op.left) if i not in op.out)
    if op.out != tuple(i for i in op.left if i in op.out):
        return None
    (x,) = frame.args(total)
    if total == value:
        return Mean(x, axes, False)
    return Mean(x, axes, True) if is_inverse_size(scalar, [frame.dims(x)[a] for a in axes]) else None


def find_max(frame: Frame, value: int) -> Match | None:
    """The largest entry along an axis: x masked by its top 1, summed."""
    product = find_product(frame, value)
    if product is None:
        return None
    for p in (product, product.swapped()):
        top = frame.op(p.right)
        if not isinstance(top, TopK) or top.k != 1 or not frame.once(p.right):
            continue
        if frame.args(p.right)[0] != p.left or p.lefts != p.rights or p.factor != Scalar():
            continue
        if p.out != tuple(i for axis, i in enumerate(p.lefts) if axis != top.axis):
            continue
        return Match((p.left,), _largest(top.axis))
    return None


def _largest(axis: int) -> Callable[[Sequence[Code]], Code]:
    return lambda codes: Code(method(codes[0], "max", dim=str(axis)).text + ".values")


def find_concat(frame: Frame, value: int) -> Match | None:
    """A sum of tensors laid side by side along one axis (perhaps with that axis moved to another place and back)."""
    op = frame.op(value)
    if not isinstance(op, Add) or len(op.places) < 2 or len(set(op.places)) > 1:
        return None
    (place,) = set(op.places)
    if sorted(place) != list(range(frame.rank(value))):
        return None
    end = Dim(())
    axis: int | None = None
    parts: list[int] = []
    for arg in frame.args(value):
        fold = frame.op(arg)
        if not isinstance(fold, Fold) or fold.taps or fold.stride != 1 or not frame.once(arg):
            return None
        if fold.offset != end or axis not in (None, fold.axis):
            return None
        axis = fold.axis
        parts.append(frame.args(arg)[0])
        end = end + frame.dims(parts[-1])[axis]
    if axis is None or end != frame.dims(value)[place[axis]]:
        return None
    if place != tuple(range(len(place))):
        if not all(_is_moved(frame, part, place) for part in parts):
            return None
        parts = [frame.args(part)[0] for part in parts]
    joined = str(place[axis])

    def render(codes: Sequence[Code]) -> Code:
        return call("torch.cat", f"[{', '.join(c.text for c in codes)}]", dim=joined)

    return Match(tuple(parts), render)


def _is_moved(frame: Frame, value: int, place: tuple[int, ...]) -> bool:
    """Whether a tensor is another one with its axes in the order `place`, used only here."""
    op = frame.op(value)
    return (
        isinstance(op, Contract)
        and op.right is None
        and frame.once(value)
        and (tuple(op.left.index(i) for i in op.out) == place)
    )


def find_select(frame: Frame, value: int) -> Match | None:
    """One position of an axis: a window of size one, summed away."""
    op = frame.op(value)
    if not isinstance(op, Contract) or op.right is not None or len(op.out) != len(op.left) - 1:
        return None
    gone = next(axis for axis, i in enumerate(op.left) if i not in op.out)
    (window,) = frame.args(value)
    found = frame.op(window)
    if not isinstance(found, Window) or found.taps or found.axis != gone or frame.dims(window)[gone].constant != 1:
        return None
    if not frame.once(window) or op.out != tuple(i for i in op.left if i in op.out):
        return None
    (x,) = frame.args(window)
    size = frame.dims(x)[gone]
    if size - found.offset == Dim.of(1):
        position = "-1"
    elif found.offset.constant is not None and found.offset.constant >= 0:
        position = str(found.offset.constant)
        if size.constant is not None and found.offset.constant >= size.constant:
            return None
    else:
        return None

    def render(codes: Sequence[Code]) -> Code:
        return index(codes[0], *[":"] * gone, position)

    return Match((x,), render)


def inverse_root(x: Code, axes: Sequence[int], eps: float) -> Code:
    """(mean over axes of x^2 + eps)^(-1/2)."""
    mean = method(method(x, "square"), "mean", dims_text(axes))
    return call("torch.rsqrt", f"{mean.text} + {eps!r}")


def dims_text(axes: Sequence[int]) -> str:
    """The `dim` argument of a reduction."""
    return f"dim={axes[0]}" if len(axes) == 1 else f"dim=({', '.join(map(str, axes))})"
