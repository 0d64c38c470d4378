"""Hiera: the video classifiers of facebookresearch/hiera, hiera_{base,base_plus,large,huge}_16x224.

Files hold {"model_state": {…}}. The config is what the repository's class Hiera takes; what is not
said is as its hiera_base_16x224 says it. Weights tell all of it but the number of heads, which is
known by the width of the published models, and the strides, which are taken to be theirs.

The two tables of positions are resized to those of the model that is loaded: linearly over frames and
bilinearly over a frame (a table does not tell its height from its width: one of another size is taken
to be of a square), as those of MViT are. The repository itself resizes none.
"""

import math
from collections.abc import Mapping
from typing import Any

from jaxvid.convert.layout import Layout, Shape
from jaxvid.convert.mvit_common import patch_fields
from jaxvid.convert.one_form import plain, refuse_others
from jaxvid.convert.positions import Line, Map
from jaxvid.convert.rules import Rule, conv, fused_heads, heads_out, linear, norm
from jaxvid.convert.sizes import count, square
from jaxvid.convert.source import Clip, Source
from jaxvid.convert.videomae import layer_norm_eps
from jaxvid.core.errors import ConfigError, ConversionError

HEAD = ("head/{leaf:.+}",)
ARCH = "hiera/hiera"
BLOCK, PATH = "blocks.{i}", "encoder/block_{i}"
HEADS_OF_WIDTH = {96: 1, 112: 2, 144: 2, 256: 4}

_ENTRIES = (
    Rule(("pos_embed_spatial",), ("encoder/spatial_position_embedding",), Map(batched=True)),
    Rule(
        ("pos_embed_temporal",),
        ("encoder/temporal_position_embedding",),
        Line(Layout("1 t d -> t d")),
    ),
    *conv("patch_embed.proj", "encoder/patch_embed"),
    *norm(f"{BLOCK}.{{n:norm1|norm2}}", f"{PATH}/{{n}}"),
    *fused_heads(f"{BLOCK}.attn.qkv", f"{PATH}/attention"),
    *heads_out(f"{BLOCK}.attn.proj", f"{PATH}/attention/out"),
    *linear(f"{BLOCK}.mlp.{{fc:fc1|fc2}}", f"{PATH}/mlp/{{fc}}"),
    *linear(f"{BLOCK}.proj", f"{PATH}/projection"),
    *norm("norm", "norm"),
    *linear("head.projection", "head"),
)

# --- config ---------------------------------------------------------------------------------------

_DEFAULTS = {
    "input_size": (16, 224, 224),
    "in_chans": 3,
    "embed_dim": 96,
    "num_heads": 1,
    "num_classes": 400,
    "stages": (2, 3, 16, 3),
    "q_pool": 3,
    "q_stride": (1, 2, 2),
    "mask_unit_size": (1, 8, 8),
    "mask_unit_attn": (True, True, False, False),
    "patch_kernel": (3, 7, 7),
    "patch_stride": (2, 4, 4),
    "patch_padding": (1, 3, 3),
    "mlp_ratio": 4.0,
    "drop_path_rate": 0.0,
    "head_dropout": 0.0,
    "head_init_scale": 0.001,
}
# The reference's word -> the model's field, both with the same meaning.
_FIELDS = {
    "num_classes": "num_classes",
    "embed_dim": "width",
    "num_heads": "num_heads",
    "stages": "depths",
    "q_pool": "num_pools",
    "q_stride": "pool_stride",
    "mask_unit_attn": "mask_unit_attention",
    "mlp_ratio": "mlp_ratio",
    "patch_kernel": "patch_kernel",
    "in_chans": "channels",
    "drop_path_rate": "drop_path_rate",
    "head_dropout": "head_dropout",
    "head_init_scale": "head_init_scale",
}
_IN_EVERY_AXIS = ("input_size", "q_stride", "mask_unit_size", "patch_kernel", "patch_stride")


