"""Attention, recognised as F.scaled_dot_product_attention whatever the order of its axes."""

from __future__ import annotations

from collections.abc import Sequence

from tensorprog.emission.format import Code, call, index, number
from tensorprog.emission.frame import Frame, Match, permuted
from tensorprog.emission.patterns import find_product
from tensorprog.graph import Softmax


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
    place = dict(zip(inner.out, outer.lefts, strict=True))
    fresh = max((*outer.lefts, *outer.rights, *outer.out)) + 1
    if len(inner.summed) != 1 or (s := outer.lefts[softmax.axis]) not in outer.rights or outer.summed != {s}:
        return None
    (e,) = inner.summed
    place[e] = fresh
    sides = [tuple(place[i] for i in inner.lefts), tuple(place[i] for i in inner.rights)]
    operands = [inner.left, inner.right]
    if s in sides[0]:
        sides.reverse()
        operands.reverse()
    q, k = sides
    if s in q or s not in k:
        return None
    v = outer.rights
    own = [i for i in q if i not in k and i not in v and i in outer.out]
    d = [i for i in v if i not in q and i != s]
    shared = [i for i in q if i in k]
    groups = [i for i in q if i != fresh and (i in k or i in v or i in own)]
    if len(d) != 1 or shared[-1:] == [] or any(i not in q for i in k if i != s):
        return None
    if softmax.mask is None:
        candidates = list(reversed(own))
    else:
        key, compare, query = softmax.mask
        candidates = [outer.lefts[query]] if outer.lefts[key] == s and compare == "<=" else []
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
