"""The parser: what the tree of each form is, where its parts stand, and one clear error for each mistake."""

from __future__ import annotations

import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest

from tensorprog import statements as st
from tensorprog import syntax as s
from tensorprog.errors import ParseError
from tensorprog.parser import parse
from tensorprog.resources import read_grammar
from tests.language.error_table import ROWS, Row

SYNTAX_ROWS = [row for row in ROWS if row.stage == "syntax"]


def statement(text: str) -> st.Statement:
    (only,) = parse(text).statements
    return only


def value(text: str) -> s.Expr:
    let = statement(f"y = {text}")
    assert isinstance(let, st.Let)
    return let.value


def index(text: str, before: str = "") -> s.Index:
    let = parse(f"{before}\ny = x[{text}]").statements[-1]
    assert isinstance(let, st.Let)
    assert isinstance(let.value, s.Indexed)
    return let.value.indices[0]


def number(n: int) -> s.Number:
    return s.Number(Fraction(n))


a, b, c = s.Name("a"), s.Name("b"), s.Name("c")


@pytest.mark.parametrize("row", SYNTAX_ROWS, ids=[row.name for row in SYNTAX_ROWS])
def test_each_mistake_has_one_error_at_its_place_and_a_mended_form(row: Row) -> None:
    with pytest.raises(ParseError) as caught:
        parse(row.bad, "m.tp")
    assert caught.value.message.startswith(row.message)
    assert caught.value.why and caught.value.fix
    shown = caught.value.render()
    assert shown.startswith(f"m.tp:{row.place}: error: " if row.place else "m.tp: error: ")
    assert "Traceback" not in shown
    assert not re.search(r"\b(LPAR|RSQB|_SEP|__ANON|\$END)\b", shown)
    if row.place and "\n" not in row.bad:
        caret = next(line for line in shown.splitlines() if set(line) <= set(" |\t^") and "^" in line)
        assert caret.index("^") == len("  1 | ") + int(row.place.split(":")[1]) - 1
    parse(row.mended)


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("a + b - c", s.Binary("-", s.Binary("+", a, b), c)),
        ("a * b / c", s.Binary("/", s.Binary("*", a, b), c)),
        ("a b * c", s.Binary("*", s.Binary("*", a, b), c)),
        ("a + b c", s.Binary("+", a, s.Binary("*", b, c))),
        ("a^b^c", s.Binary("^", a, s.Binary("^", b, c))),
        ("-a^b", s.Negate(s.Binary("^", a, b))),
        ("-a b", s.Binary("*", s.Negate(a), b)),
        ("a - -b", s.Binary("-", a, s.Negate(b))),
        ("a^-1 b", s.Binary("*", s.Binary("^", a, s.Negate(number(1))), b)),
        ("2a", s.Binary("*", number(2), a)),
        ("2 (a + b)", s.Binary("*", number(2), s.Binary("+", a, b))),
        ("0.02", s.Number(Fraction(1, 50))),
        ("1e-5", s.Number(Fraction(1, 100_000))),
        ("?", s.Unknown(None)),
        ("?m a", s.Binary("*", s.Unknown("m"), a)),
        ("?m{a^(-1/2)}", s.Unknown("m", s.Binary("^", a, s.Binary("/", s.Negate(number(1)), number(2))))),
        ("?{2}", s.Unknown(None, number(2))),
        ("f(a, k = b)", s.Call("f", (s.Argument(None, a), s.Argument("k", b)))),
        ("f()", s.Call("f", ())),
        ("sum[i,j](a)", s.Call("sum", (s.Argument(None, a),), ("i", "j"))),
        ("softmax[s | s <= t](a)", s.Call("softmax", (s.Argument(None, a),), ("s",), s.Condition("s", "<=", "t"))),
        ("a[i] (b)", s.Binary("*", s.Indexed("a", (s.IndexName("i"),)), b)),
        ("summary", s.Name("summary")),
    ],
)
def test_expressions_have_the_tree_their_precedence_says(text: str, tree: s.Expr) -> None:
    assert value(text) == tree


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("i", s.IndexName("i")),
        ("(h e)", s.IndexGroup(("h", "e"))),
        ("..", s.IndexEllipsis()),
        ("0", s.IndexAffine((), number(0))),
        ("-1", s.IndexAffine((), number(-1))),
        ("2 u + a - 1", s.IndexAffine(((2, "u"), (1, "a")), number(-1))),
        ("3 - u", s.IndexAffine(((-1, "u"),), number(3))),
        ("tokens[t]", s.IndexGather(s.Indexed("tokens", (s.IndexName("t"),)))),
        ("u + p", s.IndexAffine(((1, "u"), (1, "p")), number(0))),
        ("u + (p)", s.IndexAffine(((1, "u"),), s.Name("p"))),
        ("u + M", s.IndexAffine(((1, "u"),), s.Name("M"))),
        ("u + n", s.IndexAffine(((1, "u"),), s.Name("n"))),
        ("n - 1 - u", s.IndexAffine(((-1, "u"),), s.Binary("-", s.Name("n"), number(1)))),
        ("stride u + a", s.IndexAffine((("stride", "u"), (1, "a")), number(0))),
    ],
)
def test_indices_are_read_as_names_groups_sums_and_look_ups(text: str, tree: s.Index) -> None:
    assert index(text, "depth L, M; dim n = 8, stride = 2") == tree


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("width n, m", st.WidthDecl(("n", "m"))),
        ("depth L = 4", st.DepthDecl((st.DepthItem("L", number(4)),))),
        ("depth L, M = 4", st.DepthDecl((st.DepthItem("L"), st.DepthItem("M", number(4))))),
        ("regime n, m: proportional", st.RegimeDecl(("n", "m"), "proportional")),
        ("regime n << m << p", st.RegimeDecl(("n", "m", "p"), "<<")),
        ("axis i: a", st.AxisDecl((st.Assignment("i", a),))),
        ("input x", st.InputDecl((st.InputItem("x", ()),))),
        ("input w[t] in a", st.InputDecl((st.InputItem("w", (s.IndexName("t"),), a),))),
        (
            "input x, w[t] in a, y[i]",
            st.InputDecl(
                (
                    st.InputItem("x", ()),
                    st.InputItem("w", (s.IndexName("t"),), a),
                    st.InputItem("y", (s.IndexName("i"),)),
                )
            ),
        ),
        ("param b = a optimizer muon frozen", st.ParamDecl((st.ParamItem("b", (), a, True, "muon"),))),
        ("fn f(a) = a", st.FnDecl("f", "a", a)),
        ("output y[] = a", st.Let("y", (), a, True)),
        ("return a", st.Return(a)),
        ("loss a", st.Loss(a)),
        ("optimizer adam", st.OptimizerDecl("adam")),
        ("optimizer adam(beta1 = a)", st.OptimizerDecl("adam", (st.Assignment("beta1", a),))),
        ("optimizer mine { step = a }", st.OptimizerDef("mine", (), (st.Assignment("step", a),))),
        ("optimizer mine(lr = a) {\n}", st.OptimizerDef("mine", (st.Assignment("lr", a),), ())),
        ("fix lr[layers.*.W] = n^(-1/2) * m # why", st.FixDecl("lr", "layers.*.W", "n^-1/2 m")),
        ("fix ?scale = -1/2", st.FixDecl("?scale", None, "-1/2")),
        ("fix  no   multipliers", st.FixDecl("multiplier", None, "none")),
        ("repeat a shared { y = b }", st.Repeat(a, (st.Let("y", None, b),), True)),
        ("scan t {\n}", st.Scan("t", ())),
        ("if f { return a } else { return b }", st.If("f", (st.Return(a),), (st.Return(b),))),
        ("block f() { }", st.Block("f", (), ())),
        ("block f(w[t] in v) { }", st.Block("f", (st.Formal("w", (s.IndexName("t"),), vocab="v"),), ())),
        ("block f(x, k: fn = a) { }", st.Block("f", (st.Formal("x", None), st.Formal("k", None, "fn", a)), ())),
    ],
)
def test_each_statement_has_its_node(text: str, tree: st.Statement) -> None:
    assert statement(text) == tree


