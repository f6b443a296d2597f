"""Writes docs/reference/errors.md: every mistake of the error tables of the tests, as the tool answers it.

python docs/errors.py            write the page
python docs/errors.py --check    change nothing; exit 1 if the page is out of date
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tensorprog import TensorProgError, derive, parse  # noqa: E402
from tests.cli import error_table as derivation  # noqa: E402
from tests.cli import option_table as options  # noqa: E402
from tests.elaborate import error_table as elaboration  # noqa: E402
from tests.elaborate.graphs import graph_of  # noqa: E402
from tests.language import error_table as syntax  # noqa: E402

PAGE = ROOT / "docs" / "reference" / "errors.md"
LONGEST = 600  # characters of a text that is worth showing
HEAD = """\
# The errors

Each mistake that the tests know: the message of `tpcalc`, a text that causes it, why, and a text that is right. In
front of a message stands `file:line:column`, and below it the line with a caret. `python docs/errors.py` writes this
page from the tables of the tests.
"""


def answer(stage: Callable[[], object]) -> TensorProgError:
    """What is wrong with the text that a stage reads. Raises ValueError if nothing is."""
    try:
        stage()
    except TensorProgError as error:
        return error
    raise ValueError("a text of the error tables is right")


def entry(error: TensorProgError, bad: str, mended: str, language: str = "tp") -> Iterator[str]:
    """One mistake as Markdown."""
    yield f"### {' '.join(error.message.split())}\n"
    if len(bad) > LONGEST or "\x00" in bad:
        bad = "(not shown)"
    yield f"```{language}\n{bad.rstrip()}\n```\n"
    if error.why:
        yield f"Why: {error.why}.\n"
    if error.fix:
        yield f"Write instead: {error.fix}.\n"
    yield f"```{language}\n{mended.rstrip()}\n```\n"


def page() -> str:
    """The whole page."""
    parts = [HEAD, "## Syntax\n"]
    for row in syntax.ROWS:
        parts += entry(answer(partial(parse, row.bad)), row.bad, row.mended)
    parts += ["## Names, indices and sizes\n", _around(elaboration.HEAD, elaboration.TAIL)]
    for item in elaboration.ROWS:
        parts += entry(answer(partial(graph_of, elaboration.whole(item.bad))), item.bad, item.mended)
    parts += ["## Outside the calculus, and without an answer\n", _around(derivation.HEAD, derivation.TAIL)]
    for case in derivation.ROWS:
        architecture, form = parse(derivation.whole(case.bad)), case.form or None
        parts += entry(answer(partial(derive, architecture, "adam", form)), case.bad, case.mended)
    parts.append("## No exponents of the depth\n\n`derive` says so in its last lines, and gives those of the width.\n")
    for note in derivation.NOTES:
        parts += entry(TensorProgError(note.message, why="", fix=""), note.bad, note.mended)
    parts.append(
        "## Files\n\nIn a folder that holds `net.tp`, `latin.tp`, which is not UTF-8, and the folder `models`:\n"
    )
    for row in derivation.FILES:
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            derivation.fill(Path(folder))
            parts += entry(answer(partial(derivation.run, row.bad)), f"$ {row.bad}", f"$ {row.mended}", "console")
    parts.append("## Options, and data that do not fit\n\nIn a folder that also holds these files:\n")
    parts += [f"`{name}`\n\n```\n{text.rstrip()}\n```\n" for name, text in options.FOLDER.items()]
    for row in (*options.OPTIONS, *options.TRAINING):
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            options.fill(Path(folder))
            parts += entry(answer(partial(derivation.run, row.bad)), f"$ {row.bad}", f"$ {row.mended}", "console")
            sys.modules.pop("data", None)  # each folder has its own
    return "\n".join(parts)


def _around(head: str, tail: str) -> str:
    return f"A text that does not begin with `width` stands between these lines:\n\n```tp\n{head}...{tail}```\n"


def main() -> int:
    text = page()
    if "--check" in sys.argv[1:]:
        return int(not PAGE.exists() or PAGE.read_text() != text)
    PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
