"""The experiment as a whole: what is trained, which numbers come out, and what the command line says."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

import tensorprog as tp
from tensorprog.cli import main
from tensorprog.hptransfer.data import Examples
from tensorprog.hptransfer.plan import at_coordinate, coordinate
from tests.shared import tiers
from tests.transfer.support import NETWORK, saved, small

pytestmark = pytest.mark.torch
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_all_parametrizations_are_one_network_at_the_base_width(tmp_path: Path) -> None:
    report = small(tmp_path / "d.npz", widths=(8, 16), parametrizations=["derived", "sp", "ntp"])
    runs = {(r.parametrization, r.sizes["n"], r.value, r.seed): r.loss for r in report.records}
    at_base = [key for key in runs if key[1] == 8 and key[0] != "derived"]
    assert len(at_base) > 10
    assert all(runs[key] == runs["derived", *key[1:]] for key in at_base)
    assert any(runs[key] != runs.get(("derived", *key[1:]), 0.0) for key in runs if key[1] == 16)


@pytest.mark.slow
def test_the_grid_is_extended_until_the_optimum_lies_inside(tmp_path: Path) -> None:
    report = small(tmp_path / "d.npz", values=(1e-4, 2e-4), parametrizations=["derived"])
    assert [o.status for o in report.optima] == ["found", "found"]
    assert all(o.value is not None and 1e-3 < o.value < 1 for o in report.optima)


@pytest.mark.slow
def test_without_extension_an_optimum_outside_is_refused(tmp_path: Path) -> None:
    report = small(tmp_path / "d.npz", values=(1e-5, 2e-5, 4e-5), extend=False)
    assert {o.status for o in report.optima} == {"above"}
    assert all(o.value is None for o in report.optima)
    assert report.verdict == "inconclusive"
    assert "above all values tried" in report.render()


@pytest.mark.slow
def test_diverged_runs_are_recorded_as_such_and_count_as_the_worst(tmp_path: Path) -> None:
    options = {"values": (1e-3, 1e-2, 1e-1, 1.0, 1e30), "extend": False, "parametrizations": ["derived"]}
    report = small(tmp_path / "d.npz", store=tmp_path / "runs", **options)
    diverged = {r.value for r in report.records if r.loss is None}
    assert len(diverged) == 1 and max(r.value for r in report.records) in diverged
    assert small(tmp_path / "d.npz", store=tmp_path / "runs", **options).records == report.records
    assert {o.status for o in report.optima} == {"found"}
    assert json.loads(report.render("json"))["records"][-1]["loss"] is None


def test_a_run_that_cannot_begin_is_recorded_and_is_not_the_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights so large that the first loss is no number."""
    options = {"sweep": "init", "lr": 0.01, "values": (0.5, 1.0, 2.0, 1e30), "extend": False, "seeds": 3,
               "parametrizations": ["derived"], "store": tmp_path / "runs"}  # fmt: skip
    report = small(tmp_path / "d.npz", **options)
    lost = {r.value for r in report.records if r.initial is None}
    assert lost == {max(r.value for r in report.records)} and all(
        r.loss is None for r in report.records if r.value in lost
    )
    assert all(o.value is None or o.value < 3 for o in report.optima)
    assert "NaN" not in report.render("json") and "Infinity" not in report.render("json")
    monkeypatch.setattr("tensorprog.hptransfer.pool.train", None)  # nothing is trained again
    assert small(tmp_path / "d.npz", **options).render("json") == report.render("json")


def test_a_negative_loss_is_refused(tmp_path: Path) -> None:
    text = NETWORK.replace("loss cross_entropy(f)", "g[c] = f[c] - 10\nloss mean(g) + cross_entropy(f)")
    with pytest.raises(tp.TensorProgError, match="the loss is negative: -"):
        tp.transfer(tp.parse(text), widths=(8, 16), values=(0.01,), extend=False, seeds=1, steps=3, batch=4,
                    data=saved(tmp_path / "d.npz"), parametrizations=["derived"])  # fmt: skip


def test_two_parametrizations_of_one_name_are_refused(tmp_path: Path) -> None:
    """One of them would not be trained."""
    given = [tp.derive(tp.parse(NETWORK), optimizer).parametrization for optimizer in ("adam", "sgd")]
    with pytest.raises(tp.TensorProgError, match="two parametrizations are called table8"):
        small(tmp_path / "d.npz", parametrizations=given, values=(0.01,), extend=False, seeds=1)
    report = small(tmp_path / "d.npz", parametrizations=["sp", "sp"], values=(0.01,), extend=False, seeds=1)
    assert report.parametrizations == ("sp",)


def test_cost_is_counted_in_products(tmp_path: Path) -> None:
    """Forward, the gradient of every weight, and of every hidden layer: 2 * rows * columns each, per example."""
    report = small(tmp_path / "d.npz", widths=(8, 16), values=(0.01,), extend=False, steps=3, batch=5)
    for n in (8, 16):
        weights = 6 * n + n * n + 3 * n
        assert report.flops[n] == 3 * 5 * 2 * (3 * weights - 6 * n)


