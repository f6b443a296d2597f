"""The emitted text itself: golden files, the same input gives the same bytes, and nothing can be injected."""

from __future__ import annotations

import ast
import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tensorprog.emission import emit
from tensorprog.emission.format import fold
from tensorprog.emission.names import Namespace, camel_case, check_identifier
from tensorprog.errors import TensorProgError
from tests.emission import support
from tests.shared import tiers

GOLDEN = Path(__file__).parent / "golden"
PROGRAMS = sorted((Path(__file__).parent / "programs").glob("*.tp"))


def emitted(path: Path) -> str:
    architecture = support.read(path)
    chosen = support.parametrization(architecture, architecture.model.optimizer or "adamw")
    return emit(architecture.model, chosen, support.base_of(architecture), source_name=path.name)


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda p: p.stem)
def test_golden_files(path: Path, update_golden: bool) -> None:
    text, golden = emitted(path), GOLDEN / f"{path.stem}.py"
    if update_golden:
        golden.write_text(text)
    assert golden.read_text() == text, "run pytest with --update-golden and read the difference"


@pytest.mark.parametrize("path", support.PROGRAMS, ids=lambda p: p.stem)
def test_text_is_stable_valid_short_lined_and_free_of_tensorprog(path: Path) -> None:
    text = emitted(path)
    assert text == emitted(path)
    tree = ast.parse(text)
    imports = {a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
    imports |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imports <= {"torch", "torch.nn.functional"}
    assert max(map(len, text.splitlines())) <= 100
    assert "§" not in text


@pytest.mark.parametrize("path", tiers(support.PROGRAMS, ("mlp", "gpt", "lstm", "axes", "odds", "convnet")))
def test_text_is_formatted(path: Path) -> None:
    ruff = shutil.which("ruff", path=str(Path(sys.executable).parent)) or shutil.which("ruff")
    if ruff is None:
        pytest.skip("ruff is not installed")
    command = [ruff, "format", "--isolated", "--line-length", "100", "--diff", "-"]
    done = subprocess.run(command, input=emitted(path), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", ['a"b', "a;b", "a b", "", "1a", "é", "a\n", "__import__('os')"])
def test_only_plain_identifiers_become_names(name: str) -> None:
    with pytest.raises(TensorProgError):
        check_identifier(name)


@pytest.mark.parametrize("name", ["lambda", "match", "print", "torch", "self", "BASE", "HYPERPARAMETERS", "Muon"])
def test_words_of_python_and_of_the_file_are_never_handed_out(name: str) -> None:
    assert Namespace().add(name) == f"{name}_2"


NASTY = ['x"""\nimport os\n.tp', "'); import os; ('.tp", 'a\\"b.tp', "../../e vil\n.tp", ".tp", "", "torch.tp", "F.tp"]


@pytest.mark.parametrize("source", NASTY)
def test_file_names_cannot_inject_code(source: str) -> None:
    architecture = support.parse("width n\ninput x[i]\naxis i: 3\noutput f = linear(x, n)\nloss mse(f)\n")
    chosen = support.parametrization(architecture, "adamw")
    chosen = dataclasses.replace(chosen, name='"""\nimport os')
    tree = ast.parse(emit(architecture.model, chosen, {"n": 8}, source_name=source))
    names = [a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names]
    assert sorted(names) == ["torch", "torch.nn.functional"]


def renamed(thing, table: dict[str, str]):
    """A model with other names, which the parser would perhaps refuse."""
    if isinstance(thing, str):
        return table.get(thing, thing)
    if isinstance(thing, tuple):
        return tuple(renamed(part, table) for part in thing)
    if dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        changes = {f.name: renamed(getattr(thing, f.name), table) for f in dataclasses.fields(thing) if f.init}
        return dataclasses.replace(thing, **changes)
    return thing


PLAIN = """
width n
dim alpha = 13
axis i: alpha, j: n, k: 4
input x[i]
param W[j,i], beta[k,j] = zeros, gamma[j]
y[j] = gamma[j] * (W[j,i] x[i]) + gamma[j]
output f[k] = beta[k,j] y[j]
loss mse(f)
"""
WORDS = [
    "self",
    "torch",
    "lambda",
    "forward",
    "train",
    "F",
    "nn",
    "ratio",
    "BASE",
    "type",
    "print",
    "param_groups",
    "_modules",
]


@pytest.mark.torch
@pytest.mark.parametrize("word", WORDS)
def test_names_that_python_or_pytorch_uses_are_changed(word: str) -> None:
    torch = pytest.importorskip("torch")
    architecture = support.parse(PLAIN)
    for old in ("alpha", "beta", "x", "y"):
        table = {old: word, f"{old}@1": f"{word}@1"}
        chosen = support.parametrization(architecture, "adamw")
        params = {table.get(name, name): row for name, row in chosen.params.items()}
        unknowns = {table.get(name, name): row for name, row in chosen.unknowns.items()}
        chosen = dataclasses.replace(chosen, params=params, unknowns=unknowns)
        text = emit(renamed(architecture.model, table), chosen, {"n": 8}, source_name="a.tp")
        model = support.main_class(support.load(text))()
        assert model(torch.randn(5, 13)).shape == (5, 4)
        assert len(list(model.parameters())) == 3
        model.configure_optimizer()


@pytest.mark.parametrize("word", ["a b", "x;import os", 'a"', "x\ny", "os.system"])
@pytest.mark.parametrize("old", ["alpha", "beta", "x", "y", "n", "W@1"])
def test_names_that_are_no_identifiers_never_reach_the_text(old: str, word: str) -> None:
    architecture = support.parse(PLAIN)
    chosen = support.parametrization(architecture, "adamw")
    table = {old: word}
    params = {table.get(name, name): row for name, row in chosen.params.items()}
    unknowns = {table.get(name, name): row for name, row in chosen.unknowns.items()}
    chosen = dataclasses.replace(chosen, params=params, unknowns=unknowns)
    try:
        text = emit(renamed(architecture.model, table), chosen, {"n": 8, word: 8}, source_name="a.tp")
    except TensorProgError:
        return
    tree = ast.parse(text)
    calls = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert "os" not in calls
    assert not {a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names} & {"os"}


def test_there_is_one_framework() -> None:
    architecture = support.parse("width n\ninput x[i]\naxis i: 3\noutput f = linear(x, n)\nloss mse(f)\n")
    chosen = support.parametrization(architecture, "adamw")
    with pytest.raises(TensorProgError, match="jax"):
        emit(architecture.model, chosen, {"n": 8}, source_name="a.tp", framework="jax")
    with pytest.raises(TensorProgError, match="base width"):
        emit(architecture.model, chosen, {}, source_name="a.tp")


def test_class_names() -> None:
    assert camel_case("gated_mlp") == "GatedMlp"
    assert camel_case("gpt-2 small") == "Gpt2Small"
    assert camel_case("2x") == "Model2x"


def test_long_lines_are_folded_at_brackets() -> None:
    assert fold("y = f(aaaa, bbbb)", 12) == ["y = f(", "    aaaa,", "    bbbb,", ")"]
    assert fold("y = f(aaaa, bbbb)", 16) == ["y = f(", "    aaaa, bbbb", ")"]
