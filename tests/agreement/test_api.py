"""The Python API from text to report, and both backends of the check measuring the same networks."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tensorprog.api import check, derive, emit
from tensorprog.architecture import load, parse
from tensorprog.errors import ParseError, TensorProgError
from tests.shared import ROOT, python

MLP = ROOT / "examples" / "mlp.tp"


@pytest.mark.slow
def test_text_path_and_architecture_are_derived_alike() -> None:
    from_text, from_file = parse(MLP.read_text()), load(MLP)
    results = [derive(subject, "adam") for subject in (from_text, from_file, MLP, str(MLP))]
    assert len({repr(r.parametrization) for r in results}) == 1
    assert results[0].params["W2"].lr is not None
    assert str(results[0].params["W2"].lr) == "n^-1"
    assert str(derive(MLP).optimizer) == "adam"
    assert derive(MLP, "sgd", "table3").form == "table3"


def test_a_derivation_prints_as_text_json_and_html() -> None:
    result = derive(MLP, "adam")
    for text in (str(result), result.render("markdown"), result._repr_html_()):
        assert all(name in text for name in ("W1", "W2", "W3", "b1", "b2"))
    assert str(result) == result.render("table")
    assert result._repr_html_().lstrip().startswith("<")
    assert json.loads(result.render("json")) == result.to_json()
    assert "W2" in result.explain("W2", "lr")


@pytest.mark.slow
def test_emission_takes_a_path_an_architecture_or_a_derivation() -> None:
    derivation = derive(MLP, "adam")
    texts = {emit(subject, "adam", base_width=64) for subject in (MLP, load(MLP), derivation)}
    assert len(texts) == 1
    compile(texts.pop(), "<emitted>", "exec")
    assert emit(derivation) == emit(derivation, base_width=256) == emit(derivation, base_width={"n": 256})
    assert emit(derivation, "sgd") != emit(derivation), "another optimizer than the derivation's is derived anew"
    assert emit(derivation, form="table3") == emit(MLP, "adam", "table3")


@pytest.mark.slow
def test_unusable_arguments_name_the_file() -> None:
    with pytest.raises(TensorProgError, match="no width symbol `m`"):
        emit(MLP, base_width={"m": 3})
    with pytest.raises(TensorProgError, match="base width"):
        emit(MLP, base_width=0)
    with pytest.raises(TensorProgError, match="unknown optimizer"):
        derive(MLP, "adamm")
    with pytest.raises(TensorProgError, match="unknown form"):
        derive(MLP, form="table7")
    with pytest.raises(TensorProgError, match=r"mlp\.tp: error: unknown backend"):
        check(MLP, backend="jax", widths=(8, 16), seeds=1, steps=1)
    with pytest.raises(TensorProgError, match="cannot read"):
        load("missing.tp")
    with pytest.raises(ParseError):
        parse("width")


def test_a_report_prints_as_text_json_and_html() -> None:
    report = check(MLP, "adam", widths=(16, 32, 64), seeds=2, max_seeds=2, steps=1)
    assert (report.optimizer, report.backend, report.widths, report.seeds) == ("adam", "numpy", (16, 32, 64), 2)
    assert "W2" in str(report)
    assert str(report) == report.render("table")
    html = report._repr_html_()
    assert html.startswith("<pre>")
    assert html.endswith("</pre>")
    assert "[W2 x1]" in report.render("table", every=True)
    read = json.loads(report.render("json"))
    assert len(read["rows"]) == len(report.rows)
    assert read["verdict"] == report.verdict
    assert report.exit_code == (report.verdict == "disagrees")


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "muon"])
def test_both_backends_of_the_check_agree_row_by_row(optimizer: str) -> None:
    pytest.importorskip("torch")
    options: dict[str, Any] = {"widths": (16, 32, 64), "seeds": 3, "max_seeds": 3, "steps": 2, "dtype": "float64"}
    expected, found = (check(MLP, optimizer, backend=backend, **options) for backend in ("numpy", "torch"))
    assert (expected.backend, found.backend) == ("numpy", "torch")
    known = {(row.tensor, row.step, row.part): row for row in expected.rows}
    missing = {row.tensor for row in expected.rows} - {row.tensor for row in found.rows}
    assert missing == {"[W1 x]", "[W2 x1]"}, "a linear layer never makes the product without the bias"
    for row in found.rows:
        other = known[row.tensor, row.step, row.part]
        assert (row.part, row.predicted, row.verdict) == (other.part, other.predicted, other.verdict)
        for mine, theirs in ((row.measured, other.measured), (row.low, other.low), (row.high, other.high)):
            assert (mine is None) == (theirs is None)
            assert mine == theirs or mine == pytest.approx(theirs, abs=1e-6), row


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.parametrize("parametrization", ["sp", "ntp"])
def test_the_torch_backend_trains_named_parametrizations(parametrization: str) -> None:
    pytest.importorskip("torch")
    options: dict[str, Any] = {
        "widths": (16, 32),
        "seeds": 2,
        "max_seeds": 2,
        "steps": 1,
        "parametrization": parametrization,
    }
    expected, found = (check(MLP, "adam", backend=b, dtype="float64", **options) for b in ("numpy", "torch"))
    known = {(row.tensor, row.step, row.part): row.measured for row in expected.rows}
    for row in found.rows:
        theirs = known[row.tensor, row.step, row.part]
        assert row.measured == theirs or row.measured == pytest.approx(theirs, abs=1e-6), row


@pytest.mark.slow
def test_without_pytorch_the_backend_says_what_to_do() -> None:
    code = f"""
import sys
sys.modules["torch"] = None
import tensorprog
for _ in range(2):
    try:
        tensorprog.check({str(MLP)!r}, backend="torch", widths=(8, 16), seeds=1, steps=1)
    except tensorprog.TensorProgError as error:
        print(error)
"""
    result = python("-c", code)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("PyTorch is not installed") == 2
    assert "--backend numpy" in result.stdout


@pytest.mark.slow
def test_the_functions_of_the_package() -> None:
    code = f"""
import tensorprog
architecture = tensorprog.load({str(MLP)!r})
result = tensorprog.derive(architecture, optimizer="adam")
assert str(result) and tensorprog.emit(result, base_width=64)
report = tensorprog.check(result, widths=(8, 16), seeds=2, max_seeds=2, steps=1)
assert isinstance(report, tensorprog.CheckReport)
assert tensorprog.derive(tensorprog.parse(architecture.source)).params.keys() == result.params.keys()
for name in tensorprog.__all__:
    assert getattr(tensorprog, name), name
assert callable(tensorprog.derive) and callable(tensorprog.check) and callable(tensorprog.emit)
"""
    result = python("-c", code)
    assert result.returncode == 0, result.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "first",
    [
        "from tensorprog.derivation import Derivation",
        "import tensorprog.coordcheck.run",
        "from tensorprog.emission import emit",
    ],
)
def test_the_functions_are_there_whatever_was_imported_first(first: str) -> None:
    code = f"""
{first}
import tensorprog
assert all(type(getattr(tensorprog, name)).__name__ == "function" for name in ("derive", "check", "emit"))
"""
    result = python("-c", code)
    assert result.returncode == 0, result.stderr