@pytest.mark.parametrize("sweep", tiers(["init", "multiplier:out", "momentum", "weight_decay"], ("weight_decay",)))
def test_other_hyperparameters_are_swept_too(tmp_path: Path, sweep: str) -> None:
    report = small(tmp_path / "d.npz", sweep=sweep, lr=0.01, extend=False, parametrizations=["derived"], seeds=1)
    assert len({r.value for r in report.records}) >= 5
    losses = [r.loss for r in report.records if r.sizes["n"] == 8]
    assert len(set(losses)) == len(losses), "the swept value changes nothing"
    assert sweep.removeprefix("multiplier:").split("_")[0] in report.render()


@pytest.mark.slow
def test_a_swept_value_of_one_is_the_program_itself(tmp_path: Path) -> None:
    """An initial scale or a multiplier of 1 changes nothing, nor does the optimizer's own momentum."""
    plain = small(tmp_path / "d.npz", values=(0.01,), extend=False, seeds=1)
    for sweep, value in [("init", 1.0), ("multiplier:out", 1.0), ("momentum", 0.9)]:
        same = small(tmp_path / "d.npz", sweep=sweep, lr=0.01, values=(value,), extend=False, seeds=1)
        np.testing.assert_allclose([r.loss for r in same.records], [r.loss for r in plain.records], rtol=1e-4)


