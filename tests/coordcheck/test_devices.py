"""A check on another device than the CPU. Where there is none, tensors on the meta device, which have no values, show
whether all of an emitted program goes there, and a CPU by another name whether the measurement does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tensorprog.api import check
from tensorprog.coordcheck.calibrate import base_widths, width_ladder
from tensorprog.errors import TensorProgError
from tests.shared import derive

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.tp"))
MLP = Path(__file__).parents[2] / "examples" / "mlp.tp"


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(TensorProgError, match="NumPy does not run on `cuda`"):
        check(MLP, device="cuda", widths=[16, 32])


@pytest.mark.torch
def test_cuda_is_refused_without_a_cuda_device() -> None:
    if __import__("torch").cuda.is_available():
        report = check(MLP, backend="torch", device="cuda", widths=[32, 64, 128], seeds=3, steps=1)
        assert report.rows and report.control is not None and report.control.caught
        return
    with pytest.raises(TensorProgError, match="there is no CUDA device"):
        check(MLP, backend="torch", device="cuda", widths=[16, 32])


CASES = [*((path, "adam") for path in EXAMPLES), *((MLP, name) for name in ("muon", "shampoo", "sophia"))]


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.parametrize(("example", "optimizer"), CASES, ids=lambda case: getattr(case, "stem", case))
def test_a_step_of_an_emitted_program_stays_on_its_device(example: Path, optimizer: str) -> None:
    import torch

    from tensorprog.coordcheck.emitted import EmittedNetwork

    derivation = derive(example, optimizer).unrolled()
    ladder = width_ladder(derivation, None, None)
    network = EmittedNetwork(derivation, derivation.parametrization, ladder.rungs[0], base_widths(derivation, ladder),
                             batch=2, seed=0, dtype="float32", device="meta")  # fmt: skip
    loss = network.loss()
    loss.backward()
    if hasattr(network.optimizer, "take_sampled"):
        network.optimizer.take_sampled(2)
    network.optimizer.step()
    state = [v for group in network.optimizer.state.values() for v in group.values()]
    held = [loss, *network.data.values(), *network.params.values(), *(v for v in state if getattr(v, "ndim", 0))]
    assert {tensor.device.type for tensor in held} == {"meta"}
    if example == MLP:  # one that is left behind is an error
        with pytest.raises(RuntimeError, match="device"):
            network.model(torch.zeros(2, 64))


@pytest.mark.slow
@pytest.mark.torch
def test_a_check_on_a_device_by_its_full_name_is_the_same() -> None:
    options = {"backend": "torch", "widths": [16, 32], "seeds": 2, "max_seeds": 2, "steps": 1, "control": False}
    assert check(MLP, device="cpu:0", **options).rows == check(MLP, device="cpu", **options).rows
