"""MViTv2 of MMAction2, with an MViTHead; its files on Kinetics are PySlowFast's weights."""

from collections.abc import Mapping
from typing import Any

from jaxvid.convert import mmaction
from jaxvid.convert.mmaction import Config, Forms
from jaxvid.convert.mvit_common import (
    BLOCK,
    PARTS,
    PATH,
    PUBLISHED,
    patch_fields,
    plans,
    pool,
    relative_tables,
    shape,
)
from jaxvid.convert.one_form import plain, refuse_others
from jaxvid.convert.published import refuse_unpublished
from jaxvid.convert.rules import conv, fused_heads, heads_out, leaf, linear, norm
from jaxvid.convert.sizes import count
from jaxvid.convert.source import Clip, Source
from jaxvid.core.errors import ConversionError

_KEY = f"backbone.{BLOCK}"
_ENTRIES = (
    *conv("backbone.patch_embed.projection", "patch_embed"),
    leaf("backbone.cls_token", "class_token", "1 1 d -> d"),
    *norm(f"{_KEY}.{{n:norm1|norm2}}", f"{PATH}/{{n}}"),
    *fused_heads(f"{_KEY}.attn.qkv", f"{PATH}/attention"),
    *heads_out(f"{_KEY}.attn.proj", f"{PATH}/attention/out"),
    *(e for p in PARTS for e in pool(f"{_KEY}.attn.pool_{p}", f"{_KEY}.attn.norm_{p}", p)),
    *relative_tables(f"{_KEY}.attn"),
    *linear(f"{_KEY}.mlp.{{fc:fc1|fc2}}", f"{PATH}/mlp/{{fc}}"),
    *linear(f"{_KEY}.proj", f"{PATH}/projection"),
    *norm("backbone.norm3", "norm"),
    *linear("cls_head.fc_cls", "head"),
)
_FIELDS = {
    "embed_dims": "width",
    "num_layers": "depth",
    "num_heads": "num_heads",
    "downscale_indices": "stage_starts",
}
ARCHS = {
    "tiny": (96, 10, 1, (1, 3, 8)),
    "small": (96, 16, 1, (1, 3, 14)),
    "base": (96, 24, 1, (2, 5, 21)),
    "large": (144, 48, 2, (2, 8, 44)),
}
_BACKBONE: Forms = {
    "use_abs_pos_embed": (False,),
    "rel_pos_embed": (True,),
    "output_cls_token": (True,),
    "with_cls_token": (True,),
    "out_scales": (-1, (-1,), 3, (3,)),
    "dim_mul": (2,),
    "head_mul": (2,),
}
_PATCH = {"kernel_size": (3, 7, 7), "stride": (2, 4, 4), "padding": (1, 3, 3)}


def _settings(arch: Any) -> dict[str, Any]:
    """The model's fields of an arch. Raises ConversionError for one that it cannot be."""
    if isinstance(arch, str):
        if arch.lower() not in ARCHS:
            raise ConversionError(f"arch {arch!r}: MMAction2 knows {', '.join(ARCHS)}, or a dict")
        return dict(zip(_FIELDS.values(), ARCHS[arch.lower()], strict=True))
    if absent := [name for name in _FIELDS if name not in arch]:
        raise ConversionError(f"arch {dict(arch)!r} has no {', '.join(absent)}")
    starts = plain(arch["downscale_indices"])
    if plain(arch.get("dim_mul_indices", starts)) != starts or len(starts) != 3:
        raise ConversionError(
            f"arch {dict(arch)!r}: the model doubles its width where it pools, three times"
        )
    return {field: plain(arch[name]) for name, field in _FIELDS.items()}


