"""One tiny model of every family of timm that is read: what each takes is its own, so a builder names class and fields.

Images are of 32 or 64 pixels, stages have one block, and all widths are proportional to n (`N`).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from tests.torch.zoo import image

Entry = tuple[Callable[[int], Any], Callable[[], Any]]


@dataclass(frozen=True, slots=True)
class N:
    """A width: n times a number; or several."""

    times: tuple[float, ...]

    def at(self, n: int) -> Any:
        values = tuple(n * t for t in self.times)
        return values[0] if len(values) == 1 else values


def w(*times: float) -> Any:
    return N(times)


@dataclass(frozen=True, slots=True)
class Of:
    """A class or function of timm, `module.name`, called with these fields; `bound`: it is wanted itself."""

    name: str
    fields: dict[str, Any]
    bound: bool = False

    def at(self, n: int) -> Any:
        module, _, name = self.name.rpartition(".")
        found = getattr(importlib.import_module(f"timm.{module}" if module else "timm"), name)
        fields = {key: at(value, n) for key, value in self.fields.items()}
        if self.bound:
            return partial(found, **fields) if fields else found
        return found(**fields)


def at(value: Any, n: int) -> Any:
    """The value of a field at n."""
    match value:
        case N() | Of():
            return value.at(n)
        case list() | tuple():
            return type(value)(at(v, n) for v in value)
        case dict():
            return {key: at(v, n) for key, v in value.items()}
    return value


def of(name: str, **fields: Any) -> Of:
    return Of(f"models.{name}", fields)


def layer(name: str, **fields: Any) -> Of:
    return Of(name if "." in name else f"layers.{name}", fields, bound=True)


def family(name: str, side: int = 32, **fields: Any) -> Entry:
    return of(name, num_classes=10, **fields).at, partial(image, side)


def registered(name: str, **fields: Any) -> Entry:
    """A variant by its name, with other sizes."""
    return Of("create_model", {"model_name": name, "num_classes": 10, **fields}).at, image


def blocks(name: str, definition: list[list[str]]) -> Entry:
    """EfficientNets and MobileNets, from the strings that define their blocks."""

    def build(n: int) -> Any:
        from timm.models._efficientnet_builder import decode_arch_def, round_channels

        rounded = partial(round_channels, multiplier=float(n))
        return of(name, num_classes=10, num_features=64 * n, stem_size=8 * n, fix_stem=True,
                  block_args=decode_arch_def(definition), round_chs_fn=rounded).at(n)  # fmt: skip

    return build, image


ONE = (1, 1, 1, 1)
FOUR = w(8, 16, 24, 32)
TOKENS = {"img_size": 32, "patch_size": 8, "embed_dim": w(16), "depth": 2, "num_heads": w(2)}
MIXER = {"img_size": 32, "patch_size": 8, "embed_dim": w(16), "num_blocks": 2}
RESNET = {"layers": [1, 1, 1, 1], "stem_width": w(4)}
BASIC, BOTTLENECK = layer("models.resnet.BasicBlock"), layer("models.resnet.Bottleneck")
MBCONV = of("maxxvit.MaxxVitConvCfg", expand_ratio=2)
TINY_HEADS = {"dim_head": 8, "expand_ratio": 2}


def maxxvit(kinds: tuple[str, str], convolution: Of, **transformer: Any) -> Entry:
    config = of("maxxvit.MaxxVitCfg", embed_dim=w(16, 32), depths=(1, 1), block_type=kinds, stem_width=w(8),
                conv_cfg=convolution, transformer_cfg=of("maxxvit.MaxxVitTransformerCfg", **TINY_HEADS, **transformer)
                )  # fmt: skip
    return family("maxxvit.MaxxVit", cfg=config, img_size=32)


def regnet(**fields: Any) -> Entry:
    config = of("regnet.RegNetCfg", depth=5, w0=w(16), wa=w(48.0), wm=2.0, group_size=8, stem_width=w(8), **fields)
    return family("regnet.RegNet", 64, cfg=config)


def byob(side: int, stages: tuple[Any, ...], **fields: Any) -> Entry:
    config = of("byobnet.ByoModelCfg", blocks=stages, stem_chs=w(8), **{"stem_pool": "", **fields})
    size = {"img_size": side} if fields.get("fixed_input_size") else {}
    return family("byobnet.ByobNet", side, cfg=config, **size)


def self_attention(kind: str, model: dict[str, Any], **fields: Any) -> Entry:
    stages = (of("byobnet.ByoBlockCfg", type="bottle", d=1, c=w(32), s=1, gs=0, br=0.25),
              of("byobnet.ByoBlockCfg", type="self_attn", d=1, c=w(64), s=1, gs=0, br=0.25))  # fmt: skip
    return byob(16, stages, **model, self_attn_layer=kind, self_attn_kwargs={"dim_head": 8, **fields})


def cross_stage(kind: str, block: str, bottle: float, expand: float, ratio: float) -> Entry:
    stages = of("cspnet.CspStagesCfg", depth=(1, 1), out_chs=w(16, 32), stride=2, bottle_ratio=bottle,
                expand_ratio=expand, block_ratio=ratio, stage_type=kind, block_type=block)  # fmt: skip
    stem = of("cspnet.CspStemCfg", out_chs=w(8), kernel_size=3, stride=2)
    return family("cspnet.CspNet", cfg=of("cspnet.CspModelCfg", stem=stem, stages=stages))


def hgnet(light: bool, stem: list[Any], **fields: Any) -> Entry:
    rows = [(16, 16, False, False, 3), (16, 24, True, False, 3), (24, 32, True, light, 5 if light else 3),
            (32, 48, True, light, 5 if light else 3)]  # fmt: skip
    stages = {f"stage{k}": [w(a), w(8), w(b), 1, down, slim, kernel, 2]
              for k, (a, b, down, slim, kernel) in enumerate(rows, 1)}  # fmt: skip
    config = {"stem_type": "v2" if light else "v1", "stem_chs": stem, **stages}
    return family("hgnet.HighPerfGpuNet", 64, cfg=config, head_hidden_size=w(64), **fields)


TIMM: dict[str, Entry] = {
    # --- transformers ---
    "deit3": registered("deit3_small_patch16_224", **TOKENS),
    "deit_distilled": registered("deit_tiny_distilled_patch16_224", **TOKENS),
    "beit": family("beit.Beit", **TOKENS),
    "beitv2": registered("beitv2_base_patch16_224", **TOKENS),
    "eva": family("eva.Eva", **TOKENS, use_rot_pos_emb=True),
    "eva02": registered("eva02_tiny_patch14_224", **TOKENS, mlp_ratio=2.0),
    "siglip": registered("vit_base_patch16_siglip_224", **TOKENS),
    "vit_sam": registered("samvit_base_patch16_224", **TOKENS, window_size=2, global_attn_indexes=(1,),
                          neck_chans=w(8)),
    "vit_relpos": registered("vit_relpos_small_patch16_224", **TOKENS),
    "vit_head_dim": family("vision_transformer.VisionTransformer", **{**TOKENS, "num_heads": 2}),
    "naflexvit": family("naflexvit.NaFlexVit", img_size=32, cfg=of(
        "naflexvit.NaFlexVitCfg", patch_size=8, embed_dim=w(16), depth=2, num_heads=w(2), mlp_ratio=2.0,
        pos_embed_grid_size=(4, 4))),
    "cait": family("cait.Cait", **TOKENS),
    "xcit": family("xcit.Xcit", **{**TOKENS, "depth": 1}),
    "convit": family("convit.ConVit", **TOKENS, local_up_to_layer=1),
    "tnt": family("tnt.TNT", img_size=32, patch_size=8, embed_dim=w(16), depth=1, inner_dim=w(8), num_heads_inner=w(1),
                  num_heads_outer=w(2)),
    "crossvit": family("crossvit.CrossVit", img_size=32, img_scale=(1.0, 1.0), patch_size=(8, 16), embed_dim=w(16, 32),
                       depth=((1, 1, 0),), num_heads=w(2, 2), mlp_ratio=(2.0, 2.0, 1.0)),
    "coat": family("coat.CoaT", img_size=32, patch_size=4, embed_dims=w(16, 16, 16, 16), serial_depths=ONE,
                   parallel_depth=0, num_heads=8, mlp_ratios=(2, 2, 2, 2)),
    "pit": family("pit.PoolingVisionTransformer", img_size=32, patch_size=8, stride=4, base_dims=w(8, 8, 8),
                  depth=(1, 1, 1), heads=(1, 2, 4), mlp_ratio=2),
    "levit": family("levit.Levit", 64, img_size=64, embed_dim=w(16, 32), key_dim=8, depth=(1, 1), num_heads=w(2, 4)),
    "hiera": family("hiera.Hiera", 64, img_size=(64, 64), embed_dim=w(8), num_heads=w(1), stages=(1, 1), q_pool=1,
                    mask_unit_size=(4, 4), mask_unit_attn=(True, False)),
    "pvt_v2": family("pvt_v2.PyramidVisionTransformerV2", 64, depths=ONE, embed_dims=FOUR, num_heads=w(1, 2, 3, 4)),
    "twins": family("twins.Twins", 64, img_size=64, patch_size=4, embed_dims=w(16, 32), num_heads=w(1, 2),
                    mlp_ratios=(2, 2), depths=(1, 1), sr_ratios=(2, 1), wss=None),
    "volo": family("volo.VOLO", 64, img_size=64, patch_size=8, stem_hidden_dim=w(8), layers=ONE,
                   embed_dims=w(16, 32, 32, 32), num_heads=w(2, 4, 4, 4), mlp_ratio=2.0),
    "nest": family("nest.Nest", img_size=32, patch_size=4, num_levels=2, embed_dims=w(16, 32), num_heads=w(1, 2),
                   depths=(1, 1)),
    "swin_v2": family("swin_transformer_v2.SwinTransformerV2", img_size=32, patch_size=2, embed_dim=w(8), depths=(2, 1),
                      num_heads=w(1, 2), window_size=4),
    "swin_v2_cr": family("swin_transformer_v2_cr.SwinTransformerV2Cr", img_size=(32, 32), patch_size=4, window_size=4,
                         embed_dim=w(16), depths=(2, 1), num_heads=w(2, 4)),
    "davit": family("davit.DaVit", depths=(1, 1), embed_dims=w(16, 32), num_heads=w(2, 4), window_size=4),
    "gcvit": family("gcvit.GlobalContextVit", 64, img_size=64, window_ratio=(16, 16), embed_dim=w(16), depths=(2, 2),
                    num_heads=w(2, 4), mlp_ratio=2.0),
    "mvitv2": family("mvitv2.MultiScaleVit", img_size=(32, 32), cfg=of(
        "mvitv2.MultiScaleVitCfg", depths=(1, 1), embed_dim=w(16), num_heads=w(1), stride_q=((1, 1), (2, 2)),
        stride_kv_adaptive=(2, 2))),
    "visformer": family("visformer.Visformer", 64, img_size=64, init_channels=w(8), embed_dim=w(32), depth=(1, 1, 1),
                        num_heads=w(1), mlp_ratio=2.0, attn_stage="011", spatial_conv="100", norm_layer=nn.BatchNorm2d,
                        embed_norm=nn.BatchNorm2d),
    "maxvit": maxxvit(("M", "M"), MBCONV, window_size=(4, 4)),
    "coatnet": maxxvit(("C", "T"), MBCONV),
    "coatnext": maxxvit(("C", "T"), of("maxxvit.MaxxVitConvCfg", block_type="convnext", expand_ratio=2),
                        rel_pos_type="mlp"),
    "efficientvit_mit": family("efficientvit_mit.EfficientVit", 64, widths=w(8, 16, 16, 32), depths=ONE, head_dim=8,
                               head_widths=w(64, 64)),
    "efficientvit_msra": family("efficientvit_msra.EfficientVitMsra", 64, img_size=64, embed_dim=w(16, 32),
                                key_dim=w(4, 4), depth=(1, 1), num_heads=(2, 2), window_size=(2, 2),
                                kernels=(5, 5, 5, 5), down_ops=(("", 1), ("subsample", 2))),
    "edgenext": family("edgenext.EdgeNeXt", 64, dims=FOUR, depths=ONE, heads=w(2, 2, 2, 2), d2_scales=(2, 2, 2, 2),
                       global_block_counts=(0, 1, 1, 1)),
    "swiftformer": family("swiftformer.SwiftFormer", 64, layers=[1, 1, 1, 1], embed_dims=FOUR, downsamples=[True] * 4),
    "tiny_vit": family("tiny_vit.TinyVit", 64, embed_dims=w(16, 16, 32), depths=(1, 1, 1), num_heads=w(2, 2, 4),
                       window_sizes=(4, 4, 4), drop_path_rate=0.0),
    "shvit": family("shvit.SHViT", 64, embed_dim=w(16, 32, 48), partial_dim=w(8, 8, 8), qk_dim=(8, 8, 8),
                    depth=(1, 1, 1), types=("i", "s", "s")),
    "mobilevit": byob(32, (of("mobilevit._inverted_residual_block", d=1, c=w(16), s=2, br=2),
                           of("mobilevit._mobilevit_block", d=1, c=w(32), s=2, transformer_dim=w(32),
                              transformer_depth=1, br=2)), stem_type="3x3", downsample="", act_layer="silu",
                      num_features=w(64)),
    # --- neither attention nor, mostly, convolutions ---
    "resmlp": family("mlp_mixer.MlpMixer", **MIXER, mlp_ratio=4, block_layer=layer("models.mlp_mixer.ResBlock"),
                     norm_layer=layer("models.mlp_mixer.Affine")),
    "gmlp": family("mlp_mixer.MlpMixer", **MIXER, mlp_ratio=4, mlp_layer=layer("GatedMlp"),
                   block_layer=layer("models.mlp_mixer.SpatialGatingBlock")),
    "gmixer": family("mlp_mixer.MlpMixer", **MIXER, mlp_ratio=(1.0, 4.0), mlp_layer=layer("GluMlp"), act_layer=nn.SiLU),
    "sequencer": family("sequencer.Sequencer2d", img_size=32, layers=(1, 1), patch_sizes=(8, 1), embed_dims=w(16, 16),
                        hidden_sizes=w(4, 4), mlp_ratios=(2.0, 2.0)),
    "poolformer": family("metaformer.MetaFormer", 64, depths=ONE, dims=FOUR),
    "convformer": family("metaformer.MetaFormer", 64, depths=ONE, dims=FOUR,
                         token_mixers=layer("models.metaformer.SepConv"),
                         norm_layers=layer("models.metaformer.LayerNorm2dNoBias")),
    "caformer": family("metaformer.MetaFormer", 64, depths=ONE, dims=w(32, 32, 32, 64),
                       token_mixers=[*[layer("models.metaformer.SepConv")] * 2,
                                     *[layer("models.metaformer.Attention")] * 2],
                       norm_layers=[*[layer("models.metaformer.LayerNorm2dNoBias")] * 2,
                                    *[layer("models.metaformer.LayerNormNoBias")] * 2]),
    "focalnet": family("focalnet.FocalNet", embed_dim=w(8), depths=(1, 1), focal_levels=(2, 2), focal_windows=(3, 3)),
    "mambaout": family("mambaout.MambaOut", 64, depths=ONE, dims=w(12, 24, 36, 48), norm_layer=layer("LayerNorm")),
    "efficientvim": family("efficientvim.EfficientViM", 64, embed_dim=w(16, 32, 48), depths=(1, 1, 1),
                           state_dim=(5, 3, 2)),
    # --- convolutions ---
    "convmixer": family("convmixer.ConvMixer", dim=w(8), depth=2, kernel_size=5, patch_size=4),
    "convnextv2": registered("convnextv2_atto", depths=ONE, dims=w(4, 8, 16, 32)),
    "inception_next": family("inception_next.MetaNeXt", 64, depths=ONE, dims=FOUR,
                             token_mixers=layer("models.inception_next.InceptionDWConv2d")),
    "efficientnet": blocks("efficientnet.EfficientNet", [
        ["ds_r1_k3_s1_e1_c16_se0.25"], ["ir_r1_k3_s2_e4_c24_se0.25"], ["ir_r1_k5_s2_e4_c40_se0.25"]]),
    "efficientnetv2": blocks("efficientnet.EfficientNet", [
        ["cn_r1_k3_s1_e1_c16_skip"], ["er_r1_k3_s2_e4_c24"], ["ir_r1_k3_s2_e4_c40_se0.25"]]),
    "mobilenetv3": blocks("mobilenetv3.MobileNetV3", [
        ["ds_r1_k3_s1_e1_c16_se0.25_nre"], ["ir_r1_k3_s2_e4_c24_nre"], ["ir_r1_k5_s2_e4_c40_se0.25"]]),
    "mobilenetv4": blocks("mobilenetv3.MobileNetV3", [
        ["cn_r1_k3_s2_e1_c16"], ["uir_r1_a3_k5_s2_e3_c24"], ["uir_r1_a0_k3_s1_e2_c24"], ["cn_r1_k1_s1_c48"]]),
    "regnety": regnet(se_ratio=0.25),
    "resnetd": family("resnet.ResNet", 64, block=BASIC, **RESNET, stem_type="deep", avg_down=True,
                      channels=w(6, 12, 24, 48)),
    "seresnet": family("resnet.ResNet", 64, block=BASIC, **RESNET, channels=w(16, 32, 48, 64),
                       block_args={"attn_layer": layer("SEModule", rd_divisor=1)}),
    "ecaresnet": family("resnet.ResNet", 64, block=BASIC, **RESNET, channels=w(16, 32, 48, 64),
                        block_args={"attn_layer": layer("EcaModule", gamma=100)}),
    "resnext": family("resnet.ResNet", 64, block=BOTTLENECK, **RESNET, cardinality=w(2), base_width=32,
                      channels=w(16, 16, 32, 32)),
    "res2net": family("resnet.ResNet", 64, block=layer("models.res2net.Bottle2neck"), **RESNET, base_width=64,
                      cardinality=1, channels=w(24, 24, 48, 48), block_args={"scale": 2}),
    "sknet": family("resnet.ResNet", 64, block=layer("models.sknet.SelectiveKernelBasic"), **RESNET,
                    channels=w(24, 24, 48, 48),
                    block_args={"sk_kwargs": {"rd_ratio": 0.125, "rd_divisor": 1, "split_input": True}}),
    "gcresnet": byob(32, (of("byobnet.ByoBlockCfg", type="bottle", d=1, c=w(32), s=1, gs=0, br=0.25),
                          of("byobnet.ByoBlockCfg", type="bottle", d=1, c=w(64), s=2, gs=0, br=0.25)),
                     stem_type="tiered", attn_layer="gc"),
    "botnet": self_attention("bottleneck", {"stem_type": "tiered", "fixed_input_size": True}),
    "halonet": self_attention("halo", {"stem_type": "7x7"}, block_size=4, halo_size=1, num_heads=w(2)),
    "lambdanet": self_attention("lambda", {"stem_type": "7x7"}, r=3),
    "repvgg": byob(32, tuple(of("byobnet.ByoBlockCfg", type="rep", d=1, c=w(c), s=2) for c in (16, 32)),
                   stem_type="rep", stem_pool="maxpool"),
    "repvit": family("repvit.RepVit", embed_dim=w(16, 32), depth=(1, 1)),
    "densenet": family("densenet.DenseNet", 64, growth_rate=w(4), block_config=(2, 2)),
    "vgg": family("vgg.VGG", cfg=[w(8), "M", w(16), "M"], mlp_ratio=w(1 / 256)),
    "nfnet": family("nfnet.NormFreeNet", 64, cfg=of(
        "nfnet.NfCfg", depths=ONE, channels=w(16, 32, 32, 64), stem_type="3x3", stem_chs=w(8), group_size=8,
        num_features=w(64), attn_layer="se", attn_kwargs={"rd_ratio": 0.5}, ch_div=8)),
    "dla": family("dla.DLA", 64, levels=[1] * 6, channels=[w(4), w(8), w(8), w(16), w(16), w(32)]),
    "csp": cross_stage("csp", "bottle", 0.5, 2.0, 1.0),
    "cs3": cross_stage("cs3", "dark", 1.0, 1.0, 0.5),
    "vovnet": family("vovnet.VovNet", 64, cfg={
        "stem_chs": [w(8)] * 3, "stage_conv_chs": [w(8)] * 4, "stage_out_chs": [w(16)] * 4, "layer_per_block": 2,
        "block_per_stage": [1, 1, 1, 1], "residual": True, "depthwise": False, "attn": "ese"}),
    "hgnet": hgnet(False, [w(8), w(8), w(16)]),
    "hgnetv2": hgnet(True, [w(8), w(16)], use_lab=True),
    "fasternet": family("fasternet.FasterNet", embed_dim=w(8), depths=ONE, drop_path_rate=0.0, feature_dim=w(64),
                        norm_layer=nn.BatchNorm2d),
    "starnet": family("starnet.StarNet", 64, base_dim=w(8), depths=[1, 1, 1, 1]),
    "xception": family("xception_aligned.XceptionAligned", norm_layer=nn.BatchNorm2d, block_cfg=[
        {"in_chs": 64, "out_chs": w(16), "stride": 2}, {"in_chs": w(16), "out_chs": w(32), "stride": 2}]),
    "rdnet": family("rdnet.RDNet", growth_rates=w(8, 8, 8), num_blocks_list=(1, 1, 1),
                    block_type=("Block", "Block", "BlockESE"), is_downsample_block=(None, True, False),
                    num_init_features=w(16)),
}  # fmt: skip
