"""MViT of torchvision: mvit_v1_b and mvit_v2_s; the config is what its class MViT takes."""

import functools
import math
from collections.abc import Mapping, Sequence
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
    relative_tables,
    shape,
)
from jaxvid.convert.one_form import plain, refuse_others
from jaxvid.convert.positions import Line, Map
from jaxvid.convert.published import refuse_unpublished
from jaxvid.convert.rules import Entry, Rule, conv, fused_heads, heads_out, leaf, linear, norm
from jaxvid.convert.sizes import count, square
from jaxvid.convert.source import Clip, Source
from jaxvid.core.errors import ConversionError
from jaxvid.nn.pooled_attention import ONE

PATCH = {"patch_embed_kernel": (3, 7, 7), "patch_embed_stride": (2, 4, 4)}


def _entries() -> tuple[Entry, ...]:
    attention, position = f"{BLOCK}.attn", "position_embedding"
    pools = [
        pool(f"{attention}.pool_{p}.pool", f"{attention}.pool_{p}.norm_act.0", p) for p in PARTS
    ]
    return (
        *conv("conv_proj", "patch_embed"),
        leaf("pos_encoding.class_token", "class_token"),
        Rule(("pos_encoding.spatial_pos",), (f"spatial_{position}",), Map()),
        Rule(("pos_encoding.temporal_pos",), (f"temporal_{position}",), Line()),
        leaf("pos_encoding.class_pos", f"class_{position}"),
        *NORMS,
        *fused_heads(f"{attention}.qkv", f"{PATH}/attention"),
        *heads_out(f"{attention}.project.0", f"{PATH}/attention/out"),
        *(entry for pool in pools for entry in pool),
        *relative_tables(attention),
        *linear(f"{BLOCK}.mlp.0", f"{PATH}/mlp/fc1"),
        *linear(f"{BLOCK}.mlp.3", f"{PATH}/mlp/fc2"),
        *linear(f"{BLOCK}.project", f"{PATH}/projection"),
        *norm("norm", "norm"),
        *linear("head.1", "head"),
    )


# --- config ---------------------------------------------------------------------------------------

_BASE = {
    "width": 96,
    "num_heads": 1,
    "depth": 16,
    "stage_starts": (1, 3, 14),
    "stage_stride": (1, 2, 2),
    "key_stride": (1, 8, 8),
    "pool_kernel": (3, 3, 3),
    "pool_every_query": False,
}
V1 = dict.fromkeys(
    ("residual_pool", "residual_with_cls_embed", "rel_pos_embed", "proj_after_attn"), False
)
V2 = {**V1, "residual_pool": True, "rel_pos_embed": True, "proj_after_attn": True}
# The reference's word -> the model's field, both with the same meaning.
_FIELDS = {
    "residual_pool": "residual_pooling",
    "residual_with_cls_embed": "residual_class_token",
    "proj_after_attn": "project_in_attention",
    "dropout": "head_dropout",
    "attention_dropout": "dropout",
    "stochastic_depth_prob": "drop_path_rate",
    "num_classes": "num_classes",
}
_DEFAULTS = {
    "spatial_size": (224, 224),
    "temporal_size": 16,
    "dropout": 0.5,
    "attention_dropout": 0.0,
    "num_classes": 400,
}
_FIXED = {
    "channels": 3,
    "class_token": True,
    "mlp_ratio": 4.0,
    "qkv_bias": "all",
    "norm_eps": 1e-6,
}


def _complete(flags: Mapping[str, bool], config: Mapping[str, Any]) -> dict[str, Any]:
    config = {name: plain(value) for name, value in config.items()}
    # 0.2 is of the function with the model's name, 0 of the class that takes block_setting.
    drop = {"stochastic_depth_prob": 0.0 if "block_setting" in config else 0.2}
    return {**_DEFAULTS, **PATCH, **flags, **drop, **config}


