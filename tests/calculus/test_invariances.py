"""The derivation depends on what a program computes, not on how it is written."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cache
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorprog.api import derive
from tensorprog.architecture import parse
from tensorprog.derivation import QUANTITIES
from tensorprog.exponents import Power
from tests.shared import examples, tiers

OPTIMIZERS = ("sgd", "adam", "muon")


@dataclass(frozen=True)
class Text:
    """A program in parts that can be rearranged. `params`: name[indices] and what follows it; `names`: what they
    are called in the original."""

    sizes: str
    axes: tuple[str, ...]
    inputs: str
    params: tuple[str, ...]
    body: tuple[str, ...]
    end: str
    names: tuple[tuple[str, str], ...] = ()  # new name -> original name

    def __str__(self) -> str:
        params = "\n".join(f"param {p}" for p in self.params)
        return f"{self.sizes}\naxis {', '.join(self.axes)}\n{self.inputs}\n{params}\n" + "\n".join(self.body) + self.end


PROGRAMS = {
    "mlp": Text(
        "width n\ndim d = 8, classes = 5",
        ("i: d", "j: n", "k: n", "l: 2 n", "c: classes"),
        "input x[i]",
        ("W1[j,i]", "b1[j] = zeros", "W2[k,j]", "g[k] = ones", "W3[l,k]", "b3[l] = normal(1)", "V[c,l]"),
        (
            "h1[j] = W1[j,i] x[i] + b1[j]",
            "x1[j] = relu(h1[j])",
            "h2[k] = W2[k,j] x1[j]",
            "x2[k] = g[k] tanh(h2[k])",
            "h3[l] = W3[l,k] x2[k] + b3[l]",
            "x3[l] = gelu(h3[l])",
            "output f[c] = V[c,l] x3[l]",
        ),
        "\nloss cross_entropy(f)\n",
    ),
    "residual": Text(
        "width n\ndim d = 8, classes = 5",
        ("i: d", "j: n", "k: n", "m: n", "c: classes"),
        "input x[i]",
        ("E[j,i]", "A1[k,j]", "B1[j,k] = zeros", "A2[m,j]", "B2[j,m]", "g[j] = ones", "V[c,j]"),
        (
            "z[j] = E[j,i] x[i]",
            "c1[j] = z[j] - mean[j](z[j])",
            "l1[j] = c1[j] * rms_scale[j](c1[j])",
            "u1[k] = relu(A1[k,j] l1[j])",
            "y1[j] = z[j] + B1[j,k] u1[k]",
            "c2[j] = y1[j] - mean[j](y1[j])",
            "l2[j] = c2[j] * rms_scale[j](c2[j]) * g[j]",
            "u2[m] = tanh(A2[m,j] l2[j])",
            "y2[j] = y1[j] + B2[j,m] u2[m]",
            "output f[c] = V[c,j] y2[j]",
        ),
        "\nloss cross_entropy(f)\n",
    ),
    "attention": Text(
        "width n\ndim T = 4, d = 8, classes = 5, heads = 2, size = n / 2",
        ("t: T", "s: T", "i: d", "m: n", "h: heads", "e: size", "c: classes"),
        "input x[t,i]",
        ("E[m,i]", "Wq[h,e,m]", "Wk[h,e,m]", "Wv[h,e,m]", "Wo[m,h,e]", "R[c,m]"),
        (
            "z[t,m] = E[m,i] x[t,i]",
            "q[t,h,e] = Wq[h,e,m] z[t,m]",
            "k[t,h,e] = Wk[h,e,m] z[t,m]",
            "v[t,h,e] = Wv[h,e,m] z[t,m]",
            "scores[h,t,s] = ?scale * (q[t,h,e] k[s,h,e])",
            "a[h,t,s] = softmax[s | s <= t](scores[h,t,s])",
            "y[t,h,e] = a[h,t,s] v[s,h,e]",
            "u[t,m] = z[t,m] + Wo[m,h,e] y[t,h,e]",
            "output f[t,c] = R[c,m] u[t,m]",
        ),
        "\nloss cross_entropy(f)\n",
    ),
    "rnn": Text(
        "width n\ndim d = 4, T = 3, classes = 5",
        ("i: d", "t: T", "j: n", "k: n", "c: classes"),
        "input x[t,i]",
        ("U[j,i]", "W[j,k]", "b[j] = zeros", "V[c,j]"),
        (
            "s[j] = 0",
            "scan t {\n  h[j] = U[j,i] x[t,i] + W[j,k] s[k] + b[j]\n  s[j] = relu(h[j])\n}",
            "output f[c] = V[c,j] s[j]",
        ),
        "\nloss cross_entropy(f)\n",
    ),
    "tied": Text(
        "width n\ndim d = 8",
        ("i: d", "j: n", "k: n"),
        "input x[i]",
        ("E[j,i]", "W[k,j]", "B[j,k]"),
        (
            "z[j] = E[j,i] x[i]",
            "h[k] = relu(W[k,j] z[j])",
            "y[j] = z[j] + B[j,k] h[k]",
            "w[k] = silu(W[j,k] y[j])",
            "output f[i] = ?output * (E[j,i] w[j])",
        ),
        "\nloss mse(f)\n",
    ),
    "conv": Text(
        "width n\ndim d = 3, side = 6, taps = 3, classes = 5",
        ("p: d", "u: side", "a: taps", "ch: n", "co: n", "c: classes"),
        "input x[p,u]",
        ("S[ch,p,a]", "D[ch,a]", "P[co,ch,a]", "V[c,co]"),
        (
            "z[ch,u] = relu(S[ch,p,a] x[p, u + a - 1])",
            "y[ch,u] = D[ch,a] z[ch, u + a - 1]",
            "q[co,u] = tanh(P[co,ch,a] y[ch, 2 u + a - 1])",
            "m[co] = mean[u](q[co,u])",
            "output f[c] = V[c,co] m[co]",
        ),
        "\nloss cross_entropy(f)\n",
    ),
}

Signature = tuple[dict[str, tuple[str, ...]], dict[str, str], dict[str, tuple[str, str]], str]


def signature(source: str, optimizer: str, names: dict[str, str] | None = None) -> Signature:
    """All exponents: of parameters, of multipliers, of named tensors, of the gradient's norm; under original names."""
    found, names = derive(parse(source), optimizer), names or {}
    width = found.widths[0]

    def exponent(power: Power | None) -> str:
        return "zero" if power is None else str(power[width])

    params = {names.get(p, p): tuple(exponent(getattr(e, q)) for q in QUANTITIES) for p, e in found.params.items()}
    multipliers = {names.get(m.split("@")[0], m): exponent(power) for m, power in found.multipliers.items()}
    tensors = {}
    for node in found.architecture.graph.nodes:
        if node.name and not node.name.endswith("_target"):  # the target takes its name from the output
            initial, change = found.tensor(node.name)
            tensors[names.get(node.name, node.name)] = exponent(initial), exponent(change)
    return params, multipliers, tensors, exponent(found.gradient_norm)


