"""`fix` statements: the same as on the command line, overruled by it, and honoured by everything that derives."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

import tensorprog as tp
from tensorprog.classify import classify
from tensorprog.cli import main
from tensorprog.exponents import Power
from tensorprog.programme.completion import Completion, complete
from tensorprog.programme.refusals import ConflictError

SOURCE = Path("examples/mlp.tp").read_text()
FIXED = SOURCE + "fix init = sp\nfix no multipliers\nfix lr[W3] = n^-1\n"
FIXES = ["init = sp", "no multipliers", "lr[W3] = -1"]


def completed(text: str, *fixes: str) -> Completion:
    found = tp.derive(tp.parse(text), "adam", fixes=fixes)
    assert isinstance(found, Completion)
    return found


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "mlp.tp"
    path.write_text(FIXED)
    return str(path)


def test_a_statement_means_what_the_same_text_means_on_the_command_line() -> None:
    of_file, given = completed(FIXED), completed(SOURCE, *FIXES)
    assert of_file.params == given.params and of_file.own_updates == given.own_updates
    assert of_file.params != tp.derive(tp.parse(SOURCE), "adam").params
    assert {e.multiplier for e in of_file.params.values()} == {Power()}


def test_what_is_given_overrules_the_file_where_both_speak_of_the_same_exponent() -> None:
    found = completed(FIXED, "lr[W3] = -2")
    assert found.params["W3"].lr == Power.of({"n": -2})
    assert found.params["W2"] == completed(SOURCE, *FIXES[:2], "lr[W3] = -2").params["W2"]
    assert [fix.text for fix in found.fixes] == ["init = sp", "no multipliers", "lr[W3] = -2"]


def test_one_parameter_of_a_fixed_group_can_be_overruled() -> None:
    found = completed(SOURCE + "fix lr = global\n", "lr[W1] = -1/2")
    rates = {name: e.lr for name, e in found.params.items()}
    assert str(rates.pop("W1")) == "n^-1/2" and len(set(rates.values())) == 1


def test_a_conflict_in_the_file_stands_at_its_line() -> None:
    with pytest.raises(ConflictError) as caught:
        completed(SOURCE + "fix lr[W1] = 0\nfix lr[W1] = 1\n")
    first = SOURCE.count("\n") + 1
    assert f"`fix lr[W1] = 0` (line {first}); `fix lr[W1] = 1` (line {first + 1})" in caught.value.message
    assert caught.value.span.line == first and "^^^" in caught.value.render()


def test_a_conflict_of_file_and_command_line_names_both() -> None:
    with pytest.raises(ConflictError) as caught:
        completed(FIXED, "lr[W1] = 0")
    assert "`fix init = sp`" in caught.value.message and "--fix 'lr[W1] = 0'" in caught.value.message


@pytest.mark.slow
def test_python_honours_it_everywhere(file: str) -> None:
    """What is fixed reaches the emitted program, other forms, and another optimizer; a finished derivation keeps it."""
    found = tp.derive(file)
    assert isinstance(found, Completion)
    assert tp.emit(file) == tp.emit(found) != tp.emit(tp.load("examples/mlp.tp"))
    given = tp.derive("examples/mlp.tp", fixes=FIXES)
    assert tp.emit(given).partition("import torch")[2] == tp.emit(file).partition("import torch")[2]
    assert tp.emit(given, "sgd") != tp.emit("examples/mlp.tp", "sgd")


@pytest.mark.parametrize("command", [
    ["derive"], ["derive", "--format", "json"], ["derive", "--format", "markdown"], ["explain", "W2", "lr"],
    ["classify", "--parametrization", "derived"],
])  # fmt: skip
def test_commands_honour_it(file: str, command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The update of W2 vanishes like n^-1/2 when the readout starts as in the standard parametrization."""
    assert main([command[0], file, *command[1:]]) == 0
    shown = capsys.readouterr().out
    assert "n^-1/2" in shown or '"own_update": {\n        "n": "-1/2"' in shown
    if command[0] != "classify":
        assert "init = sp" in shown


def test_a_named_parametrization_of_such_a_file_is_refused(file: str) -> None:
    with pytest.raises(tp.TensorProgError, match="the file fixes exponents"):
        classify(tp.load(file), "sp")


@pytest.mark.slow
def test_the_check_holds_it_against_the_completion_and_catches_another_exponent(file: str) -> None:
    """W2 moves its use like n^-1/2, by the programme and by training."""
    options = {"widths": (64, 128, 256, 512), "steps": 1, "seeds": 3, "control": False}
    found = tp.check(file, **options)
    assert found.exit_code == 0
    moved = [row for row in found.rows if row.tensor == "[W2 x1]" and row.step == 1]
    assert [row.predicted for row in moved] == ["-1/2"]
    assert complete(tp.load(file)).contribution("W2") == Power.of({"n": Fraction(-1, 2)})
    assert tp.check(file, overrides=["lr[W2]=-1"], **options).exit_code == 1


@pytest.mark.slow
def test_a_depth_is_finite_where_something_is_fixed() -> None:
    text = Path("examples/llama.tp").read_text() + "fix ?branch = 0\n"
    found = tp.derive(tp.parse(text))
    assert found.symbols == ("n",) and "the depth is finite" in str(found)
    with pytest.raises(tp.TensorProgError, match="no exponents of the depth"):
        tp.check(found, depths=(2, 4, 8))
    with pytest.raises(tp.TensorProgError, match="an exponent of the depth L cannot be fixed"):
        tp.derive(tp.parse(text), fixes=["lr = n^-1 L^0"])
