"""Models of many kinds: after applying no operation disagrees with its prediction, before it some do.

A few of them, on short ladders; `python -m benchmarks.zoo` does all.
"""

from __future__ import annotations

import warnings

import pytest

torch = pytest.importorskip("torch")

import tensorprog.torch as tpt  # noqa: E402
from tests.torch.handwritten import CASES  # noqa: E402
from tests.torch.test_zoo import needs  # noqa: E402
from tests.torch.timm_families import TIMM  # noqa: E402
from tests.torch.zoo import ZOO  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.slow]
MODELS = {**ZOO, "timm_vit_head_dim": TIMM["vit_head_dim"]}
WIDE = (32, 64, 128, 256)
CHOSEN = {
    "gpt2_head_dim": (4, 8, 16, 32), "timm_vit": (4, 8, 16), "convnext": (2, 4, 8), "lora": WIDE, "weight_norm": WIDE,
    "gru": WIDE, "unet": (16, 32, 64), "encoder_layer": (4, 8, 16, 32), "timm_vit_head_dim": (4, 8, 16),
}  # fmt: skip
BRIEFLY = {  # one update, at three widths
    "lstm": (32, 64, 128), "nanogpt_heads": (8, 16, 32), "llama": (4, 8, 16), "mistral": (4, 8, 16),
    "gemma2": (4, 8, 16), "bert": (4, 8, 16), "t5": (2, 4, 8), "vit": (4, 8, 16), "mixtral": (2, 4, 8),
    "qwen2_moe": (2, 4, 8), "resnet": (16, 32, 64),
    "timm_resnet": (1, 2, 4), "whisper": (4, 8, 16),
}  # fmt: skip


@pytest.mark.parametrize("name", [*CHOSEN, *BRIEFLY])
def test_no_operation_disagrees_after_applying_and_some_do_before(name):
    if name in MODELS:
        needs(name)
        build, make = MODELS[name]
        inputs = make()
    else:
        build, inputs = CASES[name].build, CASES[name].inputs
        inputs = inputs.float() if CASES[name].float_inputs else inputs
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        p = tpt.derive(build, inputs=inputs, optimizer="adamw")
        ladder, seeds, steps = (CHOSEN[name], 3, 2) if name in CHOSEN else (BRIEFLY[name], 2, 1)
        right = p.check(ladder, seeds=seeds, max_seeds=3 * seeds, steps=steps)
        wrong = p.check(ladder, seeds=seeds, max_seeds=seeds, steps=1, unmodified=True)
    assert not [row for row in right.rows if row.verdict == "disagrees"], str(right)
    assert right.count("agrees") > 0.7 * len(right.rows)
    assert wrong.count("disagrees") > 0
