"""The NumPy steps follow torch.optim exactly; the others obey the laws stated in their row of the table."""

from __future__ import annotations

import numpy as np
import pytest

from tensorprog.arrays import newton_schulz, rms
from tensorprog.errors import TensorProgError
from tensorprog.optimizers import OPTIMIZERS, optimizer_for
from tensorprog.steps import make_step

SHAPES = {"matrix": (6, 4), "vector": (5,), "kernel": (3, 4, 2), "scalar": ()}
OPTIONS = {
    "sgd": [{}, {"momentum": 0.8, "dampening": 0.3}],
    "nesterov": [{}, {"momentum": 0.5}],
    "rmsprop": [{}, {"momentum": 0.7}],
    "adagrad": [{}, {"lr_decay": 0.1, "initial_accumulator_value": 0.2}],
    "adafactor": [{}, {"lr": 0.9, "d": 1.5, "beta2_decay": -0.6}],
    "nadam": [{}, {"momentum_decay": 0.1}],
}
IN_TORCH = [
    (name, {**options, **decay})
    for name, row in OPTIMIZERS.items()
    if row.torch
    for options in OPTIONS.get(name, [{}])
    for decay in ({}, {"weight_decay": 0.1})
]


def gradients(shape: tuple[int, ...]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape) for _ in range(5)]


def torch_arguments(hyper: dict[str, float]) -> dict[str, object]:
    arguments: dict[str, object] = {k: v for k, v in hyper.items() if k not in ("beta1", "beta2", "eps2")}
    if "beta1" in hyper:
        arguments["betas"] = (hyper["beta1"], hyper["beta2"])
    if "eps2" in hyper:
        arguments["eps"] = (None, hyper["eps2"])
    if "nesterov" in arguments:
        arguments["nesterov"] = bool(arguments["nesterov"])
    return arguments


@pytest.fixture
def torch64():
    torch = pytest.importorskip("torch")
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # torch.optim keeps NAdam's products in the default dtype
    yield torch
    torch.set_default_dtype(before)


