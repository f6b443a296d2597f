"""Models of transformers and timm: every operation has a rule, every size a law, every parameter an exponent."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from tensorprog.exponents import Power  # noqa: E402
from tensorprog.torch.model import derive_reading, read  # noqa: E402
from tests import packages  # noqa: E402
from tests.torch.support import legal, read64, text_difference, worst_difference  # noqa: E402
from tests.torch.timm_families import TIMM  # noqa: E402
from tests.torch.transformers_families import MORE  # noqa: E402
from tests.torch.zoo import ZOO, llama_like, text  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.slow]
FLOAT32_INSIDE = 1e-6  # several models compute norms and rotary tables in float32 whatever their dtype


def needs(name: str) -> None:
    packages.needs("timm" if name.startswith("timm") else "transformers")


def double(inputs: Any) -> Any:
    if isinstance(inputs, dict):
        return {k: double(v) for k, v in inputs.items()}
    return inputs.double() if inputs.is_floating_point() else inputs


@pytest.mark.parametrize("name", ZOO)
def test_a_model_of_the_zoo_is_read_whole_and_derived(name: str) -> None:
    needs(name)
    build, inputs = ZOO[name]
    reading = read64(build, double(inputs()))
    graph = reading.lowered.graph
    legal(graph)
    assert worst_difference(reading) < FLOAT32_INSIDE
    assert all(start.exact for start in reading.starts.values())
    result = derive_reading(reading, "adamw")
    trained = {n for n, p in reading.module.named_parameters() if p.requires_grad}
    changes = {p.name: p for p in result.changes.parameters}
    assert changes.keys() == {n for n, _ in reading.module.named_parameters()}
    for n in trained:
        assert changes[n].needed.lr is not None or changes[n].reasons["lr"] == "no gradient reaches it"
    for multiplier in result.changes.multipliers:
        assert multiplier.factor == Power() or multiplier.places, multiplier.name
    assert result.to_tp()
    assert text_difference(reading) < 1e-12


@pytest.mark.parametrize("name", ["swin_v2", "nest", "poolformer", "edgenext", "efficientvit_mit", "pvt_v2", "mvitv2",
                                  "inception_next", "halonet", "swiftformer"])  # fmt: skip
def test_a_family_of_timm_is_read_as_what_it_computes(name: str) -> None:
    """Also what a zero at the start would hide."""
    needs("timm")
    build, inputs = TIMM[name]

    def lively(n: int) -> Any:
        model, generator = build(n), torch.Generator().manual_seed(7)
        with torch.no_grad():
            for p in model.parameters():
                p.add_(0.1 * torch.randn(p.shape, generator=generator))
        return model

    assert worst_difference(read64(lively, double(inputs()))) < FLOAT32_INSIDE


@pytest.mark.parametrize("name", ["granitemoe", "llama4", "qwen3_next", "recurrent_gemma", "convbert", "dots1"])
def test_a_model_of_transformers_is_read_as_it_comes(name: str) -> None:
    """Experts whichever way they run, scattered scores, linear attention, recurrences, dynamic convolutions, groups."""
    needs("transformers")
    build, inputs = MORE[name]
    reading = read64(build, double(inputs()))
    legal(reading.lowered.graph)
    assert worst_difference(reading) < FLOAT32_INSIDE
    changes = derive_reading(reading, "adamw").changes
    assert all(m.factor == Power() or m.places for m in changes.multipliers)


def test_the_rows_of_mambas_projection_are_of_two_kinds() -> None:
    needs("mamba")
    build, inputs = ZOO["mamba"]
    changes = derive_reading(read(build, inputs()), "adamw").changes
    projection = changes.parameter("backbone.layers.0.mixer.x_proj.weight")
    time_step, b_and_c = projection.parts
    assert time_step.needed.init_std is not None and b_and_c.needed.init_std is not None
    assert (str(time_step.start), str(time_step.stop), str(time_step.needed.init_std)) == ("0", "n", "n^-1/2")
    assert (str(b_and_c.start), str(b_and_c.stop), str(b_and_c.needed.init_std)) == ("n", "n + 12", "n^-1")


def test_multipliers_that_a_model_has_already_are_counted_in() -> None:
    """Gemma multiplies its embedding by n^1/2, T5 its tied logits by n^-1/2: what is missing of n^-1 is less."""
    needs("gemma2")
    found = {}
    for name in ("gemma2", "t5", "gpt2"):
        build, inputs = ZOO[name]
        result = derive_reading(read(build, inputs()), "adamw")
        (head,) = [m for m in result.changes.multipliers if m.module == "lm_head"]
        found[name] = str(head.factor), str(result.changes.parameter("lm_head.weight").needed.init_std)
    assert found == {"gemma2": ("n^-1/2", "n^-1/2"), "t5": ("n^-1/2", "1"), "gpt2": ("n^-1", "1")}


def test_reading_costs_in_proportion_to_the_layers() -> None:
    needs("llama")
    sizes = {}
    for layers in (2, 4, 8):
        reading = read(llama_like("Llama", num_hidden_layers=layers), text())
        sizes[layers] = len(reading.lowered.graph.nodes)
    assert sizes[8] - sizes[4] == 2 * (sizes[4] - sizes[2])
