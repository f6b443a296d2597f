"""Between lexer and parser: which newlines count, which brackets match, which words can be names, what is too big."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

from lark import Token

from tensorprog.errors import ParseError
from tensorprog.limits import MAX_BRACKETS, MAX_NAME_LENGTH, MAX_NUMBER_EXPONENT, MAX_NUMBER_LENGTH
from tensorprog.syntax import Span

SMALLEST = Fraction(1, 10**MAX_NUMBER_EXPONENT)


# A newline after or before one of these does not end a statement.
_GOES_ON_AFTER = frozenset(("PLUS", "MINUS", "STAR", "SLASH", "CIRCUMFLEX", "COMMA"))
_GOES_ON_BEFORE = frozenset(("PLUS", "MINUS", "STAR", "SLASH", "CIRCUMFLEX", "LBRACE", "ELSE"))

_STATEMENT_ENDS = frozenset(("_SEP", "LBRACE", "RBRACE"))

CLOSERS = {"LPAR": ")", "LSQB": "]", "LBRACE": "}", "VALUED": "}"}
_CLOSING = {"RPAR": ")", "RSQB": "]", "RBRACE": "}"}


def span_of(token: Token) -> Span:
    """Where a token stands."""
    line, column = token.line or 1, token.column or 1
    return Span(line, column, token.end_line or line, token.end_column or column + len(token))


def check_name(token: Token) -> str:
    """The name as text; a `ParseError` for `True`, `False` and what is too long."""
    name = str(token)
    if name in ("True", "False"):
        raise ParseError(f"`{name}` is not a word of the language", span_of(token), fix=f"`{name.lower()}`",
                         why="words of the language are written in small letters")  # fmt: skip
    if len(name) > MAX_NAME_LENGTH:
        raise ParseError(f"this name is longer than {MAX_NAME_LENGTH} characters", span_of(token),
                         why="it becomes a name in the programs that are generated", fix="a shorter name")  # fmt: skip
    return name


class Layout:
    """The token filter that Lark runs between lexer and parser (its `postlex`). It has no state of its own."""

    always_accept = ()

    def process(self, stream: Iterator[Token]) -> Iterator[Token]:
        """Drops the newlines that do not end a statement; a `ParseError` for brackets that do not match."""
        open_brackets: list[Token] = []
        last: list[Token] = []  # the last five tokens passed on
        separator: Token | None = None
        for token in stream:
            if token.type == "_SEP":
                inside = open_brackets and open_brackets[-1].type != "LBRACE"
                if not inside or ";" in token:
                    separator = separator or token
                continue
            if separator is not None:
                joined = (last and last[-1].type in _GOES_ON_AFTER) or token.type in _GOES_ON_BEFORE
                if not joined or ";" in separator:
                    last = [separator]
                    yield separator
                separator = None
            if token.type == "FIX" and last and last[-1].type not in _STATEMENT_ENDS:
                word = replace(span_of(token), end_line=token.line or 1, end_column=(token.column or 1) + 3)
                raise ParseError("`fix` is a word of the language and cannot be a name", word, fix="`fix_`",
                                 why="`fix` begins a line of exponents that are given")  # fmt: skip
            _match_brackets(token, open_brackets)
            last = [*last[-4:], token]
            if token.type == "NUMBER":
                _check_number(token, last)
            yield token
        if separator is not None:
            yield separator
        if open_brackets:
            raise unclosed(open_brackets[-1])


def unclosed(bracket: Token) -> ParseError:
    """The error for a bracket without its partner."""
    closer = CLOSERS[bracket.type]
    mark = f"`{bracket[-1]}`"
    return ParseError(f"this {mark} is never closed", span_of(bracket), fix=f"a `{closer}` where the bracket ends",
                      why="what is opened is read on until it is closed")  # fmt: skip


def _match_brackets(token: Token, open_brackets: list[Token]) -> None:
    if token.type in CLOSERS:
        open_brackets.append(token)
        if len(open_brackets) > MAX_BRACKETS:
            raise ParseError(f"brackets are nested more than {MAX_BRACKETS} deep", span_of(token),
                             fix="a name for the inner part", why="no formula or loop needs so many")  # fmt: skip
    elif token.type in _CLOSING:
        if not open_brackets:
            raise ParseError(f"this `{token}` closes nothing", span_of(token), why="no bracket is open here",
                             fix="nothing in its place, or the bracket that it closes before it")  # fmt: skip
        opener = open_brackets[-1]
        if CLOSERS[opener.type] != token:
            if token.type == "RBRACE":
                raise unclosed(opener)
            if opener.type == "LBRACE":
                why = "the innermost open bracket is a `{`"
                raise ParseError(f"this `{token}` closes nothing", span_of(token), why=why,
                                 fix="nothing in its place, or the bracket that it closes before it")  # fmt: skip
            raise ParseError(f"`{opener[-1]}` in line {opener.line}, column {opener.column} is closed by `{token}`",
                             span_of(token), fix=f"`{CLOSERS[opener.type]}`",
                             why="the bracket that is opened last is closed first")  # fmt: skip
        open_brackets.pop()


def _check_number(token: Token, last: list[Token]) -> None:
    exponent = token.lower().partition("e")[2].lstrip("+-")
    readable = len(token) <= MAX_NUMBER_LENGTH and (not exponent or int(exponent) <= 2 * MAX_NUMBER_EXPONENT)
    value = Fraction(str(token)) if readable else None
    if value is None or (value and not SMALLEST <= value <= 1 / SMALLEST):
        raise ParseError(
            f"this number is too long: at most {MAX_NUMBER_LENGTH} characters and powers of ten up to "
            f"{MAX_NUMBER_EXPONENT} are read",
            span_of(token),
            why="numbers are exact fractions, and stay handy",
            fix="a rounded number, such as `0.3333` or `1e-8`",
        )
    types = [t.type for t in last]
    negative = types == ["CIRCUMFLEX", "MINUS", "NUMBER", "SLASH", "NUMBER"]
    one = types[1:] == ["CIRCUMFLEX", "NUMBER", "SLASH", "NUMBER"] and last[2] == "1"
    if negative or one:
        power = "".join(last[1:] if negative else last[2:])
        raise ParseError(
            f"`^{power}` can be read in two ways",
            span_of(last[0 if negative else 1]),
            why="a power binds tighter than a division, so the denominator would not belong to the exponent",
            fix=f"`^({power})`",
        )
