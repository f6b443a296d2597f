"""`tpcalc import`: from a file with a builder to a table, JSON and a .tp file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")

import tensorprog as tp
from tensorprog.cli import main

pytestmark = pytest.mark.torch

BUILDER = """
import torch
def build(n):
    return torch.nn.Sequential(torch.nn.Linear(20, n), torch.nn.ReLU(), torch.nn.Linear(n, n), torch.nn.ReLU(),
                               torch.nn.Linear(n, 5)), torch.randn(8, 20)
def bare(n):
    return torch.nn.Linear(20, n)
def inputs(n):
    return torch.randn(8, 20)
def wrong(n):
    raise RuntimeError("no such width")
def nothing(n):
    return None
def leaves(n):
    raise SystemExit(3)
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    path = tmp_path / "network.py"
    path.write_text(BUILDER)
    return path


def test_the_table_shows_what_is_and_what_must_be(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", f"{place}:build", "--optimizer", "sgd"]) == 0
    rows = {line.split()[0]: line.split()[-5:] for line in capsys.readouterr().out.splitlines() if ".weight  " in line}
    assert rows["4.weight"] == ["n^-1/2", "n^-1", "n^-1", "n", "-"]
    assert rows["0.weight"] == ["1", "1", "n", "n^-1", "-"]


def test_the_json_holds_the_derivation_and_the_model(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", f"{place}:build", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["parameters"]["4.weight"]["lr"] == {"n": "-1"}
    model = found["model"]["parameters"]["4.weight"]
    assert (model["init_now"], model["needed"]["init_std"]) == ({"n": "-1/2"}, {"n": "-1"})


@pytest.mark.slow
def test_the_emitted_file_derives_to_the_same(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "network.tp"
    assert main(["import", f"{place}:build", "--emit-tp", str(target)]) == 0
    derivation = tp.derive(tp.load(target), "adam", "table3")
    shown = capsys.readouterr().out
    for name, exponents in derivation.params.items():
        line = next(text for text in shown.splitlines() if text.startswith(name.removeprefix("x").replace("_", ".")))
        assert line.split()[-3] == str(exponents.lr)


def test_inputs_may_stand_apart_from_the_builder(place: Path) -> None:
    assert main(["import", f"{place}:bare", "--inputs", f"{place}:inputs", "--widths", "4,6,8,12"]) == 0


@pytest.mark.parametrize(("arguments", "words"), [
    (["{}:wrong"], "build(n=3) failed: RuntimeError: no such width"),
    (["{}:bare"], "nothing to run the module on"),
    (["{}:nothing"], "the builder returns NoneType, not a module"),
    (["{}:leaves"], "build(n=3) failed: SystemExit: 3"),
    (["{}:bare", "--inputs", "{}:wrong"], "the function of the inputs fails: RuntimeError: no such width"),
    (["{}:absent"], "has no function `absent`"),
    (["{}:build", "--widths", "3,5"], "at least four different widths"),
    (["{}:build", "--widths", "wide"], "are no widths"),
    (["{}:build", "--optimizer", "adan"], "adam"),
    (["nowhere.py:build"], "cannot read nowhere.py: No such file"),
])  # fmt: skip
def test_bad_usage_is_one_error_with_a_fix(
    arguments: list[str], words: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["import", *(a.format(place) for a in arguments)]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error
