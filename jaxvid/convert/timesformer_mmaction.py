"""TimeSformer of MMAction2, with a TimeSformerHead: divided, joint and space-only attention."""

import math
from collections.abc import Mapping
from typing import Any

from jaxvid.convert import mmaction
from jaxvid.convert.layout import Layout, Split
from jaxvid.convert.mmaction import Config, Forms
from jaxvid.convert.rules import Entry, Rule, heads_out, linear, norm
from jaxvid.convert.shaped_source import ShapedSource
from jaxvid.convert.sizes import count, heads, square
from jaxvid.convert.source import Clip
from jaxvid.convert.timesformer_tables import (
    HEADS_OF_WIDTH,
    image_conv,
    tables,
    tables_as_they_are,
)
from jaxvid.core.errors import ConversionError

HALF = (0.5,) * 3  # mean and deviation of its recipes
_KEY, _BLOCK = "backbone.transformer_layers.layers.{i}", "encoder/block_{i}"
_DIVIDED, _JOINT, _SPACE = "divided_space_time", "joint_space_time", "space_only"


def _attention(number: int, path: str) -> tuple[Entry, ...]:
    key = f"{_KEY}.attentions.{number}.attn"
    names = ("query", "key", "value")

    def fused(leaf: str, target: str, layout: str) -> Rule:
        paths = tuple(f"{path}/{name}/{target}" for name in names)
        return Rule((f"{key}.in_proj_{leaf}",), paths, Split(len(names), Layout(layout)))

    return (
        fused("weight", "kernel", "(h d) i -> i h d"),
        fused("bias", "bias", "(h d) -> h d"),
        *heads_out(f"{key}.out_proj", f"{path}/out"),
    )


_COMMON = (
    *tables("backbone.cls_token", "backbone.pos_embed", "backbone.time_embed"),
    *image_conv("backbone.patch_embed.projection", "encoder/patch_embed"),
    *linear(f"{_KEY}.ffns.0.layers.0.0", f"{_BLOCK}/mlp/fc1"),
    *linear(f"{_KEY}.ffns.0.layers.1", f"{_BLOCK}/mlp/fc2"),
    *norm("backbone.norm", "encoder/norm"),
    *linear("cls_head.fc_cls", "head"),
)
_OF_DIVIDED = (
    *_attention(0, f"{_BLOCK}/temporal_attention"),
    *norm(f"{_KEY}.attentions.0.norm", f"{_BLOCK}/temporal_norm"),
    *linear(f"{_KEY}.attentions.0.temporal_fc", f"{_BLOCK}/temporal_fc"),
    *_attention(1, f"{_BLOCK}/attention"),
    *norm(f"{_KEY}.attentions.1.norm", f"{_BLOCK}/norm1"),
    *norm(f"{_KEY}.ffns.0.norm", f"{_BLOCK}/norm2"),
)
_OF_ONE = (
    *_attention(0, f"{_BLOCK}/attention"),
    *norm(f"{_KEY}.norms.0", f"{_BLOCK}/norm1"),
    *norm(f"{_KEY}.norms.1", f"{_BLOCK}/norm2"),
)
_BACKBONE: Forms = {
    "attention_type": (_DIVIDED, _JOINT, _SPACE),
    "transformer_layers": (None,),
}


def _rules(config: Config) -> tuple[Entry, ...]:
    divided = _attention_type(config) == _DIVIDED
    return (*_COMMON, *(_OF_DIVIDED if divided else _OF_ONE))


def _attention_type(config: Config) -> str:
    return mmaction.part(config, "backbone").get("attention_type", _DIVIDED)


def _arguments(config: Config) -> dict[str, Any]:
    mmaction.refuse_other_forms(mmaction.part(config, "backbone"), _BACKBONE)
    backbone, kind = mmaction.part(config, "backbone"), _attention_type(config)
    epsilon = mmaction.layer_norm_eps(backbone)
    if epsilon != 1e-6:
        raise ConversionError(
            f"norm_cfg has eps {epsilon:g}: the model has one epsilon, and MMAction2's layers have 1e-06"
        )
    frames, size, _, channels = _clip(config)
    return {
        "num_classes": mmaction.part(config, "cls_head").get("num_classes", 400),
        "width": backbone.get("embed_dims", 768),
        "depth": backbone.get("num_transformer_layers", 12),
        "num_heads": backbone.get("num_heads", 12),
        "mlp_ratio": 4.0,
        "patch_size": square(backbone.get("patch_size", 16), "patch_size"),
        "channels": channels,
        "attention_type": kind,
        **({"frame_mean": "tokens"} if kind == _SPACE else {}),
        "num_frames": None if kind == _SPACE else frames,
        "image_size": size,
        "qkv_bias": "all",
        "norm_eps": epsilon,
    }


def _clip(config: Config) -> Clip:
    backbone = mmaction.part(config, "backbone")
    size = square(backbone.get("img_size", 224), "img_size")
    return backbone.get("num_frames", 8), size, size, backbone.get("in_channels", 3)


def _config(arguments: Mapping[str, Any], clip: Clip) -> dict[str, Any]:
    backbone = {
        "type": "TimeSformer",
        "num_frames": arguments["num_frames"] or clip[0],
        "img_size": arguments["image_size"] or clip[1],
        "patch_size": arguments["patch_size"],
        "embed_dims": arguments["width"],
        "num_heads": arguments["num_heads"],
        "num_transformer_layers": arguments["depth"],
        "in_channels": arguments["channels"],
        "attention_type": arguments["attention_type"],
        "norm_cfg": {"type": "LN", "eps": arguments["norm_eps"]},
    }
    width, classes = arguments["width"], arguments["num_classes"]
    return mmaction.in_parts(backbone, classes, type="TimeSformerHead", in_channels=width)


def _guess(shapes: Mapping[str, tuple], told: Mapping[str, Any]) -> dict[str, Any]:
    width, channels, patch, _ = shapes["backbone.patch_embed.projection.weight"]
    layer = "backbone.transformer_layers.layers.0"
    divided, joint = f"{layer}.attentions.1.norm.weight", "backbone.time_embed"
    return {
        "embed_dims": width,
        "in_channels": channels,
        "patch_size": patch,
        "num_heads": heads(width, HEADS_OF_WIDTH, told),
        "num_transformer_layers": count(shapes, r"backbone\.transformer_layers\.layers\.(\d+)\."),
        "attention_type": _DIVIDED if divided in shapes else _JOINT if joint in shapes else _SPACE,
        "num_frames": shapes.get(joint, (1, told.get("num_frames", 8)))[1],
        "img_size": math.isqrt(shapes["backbone.pos_embed"][1] - 1) * patch,
        "num_classes": shapes["cls_head.fc_cls.weight"][0],
    }


def _preprocessing(config: Config) -> dict[str, Any]:
    return {**mmaction.pixels(config, HALF, HALF), "sampling": "dense", "stride_frames": 32}


SOURCE = ShapedSource(
    entries=(*_COMMON, *_OF_DIVIDED, *_OF_ONE),
    arguments=_arguments,
    clip=_clip,
    config=_config,
    guess=_guess,
    prepare_save=tables_as_they_are,
    preprocessing=_preprocessing,
    rules=_rules,
)
