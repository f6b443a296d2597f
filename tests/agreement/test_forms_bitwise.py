"""Forms are one training run: at widths 4^k times the base all factors are powers of two, and not a bit differs.

At the base width itself the emitted program is the standard model, written by hand here, bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from tensorprog.calculus.forms import FORMS
from tensorprog.derivation import Derivation
from tensorprog.emission import emit
from tensorprog.exponents import Power
from tensorprog.initial import make_data
from tensorprog.interpret import Interpreter
from tensorprog.parametrization import Parametrization
from tests.shared import derive, tiers

EXAMPLES = Path(__file__).parents[2] / "examples"
BASE, BATCH, STEPS = 16, 2, 5
OPTIMIZERS = ("sgd", "adam", "muon")
RATES = {"sgd": 0.125, "adam": 0.01, "muon": 0.02}
WIDTHS = (BASE, 4 * BASE, 16 * BASE)
CASES = tiers(product(("mlp", "gpt", "gpt_tied"), OPTIMIZERS, WIDTHS),
              {"mlp-sgd-64", "mlp-adam-64", "mlp-adam-256", "mlp-muon-64"})  # fmt: skip
STANDARD = tiers(product(("mlp", "gpt"), ("sgd", "adam"), sorted(FORMS)),
                 {"gpt-adam-table8", *(f"mlp-{o}-{form}" for o in ("sgd", "adam") for form in FORMS)})  # fmt: skip


def emitted(derivation: Derivation, parametrization: Parametrization, width: int) -> Any:
    """The emitted network, in double precision from seed 0."""
    torch = pytest.importorskip("torch")
    text = emit(derivation.architecture.model, parametrization, {"n": BASE}, source_name="net.tp")
    names: dict[str, Any] = {}
    exec(compile(text, "<emitted net.tp>", "exec"), names)
    model = names["Net"](n=width).double()
    torch.manual_seed(0)
    model.reset_parameters()
    return model


def torch_losses(derivation: Derivation, parametrization: Parametrization, width: int) -> list[float]:
    """Losses of the emitted program with its own initialisation and optimizer."""
    torch = pytest.importorskip("torch")
    model = emitted(derivation, parametrization, width)
    optimizer = model.configure_optimizer(lr=RATES[derivation.optimizer])
    data = make_data(derivation.architecture.graph, {"n": width}, BATCH)
    inputs, target = (torch.from_numpy(x) for x in data.values())
    losses = []
    for _ in range(STEPS + 1):
        optimizer.zero_grad()
        loss = model.loss(model(inputs), target)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def numpy_losses(derivation: Derivation, parametrization: Parametrization, width: int) -> list[float]:
    """Losses of the interpreter."""
    network = Interpreter(
        derivation.architecture.program,
        {"n": width},
        {"n": BASE},
        parametrization,
        batch=BATCH,
        lr=RATES[derivation.optimizer],
        functions=derivation.architecture.functions,
    )
    return [network.loss(network.step()) for _ in range(STEPS + 1)]


@cache
def all_forms(name: str, optimizer: str) -> dict[str, Derivation]:
    return {form: derive(EXAMPLES / f"{name}.tp", optimizer, form).unrolled() for form in FORMS}


@pytest.mark.parametrize(("name", "optimizer", "width"), CASES)
@pytest.mark.parametrize("backend", [pytest.param("torch", marks=[pytest.mark.torch, pytest.mark.slow]), "numpy"])
def test_all_forms_have_the_same_losses_bit_for_bit(name: str, optimizer: str, width: int, backend: str) -> None:
    run = torch_losses if backend == "torch" else numpy_losses
    forms = all_forms(name, optimizer)
    losses = {form: run(derivation, derivation.parametrization, width) for form, derivation in forms.items()}
    expected = losses["table8"]
    assert len(set(expected)) == STEPS + 1, "training changes the loss"
    assert losses == dict.fromkeys(forms, expected)


@pytest.mark.parametrize("name", tiers(["mlp", "gpt"], ["mlp"]))
def test_the_forms_are_different_programs(name: str) -> None:
    for optimizer in OPTIMIZERS:
        assert len({repr(d.params) for d in all_forms(name, optimizer).values()}) == len(FORMS), optimizer


def wrong(parametrization: Parametrization, quantity: str, amount: Fraction) -> Parametrization:
    """The exponent of one quantity of the hidden weights off by `amount`."""
    off = Power.of({"n": amount})
    if quantity == "multiplier":
        unknowns = {k: p * off if k == "W2@1" else p for k, p in parametrization.unknowns.items()}
        return replace(parametrization, unknowns=unknowns)
    row = parametrization.params["W2"]
    changed = replace(row, **{quantity: getattr(row, quantity) * off})
    return replace(parametrization, params={**parametrization.params, "W2": changed})


@pytest.mark.parametrize("quantity", ["multiplier", "init_std", "lr", "eps"])
@pytest.mark.parametrize("backend", [pytest.param("torch", marks=[pytest.mark.torch, pytest.mark.slow]), "numpy"])
def test_a_wrong_exponent_shows(quantity: str, backend: str) -> None:
    run = torch_losses if backend == "torch" else numpy_losses
    derivation = derive(EXAMPLES / "mlp.tp", "adam", "table9")
    right = run(derivation, derivation.parametrization, 4 * BASE)
    for amount in (Fraction(-1, 2), Fraction(1, 2)):
        found = run(derivation, wrong(derivation.parametrization, quantity, amount), 4 * BASE)
        assert found != right
        assert (found[0] != right[0]) == (quantity in ("multiplier", "init_std"))
    assert run(derivation, wrong(derivation.parametrization, quantity, Fraction(1, 2)), BASE) == run(
        derivation, derivation.parametrization, BASE
    ), "at the base width no exponent matters"


# --- the standard model, by hand ------------------------------------------------------------------------


def by_hand(name: str) -> tuple[Any, Any]:
    """(parameters in the order in which they are drawn, loss of (input, target)) of the usual PyTorch model."""
    torch = pytest.importorskip("torch")
    F, nn = torch.nn.functional, torch.nn
    n, options = BASE, {"dtype": torch.float64}
    parameters: list[Any] = []

    def normal(fan_in: int, *shape: int) -> Any:
        parameters.append(nn.Parameter(torch.empty(*shape, **options)))
        nn.init.normal_(parameters[-1], std=fan_in**-0.5)
        return parameters[-1]

    def filled(value: float, size: int) -> Any:
        parameters.append(nn.Parameter(torch.full((size,), value, **options)))
        return parameters[-1]

    if name == "mlp":
        W1, W2, W3 = normal(64, n, 64), normal(n, n, n), normal(n, 10, n)
        b1, b2 = filled(0.0, n), filled(0.0, n)

        def mlp_loss(x: Any, y: Any) -> Any:
            h = F.relu(F.linear(x, W1, b1))
            h = F.relu(F.linear(h, W2, b2))
            return F.cross_entropy(F.linear(h, W3), y)

        return parameters, mlp_loss

    E, P = normal(1, 96, n), normal(1, 32, n)
    blocks = []
    for _ in range(2):
        norm1 = filled(1.0, n), filled(0.0, n)
        attention = [normal(n, n, n) for _ in range(4)] + [filled(0.0, n) for _ in range(3)]
        norm2 = filled(1.0, n), filled(0.0, n)
        w1, c1 = normal(n, 4 * n, n), filled(0.0, 4 * n)
        w2, c2 = normal(4 * n, n, 4 * n), filled(0.0, n)
        blocks.append((norm1, attention, norm2, (w1, c1, w2, c2)))
    final, readout = (filled(1.0, n), filled(0.0, n)), normal(n, 96, n)

    def heads(x: Any) -> Any:
        return x.view(*x.shape[:2], n // 16, 16).transpose(1, 2)

    def gpt_loss(tokens: Any, y: Any) -> Any:
        x = F.embedding(tokens, E) + P
        for norm1, (Wq, Wk, Wv, Wo, bq, bv, bo), norm2, (w1, c1, w2, c2) in blocks:
            h = F.layer_norm(x, (n,), *norm1)
            k, q, v = F.linear(h, Wk), F.linear(h, Wq, bq), F.linear(h, Wv, bv)  # gradients add up in this order
            z = F.scaled_dot_product_attention(heads(q), heads(k), heads(v), is_causal=True)
            x = x + F.linear(z.transpose(1, 2).flatten(2), Wo, bo)
            x = x + F.linear(F.gelu(F.linear(F.layer_norm(x, (n,), *norm2), w1, c1)), w2, c2)
        logits = F.linear(F.layer_norm(x, (n,), *final), readout)
        return F.cross_entropy(logits.flatten(0, 1), y.flatten())

    return parameters, gpt_loss


@pytest.mark.torch
@pytest.mark.parametrize(("name", "optimizer", "form"), STANDARD)
def test_at_the_base_width_it_is_the_standard_model_bit_for_bit(name: str, optimizer: str, form: str) -> None:
    torch = pytest.importorskip("torch")
    derivation = derive(EXAMPLES / f"{name}.tp", optimizer, form).unrolled()
    torch.manual_seed(0)
    parameters, loss_of = by_hand(name)
    ours: Mapping[str, Any] = dict(emitted(derivation, derivation.parametrization, BASE).named_parameters())
    assert [p.shape for p in ours.values()] == [p.shape for p in parameters]
    for (key, mine), theirs in zip(ours.items(), parameters, strict=True):
        assert torch.equal(mine, theirs), key
    made = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[optimizer](parameters, lr=RATES[optimizer])
    inputs, target = (
        torch.from_numpy(x) for x in make_data(derivation.architecture.graph, {"n": BASE}, BATCH).values()
    )
    losses = []
    for _ in range(STEPS + 1):
        made.zero_grad()
        loss = loss_of(inputs, target)
        loss.backward()
        made.step()
        losses.append(float(loss.detach()))
    assert torch_losses(derivation, derivation.parametrization, BASE) == losses
