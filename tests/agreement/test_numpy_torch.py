"""The NumPy interpreter and the emitted PyTorch program train the same network: losses and parameters agree."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tensorprog.architecture import parse
from tensorprog.coordcheck.measure import measure
from tensorprog.coordcheck.probes import HIDDEN, probes
from tensorprog.emission import emit
from tensorprog.errors import TensorProgError
from tensorprog.interpret import Interpreter
from tests.shared import derive, tiers

torch = pytest.importorskip("torch")
from tensorprog.coordcheck import emitted, measure_torch  # noqa: E402  (needs PyTorch)

pytestmark = pytest.mark.torch

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.tp"))
PROGRAMS = Path(__file__).parents[1] / "emission" / "programs"
MEASURED = [*(p for p in EXAMPLES if p.stem in ("mlp", "rnn", "lstm", "gpt")),
            *(PROGRAMS / f"{name}.tp" for name in ("convnet", "moe", "odds", "recurrent"))]  # fmt: skip
QUICK = {"mlp-sgd", "mlp-adam", "mlp-muon", "rnn-sgd", "rnn-adam", "lstm-adam", "gpt-adam"}
BASE, WIDTH, BATCH = 32, 64, 3


@pytest.mark.parametrize(("path", "optimizer"), tiers(product(EXAMPLES, ("sgd", "adam", "muon")), QUICK))
def test_five_steps_of_training_agree(path: Path, optimizer: str) -> None:
    derivation = derive(path, optimizer).unrolled()
    symbols = derivation.widths
    widths, base = dict.fromkeys(symbols, WIDTH), dict.fromkeys(symbols, BASE)
    architecture = derivation.architecture
    # different learning rates, so that a group with the wrong one shows
    lr = {name: (0.1 if optimizer == "sgd" else 0.01) * (1 + k % 5 / 10)
          for k, name in enumerate(architecture.graph.parameters)}  # fmt: skip
    ours = Interpreter(
        architecture.program,
        widths,
        base,
        derivation.parametrization,
        batch=BATCH,
        seed=1,
        lr=lr,
        functions=architecture.functions,
    )
    theirs = emitted.EmittedNetwork(derivation, derivation.parametrization, widths, base, batch=BATCH, seed=1, lr=lr)
    assert set(theirs.params) == set(ours.params)
    start = {name: w.copy() for name, w in ours.params.items()}
    for _ in range(5):
        assert theirs.step() == pytest.approx(ours.loss(ours.step()), rel=1e-9)
    for name, w in ours.params.items():
        found = theirs.params[name].detach().numpy()
        assert np.max(np.abs(found - w)) <= 1e-9 * max(np.max(np.abs(w)), 1e-3), name
        assert name not in architecture.program.updates or np.any(w != start[name]), f"{name} was not trained"


@pytest.mark.slow
@pytest.mark.parametrize("path", tiers(MEASURED, ("mlp", "rnn", "gpt", "odds")))
def test_every_tensor_is_found_and_measured_as_numpy_measures_it(path: Path) -> None:
    derivation = derive(path, "adam").unrolled()
    places = [p for p in probes(derivation, ["spectral", "updates", "gradients"]) if p.kind not in HIDDEN]
    widths, base = dict.fromkeys(derivation.widths, WIDTH), dict.fromkeys(derivation.widths, BASE)
    chosen: dict[str, Any] = {"seed": 2, "steps": 2, "batch": BATCH, "lr": 0.01, "dtype": "float64"}
    arguments: tuple[Any, ...] = (derivation, derivation.parametrization, places, widths, base)
    expected, found = measure(*arguments, **chosen), measure_torch.measure(*arguments, **chosen)
    made = ~np.isnan(found).all(axis=1)
    assert (np.isfinite(found[made]) == np.isfinite(expected[made])).all()
    assert np.isfinite(expected).any(axis=1).all()
    assert found[made] == pytest.approx(expected[made], rel=1e-7, abs=1e-13, nan_ok=True)
    missing = {p.name for p, there in zip(places, made, strict=True) if not there}
    nodes = derivation.architecture.graph.nodes
    for name, node in derivation.architecture.graph.outputs:
        assert nodes[node].name not in missing, name
    assert not missing & set(derivation.params)
    # what fused kernels pass over: sums before a bias, the inside of norms, sequences of a scan before their end
    expected_missing = {"mlp": {"[W1 x]", "[W2 x1]"}, "rnn": set()}
    if path.stem in expected_missing:
        assert missing == expected_missing[path.stem]
    if path.stem == "gpt":
        present = {p.name for p in places} - missing
        blocks = ("attention.k", "attention.scores", "attention.A", "attention.m", "mlp.h", "mlp.a", "mlp.y")
        assert {f"layers.{k}.{b}" for k in (0, 1) for b in blocks} & {p.name for p in places} <= present
    assert len(missing) <= 0.45 * len(places)


def test_the_measurement_in_single_precision_sees_the_same_tensors() -> None:
    derivation = derive(EXAMPLES[0].with_name("gpt.tp"), "adam").unrolled()
    places = probes(derivation)
    arguments: tuple[Any, ...] = (derivation, derivation.parametrization, places, {"n": WIDTH}, {"n": BASE})
    chosen: dict[str, Any] = {"seed": 0, "steps": 1, "batch": BATCH, "lr": 0.01}
    single, double = (measure_torch.measure(*arguments, **chosen, dtype=d) for d in ("float32", "float64"))
    assert np.array_equal(np.isnan(single), np.isnan(double))
    made = ~np.isnan(single[:, 0])
    assert single[made, 0] == pytest.approx(double[made, 0], rel=1e-4, abs=1e-6)


def test_measuring_leaves_the_global_random_stream_alone() -> None:
    derivation = derive(EXAMPLES[0].with_name("mlp.tp"), "sgd")
    before = torch.random.get_rng_state()
    measure_torch.measure(derivation, derivation.parametrization, probes(derivation), {"n": 16}, {"n": 8},
                          seed=0, steps=1, batch=2, lr=0.1, dtype="float64")  # fmt: skip
    assert torch.equal(before, torch.random.get_rng_state())


def test_tensors_are_the_same_up_to_the_order_and_grouping_of_axes() -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 4))
    assert measure_torch.same(x, x.reshape(6, 4))
    assert measure_torch.same(x, np.ascontiguousarray(x.transpose(2, 0, 1)))
    assert not measure_torch.same(x, x[::-1])
    assert not measure_torch.same(x, x[:, :2])
    assert not measure_torch.same(x, x * (1 + 1e-6))


def test_a_program_that_computes_something_else_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    derivation = derive(EXAMPLES[0].with_name("mlp.tp"), "sgd")
    real = emit
    monkeypatch.setattr(emitted, "emit", lambda *a, **k: real(*a, **k).replace("F.relu", "torch.tanh"))
    with pytest.raises(TensorProgError, match="loss is"):
        measure_torch.plan(derivation, derivation.parametrization, [], {"n": 24}, {"n": 8}, 2)


def test_inputs_and_parameters_with_names_of_python_are_found() -> None:
    text = """
width n
dim d = 4
axis i: d, j: n, k: d
input iter[i]
param half[j,i], dir[k,j]
h[j] = tanh(half[j,i] iter[i])
output id[k] = dir[k,j] h[j]
loss mse(id)
"""
    derivation = derive(parse(text), "sgd")
    places = [p for p in probes(derivation) if p.kind not in HIDDEN]
    arguments: tuple[Any, ...] = (derivation, derivation.parametrization, places, {"n": 16}, {"n": 8})
    chosen: dict[str, Any] = {"seed": 0, "steps": 2, "batch": 2, "lr": 0.1, "dtype": "float64"}
    expected = pytest.approx(measure(*arguments, **chosen), rel=1e-9, nan_ok=True)
    assert measure_torch.measure(*arguments, **chosen) == expected