@cache
def original(name: str, optimizer: str) -> Signature:
    return signature(str(PROGRAMS[name]), optimizer)


def assert_same(name: str, text: Text, optimizer: str) -> None:
    """All that both programs name has the same exponents. (A tensor that is now only another name has none.)"""
    before, after = original(name, optimizer), signature(str(text), optimizer, dict(text.names))
    shared = after[2].keys() & before[2].keys()
    assert len(shared) >= 3
    assert after[0] == before[0], str(text)
    assert after[1] == before[1], str(text)
    assert {k: after[2][k] for k in shared} == {k: before[2][k] for k in shared}, str(text)
    assert after[3] == before[3], str(text)


# --- rewritings: each takes a Text and a source of choices ------------------------------------------------

WORD = re.compile(r"\??\b[A-Za-z_]\w*\b")
KEYWORDS = set(
    "width dim axis input param output loss zeros ones normal frozen scan softmax mean sum rms_scale cross_entropy mse "
    "relu tanh gelu silu identity".split()
)
HOSTILE = (
    "readout embedding bias hidden gain norm weight query key value logits scale layernorm W1 W2 W3 b1 V E U Wq Wk x1 "
    "h1 f1 attention first last batch_size o wte lm_head in_ output_ router adam x_ aa zz Z9"
).split()


