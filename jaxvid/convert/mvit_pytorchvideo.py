"""MViT of PyTorchVideo; the config is what create_multiscale_vision_transformers takes."""

import functools
import math
from collections.abc import Mapping
from typing import Any

from jaxvid.convert.mvit_common import (
    BLOCK,
    NORMS,
    PARTS,
    PATH,
    PUBLISHED,
    patch_fields,
    plans,
    pool,
    published_preprocessing,
    shape,
    tables_of_places,
)
from jaxvid.convert.one_form import plain, refuse_others
from jaxvid.convert.published import refuse_unpublished
from jaxvid.convert.rules import Alias, Entry, conv, heads_in, heads_out, linear, norm
from jaxvid.convert.sizes import count, square
from jaxvid.convert.source import Clip, Source
from jaxvid.core.errors import ConversionError


def _entries() -> tuple[Entry, ...]:
    attention = f"{BLOCK}.attn"
    parts = []
    for p, name in PARTS.items():
        parts += heads_in(f"{attention}.{p}", f"{PATH}/attention/{name}")
        parts += pool(f"{attention}.pool_{p}", f"{attention}.norm_{p}", p)
        for theirs, ours in (("pool", "pool"), ("norm", "norm")):
            pair = (f"{attention}._attention_pool_{p}.{theirs}", f"{attention}.{ours}_{p}")
            parts += [Alias(*(f"{key}.{leaf}" for key in pair)) for leaf in ("weight", "bias")]
    return (
        *conv("patch_embed.patch_model", "patch_embed"),
        *tables_of_places("cls_positional_encoding."),
        *NORMS,
        *parts,
        *heads_out(f"{attention}.proj", f"{PATH}/attention/out"),
        *linear(f"{BLOCK}.mlp.{{fc:fc1|fc2}}", f"{PATH}/mlp/{{fc}}"),
        *linear(f"{BLOCK}.proj", f"{PATH}/projection"),
        *norm("norm_embed", "norm"),
        *linear("head.proj", "head"),
    )


# --- config ---------------------------------------------------------------------------------------

_FIELDS = {
    "head_num_classes": "num_classes",
    "head_dropout_rate": "head_dropout",
    "dropout_rate_block": "dropout",
    "droppath_rate_block": "drop_path_rate",
    "input_channels": "channels",
    "patch_embed_dim": "width",
    "num_heads": "num_heads",
    "depth": "depth",
    "mlp_ratio": "mlp_ratio",
    "cls_embed_on": "class_token",
    "pool_kvq_kernel": "pool_kernel",
    "conv_patch_embed_kernel": "patch_kernel",
}
_DEFAULTS = {
    "head_num_classes": 400,
    "head_dropout_rate": 0.5,
    "dropout_rate_block": 0.0,
    "droppath_rate_block": 0.0,
    "input_channels": 3,
    "patch_embed_dim": 96,
    "num_heads": 1,
    "depth": 16,
    "mlp_ratio": 4.0,
    "cls_embed_on": True,
    "sep_pos_embed": True,
    "qkv_bias": True,
    "conv_patch_embed_kernel": (3, 7, 7),
    "conv_patch_embed_stride": (2, 4, 4),
    "spatial_size": 224,
    "embed_dim_mul": ((1, 2.0), (3, 2.0), (14, 2.0)),
    "atten_head_mul": ((1, 2.0), (3, 2.0), (14, 2.0)),
    "pool_q_stride_size": ((1, 1, 2, 2), (3, 1, 2, 2), (14, 1, 2, 2)),
    "pool_kv_stride_adaptive": (1, 8, 8),
    "pool_kvq_kernel": (3, 3, 3),
}
_FIXED = {
    "norm": "layernorm",
    "enable_patch_embed": True,
    "enable_patch_embed_norm": False,
    "use_2d_patch": False,
    "pooling_mode": "conv",
    "pool_first": False,
    "residual_pool": False,
    "depthwise_conv": True,
    "bias_on": True,
    "separate_qkv": True,
    "pool_kv_stride_size": None,
    "head_activation": None,
}
_STRIDES = "pool_q_stride_size, pool_kv_stride_adaptive and conv_patch_embed_stride"


def _complete(frames: int, config: Mapping[str, Any]) -> dict[str, Any]:
    config = {name: plain(value) for name, value in config.items()}
    refuse_others("PyTorchVideo's MViT", config, _FIXED)
    return {**_DEFAULTS, "temporal_size": frames, **config}


