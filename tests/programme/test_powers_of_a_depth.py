"""A multiplier that is fixed to a power of a depth stands in the network as that number, and the rest is derived."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

import tensorprog as tp
from tensorprog.cli import main
from tensorprog.exponents import Power

SOURCE = """
width n
depth L
axis i: 8
input x[i]
h = linear(x, n)
repeat L {
  h = h + ?branch * linear(relu(linear(layernorm(h), n)), n)
}
output f = readout(layernorm(h), 4)
loss mse(f)
"""


def in_place(power: str) -> tp.Architecture:
    return tp.parse(SOURCE.replace("?branch", power))


@pytest.mark.slow
@pytest.mark.parametrize(("fix", "power"), [("L^-1/2", "L^(-1/2)"), ("L^-1", "L^(-1)")])
def test_it_is_what_the_same_power_written_in_the_file_gives(fix: str, power: str) -> None:
    """On the command line and as a statement; symbolic, unrolled and emitted."""
    written = tp.derive(in_place(power), "adam")
    for found in (
        tp.derive(tp.parse(SOURCE), "adam", fixes=[f"?branch = {fix}"]),
        tp.derive(tp.parse(SOURCE + f"fix ?branch = {fix}\n"), "adam"),
    ):
        assert found.params == written.params and found.symbols == ("n", "L")
        assert found.what == f"muP given ?branch = {fix}"
        assert found.unrolled({"L": 3}).params == written.unrolled({"L": 3}).params
        assert tp.emit(found).partition("import torch")[2] == tp.emit(written).partition("import torch")[2]
    rate = {Power.of({"n": -1, "L": Fraction(-1, 2) if fix == "L^-1/2" else 0})}
    assert {e.lr for name, e in written.params.items() if name in ("layers.*.linear.W", "layers.*.linear_2.W")} == rate
    assert written.params != tp.derive(tp.parse(SOURCE), "adam", fixes=["?branch = L^-3/4"]).params


@pytest.mark.slow
def test_with_other_requirements_the_rest_is_the_same_completion() -> None:
    """What is lost is said as for the file that has the power in place."""
    found = tp.derive(tp.parse(SOURCE), "adam", fixes=["?branch = L^-1/2", "init[*.W] = -1/2"])
    written = tp.derive(in_place("L^(-1/2)"), "adam", fixes=["init[*.W] = -1/2"])
    assert found.params == written.params and found.remarks == written.remarks
    assert any("vanish" in line for line in found.remarks)
    assert found.what.startswith("best stable completion of ?branch = L^-1/2, init[*.W] = -1/2")


@pytest.mark.slow
@pytest.mark.parametrize(("fix", "power"), [("n^1/2 L^-1", "n^(1/2) * L^(-1)"), ("L^-2", "L^(-2)")])
def test_a_power_that_leaves_nothing_stable_is_refused_as_in_the_file(fix: str, power: str) -> None:
    with pytest.raises(tp.TensorProgError) as written:
        tp.derive(in_place(power), "adam")
    with pytest.raises(tp.TensorProgError) as fixed:
        tp.derive(tp.parse(SOURCE), "adam", fixes=[f"?branch = {fix}"])
    assert fixed.value.message == written.value.message


@pytest.mark.slow
def test_the_command_line_overrules_the_file_either_way() -> None:
    given = tp.derive(tp.parse(SOURCE + "fix ?branch = L^-1\n"), "adam", fixes=["?branch = L^-1/2"])
    assert given.params == tp.derive(in_place("L^(-1/2)"), "adam").params
    width = tp.derive(tp.parse(SOURCE + "fix ?branch = L^-1\n"), "adam", fixes=["?branch = 0"])
    assert width.params == tp.derive(tp.parse(SOURCE), "adam", fixes=["?branch = 0"]).params


@pytest.mark.parametrize(
    ("fixes", "message"),
    [
        (["?brunch = L^-1"], "the program has no multiplier `?brunch`"),
        (["?branch = L^-1", "?branch = L^-1/2"], "`?branch` is fixed to different powers"),
        (["lr[readout.W] = L^-1"], "an exponent of the depth L cannot be fixed"),
        (["?branch = K^-1 L^-1"], "`K` is no size"),
    ],
)
def test_what_makes_no_sense_is_refused(
    fixes: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "net.tp"
    path.write_text(SOURCE)
    assert main(["derive", str(path), *(f"--fix={fix}" for fix in fixes)]) == 2
    assert message in capsys.readouterr().err