def rename(text: Text, random: Random) -> Text:
    """Other names for parameters, tensors, indices, sizes and multipliers."""
    words = dict.fromkeys(w.lstrip("?") for w in WORD.findall(str(text)))
    old = [w for w in words if w not in KEYWORDS]
    new = random.sample([w for w in dict.fromkeys([*HOSTILE, *old]) if w not in KEYWORDS], len(old))
    table = dict(zip(old, new, strict=True))

    def swap(part: str) -> str:
        return WORD.sub(lambda m: m[0] if m[0].lstrip("?") not in table
                        else "?" * m[0].startswith("?") + table[m[0].lstrip("?")], part)  # fmt: skip

    before = dict(text.names)
    return Text(swap(text.sizes), tuple(map(swap, text.axes)), swap(text.inputs), tuple(map(swap, text.params)),
                tuple(map(swap, text.body)), swap(text.end),
                tuple((new, before.get(old, old)) for old, new in table.items()))  # fmt: skip


def defines(statement: str) -> set[str]:
    return set(re.findall(r"(?:^|\n)\s*(?:output )?([A-Za-z_]\w*)\[[^=\n]*\] =", statement))


def reorder(text: Text, random: Random) -> Text:
    """Declarations in any order, statements in any order that respects what they need."""
    axes, params = list(text.axes), list(text.params)
    random.shuffle(axes)
    random.shuffle(params)
    waiting, body = list(text.body), []
    while waiting:
        ready = []
        for k, statement in enumerate(waiting):
            earlier = set().union(*map(defines, waiting[:k]))
            later_use = set(re.findall(r"[A-Za-z_]\w*", statement))
            if not earlier & later_use:
                ready.append(statement)
        chosen = random.choice(ready)
        waiting.remove(chosen)
        body.append(chosen)
    return replace(text, axes=tuple(axes), params=tuple(params), body=tuple(body))


def parts(statement: str) -> tuple[str, str, list[str]] | None:
    """(head, left side, terms) of an indexed statement of one line; None for loops and zero tensors."""
    found = re.fullmatch(r"(output )?(\w+\[[^\]]*\]) = (.*)", statement)
    if not found or found[3] == "0":
        return None
    terms, depth, start = [], 0, 0
    for k, letter in enumerate(found[3]):
        depth += (letter in "([") - (letter in ")]")
        if not depth and found[3].startswith(" + ", k):
            terms.append(found[3][start:k])
            start = k + 3
    return found[1] or "", found[2], [*terms, found[3][start:]]


def rewrite(text: Text, random: Random, change: object) -> Text:
    """One statement replaced by what `change(head, left, terms, fresh name)` makes of it, if it can."""
    assert callable(change)
    places = [k for k, s in enumerate(text.body) if parts(s)]
    if not places:
        return text
    k = random.choice(places)
    found = parts(text.body[k])
    assert found
    fresh = f"extra{len(text.body)}_{random.randrange(10**6)}"
    return replace(text, body=text.body[:k] + tuple(change(*found, fresh)) + text.body[k + 1 :])


def split_sum(text: Text, random: Random) -> Text:
    """`a = b + c` becomes `e = b`, `a = e + c`."""

    def change(head: str, left: str, terms: list[str], fresh: str) -> list[str]:
        new = fresh + left[left.index("[") :]
        first, *others = random.sample(terms, len(terms))
        return [f"{new} = {first}", f"{head}{left} = " + " + ".join([new, *others])]

    return rewrite(text, random, change)


def insert_one(text: Text, random: Random) -> Text:
    """A multiplier 1 in front of one term, or of one tensor in it."""

    def change(head: str, left: str, terms: list[str], fresh: str) -> list[str]:
        k = random.randrange(len(terms))
        terms = list(terms)
        tensors = list(re.finditer(r"(?<![\w?])\w+\[[^\]()]*\](?!\()", terms[k]))
        tensors = [m for m in tensors if m[0].split("[")[0] not in KEYWORDS]
        if tensors and random.random() < 0.7:
            m = random.choice(tensors)
            terms[k] = f"{terms[k][: m.start()]}(1 * {m[0]}){terms[k][m.end() :]}"
        else:
            terms[k] = f"1 * ({terms[k]})"
        return [f"{head}{left} = " + " + ".join(terms)]

    return rewrite(text, random, change)


