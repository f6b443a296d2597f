"""More models of transformers, timm and torchvision, and modules of PyTorch: what users will try next. Tiny, random."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from tests.torch.handwritten import BATCH, TIME, reals, tokens
from tests.torch.zoo import B, V, ids, image, llama_like, text

Entry = tuple[Callable[[int], Any], Callable[[], Any]]
SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


def hugging(model: str, config: str, **fields: Any) -> Callable[[int], Any]:
    """A builder of `model(config(**fields))`; a field that is a function is one of n."""

    def build(n: int) -> Any:
        import transformers

        values = {k: v(n) if callable(v) else v for k, v in fields.items()}
        return getattr(transformers, model)(getattr(transformers, config)(**values))

    return build


def times(k: int) -> Callable[[int], int]:
    return lambda n: k * n


ENCODER = {"vocab_size": V, "hidden_size": times(16), "num_hidden_layers": 2, "num_attention_heads": times(1),
           "intermediate_size": times(64), "max_position_embeddings": 64}  # fmt: skip
VISION = {"hidden_size": times(16), "num_hidden_layers": 2, "num_attention_heads": times(1),
          "intermediate_size": times(64), "image_size": 32, "patch_size": 8}  # fmt: skip


def clip(n: int) -> Any:
    import transformers as t

    layers = {"hidden_size": 16 * n, "num_hidden_layers": 2, "num_attention_heads": n, "intermediate_size": 64 * n}
    text_config = {**layers, "vocab_size": V, "max_position_embeddings": 32, **SPECIAL}
    vision_config = {**layers, "image_size": 32, "patch_size": 8}
    config = t.CLIPConfig(text_config=text_config, vision_config=vision_config, projection_dim=16 * n)
    return t.CLIPModel(config)


def clip_inputs() -> Any:
    return {"input_ids": ids(), "pixel_values": image(), "return_loss": True}


def labelled() -> dict[str, torch.Tensor]:
    return {"pixel_values": image(), "labels": torch.tensor([1, 4, 7])}


def pixels() -> dict[str, torch.Tensor]:
    return {"pixel_values": image()}


def speech() -> dict[str, torch.Tensor]:
    return {"input_values": torch.randn(B, 400, generator=torch.Generator().manual_seed(1))}


TRANSFORMERS: dict[str, Entry] = {
    "opt": (hugging("OPTForCausalLM", "OPTConfig", vocab_size=V, hidden_size=times(16), word_embed_proj_dim=times(16),
                    ffn_dim=times(64), num_hidden_layers=2, num_attention_heads=times(1), max_position_embeddings=32,
                    use_cache=False, **SPECIAL), text),
    "gpt_neox": (hugging("GPTNeoXForCausalLM", "GPTNeoXConfig", **ENCODER, use_cache=False, **SPECIAL), text),
    "gpt_neo": (hugging("GPTNeoForCausalLM", "GPTNeoConfig", vocab_size=V, hidden_size=times(16), num_layers=2,
                        attention_types=[[["global"], 2]], num_heads=times(1), max_position_embeddings=32,
                        use_cache=False, **SPECIAL), text),
    "gptj": (hugging("GPTJForCausalLM", "GPTJConfig", vocab_size=V, n_embd=times(16), n_layer=2, n_head=times(1),
                     rotary_dim=8, n_positions=32, use_cache=False, **SPECIAL), text),
    "falcon": (hugging("FalconForCausalLM", "FalconConfig", vocab_size=V, hidden_size=times(16), num_hidden_layers=2,
                       num_attention_heads=times(1), use_cache=False, **SPECIAL), text),
    "bloom": (hugging("BloomForCausalLM", "BloomConfig", vocab_size=V, hidden_size=times(16), n_layer=2,
                      n_head=times(1), use_cache=False, **SPECIAL), text),
    "phi": (hugging("PhiForCausalLM", "PhiConfig", **ENCODER, use_cache=False, **SPECIAL), text),
    "phi3": (hugging("Phi3ForCausalLM", "Phi3Config", **ENCODER, use_cache=False, **SPECIAL), text),
    "qwen2": (llama_like("Qwen2"), text),
    "qwen3": (llama_like("Qwen3"), text),
    "olmo": (llama_like("Olmo"), text),
    "olmo2": (llama_like("Olmo2"), text),
    "stablelm": (llama_like("StableLm"), text),
    "gemma": (llama_like("Gemma"), text),
    "gemma3": (hugging("Gemma3ForCausalLM", "Gemma3TextConfig", vocab_size=V, hidden_size=times(16),
                       intermediate_size=times(40), num_hidden_layers=2, num_attention_heads=times(2),
                       num_key_value_heads=times(1), head_dim=8, max_position_embeddings=32, use_cache=False,
                       **SPECIAL), text),
    "granite": (llama_like("Granite"), text),
    "cohere": (llama_like("Cohere"), text),
    "starcoder2": (llama_like("Starcoder2"), text),
    "rwkv": (hugging("RwkvForCausalLM", "RwkvConfig", vocab_size=V, hidden_size=times(16),
                     attention_hidden_size=times(16), intermediate_size=times(64), num_hidden_layers=2,
                     context_length=32, use_cache=False, **SPECIAL), text),
    "mamba2": (hugging("Mamba2ForCausalLM", "Mamba2Config", vocab_size=V, hidden_size=times(16), state_size=6,
                       num_hidden_layers=2, num_heads=times(4), head_dim=8, n_groups=1, chunk_size=8,
                       use_cache=False, **SPECIAL), text),
    "distilbert": (hugging("DistilBertForMaskedLM", "DistilBertConfig", vocab_size=V, dim=times(16), n_layers=2,
                           n_heads=times(1), hidden_dim=times(64), max_position_embeddings=32), text),
    "roberta": (hugging("RobertaForMaskedLM", "RobertaConfig", **ENCODER), text),
    "electra": (hugging("ElectraForMaskedLM", "ElectraConfig", embedding_size=times(8), **ENCODER), text),
    "albert": (hugging("AlbertForMaskedLM", "AlbertConfig", embedding_size=times(8), **ENCODER), text),
    "deberta": (hugging("DebertaV2ForMaskedLM", "DebertaV2Config", relative_attention=True,
                        pos_att_type=["p2c", "c2p"], **ENCODER), text),
    "xlnet": (hugging("XLNetLMHeadModel", "XLNetConfig", vocab_size=V, d_model=times(16), n_layer=2, n_head=times(1),
                      d_inner=times(64)), text),
    "bart": (hugging("BartForConditionalGeneration", "BartConfig", vocab_size=V, d_model=times(16), encoder_layers=2,
                     decoder_layers=2, encoder_attention_heads=times(1), decoder_attention_heads=times(1),
                     encoder_ffn_dim=times(64), decoder_ffn_dim=times(64), max_position_embeddings=32,
                     use_cache=False, forced_eos_token_id=2, decoder_start_token_id=1, **SPECIAL), text),
    "deit": (hugging("DeiTForImageClassification", "DeiTConfig", **VISION, num_labels=10), labelled),
    "beit": (hugging("BeitForImageClassification", "BeitConfig", **VISION, num_labels=10), labelled),
    "dinov2": (hugging("Dinov2ForImageClassification", "Dinov2Config", hidden_size=times(16), num_hidden_layers=2,
                       num_attention_heads=times(1), image_size=32, patch_size=8, num_labels=10), labelled),
    "swin": (hugging("SwinForImageClassification", "SwinConfig", image_size=32, patch_size=2, embed_dim=times(8),
                     depths=[2, 2], num_heads=lambda n: [n, 2 * n], window_size=4, num_labels=10), labelled),
    "convnextv2": (hugging("ConvNextV2ForImageClassification", "ConvNextV2Config",
                           hidden_sizes=lambda n: [4 * n, 8 * n, 16 * n, 32 * n], depths=[1, 1, 1, 1], image_size=32,
                           num_labels=10), labelled),
    "segformer": (hugging("SegformerForImageClassification", "SegformerConfig", depths=[1, 1, 1, 1],
                          hidden_sizes=lambda n: [8 * n, 16 * n, 24 * n, 32 * n], num_attention_heads=[1, 2, 3, 4],
                          num_labels=10), labelled),
    "clip": (clip, clip_inputs),
    "wav2vec2": (hugging("Wav2Vec2Model", "Wav2Vec2Config", hidden_size=times(16), num_hidden_layers=2,
                         num_attention_heads=times(1), intermediate_size=times(64),
                         conv_dim=lambda n: [8 * n, 8 * n], conv_stride=[5, 4], conv_kernel=[10, 3],
                         num_feat_extract_layers=2, num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2,
                         mask_time_prob=0.0, layerdrop=0.0, apply_spec_augment=False), speech),
}  # fmt: skip


def mixer(n: int) -> Any:
    import timm

    return timm.models.mlp_mixer.MlpMixer(num_classes=10, img_size=32, patch_size=8, num_blocks=2, embed_dim=16 * n)


def timm_convnext(n: int) -> Any:
    import timm

    return timm.models.convnext.ConvNeXt(num_classes=10, depths=(1, 1, 1, 1), dims=(4 * n, 8 * n, 16 * n, 32 * n))


def timm_swin(n: int) -> Any:
    import timm

    return timm.models.swin_transformer.SwinTransformer(img_size=32, patch_size=2, num_classes=10, embed_dim=8 * n,
                                                        depths=(2, 2), num_heads=(2, 4), window_size=4)  # fmt: skip


def efficientnet(n: int) -> Any:
    from torchvision.models.efficientnet import EfficientNet, MBConvConfig

    stages = [MBConvConfig(1, 3, 1, 8 * n, 8 * n, 1), MBConvConfig(4, 3, 2, 8 * n, 16 * n, 1)]
    return EfficientNet(stages, dropout=0.0, stochastic_depth_prob=0.0, num_classes=10, last_channel=32 * n)


def mobilenet(n: int) -> Any:
    import torchvision

    return torchvision.models.mobilenet_v2(width_mult=float(n), num_classes=10, round_nearest=1)


def regnet(n: int) -> Any:
    from torchvision.models.regnet import BlockParams, RegNet

    return RegNet(
        BlockParams([1, 1], [8 * n, 16 * n], [8, 8], [1.0, 1.0], [2, 2], 0.25), num_classes=10, stem_width=8 * n
    )


def densenet(n: int) -> Any:
    import torchvision

    return torchvision.models.DenseNet(growth_rate=4 * n, block_config=(2, 2), num_init_features=8 * n, num_classes=10)


def vgg(n: int) -> Any:
    import torchvision

    features = torchvision.models.vgg.make_layers([4 * n, "M", 8 * n, "M", 16 * n, "M"], batch_norm=True)
    model = torchvision.models.VGG(features, num_classes=10)
    model.avgpool = nn.AdaptiveAvgPool2d(1)
    model.classifier = nn.Sequential(nn.Linear(16 * n, 16 * n), nn.ReLU(), nn.Dropout(), nn.Linear(16 * n, 10))
    return model


def tv_resnet(n: int) -> Any:
    import torchvision

    return torchvision.models.ResNet(torchvision.models.resnet.Bottleneck, [1, 1, 1, 1], num_classes=10,
                                     width_per_group=8 * n)  # fmt: skip


def tv_vit(n: int) -> Any:
    import torchvision

    return torchvision.models.VisionTransformer(32, 8, 2, 2, 16 * n, 64 * n, num_classes=10)


def tv_swin(n: int) -> Any:
    import torchvision

    return torchvision.models.SwinTransformer([2, 2], 8 * n, [2, 2], [2, 4], [4, 4], num_classes=10)


IMAGES: dict[str, Entry] = {
    "timm_mixer": (mixer, image),
    "timm_convnext": (timm_convnext, image),
    "timm_swin": (timm_swin, image),
    "tv_efficientnet": (efficientnet, image),
    "tv_regnet": (regnet, image),
    "tv_mobilenet": (mobilenet, image),
    "tv_densenet": (densenet, image),
    "tv_vgg": (vgg, image),
    "tv_resnet": (tv_resnet, partial(image, 64)),
    "tv_vit": (tv_vit, image),
    "tv_swin": (tv_swin, image),
}


class Wrapped(nn.Module):
    """Input layer, a body of width n, output layer."""

    def __init__(self, n: int, body: nn.Module, size: int = 8, out: int = 5) -> None:
        super().__init__()
        self.inp, self.body, self.out = nn.Linear(size, n), body, nn.Linear(n, out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.body(self.inp(x)))


class SelfAttention(nn.Module):
    def __init__(self, n: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(n, heads, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.attention(x, x, x, need_weights=False)[0]


class Bilinear(nn.Module):
    def __init__(self, n: int) -> None:
        super().__init__()
        self.a, self.b, self.out = nn.Linear(8, n), nn.Linear(8, n), nn.Bilinear(n, n, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.a(x), self.b(x))


class Einsum(nn.Module):
    def __init__(self, n: int) -> None:
        super().__init__()
        self.inp = nn.Linear(8, n)
        self.w = nn.Parameter(torch.randn(4, n, n) * n**-0.5)
        self.out = nn.Linear(n, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(F.relu(torch.einsum("bi,eio->beo", self.inp(x), self.w)).mean(1))


class Convolutions(nn.Module):
    def __init__(self, n: int, rank: int) -> None:
        super().__init__()
        conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1]
        up = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[rank - 1]
        self.enter, self.deep = conv(2, n, 3, padding=1), conv(n, n, 3, padding=1, stride=2)
        self.up, self.act, self.leave = up(n, n, 2, stride=2), nn.PReLU(n), conv(n, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.leave(self.act(self.up(self.act(self.deep(self.act(self.enter(x)))))))


class Cell(nn.Module):
    def __init__(self, kind: type[nn.Module], n: int) -> None:
        super().__init__()
        self.n, self.cell, self.out = n, kind(8, n), nn.Linear(n, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        state: Any = x.new_zeros(x.shape[0], self.n)
        if isinstance(self.cell, nn.LSTMCell):
            state = (state, state.clone())
        for t in range(x.shape[1]):
            state = self.cell(x[:, t], state)
        return self.out(state[0] if isinstance(state, tuple) else state)


class Seq2Seq(nn.Module):
    def __init__(self, n: int) -> None:
        super().__init__()
        self.inp, self.out = nn.Linear(8, n), nn.Linear(n, 5)
        self.body = nn.Transformer(n, 2, 1, 1, 2 * n, dropout=0.0, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.inp(x)
        return self.out(self.body(x, 0.5 * x))


class Bag(nn.Module):
    def __init__(self, n: int) -> None:
        super().__init__()
        self.bag, self.mid, self.out = nn.EmbeddingBag(23, n), nn.Linear(n, n), nn.Linear(n, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(F.relu(self.mid(self.bag(x))))


class Spectral(nn.Module):
    def __init__(self, n: int) -> None:
        super().__init__()
        self.a, self.c = nn.Linear(8, n), nn.Linear(n, 5)
        self.b = nn.utils.parametrizations.spectral_norm(nn.Linear(n, n))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.c(torch.tanh(self.b(torch.tanh(self.a(x)))))


class WholeWeightNorm(nn.Module):
    """Weight normalisation with one length for the whole matrix."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.a, self.c = nn.Linear(8, n), nn.Linear(n, 5)
        self.b = nn.utils.parametrizations.weight_norm(nn.Linear(n, n), dim=None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.c(torch.tanh(self.b(torch.tanh(self.a(x)))))


class Orthogonal(nn.Module):
    def __init__(self, n: int) -> None:
        super().__init__()
        self.a, self.c = nn.Linear(8, n), nn.Linear(n, 5)
        self.b = nn.utils.parametrizations.orthogonal(nn.Linear(n, n, bias=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.c(torch.tanh(self.b(torch.tanh(self.a(x)))))


class SquaredReLU(nn.Module):
    def __init__(self, n: int) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(8, n), nn.Linear(n, n), nn.Linear(n, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.a(x)).square()
        x = F.normalize(self.b(x), dim=-1) * x.shape[-1] ** 0.5
        return self.c(F.leaky_relu(x, 0.2))


class Residuals(nn.Module):
    """A hand-written pre-norm block with RMSNorm, squeeze and excitation, and GLU."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.inp, self.norm = nn.Linear(8, n), nn.RMSNorm(n)
        self.up, self.down = nn.Linear(n, 2 * n), nn.Linear(n, n)
        self.squeeze, self.excite, self.out = nn.Linear(n, 4), nn.Linear(4, n), nn.Linear(n, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.inp(x)
        x = x + self.down(F.glu(self.up(self.norm(x))))
        return self.out(x * torch.sigmoid(self.excite(F.relu(self.squeeze(x)))))


class NormOfATranspose(nn.Module):
    """A norm, by hand and by a function, of heads that have changed places with positions."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n, self.inp, self.out = n, nn.Linear(8, 4 * n), nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.inp(x).view(*x.shape[:2], self.n, 4).transpose(1, 2)
        by_hand = y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + 1e-6)
        return self.out(by_hand + F.normalize(y, dim=-1)).mean(1)


class CropAndPad(nn.Module):
    """The step before, by a pad that crops at the other end."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.inp, self.mix, self.out = nn.Linear(8, n), nn.Linear(n, n), nn.Linear(n, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.inp(x)
        return self.out(F.relu(x + self.mix(F.pad(x, (0, 0, 1, -1)))))


def sequence() -> torch.Tensor:
    return reals(BATCH, TIME, 8).float()


def rows() -> torch.Tensor:
    return reals(BATCH, 8).float()


def act(kind: Callable[[], nn.Module]) -> Callable[[int], Any]:
    return lambda n: Wrapped(n, nn.Sequential(kind(), nn.Linear(n, n), kind()))


def body(make: Callable[[int], nn.Module], scale: int = 4) -> Callable[[int], Any]:
    return lambda n: Wrapped(scale * n, make(scale * n))


MODULES: dict[str, Entry] = {
    "mha_heads": (lambda n: Wrapped(8 * n, SelfAttention(8 * n, n)), sequence),
    "mha_head_dim": (lambda n: Wrapped(8 * n, SelfAttention(8 * n, 2)), sequence),
    "encoder_stack": (body(lambda n: nn.TransformerEncoder(nn.TransformerEncoderLayer(n, 2, 2 * n, batch_first=True),
                                                           2)), sequence),
    "encoder_norm_first": (body(lambda n: nn.TransformerEncoderLayer(n, 2, 2 * n, batch_first=True, norm_first=True,
                                                                     activation="gelu")), sequence),
    "nn_transformer": (lambda n: Seq2Seq(4 * n), sequence),
    "bilinear": (Bilinear, rows),
    "norm_of_a_transpose": (NormOfATranspose, sequence),
    "crop_and_pad": (CropAndPad, sequence),
    "einsum": (Einsum, rows),
    "conv1d": (lambda n: Convolutions(n, 1), lambda: reals(BATCH, 2, 8).float()),
    "conv2d": (lambda n: Convolutions(n, 2), lambda: reals(BATCH, 2, 8, 8).float()),
    "conv3d": (lambda n: Convolutions(n, 3), lambda: reals(BATCH, 2, 4, 4, 4).float()),
    "gru_cell": (lambda n: Cell(nn.GRUCell, n), sequence),
    "lstm_cell": (lambda n: Cell(nn.LSTMCell, n), sequence),
    "bidirectional": (lambda n: nn.Sequential(nn.LSTM(8, n, 2, bidirectional=True, batch_first=True), First(),
                                              nn.Linear(2 * n, 5)), sequence),
    "embedding_bag": (Bag, lambda: tokens(BATCH, TIME)),
    "spectral_norm": (Spectral, rows),
    "whole_weight_norm": (WholeWeightNorm, rows),
    "orthogonal": (Orthogonal, rows),
    "squared_relu": (SquaredReLU, rows),
    "residuals": (Residuals, rows),
    "batch_norm": (lambda n: Wrapped(n, nn.Sequential(nn.BatchNorm1d(n), nn.ReLU(), nn.Linear(n, n), nn.BatchNorm1d(n)
                                                      )), rows),
    "instance_norm": (lambda n: nn.Sequential(nn.Conv2d(3, n, 3), nn.InstanceNorm2d(n, affine=True), nn.ReLU(),
                                              nn.Conv2d(n, n, 3), nn.Flatten(2), Mean(), nn.Linear(n, 5)), image),
    "group_norm": (lambda n: nn.Sequential(nn.Conv2d(3, 4 * n, 3), nn.GroupNorm(4, 4 * n), nn.ReLU(),
                                           nn.Conv2d(4 * n, 4 * n, 3, groups=4), nn.Flatten(2), Mean(),
                                           nn.Linear(4 * n, 5)), image),
    **{f"act_{kind.__name__.lower()}": (act(kind), rows) for kind in
       (nn.PReLU, nn.ELU, nn.CELU, nn.SELU, nn.Softplus, nn.Mish, nn.Hardswish, nn.Hardsigmoid, nn.Softsign,
        nn.LogSigmoid, nn.ReLU6, nn.LeakyReLU, nn.Hardtanh, nn.Tanhshrink, nn.Hardshrink, nn.Softshrink,
        nn.SiLU)},
}  # fmt: skip


class First(nn.Module):
    def forward(self, x: Any) -> Any:
        return x[0]


class Mean(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(-1)


WILD: dict[str, Entry] = {**TRANSFORMERS, **IMAGES, **MODULES}