@pytest.mark.parametrize(
    "text",
    [
        "y = a +\n  b",
        "y = a\n  + b",
        "y = (a\n+\nb)",
        "\n\n;y = a + b;\n;",
        "y = a + b # why",
        "\ty =\ta + b\r\n",
        "y = a # why\n + b",
    ],
)
def test_newlines_that_cannot_end_a_statement_do_not(text: str) -> None:
    assert parse(text) == parse("y = a + b")


def test_braces_and_else_may_begin_a_line() -> None:
    assert parse("if f\n{\n y = a\n}\nelse\n{\n y = b\n}") == parse("if f { y = a } else { y = b }")


def test_places_are_counted_from_one_and_end_after_the_last_character() -> None:
    _, let = parse("width n\n  y = a + f(b)", "m.tp").statements
    assert isinstance(let, st.Let)
    assert isinstance(let.value, s.Binary)
    assert let.span == s.Span(2, 3, 2, 15, "m.tp")
    assert let.value.right.span == s.Span(2, 11, 2, 15, "m.tp")


def test_of_a_long_line_only_the_part_that_is_wrong_is_shown() -> None:
    text = "y = " + "a + " * 60 + "!b" + " + a" * 60
    with pytest.raises(ParseError) as caught:
        parse(text)
    _, shown, marks, *_ = str(caught.value).splitlines()
    assert len(shown) < 220 and shown.startswith("  1 | ...") and shown.endswith("...")
    assert shown[marks.index("^")] == "!"


def test_the_standard_blocks_parse() -> None:
    arch = parse(read_grammar("blocks.tp"), "blocks.tp")
    names = {block.name for block in arch.statements if isinstance(block, st.Block)}
    assert len(names) == len(arch.statements)
    assert names >= {"linear", "attention", "layernorm", "conv", "lstm", "moe", "lora", "ssm", "bottleneck_block"}


def test_the_programs_of_the_reference_page_parse() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "language.md").read_text(encoding="utf-8")
    programs = re.findall(r"^```\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert len(programs) >= 4
    for program in programs:
        assert parse(program).statements


def test_an_empty_file_is_an_empty_program() -> None:
    assert parse("") == parse("# nothing\n") == st.Arch(())


def test_a_missing_text_file_is_reported() -> None:
    with pytest.raises(FileNotFoundError, match="incomplete"):
        read_grammar("absent.tp")


def test_parsing_imports_nothing_heavy() -> None:
    code = (
        "import sys; from tensorprog.parser import parse; parse('width n');"
        "print([m for m in ('torch', 'sympy', 'numpy', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
