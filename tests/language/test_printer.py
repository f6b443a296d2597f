"""The printer: the text it gives means the same tree, is its own canonical form, and keeps the comments."""

from __future__ import annotations

from pathlib import Path

import pytest

from tensorprog.errors import ParseError
from tensorprog.parser import parse
from tensorprog.printer import format_arch, format_source
from tensorprog.resources import read_grammar
from tests.language.error_table import ROWS

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").rglob("*.tp"))
PROGRAMS = [read_grammar("blocks.tp"), *(row.mended for row in ROWS), *(path.read_text() for path in EXAMPLES)]


@pytest.mark.parametrize("source", [pytest.param(PROGRAMS[0], marks=pytest.mark.slow), *PROGRAMS[1:]])
def test_printing_keeps_the_tree_and_is_idempotent(source: str) -> None:
    arch = parse(source)
    once = format_arch(arch)
    assert parse(once) == arch
    assert format_arch(parse(once)) == once
    formatted = format_source(source)
    assert parse(formatted) == arch
    assert format_source(formatted) == formatted
    assert formatted.count("#") == source.count("#")


def test_the_standard_blocks_are_in_canonical_form() -> None:
    text = read_grammar("blocks.tp")
    assert format_source(text) == text


@pytest.mark.parametrize(
    ("source", "canonical"),
    [
        ("y[j]=W[j,i]*x[i]", "y[j] = W[j,i] x[i]"),
        ("y = 4*n", "y = 4 n"),
        ("y = 4*n^2", "y = 4 n^2"),
        ("y = n*4", "y = n * 4"),
        ("y = a b", "y = a * b"),
        ("y = (a + b)*c", "y = (a + b) * c"),
        ("y = a*(b*c)", "y = a * (b * c)"),
        ("y = a - (b - c)", "y = a - (b - c)"),
        ("y = (a - b) - c", "y = a - b - c"),
        ("y = a/(2 b[i])", "y = a / (2 b[i])"),
        ("y = a/2*b[i]", "y = a / 2 * b[i]"),
        ("y = (a^b)^c", "y = (a^b)^c"),
        ("y = a^(-1/2)", "y = a^(-1/2)"),
        ("y = a^1 / 2.0", None),
        ("y = -(a b)", "y = -(a * b)"),
        ("y = a - -b", "y = a - -b"),
        ("y = 0.00001 + 2e-2 + 1000000000", "y = 1e-5 + 0.02 + 1e9"),
        ("y = ? x[i]", "y = ? * x[i]"),
        ("y = ?{ 2 }*f( x,k=3 )", "y = ?{2} * f(x, k = 3)"),
        ("y = softmax[ s|s<=t ](x[t, s])", "y = softmax[s | s <= t](x[t,s])"),
        ("y[(h e)] = x[-u+1,u*2,0 , ..]", "y[(h e)] = x[-u + 1, 2 u, 0, ..]"),
        ("dim p=2; y[u] = x[u-p]", "dim p = 2\ny[u] = x[u - p]"),
        ("y[u] = x[u-(p)]", "y[u] = x[u - (p)]"),
        ("y[u] = x[u+0,2u+0]", "y[u] = x[u + 0, 2 u]"),
        ("param W[ i ]=normal(1)optimizer muon frozen", "param W[i] = normal(1) frozen optimizer muon"),
        ("fix lr[ * ]=n^(-1/2);fix init=sp", "fix lr[*] = n^-1/2\nfix init = sp"),
        ("fix no  multipliers", "fix no multipliers"),
        ("if f{}else{}", "if f {\n}"),
    ],
)
def test_canonical_forms(source: str, canonical: str | None) -> None:
    if canonical is None:
        with pytest.raises(ParseError, match="two ways"):
            parse(source)
        return
    assert format_arch(parse(source)) == canonical + "\n"
    assert format_source(source) == canonical + "\n"


def test_a_long_statement_is_broken_where_the_language_lets_it_go_on() -> None:
    source = "y = " + " + ".join(f"some_factor_{k} * f(x, keyword_{k} = {k})" for k in range(12))
    printed = format_arch(parse(source))
    assert max(map(len, printed.splitlines())) <= 110
    assert parse(printed) == parse(source)


def test_comments_and_blank_lines_stay_where_they_belong() -> None:
    source = """\


# the file
width n   # grows


dim d=3  # stays
# before the repeat
repeat L {  # the body
  # first
  x = f(x,  # the stream
    2)      # twice


  # last
}   # done
block g(x[i],  # an input
  k: dim) {
  if k { x = 1 }   # one line
  else {
    # nothing
  }
  return x
}
y = 1; z = 2 # both
# the end
"""
    expected = """\
# the file
width n  # grows

dim d = 3  # stays
# before the repeat
repeat L {  # the body
  # first
  # the stream
  x = f(x, 2)  # twice

  # last
}  # done
# an input
block g(x[i], k: dim) {
  if k {
    x = 1
  }
  # one line
  # nothing
  return x
}
y = 1
z = 2  # both
# the end
"""
    assert format_source(source) == expected
    assert format_source(expected) == expected


def test_formatting_a_file_with_an_error_raises_the_parser_s_error() -> None:
    with pytest.raises(ParseError, match=r"m\.tp:1:3"):
        format_source("x == 2", "m.tp")