def _complete(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with the defaults. Raises ConversionError for what the model cannot be."""
    full = {**_DEFAULTS, **{name: plain(value) for name, value in config.items()}}
    if wrong := [name for name in _IN_EVERY_AXIS if len(full[name]) != 3]:
        raise ConversionError(
            f"{ARCH}: {', '.join(f'{name}={full[name]!r}' for name in wrong)}: the model is of videos, "
            "with a number each for frames, height and width; image models do not load"
        )
    levels = len(full["stages"]) - 1
    fixed = {
        "sep_pos_embed": True,
        "dim_mul": 2.0,
        "head_mul": 2.0,
        "mask_unit_size": tuple(s**levels for s in full["q_stride"]),
        "patch_padding": tuple(k // 2 for k in full["patch_kernel"]),
    }
    refuse_others(ARCH, full, fixed)
    return full


def _arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    full = _complete(config)
    return {
        **{field: full[name] for name, field in _FIELDS.items()},
        **patch_fields(full["patch_stride"]),
        "norm_eps": layer_norm_eps(full),
    }


def _clip(config: Mapping[str, Any]) -> Clip:
    full = _complete(config)
    size = square(full["input_size"][1:], "input_size")
    return full["input_size"][0], size, size, full["in_chans"]


def _config(arguments: Mapping[str, Any], clip: Clip) -> dict[str, Any]:
    levels = len(arguments["depths"]) - 1
    return {
        "input_size": tuple(clip[:3]),
        **{name: arguments[field] for name, field in _FIELDS.items()},
        "mask_unit_size": tuple(s**levels for s in arguments["pool_stride"]),
        "patch_stride": (arguments["tubelet_size"], *(arguments["patch_size"],) * 2),
        "patch_padding": tuple(k // 2 for k in arguments["patch_kernel"]),
        "sep_pos_embed": True,
        "norm_layer": f"LayerNorm(eps={arguments['norm_eps']:g})",
    }


def _guess(shapes: Mapping[str, Shape], told: Mapping[str, Any]) -> dict[str, Any]:
    """What shapes tell. Raises ConfigError for widths that no published model has."""
    width, channels, *kernel = shapes["patch_embed.proj.weight"]
    if width not in HEADS_OF_WIDTH:
        raise ConfigError(
            f"no published Hiera is {width} wide, and weights do not tell the number of heads: give "
            "config={'embed_dim': …, 'num_heads': …, …} in the words of the repository's class"
        )
    places, times = (shapes[f"pos_embed_{kind}"][1] for kind in ("spatial", "temporal"))
    depth = count(shapes, r"blocks\.(\d+)\.")
    widths = [shapes[f"blocks.{i}.attn.proj.weight"][0] for i in range(depth)]
    tubelet, patch, _ = _DEFAULTS["patch_stride"]
    size = patch * math.isqrt(places)
    return {
        "input_size": (tubelet * times, size, size),
        "in_chans": channels,
        "embed_dim": width,
        "num_heads": HEADS_OF_WIDTH[width],
        "num_classes": shapes["head.projection.weight"][0],
        "stages": tuple(widths.count(w) for w in sorted(set(widths))),
        "patch_kernel": tuple(kernel),
        "patch_padding": tuple(k // 2 for k in kernel),
        "mlp_ratio": shapes["blocks.0.mlp.fc1.weight"][0] / width,
    }


def _preprocessing(config: Mapping[str, Any]) -> dict[str, Any]:
    """16 frames, one of every 4, as on Kinetics."""
    size = _clip(config)[1]
    pixels = {"mean": (0.45,) * 3, "std": (0.225,) * 3, "short_side": size}
    return {**pixels, "sampling": "dense", "stride_frames": 4}


SOURCES = {
    ARCH: Source(
        entries=_ENTRIES,
        arguments=_arguments,
        clip=_clip,
        config=_config,
        guess=_guess,
        preprocessing=_preprocessing,
    )
}
