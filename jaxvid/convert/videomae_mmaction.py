"""VideoMAE of MMAction2: its VisionTransformer with a TimeSformerHead, V2's distilled ones too.

Its state dict holds the fixed sin-cos table, which the model computes; it is not written again.
"""

import math
from collections.abc import Mapping
from typing import Any

from jaxvid.convert import mmaction
from jaxvid.convert.mmaction import Config, Forms
from jaxvid.convert.rules import Waive, conv, fused_heads, heads_out, leaf, linear, norm
from jaxvid.convert.sizes import count, heads, square
from jaxvid.convert.source import Clip, Source
from jaxvid.convert.whole_patches import whole_patches
from jaxvid.core.errors import ConversionError

HEADS_OF_WIDTH = {384: 6, 768: 12, 1024: 16}  # of the published ones
_KEY, _BLOCK = "backbone.blocks.{i}", "encoder/block_{i}"
_ENTRIES = (
    *conv("backbone.patch_embed.projection", "encoder/patch_embed"),
    *fused_heads(f"{_KEY}.attn.qkv", f"{_BLOCK}/attention"),
    leaf(f"{_KEY}.attn.q_bias", f"{_BLOCK}/attention/query/bias", "(h d) -> h d"),
    leaf(f"{_KEY}.attn.v_bias", f"{_BLOCK}/attention/value/bias", "(h d) -> h d"),
    *heads_out(f"{_KEY}.attn.proj", f"{_BLOCK}/attention/out"),
    *linear(f"{_KEY}.mlp.layers.0.0", f"{_BLOCK}/mlp/fc1"),
    *linear(f"{_KEY}.mlp.layers.1", f"{_BLOCK}/mlp/fc2"),
    *norm(f"{_KEY}.{{n:norm1|norm2}}", f"{_BLOCK}/{{n}}"),
    leaf(f"{_KEY}.{{g:gamma_1|gamma_2}}", f"{_BLOCK}/{{g}}"),
    *norm("backbone.norm", "encoder/norm"),
    *norm("backbone.fc_norm", "fc_norm"),
    *linear("cls_head.fc_cls", "head"),
    Waive("backbone.pos_embed", "the fixed sin-cos table, which the model computes"),
)
_BACKBONE: Forms = {
    "use_learnable_pos_emb": (False,),
    "qk_scale": (None,),
    "return_feat_map": (False,),
}


def _arguments(config: Config) -> dict[str, Any]:
    mmaction.refuse_other_forms(mmaction.part(config, "backbone"), _BACKBONE)
    backbone = mmaction.part(config, "backbone")
    width, epsilon = backbone.get("embed_dims", 768), mmaction.layer_norm_eps(backbone)
    return {
        "num_classes": mmaction.part(config, "cls_head").get("num_classes", 400),
        "width": width,
        "depth": backbone.get("depth", 12),
        "num_heads": backbone.get("num_heads", 12),
        # The reference cuts the hidden width off to an integer.
        "mlp_ratio": int(width * backbone.get("mlp_ratio", 4)) / width,
        "patch_size": square(backbone.get("patch_size", 16), "patch_size"),
        "tubelet_size": int(backbone.get("tubelet_size", 2)),
        "channels": backbone.get("in_channels", 3),
        "qkv_bias": "qv" if backbone.get("qkv_bias", True) else "none",
        "layer_scale": backbone.get("init_values") or None,
        "cosine_attention": False,
        "pool": "mean" if backbone.get("use_mean_pooling", True) else "token",
        "norm_eps": epsilon,
        "fc_norm_eps": epsilon,
    }


def _clip(config: Config) -> Clip:
    backbone = mmaction.part(config, "backbone")
    size = square(backbone.get("img_size", 224), "img_size")
    clip = backbone.get("num_frames", 16), size, size, backbone.get("in_channels", 3)
    patch = square(backbone.get("patch_size", 16), "patch_size")
    return whole_patches(clip, int(backbone.get("tubelet_size", 2)), patch)


def _config(arguments: Mapping[str, Any], clip: Clip) -> dict[str, Any]:
    backbone = {
        "type": "VisionTransformer",
        "img_size": clip[1],
        "num_frames": clip[0],
        "in_channels": arguments["channels"],
        "patch_size": arguments["patch_size"],
        "tubelet_size": arguments["tubelet_size"],
        "embed_dims": arguments["width"],
        "depth": arguments["depth"],
        "num_heads": arguments["num_heads"],
        "mlp_ratio": arguments["mlp_ratio"],
        "qkv_bias": arguments["qkv_bias"] != "none",
        "init_values": arguments["layer_scale"] or 0.0,
        "use_mean_pooling": arguments["pool"] == "mean",
        "norm_cfg": {"type": "LN", "eps": arguments["norm_eps"]},
    }
    width, classes = arguments["width"], arguments["num_classes"]
    return mmaction.in_parts(backbone, classes, type="TimeSformerHead", in_channels=width)


def _guess(shapes: Mapping[str, tuple], told: Mapping[str, Any]) -> dict[str, Any]:
    width, channels, tubelet, patch, _ = shapes["backbone.patch_embed.projection.weight"]
    # One row of places is all that tells the clip; 16 frames are MMAction2's.
    times = 16 // tubelet
    places = shapes.get("backbone.pos_embed", (1, times * (224 // patch) ** 2))[1]
    side = math.isqrt(places // times)
    if times * side * side != places:
        raise ConversionError(
            f"backbone.pos_embed has {places} places, which are no squares of {times} times (16 frames): "
            "give config={…} of MMAction2's model dict, with num_frames and img_size"
        )
    return {
        "embed_dims": width,
        "in_channels": channels,
        "tubelet_size": tubelet,
        "patch_size": patch,
        "img_size": side * patch,
        "num_heads": heads(width, HEADS_OF_WIDTH, told),
        "depth": count(shapes, r"backbone\.blocks\.(\d+)\."),
        "mlp_ratio": shapes["backbone.blocks.0.mlp.layers.0.0.bias"][0] / width,
        "qkv_bias": "backbone.blocks.0.attn.q_bias" in shapes,
        "init_values": 0.1 if "backbone.blocks.0.gamma_1" in shapes else 0.0,
        "use_mean_pooling": "backbone.fc_norm.weight" in shapes,
        "num_classes": shapes["cls_head.fc_cls.weight"][0],
    }


def _preprocessing(config: Config) -> dict[str, Any]:
    return {**mmaction.pixels(config), "sampling": "dense", "stride_frames": 4}


SOURCE = Source(
    entries=_ENTRIES,
    arguments=_arguments,
    clip=_clip,
    config=_config,
    guess=_guess,
    preprocessing=_preprocessing,
)
