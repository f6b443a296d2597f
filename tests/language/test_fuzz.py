"""Random text never brings down the parser, and every syntax tree survives being printed and parsed."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.lark import from_lark

from tensorprog import statements as kinds
from tensorprog import syntax as s
from tensorprog.errors import ParseError
from tensorprog.parser import grammar, parse
from tensorprog.printer import format_arch, format_source
from tensorprog.resources import read_grammar
from tests.shared import examples

# --- random text --------------------------------------------------------------------------------------

BLOCKS = read_grammar("blocks.tp")
PROGRAM = """\
width n, m  # grow
depth L = 4
dim d = 64, heads = n / d, p = 2
regime n, m: proportional
axis i: d, j: n
input tokens[t] in d
fix lr[*] = n^-1/2
fix no multipliers; fix ?branch = global
param W[j,i] = normal(0.02) frozen, b[j] = zeros optimizer muon
fn swoosh(z) = z * sigmoid(2 z)
h[j] = W[j,i] x[i] - 1e-5 * b[j]^(-1/2)
repeat L shared {
  x = x + ?branch{d^(-1/2)} * attention(layernorm(x), scale = ?, causal)
  scan t { y[t,(a b)] = softmax[s | s <= t](E[tokens[t], 2 u + a - p]) }
}
output f = readout(x, 10); loss cross_entropy(f)
"""
TOKENS = [
    *"()[]{}+-*/^=,:;|?#\n. \t\r\\\"'@!<>&%$~`\x00\x0b\x85\u2028\u03b1\u00e9",
    *(
        "width depth regime dim axis input param fn output return loss optimizer fix repeat scan if else block in"
    ).split(),
    *"frozen shared true x W[j,i] 2 0.5 1e9 1e99999 .. ... ** == <= << ?a ?a{ sum sum[i] f( __x self lambda".split(),
]


def refused_or_stable(text: str) -> None:
    """`parse` gives a tree that printing keeps, or raises a `ParseError` that can be drawn; nothing else."""
    try:
        arch = parse(text)
    except ParseError as error:
        if error.why and error.fix and error.render().endswith(error.fix):
            return
        raise
    assert parse(format_arch(arch)) == arch
    formatted = format_source(text)
    assert parse(formatted) == arch
    assert format_source(formatted) == formatted


@given(st.lists(st.sampled_from(TOKENS), max_size=25).map(" ".join) | st.text(max_size=40))
def test_random_text_is_refused_or_stable(text: str) -> None:
    refused_or_stable(text)


@given(st.data())
def test_a_mutated_program_is_refused_or_stable(data: st.DataObject) -> None:
    text = PROGRAM
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        length = data.draw(st.integers(0, 6))
        text = text[:start] + data.draw(st.sampled_from(["", *TOKENS])) + text[start + length :]
    refused_or_stable(text)


NAMES = st.sampled_from(["x", "y", "W", "n", "heads", "h1"]).map(lambda name: f" {name} ")


@examples(25)
@given(from_lark(grammar(), start="start", explicit={"NAME": NAMES, "_SEP": st.sampled_from([" \n ", ";"])}))
def test_text_from_the_grammar_is_refused_or_stable(text: str) -> None:
    refused_or_stable(text)


@pytest.mark.parametrize("text", ["(" * 10_000, "-" * 10_000 + "x", "x = " + "a^" * 5_000 + "a", "{" * 3_000,
                                  "x = " + "-" * 5_000 + "a", "x = " + "f(" * 3_000, "x = a" + "+a" * 5_000,
                                  "if f { " * 2_000, "y[" * 5_000, "x = y[" + "2 + " * 3_000 + "u]"])  # fmt: skip
def test_deep_nesting_is_an_ordinary_error(text: str) -> None:
    with pytest.raises(ParseError):
        parse(text)


# --- random trees ---------------------------------------------------------------------------------------

names = st.sampled_from(["x", "y2", "W", "abc", "E_"])
labels = st.sampled_from(["i", "j", "t", "u"])  # index names; "p" and "q" are dims
numbers = st.builds(
    lambda digits, power: s.Number(Fraction(digits) * Fraction(10) ** power),
    st.integers(0, 10**9),
    st.integers(-40, 40),
)
index_names = st.builds(s.IndexName, labels)


def indices(exprs: st.SearchStrategy[s.Expr]) -> st.SearchStrategy[s.Index]:
    groups = st.lists(labels, min_size=2, max_size=3).map(lambda ids: s.IndexGroup(tuple(ids)))
    whole = st.integers(-9, 9).map(lambda k: s.Number(Fraction(k)))
    sizes = st.sampled_from("pq").map(s.Name)
    offsets = (
        whole
        | sizes
        | sizes.map(s.Negate)
        | st.builds(s.Binary, st.sampled_from("+-*/"), sizes, sizes | numbers)
        | st.builds(s.Negate, st.builds(s.Binary, st.sampled_from("+-*/"), sizes, sizes))
    )
    coefficients = st.integers(-3, 3).filter(bool) | st.sampled_from("pq")
    terms = st.lists(st.tuples(coefficients, labels), max_size=2, unique_by=lambda term: term[1]).map(tuple)
    affine = st.builds(s.IndexAffine, terms, offsets)
    gathers = st.builds(
        lambda name, inner: s.IndexGather(s.Indexed(name, tuple(inner))), names, st.lists(index_names, max_size=2)
    )
    return index_names | st.just(s.IndexEllipsis()) | groups | affine | gathers


def brackets(exprs: st.SearchStrategy[s.Expr]) -> st.SearchStrategy[tuple[s.Index, ...]]:
    return st.lists(indices(exprs), max_size=3).map(tuple)


def compound(exprs: st.SearchStrategy[s.Expr]) -> st.SearchStrategy[s.Expr]:
    arguments = st.lists(st.builds(s.Argument, st.none() | names, exprs), max_size=3).map(tuple)
    over = st.lists(labels, max_size=2).map(tuple)
    conditions = st.builds(s.Condition, labels, st.sampled_from(["<=", "<", ">=", ">"]), labels)
    return (
        st.builds(s.Binary, st.sampled_from("+-*/^"), exprs, exprs)
        | st.builds(s.Negate, exprs)
        | st.builds(s.Unknown, st.none() | names, exprs)
        | st.builds(s.Call, names, arguments)
        | st.builds(
            lambda name, args, axes, where: s.Call(name, args, axes, where if axes else None),
            st.sampled_from(["sum", "softmax", "topk", "concat"]),
            arguments,
            over,
            st.none() | conditions,
        )
    )


leaves = (
    numbers
    | st.builds(s.Name, names | st.sampled_from("pq"))
    | st.builds(s.Unknown, st.none() | names)
    | st.builds(s.Indexed, names, brackets(st.nothing()))
)
exprs: st.SearchStrategy[s.Expr] = st.recursive(leaves, compound, max_leaves=8)
patterns = st.lists(index_names, max_size=2).map(tuple)
initialisers = st.just(s.Name("zeros")) | st.builds(lambda e: s.Call("normal", (s.Argument(None, e),)), exprs)
params = st.builds(kinds.ParamItem, names, patterns, st.none() | initialisers, st.booleans(), st.none() | names)
assignments = st.builds(kinds.Assignment, names, exprs)
formals = st.builds(
    lambda name, left, vocab: kinds.Formal(name, left, vocab=vocab),
    names,
    st.none() | patterns,
    st.none() | st.just("v"),
) | st.builds(
    lambda name, kind, default: kinds.Formal(name, None, kind, default),
    names,
    st.sampled_from(["fn", "scalar", "flag", "dim"]),
    st.none() | exprs,
)


def some(items: st.SearchStrategy, at_least: int = 1) -> st.SearchStrategy:
    return st.lists(items, min_size=at_least, max_size=3).map(tuple)


fixed = st.sampled_from(["init", "init_std", "multiplier", "lr"])
exponents = st.fractions(-8, 8, max_denominator=24)
factors = st.builds(lambda symbol, e: symbol if e == 1 else f"{symbol}^{e}", st.sampled_from("nm"), exponents)
values = exponents.map(str) | st.lists(factors, min_size=1, max_size=2, unique_by=lambda f: f[0]).map(" ".join)

simple = (
    st.builds(kinds.WidthDecl, some(names))
    | st.builds(kinds.DepthDecl, some(st.builds(kinds.DepthItem, names, st.none() | exprs)))
    | st.builds(kinds.RegimeDecl, some(names), st.just("proportional"))
    | st.builds(kinds.RegimeDecl, st.lists(names, min_size=2, max_size=3).map(tuple), st.just("<<"))
    | st.builds(kinds.DimDecl, some(assignments))
    | st.builds(kinds.AxisDecl, some(st.builds(kinds.Assignment, labels, exprs)))
    | st.builds(kinds.InputDecl, some(st.builds(kinds.InputItem, names, patterns, st.none() | exprs)))
    | st.builds(kinds.ParamDecl, some(params))
    | st.builds(kinds.FnDecl, names, names, exprs)
    | st.builds(kinds.Let, names, st.none() | brackets(exprs), exprs, st.booleans())
    | st.builds(kinds.Return, exprs)
    | st.builds(kinds.Loss, exprs)
    | st.builds(kinds.OptimizerDecl, names, some(assignments, 0))
    | st.builds(kinds.OptimizerDef, names, some(assignments, 0), some(assignments, 0))
    | st.builds(kinds.FixDecl, fixed, st.none() | st.sampled_from(["*", "W", "layers.?.W*"]), values)
    | st.builds(kinds.FixDecl, st.sampled_from(["?scale", "?layers.*.b"]), st.none(), values)
    | st.just(kinds.FixDecl("multiplier", None, "none"))
)


def nested(statements: st.SearchStrategy[kinds.Statement]) -> st.SearchStrategy[kinds.Statement]:
    body = some(statements, 0)
    return (
        st.builds(kinds.Repeat, exprs, body, st.booleans())
        | st.builds(kinds.Scan, labels, body)
        | st.builds(kinds.If, names, body, body)
        | st.builds(kinds.Block, names, some(formals, 0), body)
    )


statements: st.SearchStrategy[kinds.Statement] = st.recursive(simple, nested, max_leaves=4)
DIMS = kinds.DimDecl((kinds.Assignment("p", s.Number(Fraction(2))), kinds.Assignment("q", s.Number(Fraction(3)))))


@given(some(statements, 0))
def test_every_tree_survives_printing_and_the_text_is_canonical(program: tuple[kinds.Statement, ...]) -> None:
    arch = kinds.Arch((DIMS, *program))
    printed = format_arch(arch)
    assert parse(printed) == arch
    assert format_arch(parse(printed)) == printed
    formatted = format_source(printed)
    assert parse(formatted) == arch
    assert format_source(formatted) == formatted
