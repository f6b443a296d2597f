"""Text of emitted code: expressions with their binding strength, and lines folded to 100 columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

LIMIT = 100
ADD, MUL, NEG, POW, ATOM = 1, 2, 3, 4, 5  # how strongly the outermost operator binds


@dataclass(frozen=True, slots=True)
class Code:
    """A Python expression and how strongly its outermost operator binds."""

    text: str
    level: int = ATOM

    def at(self, level: int) -> str:
        """The text, in parentheses if it binds less strongly than `level`."""
        return self.text if self.level >= level else f"({self.text})"


def plus(left: Code, right: Code) -> Code:
    """`left + right`, written as a difference if the right side is negated."""
    if right.text.startswith("-") and right.level >= MUL:
        return Code(f"{left.at(ADD)} - {right.text[1:]}", ADD)
    return Code(f"{left.at(ADD)} + {right.at(MUL)}", ADD)


def times(left: Code, right: Code) -> Code:
    if left.text == "-1":
        level = {MUL: MUL, POW: ATOM}.get(right.level, NEG)  # the formatter writes -(z**2)
        return Code(f"-{right.at(level)}", MUL if right.level == MUL else NEG)
    return Code(f"{left.at(MUL)} * {right.at(NEG)}", MUL)


def over(left: Code, right: Code) -> Code:
    return Code(f"{left.at(MUL)} / {right.at(NEG)}", MUL)


def power(base: Code, exponent: Code) -> Code:
    """Spaced like the formatter does: tight only between plain names and numbers."""
    simple = all(part.replace(".", "").replace("_", "").isalnum() for part in (base.text, exponent.text.lstrip("-")))
    sign = "**" if simple else " ** "
    return Code(f"{base.at(ATOM)}{sign}{exponent.at(NEG)}", POW)


def combined(op: str, left: Code, right: Code) -> Code:
    """Two expressions under an operator of the language: `+`, `-`, `*`, `/` or `^`."""
    match op:
        case "+":
            return plus(left, right)
        case "-":
            return Code(f"{left.at(ADD)} - {right.at(MUL)}", ADD)
        case "*":
            return times(left, right)
        case "/":
            return over(left, right)
        case _:
            return power(left, right)


def call(name: str, /, *arguments: Code | str, **keywords: str) -> Code:
    """`name(a, b, key=value)`."""
    parts = [a if isinstance(a, str) else a.text for a in arguments]
    parts += [f"{key}={value}" for key, value in keywords.items()]
    return Code(f"{name}({', '.join(parts)})")


def method(on: Code, name: str, /, *arguments: Code | str, **keywords: str) -> Code:
    """`on.name(..)`."""
    return call(f"{on.at(ATOM)}.{name}", *arguments, **keywords)


def index(on: Code, *positions: str) -> Code:
    return Code(f"{on.at(ATOM)}[{', '.join(positions)}]")


def number(value: Fraction | float) -> Code:
    """A literal; fractions that a float cannot hold exactly are written as a quotient."""
    if isinstance(value, Fraction):
        if value.denominator == 1 and abs(value.numerator) < 10**6:
            return Code(str(value.numerator), ATOM if value >= 0 else NEG)
        if Fraction(float(value)) != value:
            return Code(f"{value.numerator} / {value.denominator}", MUL)
        value = float(value)
    if value != value or value in (float("inf"), -float("inf")):
        return Code(f'float("{value}")')
    return Code(repr(value), ATOM if value >= 0 and str(value)[0] != "-" else NEG)


def ints(values: list[str]) -> str:
    """A tuple of already written sizes: `(3,)`, `(3, 4)`."""
    return f"({values[0]},)" if len(values) == 1 else f"({', '.join(values)})"


def block(header: str, body: list[str]) -> list[str]:
    """Lines of a compound statement."""
    return [header, *("    " + line if line else "" for line in (body or ["pass"]))]


# --- folding long lines -------------------------------------------------------------------------------


def fold(line: str, limit: int = LIMIT) -> list[str]:
    """One logical line as lines of at most `limit` columns, the way black and ruff format break them."""
    if len(line) <= limit:
        return [line]
    text = line.lstrip(" ")
    indent = line[: len(line) - len(text)]
    head, expression = _statement(text)
    operators = _operators(expression)
    last, end = _bracket(text, limit - len(indent))
    subscript = text[last] == "[" and text[last - 1 : last].strip(" ([{") != ""
    hugging = len(operators) == 1 and end == len(text) - 1 and not subscript
    if head and operators and not hugging:
        return [indent + head + "(", *_operands(expression, indent + "    ", limit), indent + ")"]
    if last < 0:
        return [line]
    inner = text[last + 1 : end]
    deeper = indent + "    "
    lines = [indent + text[: last + 1]]
    if len(deeper + inner) <= limit and not inner.endswith(","):
        lines.append(deeper + inner)
    elif parts := _split_commas(inner):
        for part in parts:
            lines += fold(deeper + part + ",", limit)
    else:
        lines += _operands(inner, deeper, limit)
    return [*lines, indent + text[end:]]


def _operands(expression: str, indent: str, limit: int) -> list[str]:
    if len(indent + expression) <= limit:
        return [indent + expression]
    cuts = [0, *_operators(expression), len(expression)]
    pieces = [expression[a:b].strip() for a, b in pairwise(cuts)]
    return [line for piece in pieces for line in fold(indent + piece, limit)]


def _statement(text: str) -> tuple[str, str]:
    """(`x = ` or `return `, the expression), or ("", text) for anything else."""
    if text.startswith("return "):
        return "return ", text[7:]
    for position, depth in _depths(text):
        if depth == 0 and text.startswith(" = ", position):
            return text[: position + 3], text[position + 3 :]
    return "", text


def _depths(text: str) -> Iterator[tuple[int, int]]:
    """Positions outside string literals, with the bracket depth there (a bracket counts as outside itself)."""
    depth, quote = 0, ""
    for position, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
            continue
        if character in "\"'":
            quote = character
        elif character in "([{":
            yield position, depth
            depth += 1
            continue
        elif character in ")]}":
            depth -= 1
        yield position, depth


def _bracket(text: str, width: int) -> tuple[int, int]:
    """The last outermost bracket pair with something in it that leaves a short enough line in front."""
    pairs, start = [], -1
    for position, depth in _depths(text):
        if depth == 0 and text[position] in "([{":
            start = position
        elif depth == 0 and text[position] in ")]}" and position > start + 1:
            pairs.append((start, position))
    fitting = [pair for pair in pairs if pair[0] < width]
    return (fitting or pairs or [(-1, -1)])[-1]


def _split_commas(text: str) -> list[str]:
    cuts = [p for p, depth in _depths(text) if depth == 0 and text[p] == ","]
    if not cuts:
        return []
    bounds = [-1, *cuts, len(text)]
    parts = [text[a + 1 : b].strip() for a, b in pairwise(bounds)]
    return [part for part in parts if part]


def _operators(text: str) -> list[int]:
    """Positions of the weakest outermost binary operators."""
    for group in ((" + ", " - "), (" * ", " / ", " % ", " // "), (" ** ",)):
        found = [p for p, depth in _depths(text) if depth == 0 and any(text.startswith(o, p) for o in group)]
        if found:
            return [p + 1 for p in found]
    return []
