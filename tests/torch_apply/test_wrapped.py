"""An applied model inside of torch.compile, FSDP2 and DDP, whichever comes first."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
distributed = pytest.importorskip("torch.distributed")

from tensorprog.torch.apply import AppliedWarning, apply, remove  # noqa: E402
from tests.torch_apply import by_hand, models  # noqa: E402
from tests.torch_apply.test_apply import BASE, applied_gpt, gpt, same, train  # noqa: E402

pytestmark = pytest.mark.torch


def changes():
    return by_hand.nanogpt(std=True)


@pytest.mark.slow
@pytest.mark.parametrize(("backend", "first"), [("eager", "compile"), ("inductor", "apply")])
def test_the_whole_model_compiles_as_one_graph(backend, first):
    torch.compiler.reset()
    module, inputs, loss = gpt(layers=1)
    compiled = torch.compile(module, fullgraph=True, backend=backend)
    if first == "compile":
        compiled(*inputs)  # the graph of the unmodified model is there already
    expected = copy.deepcopy(module)
    groups = apply(by_hand.nanogpt(layers=1, std=True), compiled, BASE, lr=1e-3, weight_decay=0.1)
    reference = apply(by_hand.nanogpt(layers=1, std=True), expected, BASE, lr=1e-3, weight_decay=0.1)
    torch.testing.assert_close(compiled(*inputs), expected(*inputs))
    ours = train(compiled, inputs, loss, torch.optim.AdamW(groups))
    assert ours == pytest.approx(train(expected, inputs, loss, torch.optim.AdamW(reference)), rel=1e-5)


@pytest.fixture
def one_process(tmp_path: Path):
    """A process group of one, on the CPU."""
    if not distributed.is_available():
        pytest.skip("torch.distributed is not available")
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def shard(module):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (1,))
    for block in module.h:
        fully_shard(block, mesh=mesh)
    fully_shard(module, mesh=mesh)


@pytest.mark.slow
@pytest.mark.parametrize("first", ["apply", "shard"])
def test_sharded_training_is_the_same(one_process, first):
    module, inputs, loss = gpt()
    plain = copy.deepcopy(module)
    if first == "shard":
        shard(module)
    groups = apply(changes(), module, BASE, lr=1e-3, weight_decay=0.1)
    if first == "apply":
        shard(module)
        with pytest.warns(AppliedWarning):  # sharding makes new parameters: the groups of before hold the old ones
            groups = apply(changes(), module, BASE, lr=1e-3, weight_decay=0.1)
    expected, _, _, reference = applied_gpt()
    assert list(module.state_dict()) == list(plain.state_dict())
    assert train(module, inputs, loss, torch.optim.AdamW(groups)) == pytest.approx(
        train(expected, inputs, loss, torch.optim.AdamW(reference)), rel=1e-6
    )
    assert [g["param_names"] for g in groups] == [g["param_names"] for g in reference]


def test_removing_from_a_sharded_model_restores_every_bit(one_process):
    module, inputs, _ = gpt()
    plain = copy.deepcopy(module)
    shard(module)
    apply(changes(), module, BASE)
    remove(module)
    assert all(torch.equal(p.full_tensor(), q) for p, q in zip(module.parameters(), plain.parameters(), strict=True))
    assert torch.equal(module(*inputs), plain(*inputs))


@pytest.mark.parametrize("first", ["apply", "wrap"])
def test_data_parallel_training_is_the_same(one_process, first):
    from torch.nn.parallel import DistributedDataParallel

    module, inputs, loss = gpt()
    if first == "wrap":
        wrapped = DistributedDataParallel(module)
        groups = apply(changes(), wrapped, BASE, lr=1e-3, weight_decay=0.1)
    else:
        groups = apply(changes(), module, BASE, lr=1e-3, weight_decay=0.1)
        wrapped = DistributedDataParallel(module)
    expected, _, _, reference = applied_gpt()
    ours = train(wrapped, inputs, loss, torch.optim.AdamW(groups))
    assert ours == train(expected, inputs, loss, torch.optim.AdamW(reference))
    assert same(module, expected)


def test_models_know_their_widths():
    from tensorprog.torch.sizes import sizes_of

    for n in (8, 24, 136):
        assert sizes_of(changes(), models.nanogpt(n)[0]) == {"n": n}
