"""The one family of errors a user can meet, and how it is drawn: place, line, caret, what, why, what to write."""

from __future__ import annotations

import copyreg
from typing import Any

from tensorprog.syntax import NOWHERE, Span

WIDEST = 200  # characters of a source line that are shown


class TensorProgError(Exception):
    """Something is wrong with the user's input.

    `message` says what, `why` which rule it breaks, `fix` what to write instead, none left out; `span` where.
    `file` and `source` may be filled in later, by the stage that knows them (`located`).
    """

    def __init__(
        self, message: str, span: Span = NOWHERE, *, why: str, fix: str, source: str = "", file: str = ""
    ) -> None:
        super().__init__(message)
        self.message, self.span, self.why, self.fix = message, span, why, fix
        self.source, self.file = source, file or span.file

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles are made of what it holds: worker processes send it, whatever its class is called with."""
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]

    def located(self, source: str, file: str) -> TensorProgError:
        """The same error, knowing the text it speaks of (kept if already known)."""
        self.source = self.source or source
        self.file = self.file or file
        return self

    def __str__(self) -> str:
        return self.render()

    def render(self) -> str:
        """`file:line:column: error: message`, the line with a caret under it, why, and what to write instead."""
        if self.span == NOWHERE:
            parts = [f"{self.file}: error: {self.message}" if self.file else f"error: {self.message}"]
        else:
            span = self.span
            parts = [f"{self.file or '<string>'}:{span.line}:{span.column}: error: {self.message}"]
            lines = self.source.splitlines()
            if 0 < span.line <= len(lines):
                text, number = lines[span.line - 1], str(span.line)
                length = span.end_column - span.column if span.end_line == span.line else len(text) - span.column + 1
                text, start = _window(text, span.column - 1)
                pad = "".join("\t" if c == "\t" else " " for c in text[:start])
                parts.append(f"  {number} | {text}")
                parts.append(f"  {' ' * len(number)} | {pad}{'^' * max(1, min(length, len(text) - start))}")
        if self.why:
            parts.append(f"  why: {self.why}")
        if self.fix:
            parts.append(f"  write instead: {self.fix}")
        return "\n".join(parts)


def _window(text: str, start: int) -> tuple[str, int]:
    """The part of a long line that shows position `start`, and where that is in it."""
    first = max(0, start - WIDEST // 4) if len(text) > WIDEST else 0
    before, after = "..." * (first > 0), "..." * (first + WIDEST < len(text))
    return before + text[first : first + WIDEST] + after, start - first + len(before)


class ParseError(TensorProgError):
    """The text is not in the language."""


class ShapeError(TensorProgError):
    """Names, indices or dims do not fit together."""


class CalculusError(TensorProgError):
    """The calculus does not cover this network, or it has no stable answer; the node is named."""


class NoPowerLawError(CalculusError):
    """A stack of layers has no exponents of its depth; the loop is named."""


class InternalError(TensorProgError):
    """A stage was given what the stages before it do not make: a fault of this tool, not of the user's."""

    def __init__(self, message: str, span: Span = NOWHERE) -> None:
        super().__init__(f"fault in tensorprog: {message}", span, why="nothing that you write should lead here",
                         fix="nothing else: please report it, with this message, the command and the file")  # fmt: skip