@pytest.mark.parametrize(("sweep", "value"), [("lr", 0.01), ("momentum", 0.9), ("momentum", 0.0), ("init", 3.0)])
def test_a_coordinate_stands_for_its_value(sweep: str, value: float) -> None:
    assert math.isclose(at_coordinate(sweep, coordinate(sweep, value)), value, abs_tol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sam", "muon", "adafactor", "adopt"])
def test_optimizers_of_every_kind_learn(tmp_path: Path, optimizer: str) -> None:
    """Two gradients in a step; two optimizers side by side; relative steps; a first step that moves nothing."""
    report = tp.transfer(tp.parse(NETWORK), optimizer=optimizer, widths=(8, 16), seeds=1, steps=30, batch=16,
                         data=saved(tmp_path / "d.npz"), parametrizations=["derived"])  # fmt: skip
    assert all(o.status == "found" for o in report.optima)
    best = min(r.loss for r in report.records if r.loss is not None)
    assert best < 0.6 * report.records[0].initial


@pytest.mark.slow
def test_the_depth_may_vary_instead_of_the_width() -> None:
    text = """
    width n
    depth L
    dim d = 6, classes = 3
    axis i: d, j: n, k: n, c: classes
    input x[i]
    param U[j,i], V[c,k]
    h[j] = U[j,i] x[i]
    repeat L {
      param W[k,j]
      h[k] = h[k] + W[k,j] relu(h[j])
    }
    output f[c] = V[c,k] h[k]
    loss cross_entropy(f)
    """
    arrays_of = {"x": np.ones((4, 6), np.float32), "f_target": np.zeros(4, np.int64)}
    options = {"steps": 3, "batch": 2, "seeds": 1, "values": (0.01,), "extend": False, "parametrizations": ["sp"]}
    report = tp.transfer(tp.parse(text), widths=(8,), depths=(1, 2, 4), data=Examples("ones", arrays_of), **options)
    assert report.axis == ("L",) and report.base == {"n": 8, "L": 1}
    assert [dict(r.sizes) for r in report.records] == [{"n": 8, "L": depth} for depth in (1, 2, 4)]
    assert report.flops[1] < report.flops[2] < report.flops[4]
    with pytest.raises(tp.TensorProgError, match="not both"):
        tp.transfer(tp.parse(text), widths=(8, 16), depths=(1, 2), data=Examples("ones", arrays_of), **options)
    with pytest.raises(tp.TensorProgError, match="no `depth` symbol"):
        tp.transfer(tp.parse(NETWORK), widths=(8,), depths=(1, 2), **options)


@pytest.mark.slow
def test_larger_than_the_smaller_is_told_seed_by_seed(tmp_path: Path) -> None:
    report = small(tmp_path / "d.npz", seeds=3)
    for wider in report.wider:
        grids = [{r.value for r in report.records if r.parametrization == wider.parametrization
                  and r.sizes["n"] == n} for n in report.sizes]  # fmt: skip
        assert wider.better + wider.alike + wider.worse == len(set.intersection(*grids)) >= 5


@pytest.mark.slow
def test_the_command_prints_a_table_or_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = tmp_path / "small.tp"
    network.write_text(NETWORK)
    arguments = ["transfer", str(network), "--widths", "8,16", "--seeds", "2", "--steps", "8", "--batch", "16",
                 "--jobs", "1", "--data", saved(tmp_path / "d.npz"), "-o", str(tmp_path / "runs")]  # fmt: skip
    assert main(arguments) in (0, 1)
    table = capsys.readouterr()
    assert "per doubling of n" in table.out
    assert table.err == ""  # the progress bar is for terminals
    main([*arguments, "--format", "json"])
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == 1
    assert found["sizes"] == [8, 16]
    assert {"parametrization", "sizes", "value", "seed", "loss", "initial"} == set(found["records"][0])


@pytest.mark.parametrize(("arguments", "message"), [
    (["--widths", "64"], "at least two"),
    (["--widths", "8,16", "--sweep", "speed"], "`speed` cannot be swept"),
    (["--widths", "8,16", "--sweep", "multiplier:speed"], "no multiplier `?speed`"),
    (["--widths", "8,16", "--lr", "0.1"], "cannot be fixed"),
    (["--widths", "8,16", "--lrs", "0.1,-1"], "no grid for lr"),
    (["--widths", "8,16", "--sweep", "momentum", "--values", "0.5,1"], "no grid for momentum"),
    (["--widths", "8,16", "--sweep", "momentum", "--optimizer", "adagrad"], "adagrad has no momentum"),
    (["--widths", "8,16", "--parametrization", "best"], "unknown parametrization `best`"),
    (["--widths", "8,16", "--optimizer", "sophia"], "sophia cannot be trained here"),
    (["--widths", "8,16", "--data", "letters"], "unknown data `letters`"),
    (["--widths", "8,16", "-o", "/absent/runs"], "cannot write /absent/runs"),
])  # fmt: skip
def test_bad_arguments_are_answered_with_what_to_write(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    network = tmp_path / "small.tp"
    network.write_text(NETWORK)
    rest = [] if "--data" in arguments else ["--data", saved(tmp_path / "d.npz")]
    assert main(["transfer", str(network), "--jobs", "1", "--steps", "2", "--seeds", "1", *rest, *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


@pytest.mark.slow
def test_a_size_that_is_not_whole_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    gpt = str(ROOT / "examples" / "transfer" / "gpt.tp")
    assert main(["transfer", gpt, "--widths", "8,12", "--jobs", "1", "--steps", "1"]) == 2
    assert "12" in capsys.readouterr().err


@pytest.mark.slow
def test_adam_transfers_on_digits_as_derived_and_not_in_the_standard_parametrization() -> None:
    """The negative control is the same experiment with the standard parametrization: near -1 octave per doubling, of
    networks whose readouts start at random."""
    pytest.importorskip("sklearn")
    text = (ROOT / "examples" / "transfer" / "mlp.tp").read_text().replace("W_out[c,k] = zeros", "W_out[c,k]")
    report = tp.transfer(tp.parse(text), optimizer="adam", widths=(64, 128, 256, 512),
                         steps=30, batch=64, seeds=6, data="digits")  # fmt: skip
    derived, sp = report.drifts
    assert (derived.parametrization, sp.parametrization) == ("derived", "sp")
    assert derived.low is not None and derived.high is not None and sp.high is not None and sp.octaves is not None
    assert abs(derived.octaves) < 0.2 or derived.low <= 0 <= derived.high
    assert sp.high < -0.5
    assert -1.3 < sp.octaves < -0.7
    assert derived.at_largest < sp.at_largest, "the transferred learning rate is better where it transfers"


@pytest.mark.slow
@pytest.mark.parametrize(("pinned", "same"), [({"U": 1}, True), ({}, False)])
def test_behind_a_zero_readout_standard_parametrization_differs_by_the_rates_of_what_n_to_the_minus_one_pins(
    tmp_path: Path, pinned: dict[str, int], same: bool
) -> None:
    """With them as derived, its optimum would move by exactly one octave per doubling more than the derived one. (The
    losses differ by what Adam's epsilon does.)"""
    text = NETWORK.replace("V[c,k]\n", "V[c,k] = zeros\n", 1).replace("?out * (V[c,k] b[k])", "V[c,k] b[k]")
    file = tmp_path / "own.toml"
    file.write_text("".join(f"[parameters.{name}]\nlr = {lr}\n" for name, lr in pinned.items()))
    values, base, width = (0.004, 0.016), 8, 32
    options = {"optimizer": "adam", "widths": (base, width), "extend": False, "seeds": 1, "steps": 12, "batch": 16,
               "data": saved(tmp_path / "d.npz")}  # fmt: skip
    losses = [
        [r.loss for r in report.records if r.sizes["n"] == width]
        for report in (tp.transfer(tp.parse(text), values=values, parametrizations=["derived"], **options),
                       tp.transfer(tp.parse(text), values=[base / width * v for v in values],
                                   parametrizations=[str(file)], **options))
    ]  # fmt: skip
    assert (losses[1] == pytest.approx(losses[0], rel=1e-3)) == same, losses