def _stages(config: Mapping[str, Any]) -> dict[str, Any]:
    """Where stages start, and by how much. Raises ConversionError for stages of another pattern."""
    pooled = config["pool_q_stride_size"] or ()
    doubled = tuple((row[0], 2) for row in pooled)
    strides = {row[1:] for row in pooled}
    for name in ("embed_dim_mul", "atten_head_mul"):
        if tuple(config[name] or ()) != doubled:
            raise ConversionError(
                f"{name}={config[name]!r}, pool_q_stride_size={pooled!r}: the model doubles heads and "
                "width exactly where queries are pooled"
            )
    if len(strides) > 1:
        raise ConversionError(f"pool_q_stride_size={pooled!r}: the model has one stride for all")
    if config["pool_kv_stride_adaptive"] is None or config["pool_kvq_kernel"] is None:
        raise ConversionError(
            "pool_kv_stride_adaptive and pool_kvq_kernel must be given: the model pools keys and "
            "values in every block"
        )
    return {
        "stage_starts": tuple(row[0] for row in pooled),
        "stage_stride": strides.pop() if strides else (1, 2, 2),
        "key_stride": config["pool_kv_stride_adaptive"],
    }


def _arguments(frames: int, config: Mapping[str, Any]) -> dict[str, Any]:
    config = _complete(frames, config)
    padding = tuple(k // 2 for k in config["conv_patch_embed_kernel"])
    refuse_others("PyTorchVideo's MViT", config, {"conv_patch_embed_padding": padding})
    arguments = {
        **{field: config[name] for name, field in _FIELDS.items()},
        **_stages(config),
        "pool_every_query": False,
        "positions": "separable" if config["sep_pos_embed"] else "joint",
        "residual_pooling": False,
        "residual_class_token": False,
        "project_in_attention": False,
        "qkv_bias": "all" if config["qkv_bias"] else "none",
        **patch_fields(config["conv_patch_embed_stride"]),
        "norm_eps": 1e-6,
    }
    plans(arguments)
    return arguments


def _clip(frames: int, config: Mapping[str, Any]) -> Clip:
    config = _complete(frames, config)
    size = square(config["spatial_size"], "spatial_size")
    return config["temporal_size"], size, size, config["input_channels"]


def _config(arguments: Mapping[str, Any], clip: Clip) -> dict[str, Any]:
    starts, stride = arguments["stage_starts"], tuple(arguments["stage_stride"])
    doubled = tuple((i, 2.0) for i in starts)
    patch = arguments["patch_size"]
    return {
        **{name: arguments[field] for name, field in _FIELDS.items()},
        "spatial_size": clip[1],
        "temporal_size": clip[0],
        "embed_dim_mul": doubled,
        "atten_head_mul": doubled,
        "pool_q_stride_size": tuple((i, *stride) for i in starts),
        "pool_kv_stride_adaptive": tuple(arguments["key_stride"]),
        "sep_pos_embed": arguments["positions"] == "separable",
        "qkv_bias": arguments["qkv_bias"] == "all",
        "conv_patch_embed_stride": (arguments["tubelet_size"], patch, patch),
        "conv_patch_embed_padding": tuple(k // 2 for k in arguments["patch_kernel"]),
    }


def _guess(shapes: Mapping[str, tuple], told: Mapping[str, Any]) -> dict[str, Any]:
    """What the shapes tell, with the strides of the published models. Raises ConversionError for
    others."""
    depth = count(shapes, r"blocks\.(\d+)\.")
    widths = [shapes[f"blocks.{i}.attn.q.weight"][0] for i in range(depth)]
    starts = [i for i in range(1, depth) if widths[i] != widths[i - 1]]
    refuse_unpublished("PyTorchVideo's MViT", shape(widths, starts), PUBLISHED, _STRIDES)
    if "cls_positional_encoding.pos_embed" in shapes:
        raise ConversionError(
            "PyTorchVideo's MViT: cls_positional_encoding.pos_embed, one table for all places, does "
            "not tell frames from pixels: give config={…} with sep_pos_embed=False, temporal_size and "
            "spatial_size"
        )
    doubled = tuple((i, 2.0) for i in starts)
    pool = shapes["blocks.0.attn.pool_k.weight"]
    return {
        "head_num_classes": shapes["head.proj.weight"][0],
        "input_channels": shapes["patch_embed.patch_model.weight"][1],
        "patch_embed_dim": widths[0],
        "num_heads": widths[0] // pool[0],
        "depth": depth,
        "mlp_ratio": shapes["blocks.0.mlp.fc1.weight"][0] / widths[0],
        "qkv_bias": "blocks.0.attn.q.bias" in shapes,
        "cls_embed_on": "cls_positional_encoding.cls_token" in shapes,
        "embed_dim_mul": doubled,
        "atten_head_mul": doubled,
        "pool_q_stride_size": tuple((i, 1, 2, 2) for i in starts),
        "pool_kvq_kernel": pool[2:],
        "spatial_size": 4 * math.isqrt(shapes["cls_positional_encoding.pos_embed_spatial"][1]),
        "temporal_size": 2 * shapes["cls_positional_encoding.pos_embed_temporal"][1],
    }


def source(frames: int) -> Source:
    """frames: of the clip where the config does not say."""
    clip = functools.partial(_clip, frames)
    return Source(
        entries=_entries(),
        arguments=functools.partial(_arguments, frames),
        clip=clip,
        config=_config,
        guess=_guess,
        preprocessing=functools.partial(published_preprocessing, clip),
    )
