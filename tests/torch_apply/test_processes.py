"""An applied model on two processes, each with half of the batch and, under FSDP2, half of the weights."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
distributed = pytest.importorskip("torch.distributed")

from torch import nn  # noqa: E402

from tensorprog.torch.apply import AppliedWarning, apply, remove  # noqa: E402
from tests.torch_apply import by_hand, models  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.slow]
BASE, WIDE, STEPS = 8, 24, 3


def made() -> tuple[nn.Module, Any]:
    torch.manual_seed(0)
    return models.NanoGPT(WIDE, std=0.02), torch.randint(models.VOCAB, (4, models.TIME + 1))


def trained(module: nn.Module, tokens: Any, groups: Any) -> None:
    optimizer = torch.optim.AdamW(groups, eps=1e-3)
    for _ in range(STEPS):
        optimizer.zero_grad()
        out = module(tokens[:, :-1])
        nn.functional.cross_entropy(out.flatten(0, 1), tokens[:, 1:].flatten()).backward()
        optimizer.step()


def groups_of(module: nn.Module) -> Any:
    with warnings.catch_warnings():  # sharding makes new parameters, for which apply is called again
        warnings.simplefilter("ignore", AppliedWarning)
        return apply(by_hand.nanogpt(std=True), module, BASE, lr=1e-2, weight_decay=0.1, eps=1e-3)


def process(rank: int, store: str) -> None:
    """Writes the weights after training, by how the model was wrapped and what came first."""
    from torch.distributed.fsdp import fully_shard
    from torch.nn.parallel import DistributedDataParallel

    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    plain, tokens = made()
    half = tokens[2 * rank : 2 * rank + 2]
    mesh = distributed.device_mesh.init_device_mesh("cpu", (2,))
    found = {}
    for way in ("ddp", "fsdp"):
        for first in ("apply", "wrap"):
            module = copy.deepcopy(plain)
            if first == "apply":
                groups_of(module)
            if way == "ddp":
                wrapped = DistributedDataParallel(module)
            else:
                for block in module.h:
                    fully_shard(block, mesh=mesh)
                wrapped = fully_shard(module, mesh=mesh)
            groups = groups_of(wrapped)
            if first == "wrap":
                remove(wrapped)
                assert all(
                    torch.equal(whole(p), q) for p, q in zip(module.parameters(), plain.parameters(), strict=True)
                )
                groups = groups_of(wrapped)
            trained(wrapped, half, groups)
            found[way, first] = [whole(p) for p in module.parameters()]
    if rank == 0:
        torch.save(found, f"{store}.found")
    distributed.destroy_process_group()


def whole(p: Any) -> Any:
    return (p.full_tensor() if hasattr(p, "full_tensor") else p).detach().clone()


def test_two_processes_train_the_model_that_one_trains_on_the_whole_batch(tmp_path: Path) -> None:
    if not distributed.is_available():
        pytest.skip("torch.distributed is not available")
    torch.multiprocessing.spawn(process, (str(tmp_path / "store"),), nprocs=2)
    module, tokens = made()
    trained(module, tokens, groups_of(module))
    found = torch.load(tmp_path / "store.found")
    unapplied, _ = made()
    trained(unapplied, tokens, [{"params": list(unapplied.parameters()), "lr": 1e-2}])
    assert len(found) == 4
    for weights in found.values():
        for ours, theirs in zip(weights, module.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs.detach(), rtol=1e-4, atol=1e-5)
        assert (
            max(float((a - whole(b)).abs().max()) for a, b in zip(weights, unapplied.parameters(), strict=True)) > 1e-2
        )