def _arguments(config: Config) -> dict[str, Any]:
    mmaction.refuse_other_forms(mmaction.part(config, "backbone"), _BACKBONE)
    backbone = mmaction.part(config, "backbone")
    patch = {**_PATCH, **{n: plain(x) for n, x in backbone.get("patch_cfg", {}).items()}}
    padding = tuple(k // 2 for k in patch["kernel_size"])
    refuse_others("MMAction2's MViT", patch, {"padding": padding})
    keys = plain(backbone.get("adaptive_kv_stride", (1, 8, 8)))
    if keys[0] != 1:
        raise ConversionError(
            f"adaptive_kv_stride={keys!r}: the model does not pool keys over time"
        )
    arguments = {
        **_settings(backbone.get("arch", "base")),
        "num_classes": mmaction.part(config, "cls_head").get("num_classes", 400),
        "stage_stride": (1, 2, 2),
        "key_stride": keys,
        "pool_kernel": plain(backbone.get("pool_kernel", (3, 3, 3))),
        "pool_every_query": True,
        "positions": "relative",
        "residual_pooling": backbone.get("residual_pooling", True),
        "residual_class_token": False,
        "project_in_attention": backbone.get("dim_mul_in_attention", True),
        "class_token": True,
        "mlp_ratio": backbone.get("mlp_ratio", 4.0),
        "qkv_bias": "all" if backbone.get("qkv_bias", True) else "none",
        "channels": backbone.get("in_channels", 3),
        "patch_kernel": patch["kernel_size"],
        **patch_fields(patch["stride"]),
        "norm_eps": mmaction.layer_norm_eps(backbone),
    }
    plans(arguments)
    return arguments


def _clip(config: Config) -> Clip:
    backbone = mmaction.part(config, "backbone")
    size = backbone.get("spatial_size", 224)
    return backbone.get("temporal_size", 16), size, size, backbone.get("in_channels", 3)


def _config(arguments: Mapping[str, Any], clip: Clip) -> dict[str, Any]:
    patch, kernel = arguments["patch_size"], tuple(arguments["patch_kernel"])
    backbone = {
        "type": "MViT",
        "arch": {name: plain(arguments[field]) for name, field in _FIELDS.items()},
        "temporal_size": clip[0],
        "spatial_size": clip[1],
        "in_channels": arguments["channels"],
        "adaptive_kv_stride": tuple(arguments["key_stride"]),
        "pool_kernel": tuple(arguments["pool_kernel"]),
        "residual_pooling": arguments["residual_pooling"],
        "dim_mul_in_attention": arguments["project_in_attention"],
        "mlp_ratio": arguments["mlp_ratio"],
        "qkv_bias": arguments["qkv_bias"] == "all",
        "norm_cfg": {"type": "LN", "eps": arguments["norm_eps"]},
        "patch_cfg": {
            "kernel_size": kernel,
            "stride": (arguments["tubelet_size"], patch, patch),
            "padding": tuple(k // 2 for k in kernel),
        },
    }
    features = plans(arguments)[-1].features
    classes = arguments["num_classes"]
    return mmaction.in_parts(backbone, classes, type="MViTHead", in_channels=features)


def _guess(shapes: Mapping[str, tuple], told: Mapping[str, Any]) -> dict[str, Any]:
    """What the shapes tell, with the strides of the published models. Raises ConversionError for
    others."""
    depth = count(shapes, r"backbone\.blocks\.(\d+)\.")
    inner = [shapes[f"backbone.blocks.{i}.attn.qkv.weight"][0] // 3 for i in range(depth)]
    kernel = shapes["backbone.patch_embed.projection.weight"]
    starts = tuple(i for i in range(1, depth) if inner[i] != inner[i - 1])
    refuse_unpublished(
        "MMAction2's MViT", shape([kernel[0]] * depth, starts), PUBLISHED, "the strides"
    )
    first = "backbone.blocks.0.attn"
    head = shapes[f"{first}.pool_k.weight"][0]
    arch = dict(zip(_FIELDS, (kernel[0], depth, inner[0] // head, starts), strict=True))
    return {
        "arch": arch,
        "in_channels": kernel[1],
        "spatial_size": 4 * ((shapes[f"{first}.rel_pos_h"][0] + 1) // 2),
        "temporal_size": shapes[f"{first}.rel_pos_t"][0] + 1,
        "pool_kernel": shapes[f"{first}.pool_k.weight"][2:],
        "mlp_ratio": shapes["backbone.blocks.0.mlp.fc1.weight"][0] / inner[0],
        "qkv_bias": f"{first}.qkv.bias" in shapes,
        "dim_mul_in_attention": f"backbone.blocks.{starts[0]}.proj.weight" in shapes,
        "num_classes": shapes["cls_head.fc_cls.weight"][0],
    }


def _preprocessing(config: Config) -> dict[str, Any]:
    pixels = mmaction.pixels(config, (0.45,) * 3, (0.225,) * 3)
    if mmaction.part(config, "cls_head").get("num_classes") == 174:  # Something-Something's
        return {**pixels, "sampling": "uniform"}
    stride = 4 if _clip(config)[0] == 16 else 3
    return {**pixels, "sampling": "dense", "stride_frames": stride}


SOURCE = Source(
    entries=_ENTRIES,
    arguments=_arguments,
    clip=_clip,
    config=_config,
    guess=_guess,
    preprocessing=_preprocessing,
)
