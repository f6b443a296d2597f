"""The emitted optimizer takes the same steps as the NumPy one, and its groups keep their ratios."""

from __future__ import annotations

import numpy as np
import pytest

from tensorprog.optimizers import OPTIMIZERS
from tensorprog.outer import draw, sampled_loss

torch = pytest.importorskip("torch")
from tests.emission import support  # noqa: E402

pytestmark = pytest.mark.torch

NETWORK = """
width n
dim d = 3, h = 6, w = 6
input x[c,r,s]
axis c: d, r: h, s: w
y = relu(conv(x, n, bias = true))
pooled[m] = mean[u,v](y[m,u,v])
output f = linear(pooled, 4)
loss mse(f)
"""


def trained(optimizer: str, steps: int = 3):
    architecture = support.parse(NETWORK, "net.tp")
    chosen = support.parametrization(architecture, optimizer)
    base, widths = {"n": 8}, {"n": 16}
    text = support.emit(architecture.model, chosen, base, source_name="net.tp")
    model = support.main_class(support.load(text))(**widths).double()
    interpreter = support.Interpreter(architecture.program, widths, base, chosen, batch=4)
    for name, parameter in model.named_parameters():
        parameter.data.copy_(torch.from_numpy(interpreter.params[name].copy()))
    updater = model.configure_optimizer()
    data = {k: torch.from_numpy(v) for k, v in interpreter.data.items()}
    for _ in range(steps):
        count, prediction = interpreter.outer.count + 1, model(data["x"]).detach().numpy()
        interpreter.step(interpreter.data)

        def closure():
            updater.zero_grad()
            loss = model.loss(model(data["x"]), data["f_target"])
            loss.backward()
            return loss

        if hasattr(updater, "take_sampled"):
            updater.zero_grad()
            target = draw(sampled_loss(architecture.graph.nodes), prediction, 0, count)
            model.loss(model(data["x"]), torch.from_numpy(target)).backward()
            updater.take_sampled(target.size)
        updater.step(closure)
    return model, interpreter, updater, text


@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
def test_some_steps_agree_with_numpy(optimizer: str) -> None:
    model, interpreter, _, _ = trained(optimizer, 12 if optimizer == "soap" else 3)  # its bases are renewed once
    for name, parameter in model.named_parameters():
        assert support.relative(parameter.detach().numpy(), interpreter.params[name]) < 1e-8, name


def test_a_basis_is_found_in_half_precision() -> None:
    text = trained("soap", 1)[3]
    soap, matrix = support.load(text).SOAP, torch.diag(torch.tensor([3.0, 2.0, 0.0])).bfloat16()
    basis = soap.power_iterated(matrix, soap.cosines(3).bfloat16())
    assert basis.dtype == torch.bfloat16
    assert torch.allclose((basis.T @ basis).float(), torch.eye(3), atol=0.05)


@pytest.mark.parametrize("optimizer", ["adamw", "muon_spectral", "lion"])
def test_state_survives_saving_and_schedulers_keep_the_ratios(optimizer: str) -> None:
    model, _, updater, _ = trained(optimizer)
    before = [group["lr"] for group in updater.param_groups]
    scheduler = torch.optim.lr_scheduler.LambdaLR(updater, lambda epoch: 0.5**epoch)
    updater.step()
    scheduler.step()
    assert np.allclose([group["lr"] for group in updater.param_groups], [lr / 2 for lr in before])
    other = model.configure_optimizer()
    other.load_state_dict(updater.state_dict())
    assert [group["lr"] for group in other.param_groups] == [group["lr"] for group in updater.param_groups]
    names = [name for group in other.param_groups for name in group["names"]]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())


def test_hyperparameters_are_values_at_the_base_width() -> None:
    model, _, _, _ = trained("adamw", 0)
    for group, doubled in zip(model.param_groups(lr=1e-3), model.param_groups(lr=2e-3, eps=1e-6), strict=True):
        assert doubled["lr"] == pytest.approx(2 * group["lr"])
        assert doubled["eps"] == pytest.approx(100 * group["eps"])
