"""Layers a PyTorch user recognises, found in the steps of a module: linear, embedding, attention, norms, concat.

Every `find_*` looks at one value and returns how to compute it, or None. A value inside a pattern must have no
other user: `Frame.once`. Convolutions are in convolutions.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from tensorprog.dims import BATCH, Dim
from tensorprog.emit.format import Code, call, index, method, number, power
from tensorprog.emit.frame import Frame, Match, is_inverse_size, permuted
from tensorprog.graph import Add, Const, Contract, Fold, InvRms, Merge, Scalar, Scale, Softmax, Split, TopK, Window

MINUS = Scalar(Fraction(-1))


@dataclass(frozen=True, slots=True)
class Product:
    """A binary contraction: factor * sum left[l] right[r] -> out, with scalings moved into the factor."""

    factor: Scalar
    left: int
    right: int
    l: tuple[int, ...]
    r: tuple[int, ...]
    out: tuple[int, ...]

    def swapped(self) -> Product:
        return replace(self, left=self.right, right=self.left, l=self.r, r=self.l)

    @property
    def summed(self) -> frozenset[int]:
        return frozenset((*self.l, *self.r)) - frozenset(self.out)


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
    *places, word = product.l
    if product.left not in frame.tokens or product.summed != {word} or set(places) & set(product.r):
        return None
    axis = product.r.index(word)
    kept = [i for i in product.r if i != word]
    found = (*places, *kept)
    scaled = frame.scaled

    def render(codes: Sequence[Code]) -> Code:
        tokens, table = codes
        table = permuted(table, [axis, *(a for a in range(len(product.r)) if a != axis)])
        code = call("F.embedding", tokens, table) if len(product.r) == 2 else index(table, tokens.text)
        return scaled(product.factor, permuted(code, [found.index(i) for i in product.out]))

    return Match((product.left, product.right), render, (0,))


def find_linear(frame: Frame, value: int, bias: int | None = None) -> Match | None:
    """A matrix applied to the last axis, with an optional bias; matrix products of two activations."""
    product = find_product(frame, value)
    if product is None or len(product.summed) != 1 or {product.left, product.right} & frame.tokens:
        return None
    for p in (product, product.swapped()):
        (k,) = product.summed
        if len(p.l) < 1 or p.l[-1] != k or not frame.is_weight(p.right) or set(p.l[:-1]) & set(p.r):
            continue
        if len(p.r) == 2 and p.r[1] == k and p.out == (*p.l[:-1], p.r[0]):
            return _linear(frame, p, bias)
        if bias is None and len(p.r) == 2 and p.r[0] == k and p.out == (*p.l[:-1], p.r[1]):
            return _matmul(frame, p, "", "")
        if bias is None and p.r == (k,) and p.out == p.l[:-1]:
            return _matmul(frame, p, "", "")
    if bias is not None:
        return None
    for p in (product, product.swapped()):
        m, n = p.out[-2:] if len(p.out) >= 2 else (-1, -1)
        common = p.out[:-2]
        if len(p.l) != len(p.r) or len(p.l) < 2 or p.l[:-2] != common or p.r[:-2] != common:
            continue
        (k,) = product.summed
        left, right = p.l[-2:], p.r[-2:]
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
    spec = ",".join("".join(letters[i] for i in part) for part in (product.l, product.r))
    spec += "->" + "".join(letters[i] for i in product.out)

    def render(codes: Sequence[Code]) -> Code:
        return frame.scaled(product.factor, call("torch.einsum", f'"{spec}"', *codes))

    return Match((product.left, product.right), render)


def _letters(frame: Frame, product: Product) -> dict[int, str]:
    """A letter per index: its own name if that is one letter and free, `b` for the batch."""
    found: dict[int, str] = {}
    spare = [c for c in "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"]
    axes = [
        *zip(product.l, frame.axes(product.left), strict=True),
        *zip(product.r, frame.axes(product.right), strict=True),
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


# --- attention ----------------------------------------------------------------------------------------


def find_attention(frame: Frame, value: int) -> Match | None:
    """Scores, softmax over the keys, weighted sum of the values."""
    outer = find_product(frame, value)
    if outer is None:
        return None
    if not isinstance(frame.op(outer.left), Softmax):
        outer = outer.swapped()
    softmax = frame.op(outer.left)
    if not isinstance(softmax, Softmax) or not frame.once(outer.left):
        return None
    before, scores = frame.peel(frame.args(outer.left)[0])
    inner = find_product(frame, scores)
    if inner is None or not frame.once(scores):
        return None
    # name every index by its place in the outer product; the head axis e is new
    place = dict(zip(inner.out, outer.l, strict=True))
    fresh = max((*outer.l, *outer.r, *outer.out)) + 1
    if len(inner.summed) != 1 or (s := outer.l[softmax.axis]) not in outer.r or outer.summed != {s}:
        return None
    (e,) = inner.summed
    place[e] = fresh
    sides = [tuple(place[i] for i in inner.l), tuple(place[i] for i in inner.r)]
    operands = [inner.left, inner.right]
    if s in sides[0]:
        sides.reverse()
        operands.reverse()
    q, k = sides
    if s in q or s not in k:
        return None
    v = outer.r
    own = [i for i in q if i not in k and i not in v and i in outer.out]
    d = [i for i in v if i not in q and i != s]
    shared = [i for i in q if i in k]
    groups = [i for i in q if i != fresh and (i in k or i in v or i in own)]
    if len(d) != 1 or shared[-1:] == [] or any(i not in q for i in k if i != s):
        return None
    if softmax.mask is None:
        candidates = [i for i in reversed(own)]
    else:
        key, compare, query = softmax.mask
        candidates = [outer.l[query]] if outer.l[key] == s and compare == "<=" else []
    candidates = [t for t in candidates if t in own]
    if not candidates:
        return None
    t = candidates[0]
    batch = [i for i in groups if i != t]
    if sorted([*batch, t, d[0]]) != sorted(outer.out) or any(i not in batch for i in v if i not in (s, d[0])):
        return None
    result = (*batch, t, d[0])
    scale = before * inner.factor
    causal = softmax.mask is not None

    def render(codes: Sequence[Code]) -> Code:
        query_code = permuted(codes[0], [q.index(i) for i in (*batch, t, fresh)])
        key_code = _spread(codes[1], k, (*batch, s, fresh))
        value_code = _spread(codes[2], v, (*batch, s, d[0]))
        factor = frame.scalar(scale) or number(1.0)
        keywords = {"scale": factor.text}
        if causal:
            keywords["is_causal"] = "True"
        code = call("F.scaled_dot_product_attention", query_code, key_code, value_code, **keywords)
        return frame.scaled(outer.factor, permuted(code, [result.index(i) for i in outer.out]))

    return Match((operands[0], operands[1], outer.right), render)


def _spread(code: Code, have: Sequence[int], want: Sequence[int]) -> Code:
    """Axes in the order of `want`, with a None for each one that is missing."""
    present = [i for i in want if i in have]
    code = permuted(code, [have.index(i) for i in present])
    if len(present) == len(want):
        return code
    marks = [":" if i in have else "None" for i in want]
    while marks[-1] == ":":
        marks.pop()
    return index(code, *marks)


# --- reductions and normalisation -----------------------------------------------------------------------


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


@dataclass(frozen=True, slots=True)
class Norm:
    """x divided by its root mean square over axes, perhaps after subtracting its mean there; gain, bias per `side`."""

    x: int
    axes: tuple[int, ...]
    eps: float
    centred: bool
    gain: int | None = None
    bias: int | None = None
    side: int | None = None
    inside: frozenset[int] = frozenset()


def find_norm(frame: Frame, value: int) -> Norm | None:
    """A normalisation whose pieces nobody else needs."""
    norm = _find_norm(frame, value)
    return norm if norm and _closed(frame, norm, value) else None


def _closed(frame: Frame, norm: Norm, value: int) -> bool:
    """Whether all uses of the inner values come from the pattern itself."""
    inner = norm.inside - {norm.x}
    used: dict[int, int] = {}
    for v in {*inner, value}:
        for a in frame.args(v):
            used[a] = used.get(a, 0) + 1
    return all(frame.uses[v] <= used.get(v, 0) for v in inner)


def _find_norm(frame: Frame, value: int) -> Norm | None:
    op = frame.op(value)
    if isinstance(op, Add) and len(op.places) == 2:
        for a, b in ((0, 1), (1, 0)):
            body, bias = frame.args(value)[a], frame.args(value)[b]
            if op.places[a] != tuple(range(frame.rank(value))) or len(op.places[b]) != 1:
                continue
            norm = _find_norm(frame, body)
            if norm and norm.bias is None and norm.side in (None, op.places[b][0]):
                return replace(norm, bias=bias, side=op.places[b][0], inside=norm.inside | {body})
        return None
    if not isinstance(op, Contract) or op.right is None or set(op.left) | set(op.right) != set(op.out):
        return None
    for a, b in ((0, 1), (1, 0)):
        indices = (op.left, op.right)
        body, other = frame.args(value)[a], frame.args(value)[b]
        if indices[a] != op.out:
            continue
        inverse = frame.op(other)
        if isinstance(inverse, InvRms) and frame.args(other)[0] == body:
            kept = tuple(i for axis, i in enumerate(op.out) if axis not in inverse.axes)
            if indices[b] != kept:
                continue
            plain = Norm(body, inverse.axes, inverse.eps, False, inside=frozenset({other}))
            return _centred(frame, plain) or plain
        if len(indices[b]) == 1:
            norm = _find_norm(frame, body)
            side = op.out.index(indices[b][0])
            if norm and norm.gain is None and norm.bias is None:
                return replace(norm, gain=other, side=side, inside=norm.inside | {body})
    return None


def _centred(frame: Frame, norm: Norm) -> Norm | None:
    """The same norm with the subtraction of the mean included."""
    op = frame.op(norm.x)
    if not isinstance(op, Add) or len(op.places) != 2:
        return None
    for a, b in ((0, 1), (1, 0)):
        x, negative = frame.args(norm.x)[a], frame.args(norm.x)[b]
        scaling = frame.op(negative)
        if op.places[a] != tuple(range(frame.rank(norm.x))) or not isinstance(scaling, Scale):
            continue
        kept = tuple(axis for axis in op.places[a] if axis not in norm.axes)
        if op.places[b] != kept:
            continue
        total = frame.args(negative)[0]
        scalar = scaling.scalar * MINUS
        inner = {negative, norm.x}
        while isinstance(more := frame.op(total), Scale):
            scalar = scalar * more.scalar
            inner.add(total)
            total = frame.args(total)[0]
        summing = frame.op(total)
        if not isinstance(summing, Contract) or summing.right is not None or frame.args(total) != (x,):
            continue
        inner.add(total)
        gone = tuple(axis for axis, i in enumerate(summing.left) if i not in summing.out)
        order = tuple(i for i in summing.left if i in summing.out)
        if gone == norm.axes and order == summing.out and is_inverse_size(scalar, [frame.dims(x)[g] for g in gone]):
            return replace(norm, x=x, centred=True, inside=norm.inside | frozenset(inner))
    return None


def render_norm(frame: Frame, value: int, norm: Norm) -> Match | None:
    """`F.layer_norm`, `F.rms_norm`, `F.batch_norm`, if it is one of these."""
    rank = frame.rank(norm.x)
    if (norm.gain is not None and frame.rank(norm.gain) != 1) or (norm.bias is not None and frame.rank(norm.bias) != 1):
        return None
    dims = frame.axes(norm.x)
    side = norm.side
    affine = tuple(v for v in (norm.gain, norm.bias) if v is not None)

    def options(codes: Sequence[Code]) -> dict[str, str]:
        rest = list(codes[1:])
        found = {}
        if norm.gain is not None:
            found["weight"] = rest.pop(0).text
        if norm.bias is not None:
            found["bias"] = rest.pop(0).text
        return found

    eps = repr(norm.eps)
    if norm.axes == (rank - 1,) and side in (None, rank - 1) and (norm.centred or norm.bias is None):
        name = "F.layer_norm" if norm.centred else "F.rms_norm"

        def last_axis(codes: Sequence[Code]) -> Code:
            size = frame.size(dims[-1].dim, dims[-1].label).text
            return call(name, codes[0], f"({size},)", **options(codes), eps=eps)

        return Match((norm.x, *affine), last_axis)
    if norm.centred and rank > 1 and norm.axes == tuple(a for a in range(rank) if a != 1) and side in (None, 1):

        def batch(codes: Sequence[Code]) -> Code:
            return call("F.batch_norm", codes[0], "None", "None", **options(codes), training="True", eps=eps)

        return Match((norm.x, *affine), batch)
    return None


def find_group_norm(frame: Frame, value: int) -> Match | None:
    """Channels split into groups, normalised over all but the batch and the group, and merged again."""
    op, gain, bias, side = frame.op(value), None, None, None
    merged = value
    inner: list[int] = []
    if isinstance(op, Add) and len(op.places) == 2:
        for a, b in ((0, 1), (1, 0)):
            if op.places[b] == (1,) and op.places[a] == tuple(range(frame.rank(value))):
                merged, bias, side = frame.args(value)[a], frame.args(value)[b], 1
                op = frame.op(merged)
                inner.append(merged)
                break
    if isinstance(op, Contract) and op.right is not None and set(op.left) | set(op.right) == set(op.out):
        for a, b in ((0, 1), (1, 0)):
            indices = (op.left, op.right)
            if indices[a] == op.out and indices[b] == op.out[1:2]:
                gain, side = frame.args(merged)[b], 1
                merged = frame.args(merged)[a]
                op = frame.op(merged)
                inner.append(merged)
                break
    if not isinstance(op, Merge) or (op.axis, op.count) != (1, 2) or not frame.once(*inner):
        return None
    body = frame.args(merged)[0]
    norm = find_norm(frame, body)
    if norm is None or not frame.once(body) or not norm.centred or norm.gain is not None or norm.bias is not None:
        return None
    split = frame.op(norm.x)
    if not isinstance(split, Split) or (split.axis, split.count) != (1, 2):
        return None
    if norm.axes != tuple(range(2, frame.rank(norm.x))) or frame.uses[norm.x] > 2:
        return None
    groups = frame.axes(norm.x)[1]
    affine = [v for v in (gain, bias) if v is not None]

    def render(codes: Sequence[Code]) -> Code:
        rest = list(codes[1:])
        options = {"weight": rest.pop(0).text} if gain is not None else {}
        if bias is not None:
            options["bias"] = rest.pop(0).text
        count = frame.size(groups.dim, groups.label).text
        return call("F.group_norm", codes[0], count, **options, eps=repr(norm.eps))

    return Match((frame.args(norm.x)[0], *affine), render)


# --- selection --------------------------------------------------------------------------------------------


def find_max(frame: Frame, value: int) -> Match | None:
    """The largest entry along an axis: x masked by its top 1, summed."""
    product = find_product(frame, value)
    if product is None:
        return None
    for p in (product, product.swapped()):
        top = frame.op(p.right)
        if not isinstance(top, TopK) or top.k != 1 or not frame.once(p.right):
            continue
        if frame.args(p.right)[0] != p.left or p.l != p.r or p.factor != Scalar():
            continue
        if p.out != tuple(i for axis, i in enumerate(p.l) if axis != top.axis):
            continue
        axis = top.axis

        def render(codes: Sequence[Code]) -> Code:
            return Code(method(codes[0], "max", dim=str(axis)).text + ".values")

        return Match((p.left,), render)
    return None


def find_concat(frame: Frame, value: int) -> Match | None:
    """A sum of tensors laid side by side along one axis."""
    op = frame.op(value)
    if not isinstance(op, Add) or len(op.places) < 2:
        return None
    same = tuple(range(frame.rank(value)))
    end = Dim(())
    axis: int | None = None
    parts: list[int] = []
    for place, arg in zip(op.places, frame.args(value), strict=True):
        fold = frame.op(arg)
        if not isinstance(fold, Fold) or fold.taps or fold.stride != 1 or place != same or not frame.once(arg):
            return None
        if fold.offset != end or axis not in (None, fold.axis):
            return None
        axis = fold.axis
        parts.append(frame.args(arg)[0])
        end = end + frame.dims(parts[-1])[axis]
    if axis is None or end != frame.dims(value)[axis]:
        return None

    def render(codes: Sequence[Code]) -> Code:
        return call("torch.cat", f"[{', '.join(c.text for c in codes)}]", dim=str(axis))

    return Match(tuple(parts), render)


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
    elif found.offset.constant is not None and 0 <= found.offset.constant:
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
