"""More models of transformers: what users have, tiny, with random weights, as their own builders make them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from tests.torch.wild import ENCODER, SPECIAL, VISION, Entry, hugging, labelled, pixels, speech, times
from tests.torch.zoo import B, T, V, ids, image, llama_like, text


def several(*factors: int) -> Callable[[int], list[int]]:
    return lambda n: [k * n for k in factors]


def moe(build: Callable[[int], Any]) -> Callable[[int], Any]:
    """With a product of every token and its own experts: a loop over experts has no fixed sizes."""

    def built(n: int) -> Any:
        model = build(n)
        model.set_experts_implementation("batched_mm")
        return model

    return built


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def masked() -> dict[str, torch.Tensor]:
    return {"input_ids": ids(), "attention_mask": torch.ones(B, T, dtype=torch.long), "labels": ids()}


def labelled64() -> dict[str, torch.Tensor]:
    return {"pixel_values": image(64), "labels": torch.tensor([1, 4, 7])}


def feats() -> dict[str, torch.Tensor]:
    return {"past_values": noise(B, 16, 3)}


def episode() -> dict[str, torch.Tensor]:
    return {"states": noise(2, 4, 5), "actions": noise(2, 4, 3), "rewards": noise(2, 4, 1),
            "returns_to_go": noise(2, 4, 1), "timesteps": torch.arange(4).repeat(2, 1),
            "attention_mask": torch.ones(2, 4)}  # fmt: skip


def chunks() -> dict[str, torch.Tensor]:
    """A length that windows of 4 divide: nothing is padded."""
    tokens = ids()[:, :12].contiguous()
    return {"input_ids": tokens, "labels": tokens}


def detr(n: int) -> Any:
    from transformers import DetrConfig, DetrForObjectDetection, ResNetConfig

    backbone = ResNetConfig(embedding_size=8 * n, hidden_sizes=[8 * n, 16 * n], depths=[1, 1], layer_type="basic",
                            out_features=["stage2"])  # fmt: skip
    heads = {f"{k}_attention_heads": 2 * n for k in ("encoder", "decoder")}
    sizes = {f"{k}_ffn_dim": 32 * n for k in ("encoder", "decoder")}
    config = DetrConfig(use_timm_backbone=False, use_pretrained_backbone=False, backbone=None, backbone_config=backbone,
                        num_queries=5, d_model=16 * n, encoder_layers=1, decoder_layers=1, num_labels=7, dropout=0.0,
                        **heads, **sizes)  # fmt: skip
    return DetrForObjectDetection(config)


LL = {"vocab_size": V, "hidden_size": times(16), "intermediate_size": times(40), "num_hidden_layers": 2,
      "num_attention_heads": times(2), "num_key_value_heads": times(1), "head_dim": 8, "max_position_embeddings": 32,
      "use_cache": False, **SPECIAL}  # fmt: skip
MLA = {"vocab_size": V, "hidden_size": times(16), "intermediate_size": times(40), "moe_intermediate_size": times(12),
       "num_hidden_layers": 2, "num_attention_heads": times(2), "num_key_value_heads": times(2),
       "q_lora_rank": times(6), "kv_lora_rank": times(5), "qk_rope_head_dim": 4, "qk_nope_head_dim": 6,
       "v_head_dim": 6, "max_position_embeddings": 32, "use_cache": False, **SPECIAL}  # fmt: skip
W2 = {"hidden_size": times(16), "num_hidden_layers": 2, "num_attention_heads": times(1),
      "intermediate_size": times(64), "conv_dim": several(8, 8), "conv_stride": [5, 4], "conv_kernel": [10, 3],
      "num_feat_extract_layers": 2, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2,
      "mask_time_prob": 0.0, "layerdrop": 0.0, "apply_spec_augment": False}  # fmt: skip
S2S = {"vocab_size": V, "d_model": times(16), "encoder_layers": 1, "decoder_layers": 1,
       "encoder_attention_heads": times(1), "decoder_attention_heads": times(1), "encoder_ffn_dim": times(32),
       "decoder_ffn_dim": times(32), "max_position_embeddings": 32, "use_cache": False, "forced_eos_token_id": 2,
       "decoder_start_token_id": 1, **SPECIAL}  # fmt: skip

MORE: dict[str, Entry] = {
    "deepseek_v2": (moe(hugging("DeepseekV2ForCausalLM", "DeepseekV2Config", **MLA, n_routed_experts=4,
                    num_experts_per_tok=2, n_shared_experts=1, first_k_dense_replace=1, n_group=1, topk_group=1)),
                    text),
    "deepseek_v3": (moe(hugging("DeepseekV3ForCausalLM", "DeepseekV3Config", **MLA, n_routed_experts=4,
                    num_experts_per_tok=2, n_shared_experts=1, first_k_dense_replace=1, n_group=2, topk_group=1)),
                    text),
    "qwen3_moe": (moe(llama_like("Qwen3Moe", moe_intermediate_size=24, num_experts=4, num_experts_per_tok=2)), text),
    "olmoe": (moe(llama_like("Olmoe", num_experts=4, num_experts_per_tok=2)), text),
    "gpt_oss": (moe(llama_like("GptOss", num_local_experts=4, num_experts_per_tok=2)), text),
    "granitemoe": (llama_like("GraniteMoe", num_local_experts=4, num_experts_per_tok=2), text),
    "llama4": (hugging("Llama4ForCausalLM", "Llama4TextConfig", **LL, intermediate_size_mlp=times(40),
               num_local_experts=4, num_experts_per_tok=1, attn_temperature_tuning=False), text),
    "qwen3_next": (hugging("Qwen3NextForCausalLM", "Qwen3NextConfig", **LL, num_experts=4, num_experts_per_tok=2,
                   moe_intermediate_size=times(12), shared_expert_intermediate_size=times(12),
                   linear_num_value_heads=times(2), linear_num_key_heads=times(1), linear_key_head_dim=8,
                   linear_value_head_dim=8, layer_types=["linear_attention", "full_attention"]), text),
    "recurrent_gemma": (hugging("RecurrentGemmaForCausalLM", "RecurrentGemmaConfig", vocab_size=V,
                                hidden_size=times(16), lru_width=times(16), intermediate_size=times(48),
                                num_hidden_layers=3, num_attention_heads=times(2), num_key_value_heads=times(1),
                                head_dim=8, attention_window_size=16, use_cache=False, **SPECIAL), text),
    "convbert": (hugging("ConvBertForMaskedLM", "ConvBertConfig", **{**ENCODER, "embedding_size": times(16),
                                                                     "num_attention_heads": times(2)}), text),
    "exaone4": (llama_like("Exaone4"), text),
    "helium": (llama_like("Helium"), text),
    "glm": (llama_like("Glm"), text),
    "glm4": (llama_like("Glm4"), text),
    "nemotron": (llama_like("Nemotron"), text),
    "persimmon": (hugging("PersimmonForCausalLM", "PersimmonConfig", **{**ENCODER, **SPECIAL}, use_cache=False),
                  text),
    "diffllama": (llama_like("DiffLlama"), text),
    "smollm3": (llama_like("SmolLM3"), text),
    "seed_oss": (llama_like("SeedOss"), text),
    "ernie4_5": (llama_like("Ernie4_5"), text),
    "arcee": (llama_like("Arcee"), text),
    "apertus": (llama_like("Apertus"), text),
    "bitnet": (llama_like("BitNet"), text),
    "cohere2": (llama_like("Cohere2"), text),
    "hunyuan": (llama_like("HunYuanDenseV1"), text),
    "mpt": (hugging("MptForCausalLM", "MptConfig", vocab_size=V, d_model=times(16), n_heads=times(1), n_layers=2,
            max_seq_len=32, expansion_ratio=4, use_cache=False, **SPECIAL), text),
    "codegen": (hugging("CodeGenForCausalLM", "CodeGenConfig", vocab_size=V, n_embd=times(64), n_layer=2,
                n_head=times(4), rotary_dim=8, n_positions=32, use_cache=False, **SPECIAL), text),
    "bigcode": (hugging("GPTBigCodeForCausalLM", "GPTBigCodeConfig", vocab_size=V, n_embd=times(16), n_layer=2,
                n_head=times(1), n_positions=32, use_cache=False, **SPECIAL), text),
    "openai_gpt": (hugging("OpenAIGPTLMHeadModel", "OpenAIGPTConfig", vocab_size=V, n_embd=times(16), n_layer=2,
                   n_head=times(1), n_positions=32), text),
    "ctrl": (hugging("CTRLLMHeadModel", "CTRLConfig", vocab_size=V, n_embd=times(16), dff=times(32), n_layer=2,
             n_head=times(1), n_positions=32, use_cache=False), text),
    "xglm": (hugging("XGLMForCausalLM", "XGLMConfig", vocab_size=V, d_model=times(16), ffn_dim=times(64),
             num_layers=2, attention_heads=times(1), max_position_embeddings=32, use_cache=False, **SPECIAL), text),
    "biogpt": (hugging("BioGptForCausalLM", "BioGptConfig", **ENCODER, use_cache=False, **SPECIAL), text),
    "falcon_mamba": (hugging("FalconMambaForCausalLM", "FalconMambaConfig", vocab_size=V, hidden_size=times(16),
                     state_size=6, num_hidden_layers=2, conv_kernel=4, expand=2, time_step_rank=times(1),
                     use_cache=False, **SPECIAL), text),
    "jamba": (moe(hugging("JambaForCausalLM", "JambaConfig", vocab_size=V, hidden_size=times(16),
              intermediate_size=times(40), num_hidden_layers=2, num_attention_heads=times(2),
              num_key_value_heads=times(1), num_experts=2, num_experts_per_tok=1, expert_layer_period=2,
              expert_layer_offset=1, attn_layer_period=2, attn_layer_offset=1, mamba_d_state=6, mamba_d_conv=4,
              mamba_expand=2, mamba_dt_rank=times(1), use_mamba_kernels=False, use_cache=False, **SPECIAL)), text),
    "zamba2": (hugging("Zamba2ForCausalLM", "Zamba2Config", vocab_size=V, hidden_size=times(16), num_hidden_layers=3,
               num_attention_heads=times(1), num_key_value_heads=times(1), intermediate_size=times(32),
               mamba_d_state=6, mamba_expand=2, mamba_ngroups=1, n_mamba_heads=times(4), mamba_headdim=8,
               chunk_size=8, layers_block_type=["mamba", "hybrid", "mamba"], num_mem_blocks=1, adapter_rank=times(4),
               use_cache=False, use_mamba_kernels=False, **SPECIAL), text),
    "bamba": (hugging("BambaForCausalLM", "BambaConfig", vocab_size=V, hidden_size=times(16),
              intermediate_size=times(32), num_hidden_layers=2, num_attention_heads=times(2),
              num_key_value_heads=times(1), attn_layer_indices=[1], mamba_n_heads=times(4), mamba_d_head=8,
              mamba_d_state=6, mamba_expand=2, mamba_chunk_size=8, max_position_embeddings=32, use_cache=False,
              **SPECIAL), text),
    "falcon_h1": (hugging("FalconH1ForCausalLM", "FalconH1Config", vocab_size=V, hidden_size=times(16),
                  intermediate_size=times(32), num_hidden_layers=2, num_attention_heads=times(2),
                  num_key_value_heads=times(1), head_dim=8, mamba_d_ssm=times(32), mamba_n_heads=times(4),
                  mamba_d_head=8, mamba_d_state=6, mamba_expand=2, mamba_chunk_size=8, use_cache=False, **SPECIAL),
                  text),
    "lfm2": (hugging("Lfm2ForCausalLM", "Lfm2Config", vocab_size=V, hidden_size=times(16),
             intermediate_size=times(48), num_hidden_layers=2, num_attention_heads=times(2),
             num_key_value_heads=times(1), layer_types=["conv", "full_attention"], block_auto_adjust_ff_dim=False,
             use_cache=False, **SPECIAL), text),
    "minimax": (moe(hugging("MiniMaxForCausalLM", "MiniMaxConfig", **{**LL, "num_local_experts": 4,
                "num_experts_per_tok": 2, "block_size": 4, "layer_types": ["linear_attention", "full_attention"]})),
                text),
    "mobilebert": (hugging("MobileBertForMaskedLM", "MobileBertConfig", vocab_size=V, hidden_size=times(16),
                   embedding_size=times(8), num_hidden_layers=2, num_attention_heads=times(1),
                   intermediate_size=times(32), intra_bottleneck_size=times(8), max_position_embeddings=32), text),
    "squeezebert": (hugging("SqueezeBertForMaskedLM", "SqueezeBertConfig", **ENCODER, embedding_size=times(16)),
                    text),
    "mpnet": (hugging("MPNetForMaskedLM", "MPNetConfig", **ENCODER), text),
    "roformer": (hugging("RoFormerForMaskedLM", "RoFormerConfig", **ENCODER, embedding_size=times(8)), text),
    "big_bird": (hugging("BigBirdForMaskedLM", "BigBirdConfig", **ENCODER, attention_type="original_full"), text),
    "modernbert": (hugging("ModernBertForMaskedLM", "ModernBertConfig", vocab_size=V, hidden_size=times(16),
                   intermediate_size=times(32), num_hidden_layers=2, num_attention_heads=times(1),
                   max_position_embeddings=32, **SPECIAL, cls_token_id=3, sep_token_id=4), masked),
    "megatron_bert": (hugging("MegatronBertForMaskedLM", "MegatronBertConfig", **ENCODER), text),
    "deberta_v1": (hugging("DebertaForMaskedLM", "DebertaConfig", **ENCODER, relative_attention=True,
                   pos_att_type=["p2c", "c2p"]), text),
    "esm": (hugging("EsmForMaskedLM", "EsmConfig", **ENCODER, pad_token_id=1, mask_token_id=3,
            position_embedding_type="rotary"), masked),
    "xlm": (hugging("XLMWithLMHeadModel", "XLMConfig", vocab_size=V, emb_dim=times(16), n_layers=2, n_heads=times(1),
            max_position_embeddings=32), text),
    "mt5": (hugging("MT5ForConditionalGeneration", "MT5Config", vocab_size=V, d_model=times(16), d_kv=8,
            d_ff=times(40), num_layers=1, num_heads=times(2), decoder_start_token_id=0, use_cache=False), text),
    "switch": (hugging("SwitchTransformersForConditionalGeneration", "SwitchTransformersConfig", vocab_size=V,
               d_model=times(16), d_kv=8, d_ff=times(40), num_layers=2, num_decoder_layers=2, num_heads=times(2),
               num_sparse_encoder_layers=1, num_sparse_decoder_layers=1, num_experts=4, expert_capacity=8,
               decoder_start_token_id=0, router_jitter_noise=0.0, dropout_rate=0.0, use_cache=False), text),
    "pegasus": (hugging("PegasusForConditionalGeneration", "PegasusConfig", **S2S), text),
    "marian": (hugging("MarianMTModel", "MarianConfig", **S2S), text),
    "m2m_100": (hugging("M2M100ForConditionalGeneration", "M2M100Config", **S2S, encoder_layerdrop=0.0,
                decoder_layerdrop=0.0), text),
    "siglip": (hugging("SiglipVisionModel", "SiglipVisionConfig", **VISION), pixels),
    "vit_mae": (hugging("ViTMAEForPreTraining", "ViTMAEConfig", **VISION, decoder_hidden_size=times(16),
                decoder_num_hidden_layers=1, decoder_num_attention_heads=times(1),
                decoder_intermediate_size=times(32)), pixels),
    "swinv2": (hugging("Swinv2ForImageClassification", "Swinv2Config", image_size=32, patch_size=2,
               embed_dim=times(8), depths=[2, 1], num_heads=several(1, 2), window_size=4, num_labels=10), labelled),
    "poolformer": (hugging("PoolFormerForImageClassification", "PoolFormerConfig", hidden_sizes=several(8, 16, 24,
                   32), depths=[1, 1, 1, 1], num_labels=10), labelled64),
    "pvt": (hugging("PvtForImageClassification", "PvtConfig", image_size=64, hidden_sizes=several(8, 16, 24, 32),
            depths=[1, 1, 1, 1], num_attention_heads=several(1, 2, 3, 4), num_labels=10), labelled64),
    "mobilevit": (hugging("MobileViTForImageClassification", "MobileViTConfig", image_size=64,
                  hidden_sizes=several(16, 24, 32), neck_hidden_sizes=several(8, 8, 16, 16, 24, 32, 64),
                  num_attention_heads=times(1), num_labels=10), labelled64),
    "levit": (hugging("LevitForImageClassification", "LevitConfig", image_size=64, hidden_sizes=several(16, 32, 48),
              num_attention_heads=several(2, 4, 6), depths=[1, 1, 1], key_dim=[8, 8, 8], mlp_ratio=[2, 2, 2],
              attention_ratio=[2, 2, 2], num_labels=10), labelled64),
    "regnet": (hugging("RegNetForImageClassification", "RegNetConfig", embedding_size=times(8),
               hidden_sizes=several(8, 16), depths=[1, 1], groups_width=8, layer_type="y", num_labels=10), labelled),
    "yolos": (hugging("YolosModel", "YolosConfig", **{**VISION, "image_size": [32, 32]}, num_detection_tokens=5),
              pixels),
    "hubert": (hugging("HubertModel", "HubertConfig", **W2), speech),
    "wavlm": (hugging("WavLMModel", "WavLMConfig", **W2), speech),
    "w2v_conformer": (hugging("Wav2Vec2ConformerModel", "Wav2Vec2ConformerConfig", **W2,
                      conv_depthwise_kernel_size=5), speech),
    "sew": (hugging("SEWModel", "SEWConfig", **{**W2, "squeeze_factor": 2}), speech),
    "ast": (hugging("ASTForAudioClassification", "ASTConfig", hidden_size=times(16), num_hidden_layers=2,
            num_attention_heads=times(1), intermediate_size=times(32), patch_size=8, frequency_stride=8,
            time_stride=8, max_length=32, num_mel_bins=16), lambda: {"input_values": noise(B, 32, 16)}),
    "perceiver": (hugging("PerceiverForMaskedLM", "PerceiverConfig", vocab_size=V, num_latents=6, d_latents=times(16),
                  d_model=times(16), num_blocks=1, num_self_attends_per_block=1, num_self_attention_heads=times(2),
                  num_cross_attention_heads=times(2), qk_channels=times(16), v_channels=times(16),
                  max_position_embeddings=13), lambda: {"inputs": ids(), "labels": ids()}),
    "patchtst": (hugging("PatchTSTForPretraining", "PatchTSTConfig", num_input_channels=3, context_length=16,
                 patch_length=4, patch_stride=4, d_model=times(16), num_attention_heads=times(1), ffn_dim=times(32),
                 num_hidden_layers=2, random_mask_ratio=0.4), feats),
    "decision": (hugging("DecisionTransformerModel", "DecisionTransformerConfig", state_dim=5, act_dim=3,
                 hidden_size=times(16), n_layer=2, n_head=times(1), max_ep_len=20), episode),
    "blip_text": (hugging("BlipTextLMHeadModel", "BlipTextConfig", vocab_size=V, hidden_size=times(16),
                  encoder_hidden_size=times(16), intermediate_size=times(32), projection_dim=times(8),
                  num_hidden_layers=2, num_attention_heads=times(1), max_position_embeddings=32, use_cache=False,
                  is_decoder=True, sep_token_id=5, **SPECIAL), text),
    "longformer": (hugging("LongformerForMaskedLM", "LongformerConfig", **ENCODER, attention_window=4), chunks),
    "led": (hugging("LEDForConditionalGeneration", "LEDConfig", **{k: v for k, v in S2S.items() if "max_" not in k},
            max_encoder_position_embeddings=32, max_decoder_position_embeddings=32, attention_window=4), chunks),
    "detr": (detr, lambda: {"pixel_values": image(32)}),
    "layoutlm": (hugging("LayoutLMForMaskedLM", "LayoutLMConfig", **ENCODER), text),
}  # fmt: skip

FOUR = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": times(12)}
ROUTED = {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": times(12), "n_shared_experts": 1}
GROUP = {"n_group": 1, "topk_group": 1}
MORE |= {
    "nanochat": (hugging("NanoChatForCausalLM", "NanoChatConfig", **LL), text),
    "olmo3": (hugging("Olmo3ForCausalLM", "Olmo3Config", **LL, sliding_window=8), text),
    "jais2": (hugging("Jais2ForCausalLM", "Jais2Config", **LL), text),
    "lfm3": (hugging("Lfm3ForCausalLM", "Lfm3Config", **LL, sliding_window=8), text),
    "hrm_text": (hugging("HrmTextForCausalLM", "HrmTextConfig", **LL), text),
    "vaultgemma": (hugging("VaultGemmaForCausalLM", "VaultGemmaConfig", **LL, sliding_window=8), text),
    "eurobert": (hugging("EuroBertForMaskedLM", "EuroBertConfig", **LL), text),
    "qwen3_5": (hugging("Qwen3_5ForCausalLM", "Qwen3_5TextConfig", **LL, linear_num_value_heads=times(2),
                linear_num_key_heads=times(1), linear_key_head_dim=8, linear_value_head_dim=8), text),
    "flint": (moe(hugging("FlintForCausalLM", "FlintConfig", **LL, **FOUR, sliding_window=8,
              shared_expert_intermediate_size=times(12))), text),
    "kolibri1": (moe(hugging("Kolibri1ForCausalLM", "Kolibri1Config", **LL, **FOUR, sliding_window=8,
                 shared_expert_intermediate_size=times(12))), text),
    "mellum": (moe(hugging("MellumForCausalLM", "MellumConfig", **LL, **FOUR, sliding_window=8)), text),
    "dots1": (moe(hugging("Dots1ForCausalLM", "Dots1Config", **LL, **ROUTED, **GROUP, sliding_window=8,
              first_k_dense_replace=1)), text),
    "glm4_moe": (moe(hugging("Glm4MoeForCausalLM", "Glm4MoeConfig", **LL, **ROUTED, **GROUP,
                 first_k_dense_replace=1)), text),
    "nemotron_h": (moe(hugging("NemotronHForCausalLM", "NemotronHConfig", **LL, **ROUTED, **GROUP, sliding_window=8,
                   mamba_num_heads=times(2), mamba_head_dim=8, ssm_state_size=4, n_groups=1,
                   moe_shared_expert_intermediate_size=times(12))), text),
    "deepseek_v4": (moe(hugging("DeepseekV4ForCausalLM", "DeepseekV4Config", **LL, **ROUTED, q_lora_rank=times(6),
                    sliding_window=8)), text),
    "afmoe": (moe(hugging("AfmoeForCausalLM", "AfmoeConfig", **LL, **FOUR, num_shared_experts=1, sliding_window=8,
              num_dense_layers=1)), text),
    "solar_open": (moe(hugging("SolarOpenForCausalLM", "SolarOpenConfig", **LL, **ROUTED, **GROUP)), text),
}  # fmt: skip