def name_operand(text: Text, random: Random) -> Text:
    """A tensor in one term gets a statement of its own: `a = W x` becomes `e = x`, `a = W e`."""

    def change(head: str, left: str, terms: list[str], fresh: str) -> list[str]:
        k = random.randrange(len(terms))
        terms = list(terms)
        tensors = [m for m in re.finditer(r"(?<![\w?])(\w+)\[(\w+(?:,\w+)*)\](?!\()", terms[k])
                   if m[1] not in KEYWORDS]  # fmt: skip
        if not tensors:
            return [f"{head}{left} = " + " + ".join(terms)]
        m = random.choice(tensors)
        terms[k] = f"{terms[k][: m.start()]}{fresh}[{m[2]}]{terms[k][m.end() :]}"
        return [f"{fresh}[{m[2]}] = {m[0]}", f"{head}{left} = " + " + ".join(terms)]

    return rewrite(text, random, change)


def name_argument(text: Text, random: Random) -> Text:
    """`a = f(W x)` becomes `e = W x`, `a = f(e)`; `a = ?m * (q k)` becomes `e = q k`, `a = ?m * e`."""

    def change(head: str, left: str, terms: list[str], fresh: str) -> list[str]:
        new = fresh + left[left.index("[") :]
        found = re.fullmatch(r"(relu|tanh|gelu|silu)\((.*)\)|(\?\w+ \* )\((.*)\)", terms[0])
        if len(terms) > 1 or not found:
            return [f"{head}{left} = " + " + ".join(terms)]
        if found[1]:
            return [f"{new} = {found[2]}", f"{head}{left} = {found[1]}({new})"]
        return [f"{new} = {found[4]}", f"{head}{left} = {found[3]}{new}"]

    return rewrite(text, random, change)


def swap_factors(text: Text, random: Random) -> Text:
    """`W x` becomes `x W`."""

    def change(head: str, left: str, terms: list[str], fresh: str) -> list[str]:
        swapped = [re.sub(r"^(\w+\[[^\]]*\]) (\w+\[[^\]]*\])$", r"\2 \1", term) for term in terms]
        return [f"{head}{left} = " + " + ".join(swapped)]

    return rewrite(text, random, change)


def transpose(text: Text, random: Random) -> Text:
    """A parameter declared and used with its axes in another order."""
    k = random.randrange(len(text.params))
    found = re.match(r"(\w+)\[([\w,]+)\]", text.params[k])
    assert found
    count = found[2].count(",") + 1
    order = random.sample(range(count), count)

    def swap(part: str) -> str:
        def permuted(m: re.Match[str]) -> str:
            indices = m[1].split(",")
            return f"{name}[{','.join(indices[a] for a in order)}]"

        return re.sub(rf"\b{name}\[([\w,]+)\]", permuted, part)

    name = found[1]
    return replace(text, params=tuple(map(swap, text.params)), body=tuple(map(swap, text.body)))


REWRITINGS = (reorder, split_sum, insert_one, name_operand, name_argument, swap_factors, transpose)


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
@examples(4)
@given(seed=st.integers(0, 10**6), optimizer=st.sampled_from(OPTIMIZERS))
def test_names_do_not_matter(name: str, seed: int, optimizer: str) -> None:
    """A hidden matrix called `readout`, an index called `bias`: no rule looks at names."""
    assert_same(name, rename(PROGRAMS[name], Random(seed)), optimizer)


@pytest.mark.slow
@pytest.mark.parametrize("rewriting", REWRITINGS, ids=lambda r: r.__name__)
@pytest.mark.parametrize("name", PROGRAMS)
@examples(4)
@given(seed=st.integers(0, 10**6), optimizer=st.sampled_from(OPTIMIZERS))
def test_one_rewriting(name: str, rewriting: object, seed: int, optimizer: str) -> None:
    assert callable(rewriting)
    assert_same(name, rewriting(PROGRAMS[name], Random(seed)), optimizer)


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
@examples(8)
@given(
    seed=st.integers(0, 10**6),
    optimizer=st.sampled_from(OPTIMIZERS),
    steps=st.lists(st.sampled_from(REWRITINGS), min_size=3, max_size=8),
)
def test_many_rewritings(name: str, seed: int, optimizer: str, steps: list[object]) -> None:
    """All of them together, and other names at the end."""
    text, random = PROGRAMS[name], Random(seed)
    for step in steps:
        assert callable(step)
        text = step(text, random)
    assert_same(name, rename(text, random), optimizer)


