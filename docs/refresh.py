"""Runs the commands shown in README.md and docs/, and writes what they print back into the pages.

    python docs/refresh.py [PAGE ...]             refresh the outputs
    python docs/refresh.py --check [PAGE ...]     only say which pages are out of date (exit 1)
    python docs/refresh.py --command NAME [PAGE]  print the shell command of that name (default page: README.md)

Three comments, each on a line of its own right before a fenced block, give the block a meaning:

    <!-- file: NAME -->       the block is written to NAME in the page's working directory
    <!-- output: NAME -->     every line `$ command` of the block is run, what follows it is its output
    <!-- measured: NAME -->   the same; the output holds measured numbers, so a comparison ignores their digits
    <!-- command: NAME -->    the block is one shell command that `.ci/run` executes; it is not run here

The commands of a page run in order, in one temporary directory that holds copies of `examples/`. A command that
fails shows its exit code on a last line `[exit 1]`.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TIMEOUT_S = 900
BLOCK = re.compile(
    r"^<!-- (?P<kind>file|output|measured|command): (?P<name>[^\n]+?) -->\n"
    r"(?P<fence>`{3,})(?P<language>\w*)\n(?P<body>.*?)^(?P=fence)$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Block:
    """One marked block of a page; `start` and `end` delimit its body in the page's text."""

    kind: str
    name: str
    body: str
    start: int
    end: int

    @property
    def commands(self) -> list[str]:
        """The command lines of the block, with continuation lines joined as the shell reads them."""
        found: list[str] = []
        continued = False
        for line in self.body.splitlines():
            if continued:
                found[-1] += "\n" + line
            elif line.startswith("$ "):
                found.append(line[2:])
            else:
                continue
            continued = line.endswith("\\")
        return found


def pages() -> list[Path]:
    """README.md and every page of docs/."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(text: str) -> list[Block]:
    """The marked blocks of a page, in order."""
    return [Block(m["kind"], m["name"], m["body"], m.start("body"), m.end("body")) for m in BLOCK.finditer(text)]


def command(page: Path, name: str) -> str:
    """The body of the page's `<!-- command: name -->` block. Raises LookupError if there is not exactly one."""
    found = [b.body for b in blocks(page.read_text()) if b.kind == "command" and b.name == name]
    if len(found) != 1:
        raise LookupError(f"{page.name} has {len(found)} blocks <!-- command: {name} -->, expected 1")
    return found[0]


def run_block(block: Block, directory: Path, environment: dict[str, str]) -> str:
    """The block's body with fresh outputs."""
    lines: list[str] = []
    for text in block.commands:
        result = subprocess.run(
            ["bash", "-c", text],
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT_S,
        )
        output = [line.rstrip() for line in result.stdout.rstrip("\n").split("\n")] if result.stdout.strip() else []
        lines += [f"$ {text}", *output]
        if result.returncode:
            lines.append(f"[exit {result.returncode}]")
    return "\n".join(lines) + "\n"


def refreshed(text: str, kinds: tuple[str, ...] = ("output", "measured")) -> str:
    """The page with the outputs of the blocks of these kinds replaced by what the commands print now."""
    with tempfile.TemporaryDirectory() as temporary:
        directory, bin_ = Path(temporary, "work"), Path(temporary, "bin")
        directory.mkdir()
        bin_.mkdir()
        if (ROOT / "examples").is_dir():
            shutil.copytree(ROOT / "examples", directory / "examples")
        # The tpcalc of this checkout, whatever is installed.
        tool = bin_ / "tpcalc"
        tool.write_text(
            f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n"
            "from tensorprog.cli import main\nsys.exit(main())\n"
        )
        tool.chmod(0o755)
        path = os.pathsep.join([str(bin_), str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "COLUMNS": "100", "NO_COLOR": "1"}
        pieces, position = [], 0
        for block in blocks(text):
            if block.kind == "file":
                target = directory / block.name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(block.body)
            elif block.kind in kinds:
                pieces += [text[position : block.start], run_block(block, directory, environment)]
                position = block.end
        return "".join([*pieces, text[position:]])


def comparable(text: str) -> str:
    """The page's text with the decimals of its measured blocks masked, and the spacing and rules around them."""

    def mask(match: re.Match[str]) -> str:
        if match["kind"] != "measured":
            return match[0]
        body = re.sub(r"[+-]?\d+\.\d+", "#", match["body"])
        return match["name"] + "\n" + "\n".join(re.sub(r"[ \-─|+]+", " ", line).strip() for line in body.splitlines())

    return BLOCK.sub(mask, text)


def main() -> int:
    parser = argparse.ArgumentParser(description="Refresh or check the outputs shown in the documentation.")
    parser.add_argument("pages", nargs="*", type=Path, metavar="PAGE")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if a page is out of date")
    parser.add_argument("--command", metavar="NAME", help="print the shell command of that name")
    options = parser.parse_args()
    if options.command:
        print(command(options.pages[0] if options.pages else ROOT / "README.md", options.command), end="")
        return 0
    stale = 0
    for page in options.pages or pages():
        old = page.read_text()
        new = refreshed(old)
        if comparable(new) == comparable(old):
            continue
        stale += 1
        print(f"{'out of date' if options.check else 'refreshed'}: {page}")
        if not options.check:
            page.write_text(new)
    return 1 if options.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