def _settings(arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The model's blocks as torchvision's block_setting."""
    kernel, every = list(arguments["pool_kernel"]), arguments["pool_every_query"]
    settings = []
    for plan in plans(arguments):
        pools = every or plan.query_stride != ONE
        settings.append(
            {
                "num_heads": plan.num_heads,
                "input_channels": plan.width,
                "output_channels": plan.features,
                "kernel_q": kernel if pools else [],
                "kernel_kv": kernel,
                "stride_q": list(plan.query_stride) if pools else [],
                "stride_kv": list(plan.key_stride),
            }
        )
    return settings


def _blocks(settings: Sequence[Mapping[str, Any]], in_attention: bool) -> dict[str, Any]:
    """block_setting -> the model's fields. Raises ConversionError for blocks of another pattern."""
    if not settings:
        raise ConversionError("block_setting is empty: expected one row for each block")
    first = settings[0]
    heads = [row["num_heads"] for row in settings]
    starts = tuple(i for i in range(1, len(heads)) if heads[i] != heads[i - 1])
    stride = settings[starts[0]]["stride_q"] if starts else ()
    found = {
        "width": first["input_channels"],
        "num_heads": first["num_heads"],
        "depth": len(settings),
        "stage_starts": starts,
        "stage_stride": tuple(stride) or (1, 2, 2),
        "key_stride": tuple(first["stride_kv"]),
        "pool_kernel": tuple(first["kernel_kv"]),
        "pool_every_query": math.prod(first["kernel_q"]) > 1,
    }
    for i, (row, ours) in enumerate(
        zip(settings, _settings({**found, "project_in_attention": in_attention}), strict=True)
    ):
        if wrong := [name for name, x in ours.items() if plain(row[name]) != plain(x)]:
            raise ConversionError(
                f"block_setting[{i}]: {', '.join(f'{n}={row[n]!r}' for n in wrong)}: the model, whose "
                "stages double heads and width where queries are pooled, would have "
                f"{', '.join(f'{n}={ours[n]!r}' for n in wrong)} there"
            )
    return found


def _arguments(flags: Mapping[str, bool], config: Mapping[str, Any]) -> dict[str, Any]:
    config = _complete(flags, config)
    kernel = config["patch_embed_kernel"]
    padding = tuple(k // 2 for k in kernel)
    refuse_others("torchvision's MViT", config, {"patch_embed_padding": padding})
    every = {"pool_every_query": config["rel_pos_embed"]}
    in_attention = config["proj_after_attn"]
    blocks = {**_BASE, **every}
    if "block_setting" in config:
        blocks = _blocks(config["block_setting"], in_attention)
    return {
        **blocks,
        **{field: config[name] for name, field in _FIELDS.items()},
        "positions": "relative" if config["rel_pos_embed"] else "separable",
        "patch_kernel": kernel,
        **patch_fields(config["patch_embed_stride"]),
        **_FIXED,
    }


def _clip(config: Mapping[str, Any]) -> Clip:
    config = {**_DEFAULTS, **config}
    size = square(config["spatial_size"], "spatial_size")
    return config["temporal_size"], size, size, 3


def _config(arguments: Mapping[str, Any], clip: Clip) -> dict[str, Any]:
    stride = (arguments["tubelet_size"], arguments["patch_size"], arguments["patch_size"])
    return {
        "spatial_size": list(clip[1:3]),
        "temporal_size": clip[0],
        "block_setting": _settings(arguments),
        "rel_pos_embed": arguments["positions"] == "relative",
        "patch_embed_kernel": tuple(arguments["patch_kernel"]),
        "patch_embed_stride": stride,
        "patch_embed_padding": tuple(k // 2 for k in arguments["patch_kernel"]),
        **{name: arguments[field] for name, field in _FIELDS.items()},
    }


def _guess(shapes: Mapping[str, tuple], told: Mapping[str, Any]) -> dict[str, Any]:
    relative = "blocks.0.attn.rel_pos_t" in shapes
    if relative:
        side = (shapes["blocks.0.attn.rel_pos_h"][0] + 1) // 2
        frames = (shapes["blocks.0.attn.rel_pos_t"][0] + 1) // 2
    else:
        side = math.isqrt(shapes["pos_encoding.spatial_pos"][0])
        frames = shapes["pos_encoding.temporal_pos"][0]
    width = shapes["conv_proj.weight"][0]
    depth = count(shapes, r"blocks\.(\d+)\.")
    size = shapes["blocks.0.attn.pool_k.pool.weight"][0]
    inner = [shapes[f"blocks.{i}.attn.qkv.weight"][0] // 3 for i in range(depth)]
    starts = tuple(i for i in range(1, depth) if inner[i] != inner[i - 1])
    found = shape([width] * depth, starts)
    refuse_unpublished("torchvision's MViT", found, PUBLISHED, "the strides of block_setting")
    blocks = {
        **_BASE,
        "width": width,
        "num_heads": inner[0] // size,
        "depth": depth,
        "stage_starts": starts,
        "pool_kernel": shapes["blocks.0.attn.pool_k.pool.weight"][2:],
        "pool_every_query": "blocks.0.attn.pool_q.pool.weight" in shapes,
        "project_in_attention": relative,
    }
    return {
        **(V2 if relative else V1),
        "num_classes": shapes["head.1.weight"][0],
        "block_setting": _settings(blocks),
        "spatial_size": (4 * side, 4 * side),
        "temporal_size": 2 * frames,
        "stochastic_depth_prob": 0.2,
    }


def source(flags: Mapping[str, bool]) -> Source:
    """flags: V1 or V2, what a config without them means."""
    return Source(
        entries=_entries(),
        arguments=functools.partial(_arguments, flags),
        clip=_clip,
        config=_config,
        guess=_guess,
        preprocessing=functools.partial(published_preprocessing, _clip),
    )
