"""Models of transformers and timm, tiny and random: nothing is downloaded."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch

V, T, B = 101, 13, 3


def ids() -> torch.Tensor:
    return torch.randint(0, V, (B, T), generator=torch.Generator().manual_seed(5))


def image(side: int = 32) -> torch.Tensor:
    return torch.randn(B, 3, side, side, generator=torch.Generator().manual_seed(6))


def llama_like(kind: str, **extra: Any) -> Callable[[int], Any]:
    def build(n: int) -> Any:
        import transformers as t

        config = getattr(t, f"{kind}Config")(
            **{"vocab_size": V, "hidden_size": 16 * n, "intermediate_size": 40 * n, "num_hidden_layers": 2,
               "num_attention_heads": 2 * n, "num_key_value_heads": n, "head_dim": 8, "max_position_embeddings": 32,
               "use_cache": False, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, **extra}
        )  # fmt: skip
        return getattr(t, f"{kind}ForCausalLM")(config)

    return build


def gpt2(n: int) -> Any:
    import transformers as t

    return t.GPT2LMHeadModel(t.GPT2Config(vocab_size=V, n_positions=32, n_embd=16 * n, n_layer=2, n_head=n,
                                          use_cache=False, bos_token_id=1, eos_token_id=2))  # fmt: skip


def gpt2_head_dim(n: int) -> Any:
    import transformers as t

    return t.GPT2LMHeadModel(t.GPT2Config(vocab_size=V, n_positions=32, n_embd=16 * n, n_layer=2, n_head=2,
                                          use_cache=False, bos_token_id=1, eos_token_id=2))  # fmt: skip


def bert(n: int) -> Any:
    import transformers as t

    return t.BertForMaskedLM(t.BertConfig(vocab_size=V, hidden_size=16 * n, num_hidden_layers=2, num_attention_heads=n,
                                          intermediate_size=64 * n, max_position_embeddings=32))  # fmt: skip


def t5(n: int) -> Any:
    import transformers as t

    return t.T5ForConditionalGeneration(t.T5Config(vocab_size=V, d_model=16 * n, d_kv=8, d_ff=40 * n, num_layers=2,
                                                   num_heads=2 * n, decoder_start_token_id=0,
                                                   use_cache=False))  # fmt: skip


def vit(n: int) -> Any:
    import transformers as t

    return t.ViTForImageClassification(t.ViTConfig(hidden_size=16 * n, num_hidden_layers=2, num_attention_heads=n,
                                                   intermediate_size=64 * n, image_size=32, patch_size=8,
                                                   num_labels=10))  # fmt: skip


def mixtral(n: int) -> Any:
    model = llama_like("Mixtral", num_local_experts=4, num_experts_per_tok=2)(n)
    model.set_experts_implementation("batched_mm")
    return model


def qwen2_moe(n: int) -> Any:
    import transformers as t

    config = t.Qwen2MoeConfig(vocab_size=V, hidden_size=16 * n, intermediate_size=40 * n, num_hidden_layers=2,
                              num_attention_heads=2 * n, num_key_value_heads=n, moe_intermediate_size=24 * n,
                              shared_expert_intermediate_size=20 * n, num_experts=4, num_experts_per_tok=2,
                              max_position_embeddings=32, use_cache=False, pad_token_id=0, bos_token_id=1,
                              eos_token_id=2)  # fmt: skip
    model = t.Qwen2MoeForCausalLM(config)
    model.set_experts_implementation("batched_mm")
    return model


def mamba(n: int) -> Any:
    import transformers as t

    return t.MambaForCausalLM(t.MambaConfig(vocab_size=V, hidden_size=16 * n, state_size=6, num_hidden_layers=2,
                                            conv_kernel=4, expand=2, time_step_rank=n, use_cache=False,
                                            pad_token_id=0, bos_token_id=1, eos_token_id=2))  # fmt: skip


def whisper(n: int) -> Any:
    import transformers as t

    config = t.WhisperConfig(vocab_size=V, num_mel_bins=10, encoder_layers=2, encoder_attention_heads=n,
                             decoder_layers=2, decoder_attention_heads=n, d_model=16 * n, encoder_ffn_dim=64 * n,
                             decoder_ffn_dim=64 * n,
                             max_source_positions=10, max_target_positions=32, use_cache=False, pad_token_id=0,
                             bos_token_id=1, eos_token_id=2, decoder_start_token_id=1, suppress_tokens=[])  # fmt: skip
    return t.WhisperForConditionalGeneration(config)


def convnext(n: int) -> Any:
    import transformers as t

    return t.ConvNextForImageClassification(t.ConvNextConfig(hidden_sizes=[4 * n, 8 * n, 16 * n, 32 * n],
                                                             depths=[1, 1, 1, 1], num_labels=10,
                                                             image_size=32))  # fmt: skip


def resnet(n: int) -> Any:
    import transformers as t

    return t.ResNetForImageClassification(t.ResNetConfig(embedding_size=4 * n, hidden_sizes=[4 * n, 8 * n],
                                                         depths=[1, 1], layer_type="basic", num_labels=10))  # fmt: skip


def timm_resnet(n: int) -> Any:
    import timm

    # never 64, the fixed width of the stem: there a layer would lose its projection
    return timm.models.resnet.ResNet(timm.models.resnet.BasicBlock, [1, 1, 1, 1], num_classes=10, stem_width=4 * n,
                                     channels=(6 * n, 12 * n, 24 * n, 48 * n))  # fmt: skip


def timm_vit(n: int) -> Any:
    import timm

    return timm.models.vision_transformer.VisionTransformer(img_size=32, patch_size=8, embed_dim=16 * n, depth=2,
                                                            num_heads=n, num_classes=10)  # fmt: skip


def text() -> dict[str, torch.Tensor]:
    return {"input_ids": ids(), "labels": ids()}


ZOO: dict[str, tuple[Callable[[int], Any], Callable[[], Any]]] = {
    "gpt2": (gpt2, text),
    "gpt2_head_dim": (gpt2_head_dim, text),
    "llama": (llama_like("Llama"), text),
    "mistral": (llama_like("Mistral"), text),
    "gemma2": (llama_like("Gemma2"), text),
    "bert": (bert, text),
    "t5": (t5, text),
    "vit": (vit, lambda: {"pixel_values": image()}),
    "mixtral": (mixtral, text),
    "qwen2_moe": (qwen2_moe, text),
    "mamba": (mamba, text),
    "whisper": (whisper, lambda: {"input_features": torch.randn(B, 10, 20, generator=torch.Generator().manual_seed(1)),
                                  "labels": ids()}),
    "convnext": (convnext, lambda: {"pixel_values": image()}),
    "resnet": (resnet, lambda: {"pixel_values": image(64)}),
    "timm_resnet": (timm_resnet, lambda: image(64)),
    "timm_vit": (timm_vit, image),
}  # fmt: skip
