"""From a parser's complaint to a sentence: what was found, what was expected, and the usual mistakes by name."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterator

from lark import Lark, Token
from lark.exceptions import LarkError, UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from tensorprog.errors import ParseError
from tensorprog.foreign import CHARACTERS, FOREIGN, FORMS, GLUED
from tensorprog.lexing import CLOSERS, span_of, unclosed
from tensorprog.syntax import Span

STATEMENTS = tuple(FORMS)
_WORDS = (*STATEMENTS, "else", "in", "frozen", "shared")
_KEYWORD_TYPES = {word.upper(): word for word in _WORDS}
_MARKS = {
    "PLUS": "+", "MINUS": "-", "STAR": "*", "SLASH": "/", "CIRCUMFLEX": "^", "EQUAL": "=", "COMMA": ",",
    "COLON": ":", "VBAR": "|", "LPAR": "(", "RPAR": ")", "LSQB": "[", "RSQB": "]", "LBRACE": "{", "RBRACE": "}",
    "MUCH_LESS": "<<", "ELLIPSIS": "..",
}  # fmt: skip
_OPERANDS = {"NAME", "NUMBER", "LPAR", "UNKNOWN", "VALUED", "REDUCTION"}
_OPERATORS = {"PLUS", "MINUS", "STAR", "SLASH", "CIRCUMFLEX"}


def explain(error: UnexpectedInput, source: str, grammar: Lark) -> ParseError:
    """One `ParseError` for what the lexer or the parser stumbled on."""
    if isinstance(error, UnexpectedCharacters):
        return _character(error, source)
    assert isinstance(error, UnexpectedToken)  # the end of the text is a token too
    token = error.token
    before = []
    try:
        for seen in grammar.lex(source):
            if token.type != "$END" and (seen.start_pos or 0) >= (token.start_pos or 0):
                break
            before.append(seen)
    except (ParseError, LarkError):
        pass  # a later mistake; the parser's comes first
    accepts = set(error.accepts or error.expected)
    for found in _usual(token, before, accepts, source):
        return found
    place = span_of(token)
    if token.type in ("_SEP", "$END") and before:
        last = span_of(before[-1])
        place = Span(last.end_line, last.end_column, last.end_line, last.end_column + 1)
    first = _statement(before)[:1]
    form = FORMS.get(str(first[0]), "`y = relu(x)`, `h[j] = W[j,i] x[i]`") if first else "`x = ..`, or a keyword"
    return ParseError(f"found {_found(token)}, expected {_expected(accepts)}", place,
                      why=f"such a statement looks like {form}", fix=_expected(accepts))  # fmt: skip


def _character(error: UnexpectedCharacters, source: str) -> ParseError:
    character = source[error.pos_in_stream or 0]
    span = Span(error.line, error.column, error.line, error.column + 1)
    around = source[max(0, (error.pos_in_stream or 0) - 2) : (error.pos_in_stream or 0) + 3]
    if character == "." and "..." in around:
        why, fix = CHARACTERS["..."]
    elif character in CHARACTERS:
        why, fix = CHARACTERS[character]
    elif character.isascii():
        why = "no mark of the language" if character.isprintable() else "a control character"
        fix = "nothing, or a name of letters, digits and `_`" if character.isprintable() else "nothing"
    else:
        why, fix = "outside comments only ASCII is read", _ascii(character)
    shown = f"`{character}`" if character.isprintable() and not character.isspace() else f"U+{ord(character):04X}"
    return ParseError(f"the character {shown} does not belong here", span, why=why, fix=fix)


def _ascii(character: str) -> str:
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    name = unicodedata.name(character, "")
    if name.startswith("GREEK"):
        return f"`{name.split()[-1].lower()}`"
    return f"`{plain}`" if plain.isalpha() else "ASCII: letters, digits and the marks of the keyboard"


def _usual(token: Token, before: list[Token], accepts: set[str], source: str) -> Iterator[ParseError]:
    """The usual mistakes, most telling first."""
    last = before[-1] if before else None
    line = _statement(before)
    first = line[0] if line else token
    opener = _open_bracket(before)

    if first.type == "NAME" and first in FOREIGN:
        yield ParseError(f"`{first}` is not a word of the language", span_of(first), fix=FOREIGN[first],
                         why="a file describes a network; it is no program in another language")  # fmt: skip
    start = token.start_pos or 0
    for shift in (-1, 0) if token.type not in ("_SEP", "$END") else ():
        pair = source[max(0, start + shift) : start + shift + 2]
        if pair in GLUED:
            why, fix = GLUED[pair]
            line_number, column = token.line or 1, (token.column or 1) + shift
            place = Span(line_number, column, line_number, column + 2)
            yield ParseError(f"found `{pair}`", place, why=why, fix=fix)
    if opener is not None and opener.type != "LBRACE":
        later = (opener.line or 0) < (token.line or 0)
        if token.type in _KEYWORD_TYPES or (later and (token.type == "EQUAL" or _starts_line(token, before))):
            yield unclosed(opener)
    if token.type == "ELSE":
        yield ParseError("this `else` has no `if`", span_of(token), fix="`if flag { .. } else { .. }`",
                         why="`else` stands behind the `}` of an `if`")  # fmt: skip
    if token.type in _KEYWORD_TYPES and token in STATEMENTS and "_SEP" in accepts and line:
        yield ParseError("two statements in one line", span_of(token), fix=f"a new line, or `;`, before `{token}`",
                         why=f"`{token}` begins a statement")  # fmt: skip
    if token.type in _KEYWORD_TYPES and "NAME" in accepts:
        yield ParseError(f"`{token}` is a word of the language and cannot be a name", span_of(token), fix=f"`{token}_`",
                         why="it means the same wherever it stands")  # fmt: skip
    if token.type == "REDUCTION" or (last is not None and last.type == "REDUCTION" and token.type not in CLOSERS):
        name = token if token.type == "REDUCTION" else last
        yield ParseError(f"`{name}` is a reduction and cannot be a name", span_of(name or token),
                         fix=f"`{name}[i](x[i])`, or `{name}_`",
                         why="its name is read as a call with indices")  # fmt: skip
    if len(line) == 1 and first.type == "NAME" and token.type not in ("EQUAL", "LSQB", "COMMA", "COLON"):
        near = difflib.get_close_matches(first.lower(), STATEMENTS, 1, 0.6)
        if token.type in ("NAME", "_SEP", "$END", "LPAR") or near:
            alone = f"`x = {first}(..)`" if token.type == "LPAR" else f"`x = {first}`"
            yield ParseError(f"`{first}` begins no statement", span_of(first),
                             why="a statement defines a name (`x = ..`) or begins with a keyword",
                             fix=f"`{near[0]}`" if near and token.type != "LPAR" else alone)  # fmt: skip
    if token.type == "NAME":
        words = {_KEYWORD_TYPES[a] for a in accepts if a in _KEYWORD_TYPES}
        near = difflib.get_close_matches(token, words, 1, 0.6)
        if near:
            yield ParseError(f"found `{token}`", span_of(token), fix=f"`{near[0]}`",
                             why=f"the words that may stand here are {', '.join(sorted(words))}")  # fmt: skip
    if token.type in ("_SEP", "$END") and accepts >= {"LBRACE"} and "WIDTH" not in accepts and last is not None:
        place = span_of(last)
        yield ParseError(f"the body of `{first}` is missing", place, fix="the statements between `{` and `}`",
                         why=f"what `{first}` holds stands in braces, beginning in the same line")  # fmt: skip
    if token.type == "NAME" and last is not None and last.type == "RSQB" and accepts == {"LPAR"}:
        fix = f"`{first}[..](..)`" if first.type == "REDUCTION" else "`sum[i](x[i])`"
        yield ParseError("a reduction's argument stands in parentheses", span_of(token), fix=fix,
                         why="its brackets hold the indices that it works over, and nothing else")  # fmt: skip
    if token.type == "LPAR" and first.type in ("PARAM", "INPUT", "AXIS") and last is not None and last.type == "NAME":
        yield ParseError("indices stand in square brackets", span_of(token), fix=f"`{last}[..]`",
                         why="parentheses are for calls and groups")  # fmt: skip
    if token.type == "COMMA" and opener is not None and opener.type == "LPAR" and _behind_indices(opener, before):
        yield ParseError("a product in brackets has no comma", span_of(token), fix="`f(x, ..)`: no indices before `(`",
                         why="behind a name with indices they hold a factor; only reductions are called so"
                         )  # fmt: skip
    if token.type == "LSQB" and last is not None and last.type == "RPAR":
        yield ParseError("only a name has indices", span_of(token), fix="`y = f(x)` on a line of its own, then `y[i]`",
                         why="brackets name the axes of a tensor that is defined, or of what is summed")  # fmt: skip
    if token.type == "NUMBER" and first.type == "PARAM" and last is not None and last.type == "EQUAL":
        yield ParseError("a number is not an initialiser", span_of(token),
                         fix="`zeros`" if not float(token) else f"`normal({token})` or `constant({token})`",
                         why="behind `=` stands how the entries start")  # fmt: skip
    if token.type == "NAME" and first.type == "PARAM" and "EQUAL" in accepts:
        yield ParseError("an initialiser follows `=`", span_of(token), fix=f"`= {token}`",
                         why="behind its indices a parameter says how it starts")  # fmt: skip
    if first.type == "OUTPUT" and token.type == "COMMA" and opener is None:
        yield ParseError("one `output` per statement", span_of(token), fix="`output` on a new line",
                         why="each has a formula of its own")  # fmt: skip
    if first.type == "WIDTH" and token.type in ("EQUAL", "NUMBER"):
        yield ParseError("a width has no value", span_of(token), fix="`width n`; or `dim d = 64`, if it stays finite",
                         why="it goes to infinity; a command takes a value: `--base-width n=256`")  # fmt: skip
    if first.type == "AXIS" and token.type == "EQUAL":
        yield ParseError("an axis is declared with `:`", span_of(token), fix="`axis i: d`",
                         why="`=` gives a name to a value; an index runs over a size")  # fmt: skip
    if first.type == "DIM" and token.type == "COLON":
        yield ParseError(
            "a dim is declared with `=`", span_of(token), fix="`dim d = 64`", why="`:` is for what an index runs over"
        )
    if token.type in ("COMPARE", "MUCH_LESS") and "STAR" in accepts:
        yield ParseError(f"a comparison is no value: found `{token}`", span_of(token), fix="`softmax[s | s <= t](..)`",
                         why="only what a reduction works over is compared, index with index")  # fmt: skip
    if token.type == "NUMBER" and "STAR" in accepts:
        yield ParseError("a number cannot follow a factor without a sign between them", span_of(token),
                         fix=f"`* {token}`", why="side by side, the number stands first: `3 x`")  # fmt: skip
    if token.type == "EQUAL" and first.type == "OUTPUT" and "NAME" in accepts:
        yield ParseError("the output has no name", span_of(token), fix="`output f[c] = ..`",
                         why="the program that is generated returns its results by name")  # fmt: skip
    defined = any(seen.type == "EQUAL" for seen in line)
    if first.type == "OUTPUT" and token.type in ("_SEP", "$END", "COMMA") and len(line) > 1 and not defined:
        yield ParseError("an output is defined where it is declared", span_of(line[1]), fix=f"`output {line[1]} = ..`",
                         why="`output` stands in front of the formula of a tensor, not of its name alone")  # fmt: skip
    if first.type == "FN" and token.type == "LBRACE":
        yield ParseError("a function is one formula", span_of(token), fix="`fn f(z) = ..`, or `block`",
                         why="it is analysed as one expression in its argument")  # fmt: skip


def _statement(before: list[Token]) -> list[Token]:
    """The tokens of the statement that the error stands in, so far."""
    start = 0
    for position, token in enumerate(before):
        if token.type in ("_SEP", "LBRACE", "RBRACE") and not (token.type == "RBRACE" and _valued(before[:position])):
            start = position + 1
    return before[start:]


def _valued(before: list[Token]) -> bool:
    opener = _open_bracket(before)
    return opener is not None and opener.type == "VALUED"


def _open_bracket(before: list[Token]) -> Token | None:
    """The innermost bracket that is open after these tokens."""
    stack: list[Token] = []
    for token in before:
        if token.type in CLOSERS:
            stack.append(token)
        elif token.type in ("RPAR", "RSQB", "RBRACE") and stack:
            stack.pop()
    return stack[-1] if stack else None


def _behind_indices(opener: Token, before: list[Token]) -> bool:
    place = next(k for k, token in enumerate(before) if token is opener)
    return place > 1 and before[place - 1].type == "RSQB" and all(t.type != "REDUCTION" for t in before[:place])


def _starts_line(token: Token, before: list[Token]) -> bool:
    return not before or (before[-1].end_line or 0) < (token.line or 0)


def _found(token: Token) -> str:
    if token.type == "$END":
        return "the end of the file"
    if token.type == "_SEP":
        return "`;`" if token.startswith(";") else "the end of the line"
    return f"`{token if len(token) <= 40 else token[:37] + '...'}`"


def _expected(accepts: set[str]) -> str:
    """Human words for a set of terminals."""
    left = set(accepts)
    words = []
    if {"WIDTH", "BLOCK"} <= left:
        words.append("a statement")
        left -= {*_KEYWORD_TYPES, "NAME", "_SEP", "$END"}
    if {"NUMBER", "LPAR"} <= left:
        words.append("an expression")
        left -= _OPERANDS | {"MINUS"}
    elif _OPERATORS - {"CIRCUMFLEX"} <= left:
        words.append("an operator")
        left -= _OPERANDS - {"NUMBER"} | _OPERATORS
        if "LPAR" in accepts:
            left.discard("LSQB")
    if "NAME" in left:
        words.append("a name")
    words += sorted(f"`{_KEYWORD_TYPES[t]}`" for t in left if t in _KEYWORD_TYPES)
    words += [f"`{mark}`" for kind, mark in _MARKS.items() if kind in left]
    if "COMPARE" in left:
        words.append("a comparison")
    if left & {"_SEP", "$END"}:
        words.append("the end of the line" if "_SEP" in left else "the end of the file")
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words) or "something else"
