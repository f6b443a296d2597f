"""Variables of an emitted method: numbered while it is built (`§3§`), named when it is printed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tensorprog.emission.format import Code
from tensorprog.emission.names import check_identifier, is_reserved

REFERENCE = re.compile(r"§(\d+)§")


@dataclass(slots=True)
class Assign:
    """`targets = text`; without targets the text alone is the statement."""

    targets: list[int]
    text: str


@dataclass(slots=True)
class For:
    """`for targets in text:`."""

    targets: list[int]
    text: str
    body: list[Statement]


Statement = Assign | For


def reference(variable: int) -> Code:
    return Code(text_of(variable))


def text_of(variable: int) -> str:
    return f"§{variable}§"


def number_of(code: Code) -> int:
    return int(code.text[1:-1])


def variable_name(name: str) -> str:
    """The user's name for a value (`x#2` is the second `x`)."""
    base = name.partition("#")[0].rpartition(".")[2]
    return check_identifier(base) if base else "y"


def texts(block: Sequence[Statement]) -> Iterator[str]:
    for statement in block:
        yield statement.text
        if isinstance(statement, For):
            yield from texts(statement.body)


def rename(block: list[Statement], old: int, new: int) -> None:
    for statement in block:
        statement.text = statement.text.replace(text_of(old), text_of(new))
        statement.targets = [new if t == old else t for t in statement.targets]
        if isinstance(statement, For):
            rename(statement.body, old, new)


class Names:
    """Two variables share a name only if one is dead before the other is born."""

    def __init__(self, wanted: list[str], formals: list[int]) -> None:
        self._wanted = wanted
        self._born: dict[int, int] = dict.fromkeys(formals, 0)
        self._dead: dict[int, int] = dict.fromkeys(formals, 0)
        self._clock = 0

    def choose(self, statements: list[Statement], result: str) -> dict[int, str]:
        self._walk(statements)
        self._clock += 1
        self._touch(result)
        names: dict[int, str] = {}
        for variable in sorted(self._born, key=lambda v: (self._born[v], v)):
            base, number = self._wanted[variable], 1
            name = base
            while (is_reserved(name) and name != "_") or any(
                names[other] == name and self._together(variable, other) for other in names
            ):
                number += 1
                name = f"{base}_{number}"
            names[variable] = name
        return names

    def _together(self, a: int, b: int) -> bool:
        if self._born[a] == self._born[b]:
            return True
        return self._born[a] < self._dead[b] and self._born[b] < self._dead[a]

    def _touch(self, text: str) -> None:
        for found in REFERENCE.finditer(text):
            self._dead[int(found[1])] = self._clock

    def _walk(self, statements: list[Statement]) -> None:
        for statement in statements:
            self._clock += 1
            self._touch(statement.text)
            for target in statement.targets:
                self._born.setdefault(target, self._clock)
                self._dead[target] = max(self._dead.get(target, 0), self._clock)
            if isinstance(statement, For):
                before = self._clock
                self._walk(statement.body)
                self._clock += 1
                for variable, dead in self._dead.items():
                    if dead > before and self._born[variable] <= before:  # read again in the next round
                        self._dead[variable] = self._clock
