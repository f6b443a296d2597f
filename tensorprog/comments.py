"""Comments are not in the syntax tree: here they find their way from the source into the printed text.

A comment on a line of its own stays before the statement it precedes, one behind a statement stays behind it, and one
inside a statement of several lines goes above it. One blank line between statements is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tensorprog import statements as st
from tensorprog.printer import declared, head, wrap

Place = tuple[int, int]  # line, column
Body = Sequence[st.Statement | st.Assignment]


def weave(arch: st.Arch, source: str) -> str:
    """The printed text of `arch`, parsed from `source`, with the comments of `source`."""
    lines = source.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    weaver = _Weaver(lines)
    common, _ = declared(one for one in arch.statements if not isinstance(one, st.Block))
    weaver.body(arch.statements, (len(lines) + 1, 0), 0, common, top=True)
    return "".join(line + "\n" for line in weaver.out)


@dataclass
class _Weaver:
    lines: list[str]
    out: list[str] = field(default_factory=list)
    line: int = 0  # the last line of the source that has been written
    fresh: bool = True  # nothing written yet in this body
    comments: list[tuple[Place, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for number, line in enumerate(self.lines, 1):
            column = line.find("#")
            if column >= 0:
                self.comments.append(((number, column + 1), line[column:].rstrip()))

    def body(self, statements: Body, end: Place, depth: int, dims: frozenset[str], top: bool = False) -> None:
        """Statements and comments up to `end`, where the body closes."""
        self.fresh = True
        for position, statement in enumerate(statements):
            start = statement.span.line, statement.span.column
            self.above(start, depth)
            following = statements[position + 1 : position + 2]
            limit = min([end, *((n.span.line, n.span.column) for n in following)])
            inner = not top or isinstance(statement, st.Assignment)
            own, indices = (dims, dims) if inner else declared([statement])
            self.statement(statement, limit, depth, dims - indices | own)
            self.fresh = False
        self.above(end, depth)

    def above(self, limit: Place, depth: int) -> None:
        """Comments before `limit`, each on a line of its own."""
        while self.comments and self.comments[0][0] < limit:
            (line, _), comment = self.comments.pop(0)
            self.gap(line)
            self.out.append("  " * depth + comment)
            self.line, self.fresh = max(line, self.line), False

    def gap(self, line: int) -> None:
        """A blank line, where the source has one."""
        between = self.lines[self.line : line - 1]
        if not self.fresh and any(not text.strip() for text in between):
            self.out.append("")

    def behind(self, line: int, limit: Place) -> None:
        """A comment at the end of this line of the source, behind what was written last."""
        if self.comments and self.comments[0][0][0] == line and self.comments[0][0] < limit:
            self.out[-1] += "  " + self.comments.pop(0)[1]

    def statement(
        self, statement: st.Statement | st.Assignment, limit: Place, depth: int, dims: frozenset[str]
    ) -> None:
        span = statement.span
        end = span.end_line, span.end_column
        pad = "  " * depth
        bodies: list[tuple[Body, Place, Place]]
        match statement:
            case st.Repeat(body=body) | st.Scan(body=body) | st.Block(body=body):
                open_, close = self.braces((span.line, span.column))
                bodies = [(body, open_, close)]
            case st.OptimizerDef(rules=rules):
                open_, close = self.braces((span.line, span.column))
                bodies = [(rules, open_, close)]
            case st.If(then=then, otherwise=otherwise):
                open_, close = self.braces((span.line, span.column))
                bodies = [(then, open_, close)]
                if (close[0], close[1] + 1) < end:
                    bodies.append((otherwise, *self.braces((close[0], close[1] + 1))))
            case _:
                bodies = []
        inside = bodies[0][1] if bodies else end
        self.gap(span.line)
        while self.comments and self.comments[0][0] < inside:
            self.out.append(pad + self.comments.pop(0)[1])
        self.out += wrap(pad + head(statement, dims))
        self.line = inside[0]
        for position, (inner, open_, close) in enumerate(bodies):
            if position and not inner:  # an empty else is dropped; its comments stay
                self.above(close, depth)
                continue
            if position:
                self.out[-1] += " else {"
            self.line = open_[0]
            first_inside = min([close, *((i.span.line, i.span.column) for i in inner[:1])])
            self.behind(open_[0], first_inside)
            self.body(inner, close, depth + 1, dims)
            self.out.append(pad + "}")
            self.line, self.fresh = close[0], False
        self.line = end[0]
        self.behind(end[0], limit)

    def braces(self, start: Place) -> tuple[Place, Place]:
        """Where the first body after `start` opens and closes. A `{` of `?name{value}` opens no body."""
        depth, opened = 0, start
        values: list[int] = []
        for number in range(start[0], len(self.lines) + 1):
            text = self.lines[number - 1].partition("#")[0]
            for column in range(start[1] if number == start[0] else 1, len(text) + 1):
                if text[column - 1] == "{":
                    if _is_value(text[: column - 1]):
                        values.append(depth)
                        continue
                    depth += 1
                    opened = (number, column) if depth == 1 else opened
                elif text[column - 1] == "}":
                    if values and values[-1] == depth:
                        values.pop()
                        continue
                    depth -= 1
                    if depth == 0:
                        return opened, (number, column)
        return opened, (len(self.lines), 1)


def _is_value(before: str) -> bool:
    return before.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_").endswith("?")
