"""What README.md and docs/ show is what the commands print, and what they link to is there."""

from __future__ import annotations

import argparse
import importlib.util
import re
import shlex
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from tensorprog.cli import parser

ROOT = Path(__file__).resolve().parents[2]


def load_refresh() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_refresh", ROOT / "docs" / "refresh.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


refresh = load_refresh()
PAGES = [pytest.param(page, id=str(page.relative_to(ROOT))) for page in refresh.pages()]


def with_kind(kind: str) -> list:
    """The pages with blocks of a kind; all but one are for the slow tier."""
    found = []
    for page in refresh.pages():
        shown = [block for block in refresh.blocks(page.read_text()) if block.kind == kind]
        slow = page.name != "attention-scale.md"
        if shown:
            found.append(pytest.param(page, id=str(page.relative_to(ROOT)), marks=pytest.mark.slow if slow else ()))
    return found


@pytest.mark.parametrize("page", with_kind("output"))
def test_shown_outputs_are_what_the_commands_print(page: Path) -> None:
    text = page.read_text()
    assert refresh.refreshed(text, kinds=("output",)) == text, f"run: python docs/refresh.py {page.relative_to(ROOT)}"


@pytest.mark.slow
@pytest.mark.parametrize("page", with_kind("measured"))
def test_shown_measurements_agree_in_all_but_their_digits(page: Path) -> None:
    text = page.read_text()
    fresh = refresh.refreshed(text, kinds=("measured",))
    assert refresh.comparable(fresh) == refresh.comparable(text), (
        f"run: python docs/refresh.py {page.relative_to(ROOT)}"
    )


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?://|mailto:)([^)\s]+)\)", without_code(page.read_text())):
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{page.name} links to {target}"
        if anchor:
            assert anchor in headings(file), f"{page.name} links to {target}"


def test_the_page_about_the_code_names_files_that_exist() -> None:
    named = re.findall(r"`([\w/]+(?:\.\w+|/))`", (ROOT / "docs" / "explanation" / "code.md").read_text())
    assert len(named) > 40
    assert [name for name in named if not any((folder / name).exists() for folder in (ROOT, ROOT / "tensorprog"))] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_marker_stands_before_a_block(page: Path) -> None:
    text = page.read_text()
    markers = re.findall(r"^<!-- (?:file|output|measured|command): .*-->$", text, re.MULTILINE)
    assert len(markers) == len(refresh.blocks(text))


@pytest.mark.parametrize("page", PAGES)
def test_output_blocks_hold_commands_that_neither_crash_nor_are_refused(page: Path) -> None:
    for block in refresh.blocks(page.read_text()):
        if block.kind in ("output", "measured"):
            assert block.commands, block.name
            assert "Traceback" not in block.body, block.name
            assert "[exit 2]" not in block.body, block.name


def test_every_extra_that_is_named_anywhere_exists() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    code = [file for folder in ("tensorprog", "benchmarks", "tests") for file in (ROOT / folder).rglob("*.py")]
    for file in [*refresh.pages(), *code]:
        for named in re.findall(r"pip install [^\n]*?(?:tensorprog|\.)\[([a-z,]+)\]", file.read_text()):
            assert set(named.split(",")) <= set(extras), f"{file.name} names the extra {named}"


PARSER = parser()
COMMANDS = next(a.choices for a in PARSER._actions if isinstance(a, argparse._SubParsersAction))
# Of the campaign, and of the scripts that make these pages.
ELSEWHERE = {"--write", "--again", "--networks", "--seed", "--out", "--jobs", "--report", "--shrink", "--indent"}


OPTIONS = [action.option_strings for command in COMMANDS.values() for action in command._actions]


def options_in(page: Path) -> set[str]:
    return set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", page.read_text()))


@pytest.mark.parametrize("page", PAGES)
def test_every_option_that_is_named_exists(page: Path) -> None:
    named = {option for option in options_in(page) if option.startswith("--")}
    assert named <= {spelling for spellings in OPTIONS for spelling in spellings} | ELSEWHERE


def test_the_reference_names_every_option() -> None:
    named = options_in(ROOT / "docs" / "reference" / "cli.md") | {"--help"}
    assert [spellings for spellings in OPTIONS if spellings and named.isdisjoint(spellings)] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_command_line_that_is_shown_can_be_read(page: Path) -> None:
    for line in re.findall(r"^(?:\$ | {4})?tpcalc (.+)$", page.read_text(), re.MULTILINE):
        command = re.split(r" +(?:[|>#]|&&) ", line)[0]
        if not re.search(r"\.\.|\[-|\||\\$|--help", command):  # a usage, or the first of several lines
            PARSER.parse_args(shlex.split(command))


def test_readme_names_the_two_commands_that_ci_runs() -> None:
    readme = ROOT / "README.md"
    assert "pytest" in refresh.command(readme, "test")
    assert "tpcalc derive examples/mlp.tp" in refresh.command(readme, "main")


def without_code(text: str) -> str:
    text = re.sub(r"^(`{3,}).*?^\1$", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", "", text)


def headings(file: Path) -> set[str]:
    """Anchors as GitHub makes them."""
    text = re.sub(r"^(`{3,}).*?^\1$", "", file.read_text(), flags=re.MULTILINE | re.DOTALL)
    return {
        re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-")
        for title in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    }
