"""The tables of errors: each mistake has its message, a reason and a way out; every error of the package is in one."""

from __future__ import annotations

import ast
import contextlib
import re
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tensorprog import TensorProgError, derive, parse
from tensorprog.coordcheck.runs import Runs
from tests.cli import error_table, python_table
from tests.cli.error_table import NOTES, FileRow, Note, run
from tests.cli.option_table import OPTIONS, TRAINING, fill
from tests.cli.python_table import PythonRow
from tests.elaborate import error_table as elaboration
from tests.elaborate.graphs import graph_of
from tests.language import error_table as syntax
from tests.shared import ROOT

COMMANDS = [
    *(pytest.param(row, id=row.bad) for row in OPTIONS),
    *(pytest.param(row, id=row.bad, marks=[pytest.mark.torch, pytest.mark.slow]) for row in TRAINING),
]


class BeginsError(Exception):
    """Training would begin."""


def begins(*_: object, **__: object) -> None:
    raise BeginsError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    fill(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("data", None)


@pytest.mark.parametrize("row", COMMANDS)
def test_what_does_not_fit_is_named_before_anything_is_trained(
    row: FileRow, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(TensorProgError) as caught:
        run(row.bad)
    assert caught.value.message == row.message
    assert caught.value.why and caught.value.fix
    assert capsys.readouterr() == ("", "")


@pytest.mark.slow
@pytest.mark.parametrize("row", COMMANDS)
def test_mended_command_runs_until_it_trains(row: FileRow, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Runs, "measure", begins)
    if row in TRAINING:
        monkeypatch.setattr("tensorprog.hptransfer.run.Workers", begins)
        monkeypatch.setattr("tensorprog.torch.modulecheck.check_module", begins)
    with contextlib.suppress(BeginsError):
        assert run(row.mended) in (0, 1)


@pytest.mark.parametrize("row", [pytest.param(row, id=row.message) for row in NOTES])
def test_why_there_are_no_exponents_of_the_depth(row: Note) -> None:
    assert derive(parse(row.bad), "adam").note == row.message
    assert derive(parse(row.mended), "adam").note == ""


@pytest.mark.parametrize(
    "row",
    [pytest.param(row, id=row.message, marks=[pytest.mark.torch] if row.torch else []) for row in python_table.ROWS],
)
def test_mistake_in_python_is_named(row: PythonRow) -> None:
    error = refusal(row.call)
    assert error.message == row.message
    assert error.why and error.fix


def refusal(call: Callable[[], Any]) -> TensorProgError:
    try:
        found = call()
    except TensorProgError as error:
        return error
    assert isinstance(found, TensorProgError), found
    return found


# --- every error is in a table ----------------------------------------------------------------------

MAKERS = {"refuse", "misfit", "_no_law", "_fail", "_bad"}  # functions that make one, besides the classes
ELSEWHERE = {  # words of an error that needs a machine, or a network, of its own -> the tests that meet it
    "is not installed": "tests/agreement/test_api.py",
    "there is no CUDA device": "tests/coordcheck/test_devices.py",
    "out of memory": "tests/cli/test_cli.py",
    "the loss is negative": "tests/transfer/test_experiment.py",
    "two parametrizations are called": "tests/transfer/test_experiment.py",
    "a training process died": "tests/cli/test_whose_fault.py",
    "training blows up": "tests/calculus/test_centred.py",
    "no stable completion of": "tests/programme/test_completion.py",
    "cannot be a name in the emitted code": "tests/emission/test_emitted_text.py",
    "unknown name": "tests/interpret/test_functions.py",
    "unknown function": "tests/interpret/test_functions.py",
    "elementwise": "tests/interpret/test_functions.py",
}
UNMET = {  # no network is known that asks for these
    "some exponent is bounded by nothing",
    "sizes keep growing, but nothing exceeds Theta(1)",
}
OTHERS = {"ManyTermsError", "InternalError"}  # caught before they are shown; faults of the tool itself


def made(path: Path) -> Iterator[tuple[int, int, str]]:
    """(first line, last line, text) of every place in a file that makes an error."""
    kinds = {kind.__name__ for kind in kinds_of(TensorProgError)} - OTHERS
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in kinds | MAKERS:
            yield node.lineno, node.end_lineno or node.lineno, ast.unparse(node)


def kinds_of(kind: type[TensorProgError]) -> list[type[TensorProgError]]:
    return [kind, *(other for sub in kind.__subclasses__() for other in kinds_of(sub))]


@pytest.mark.slow
@pytest.mark.torch
def test_every_place_that_makes_an_error_is_met_by_a_row(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """But for those in PyTorch models, which have tests of their own."""
    met: set[tuple[str, int]] = set()
    original = TensorProgError.__init__

    def seen(self: TensorProgError, *arguments: Any, **named: Any) -> None:
        frame = sys._getframe(1)
        for _ in range(4):  # an error may be made by a function that is called to make it
            met.add((frame.f_code.co_filename, frame.f_lineno))
            if frame.f_back is None:
                break
            frame = frame.f_back
        original(self, *arguments, **named)

    monkeypatch.setattr(TensorProgError, "__init__", seen)
    calls = [
        *(partial(parse, row.bad) for row in syntax.ROWS),
        *(partial(graph_of, elaboration.whole(row.bad)) for row in elaboration.ROWS),
        *(partial(_derived, row) for row in error_table.ROWS),
        *(partial(run, row.bad) for row in (*error_table.FILES, *OPTIONS, *TRAINING)),
        *(row.call for row in python_table.ROWS),
    ]
    for call in calls:
        refusal(call)
        sys.modules.pop("data", None)
    for row in NOTES:
        derive(parse(row.bad), "adam")
    package = ROOT / "tensorprog"
    missed = [
        f"{path.relative_to(ROOT)}:{first}: {text[:100]}"
        for path in sorted(package.rglob("*.py"))
        if not path.is_relative_to(package / "torch")
        for first, last, text in made(path)
        if not any(name == str(path) and first <= line <= last for name, line in met)
        and not any(words in re.sub(r"\s+", " ", text) for words in (*ELSEWHERE, *UNMET))
    ]
    assert not missed, "\n".join(missed)
    for words, test in ELSEWHERE.items():
        assert words in (ROOT / test).read_text(encoding="utf-8"), words


def _derived(row: error_table.Row) -> object:
    return derive(parse(error_table.whole(row.bad)), "adam", row.form or None)
