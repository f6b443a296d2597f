"""The emitted text itself: golden files, the same input gives the same bytes, and nothing can be injected."""

from __future__ import annotations

import ast
import dataclasses
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest

import tensorprog
from tensorprog.emission import emit
from tensorprog.emission.format import Code, fold, number, power, times
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
    with pytest.raises(TensorProgError, match="cannot be a name in the emitted code"):
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


ROLES = """
width {0}
depth {1} = 2
dim {2} = 3
axis {3}: {2}, j0: {0}, k0: {0}, c0: 3
fn {4}({5}) = tanh({5}) + 2 {5}
block {6}({7}[..,{8}], {9}: dim, {10}: fn, {11}: scalar = ?, {12}: flag = false) {{
  axis {13}: {9}
  param {14}[{13},{8}]
  {15}[..,{13}] = {14}[{13},{8}] {7}[..,{8}]
  if {12} {{ {15} = {11} * {15} }}
  return {10}({15})
}}
input {16}[{3}]
param {17}[j0,{3}], {18}[j0] = zeros optimizer muon, {19}[c0,j0]
{20}[j0] = {17}[j0,{3}] {16}[{3}] + {18}[j0]
repeat {1} {{
  {21} = {4}({20})
  {20} = {20} + ?{22} * {6}({21}, {0}, {10} = {4}, {12})
}}
output {23}[c0] = {19}[c0,j0] {20}[j0]
loss mse({23})
optimizer {24}(lr = 0.1, {25} = 0.9) {{ {26} = {25} * {26} + g; step = sign({26}) }}
"""
ORDINARY = [f"q{k}" for k in range(27)]
USED = """
self torch lambda forward train F nn ratio BASE type print param_groups _modules __init__ __x cls np class for not
Tensor match PARAMETERS params state p group norm p_2 lr_2 closure grad L n E I pi super math float bool name on
""".split()


@pytest.mark.torch
@pytest.mark.parametrize("turn", tiers(range(len(USED)), ("0", "17")))
def test_names_that_python_or_pytorch_uses_are_changed(turn: int) -> None:
    """Whatever a thing of the file is called, the program is the same."""
    torch = pytest.importorskip("torch")

    def outputs(names: list[str]) -> list[float]:
        architecture = tensorprog.parse(ROLES.format(*names))
        text = tensorprog.emit(tensorprog.derive(architecture), base_width=8)
        torch.manual_seed(0)
        model = support.main_class(support.load(text))()
        optimizer = model.configure_optimizer()
        for _ in range(2):
            result = model(torch.ones(2, 3))
            result.square().mean().backward()
            optimizer.step()
        return [x.item() for x in result.flatten()]

    words = [USED[(turn + 3 * role) % len(USED)] for role in range(len(ORDINARY))]
    assert outputs(words) == outputs(ORDINARY)


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
    assert fold("y = aaaa * f(bbbb)", 16) == ["y = aaaa * f(", "    bbbb", ")"]
    assert fold("y = aaaa * b[:, :]", 16) == ["y = (", "    aaaa", "    * b[:, :]", ")"], "no break in a subscript"


def test_a_negated_power_has_its_parentheses() -> None:
    square = power(Code("z"), number(Fraction(2)))
    assert times(number(Fraction(-1)), square).text == "-(z**2)"