@pytest.mark.torch
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize(("name", "options"), IN_TORCH, ids=str)
def test_five_steps_equal_those_of_torch(torch64, name, options, shape):
    step = make_step(name, options)
    start = np.random.default_rng(1).standard_normal(shape)
    w = start.copy()
    p = torch64.tensor(start, requires_grad=True)
    twin = getattr(torch64.optim, OPTIMIZERS[name].torch)([p], **torch_arguments(step.hyper))
    for g in gradients(shape):
        untouched = g.copy()
        step(w, g)
        p.grad = torch64.tensor(g)
        twin.step()
        np.testing.assert_array_equal(g, untouched)
        np.testing.assert_allclose(w, p.detach().numpy(), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_degree_in_the_gradient_and_the_parameter(name):
    """Gradients times 7: the update is 7 times (degree 1) or as large (degree 0). Parameters times 7: relative ones."""
    row = OPTIMIZERS[name]
    out_of_the_way = {"eps": 1e-30, "gamma": 1e-30, "threshold": 1e30}
    hyper = {"weight_decay": 0.0, "lr": 1e-3} | {k: v for k, v in out_of_the_way.items() if k in dict(row.defaults)}
    grads = gradients((6, 4))
    start = np.random.default_rng(1).standard_normal((6, 4))

    def update(gradient_scale: float, parameter_scale: float) -> np.ndarray:
        w = parameter_scale * start
        step = make_step(name, hyper)
        for g in grads:
            before = w.copy()
            step(w, gradient_scale * g)
        return w - before

    plain = update(1.0, 1.0)
    assert rms(plain) > 0
    np.testing.assert_allclose(update(7.0, 1.0), 7.0**row.degree * plain, rtol=1e-6, atol=1e-9 * rms(plain))
    np.testing.assert_allclose(
        update(1.0, 7.0), (7.0 if row.relative else 1.0) * plain, rtol=1e-6, atol=1e-3 * rms(plain)
    )


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_float32_stays_and_zero_gradient_is_harmless(name, shape):
    w = np.full(shape, 0.5, np.float32)
    step = make_step(name, {"weight_decay": 0.0})
    with np.errstate(all="raise", under="ignore"):
        step(w, np.zeros(shape, np.float32))
    assert w.dtype == np.float32
    assert all(a.dtype == np.float32 for a in step.state.values())
    np.testing.assert_allclose(w, 0.5)


@pytest.mark.parametrize("name", sorted(n for n, row in OPTIMIZERS.items() if row.decay == "decoupled"))
def test_decoupled_decay_shrinks_whatever_the_gradient(name):
    w = np.full((4, 4), 0.5)
    make_step(name, {"weight_decay": 0.1, "lr": 0.2})(w, np.zeros((4, 4)))
    np.testing.assert_allclose(w, 0.5 * (1 - 0.2 * 0.1))


@pytest.mark.parametrize("shape", [(30, 8), (8, 30), (12, 12), (10, 3, 4)], ids=str)
@pytest.mark.parametrize("name", ["muon", "muon_original", "muon_match_rms", "muon_spectral"])
def test_muon_updates_have_the_spectral_norm_of_their_convention(name, shape):
    rows, columns = shape[0], int(np.prod(shape[1:]))
    expected = {"muon": 1.0, "muon_original": max(1, rows / columns) ** 0.5, "muon_spectral": (rows / columns) ** 0.5,
                "muon_match_rms": 0.2 * max(rows, columns) ** 0.5}[name]  # fmt: skip
    w = np.zeros(shape)
    make_step(name, {"lr": 1.0, "weight_decay": 0.0})(w, gradients(shape)[0])
    values = np.linalg.svd(w.reshape(rows, columns), compute_uv=False) / expected
    assert values.max() < 1.3
    assert np.median(values) > 0.65


def test_newton_schulz_keeps_the_singular_vectors():
    g = gradients((20, 6))[0]
    u, _, v = np.linalg.svd(g, full_matrices=False)
    inner = u.T @ newton_schulz(g, 5) @ v.T
    np.testing.assert_allclose(inner, np.diag(np.diagonal(inner)), atol=1e-12)


@pytest.mark.parametrize("rank", [2, 24, 200])
@pytest.mark.parametrize("shape", [(3, 500), (500, 3), (100, 450), (200, 150)], ids=str)
def test_newton_schulz_is_its_iteration_however_it_is_done(shape, rank):
    """Long matrices by their Gram matrix, those of low rank in their range: the same as x <- p(x x^T) x."""
    rng = np.random.default_rng(0)
    g = rng.standard_normal((shape[0], rank)) @ rng.standard_normal((rank, shape[1]))
    x = g / np.linalg.norm(g)
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (2.0315 * gram @ gram - 4.7750 * gram) @ x
    np.testing.assert_allclose(newton_schulz(g, 5), x, atol=1e-10)
    np.testing.assert_allclose(newton_schulz(g.astype(np.float32), 5), x, atol=3e-4 * np.abs(x).max())


@pytest.mark.parametrize("name", ["lamb", "lars"])
def test_relative_updates_are_a_fraction_of_the_parameter(name):
    w = 3.0 * gradients((6, 4))[1]
    before = w.copy()
    make_step(name, {"lr": 0.5, "weight_decay": 0.0})(w, gradients((6, 4))[0])
    trust = {"lamb": 0.5, "lars": 0.5 * 1e-3}[name]
    assert rms(w - before) == pytest.approx(trust * rms(before))


def test_vectors_go_to_another_optimizer_and_names_are_consistent():
    assert optimizer_for("muon", 1).name == "adam"
    assert optimizer_for("muon", 2).name == "muon"
    assert optimizer_for("sgd", 0).name == "sgd"
    for name, row in OPTIMIZERS.items():
        assert name == row.name
        assert row.vectors is None or row.vectors in OPTIMIZERS
        assert row.decay == "none" or "weight_decay" in dict(row.defaults)
        assert (row.eps is None) == ("eps" not in dict(row.defaults))


def test_unknown_option_is_refused():
    with pytest.raises(TensorProgError, match="no option `beta1`"):
        make_step("sgd", {"beta1": 0.9})


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_a_gradient_that_overflowed_ends_no_run(name: str) -> None:
    """A network that blew up is measured as such: entries are infinite or no numbers."""
    with np.errstate(all="ignore"):
        make_step(name, {})(np.ones((6, 4)), np.full((6, 4), np.inf))