STATEMENTS = "u[j] = W[j,i] x[i]\ny[j] = a[j] u[j] b[j]"
PRODUCTS = (
    "y[j] = a[j] (W[j,i] x[i]) b[j]",
    "y[j] = a[j] W[j,i] x[i] b[j]",
    "y[j] = W[j,i] x[i] a[j] b[j]",
    "y[j] = x[i] W[j,i] b[j] a[j]",
    "y[j] = a[j] b[j] W[j,i] x[i]",
    "v[i] = 1 * x[i]\ny[j] = a[j] W[j,i] v[i] b[j]",
    "v[j] = a[j] b[j]\ny[j] = W[j,i] x[i] v[j]",
)


@pytest.mark.slow
@pytest.mark.parametrize("product", tiers(PRODUCTS, PRODUCTS[:1]))
def test_factors_of_a_product_commute(product: str) -> None:
    """In any order, and with intermediate results."""
    source = """
width n
dim d = 8, classes = 5
axis p: d, i: n, j: n, c: classes
input x0[p]
param E[i,p], W[j,i], a[j] = ones, b[j] = normal(1), V[c,j]
x[i] = relu(E[i,p] x0[p])
{product}
z[j] = tanh(y[j])
output f[c] = V[c,j] z[j]
loss cross_entropy(f)
"""
    for optimizer in OPTIMIZERS:
        plain, other = (signature(source.format(product=p), optimizer) for p in (STATEMENTS, product))
        assert (other[0], other[1], other[3]) == (plain[0], plain[1], plain[3])
        assert all(other[2][tensor] == plain[2][tensor] for tensor in "xyzf")


BLOCKS = {
    "mlp": ("""
block dense(x[..,a], features: dim) {
  axis b: features
  param W[b,a]
  y[..,b] = W[b,a] x[..,a]
  return y
}
width n
dim d = 8, classes = 5
axis i: d, j: n, k: n, l: 2 n
input x[i]
param b1[j] = zeros, g[k] = ones, b3[l] = normal(1)
p1 = dense(x, n)
h1[j] = p1[j] + b1[j]
x1 = relu(h1)
h2 = dense(x1, n)
x2[k] = g[k] tanh(h2[k])
p3 = dense(x2, 2 n)
h3[l] = p3[l] + b3[l]
x3 = gelu(h3)
output f = dense(x3, classes)
loss cross_entropy(f)
""", ("W1", "W2", "W3", "V")),
    "residual": ("""
block norm(x[..,a]) {
  m[..,a] = x[..,a] - mean[a](x[..,a])
  y[..,a] = m[..,a] * rms_scale[a](m[..,a])
  return y
}
block branch(x[..,a], act: fn) {
  axis b: a
  param A[b,a]
  h[..,b] = A[b,a] x[..,a]
  return act(h)
}
width n
dim d = 8, classes = 5
axis i: d, j: n, k: n, m: n, c: classes
input x[i]
param E[j,i], B1[j,k] = zeros, g[j] = ones, B2[j,m], V[c,j]
z[j] = E[j,i] x[i]
l1 = norm(z)
u1 = branch(l1, relu)
y1[j] = z[j] + B1[j,k] u1[k]
n2 = norm(y1)
l2[j] = n2[j] * g[j]
u2 = branch(l2, tanh)
y2[j] = y1[j] + B2[j,m] u2[m]
output f[c] = V[c,j] y2[j]
loss cross_entropy(f)
""", ("A1", "A2")),
}  # fmt: skip


@pytest.mark.parametrize("name", tiers(BLOCKS, ("mlp",)))
def test_blocks_do_not_matter(name: str) -> None:
    """The same network through blocks: the parameters of the uses, in order, have the exponents of the original's."""
    source, originals = BLOCKS[name]
    for optimizer in OPTIMIZERS:
        before, after = original(name, optimizer), signature(source, optimizer)
        own = [p for p in after[0] if p not in before[0]]
        assert [after[0][p] for p in own] == [before[0][p] for p in originals]
        assert {p: e for p, e in after[0].items() if p in before[0]} == {
            p: e for p, e in before[0].items() if p not in originals
        }
        assert after[1] == before[1]
        shared = after[2].keys() & before[2].keys()
        assert len(shared) > 4
        assert {t: after[2][t] for t in shared} == {t: before[2][t] for t in shared}
        assert after[3] == before[3]
