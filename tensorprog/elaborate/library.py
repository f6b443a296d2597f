"""The standard blocks of `grammar/blocks.tp`: known by name at once, each parsed when it is first used."""

from __future__ import annotations

from functools import cache

from tensorprog.resources import read_grammar
from tensorprog.statements import Block

LIBRARY = "<standard blocks>"
_OPENS = "block "  # the beginning of the line in which a block begins; all blocks of the library stand at the top


@cache
def _texts() -> dict[str, str]:
    """Name of a block -> its text, below as many empty lines as there are lines above it."""
    lines = read_grammar("blocks.tp").splitlines(keepends=True)
    starts = [k for k, line in enumerate(lines) if line.startswith(_OPENS)]
    return {
        lines[start][len(_OPENS) :].split("(")[0].strip(): "\n" * start + "".join(lines[start:end])
        for start, end in zip(starts, [*starts[1:], len(lines)], strict=True)
    }


def standard_names() -> tuple[str, ...]:
    """The names of the standard blocks, in the order of the file."""
    return tuple(_texts())


@cache
def standard_block(name: str) -> Block:
    """A standard block by its name; KeyError if there is none of that name."""
    from tensorprog.parser import parse

    [block] = parse(_texts()[name], LIBRARY).statements
    assert isinstance(block, Block)
    return block
