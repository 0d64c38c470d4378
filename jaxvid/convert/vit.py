"""ViT on frames: image classifiers of Hugging Face, timm and Google, which also start ViViT.

hf/vit: ViTForImageClassification. hf/vit_encoder: ViTModel, as google/vit-base-patch16-224-in21k, with
a fresh head. timm/vit: timm's vit_*_patch*, also DeiT's files. google/vit:
google-research/vision_transformer's .npz and scenic's baselines (jaxvid/convert/flax_file.py).
"""

import math
from collections.abc import Mapping
from typing import Any

from jaxvid.convert.bare import bare
from jaxvid.convert.hf_folder import num_labels
from jaxvid.convert.position_row import PositionRow
from jaxvid.convert.rules import (
    Entry,
    Rule,
    fused_heads,
    heads_in,
    heads_out,
    leaf,
    linear,
    norm,
)
from jaxvid.convert.shaped_source import ShapedSource
from jaxvid.convert.sizes import count, square
from jaxvid.convert.source import Clip
from jaxvid.core.errors import ConfigError, ConversionError

HEAD = ("head/{leaf:.+}",)
EXPORT = "hf/vit"
SIZE = 224
HEADS_OF_WIDTH = {192: 3, 384: 6, 768: 12, 1024: 16, 1280: 16}  # timm's Ti, S, B, L and H
_PATH = "encoder/block_{i}"
_CONV = "o i h w -> 1 h w i o"


def _positions(key: str, side: int | None) -> Rule:
    paths = ("encoder/class_position_embedding", "encoder/position_embedding")
    return Rule((key,), paths, PositionRow(side and (side, side), class_token=True))


def _side(config: Mapping[str, Any]) -> int:
    return _image_size(config) // square(config.get("patch_size", 16), "patch_size")


def _image_size(config: Mapping[str, Any]) -> int:
    return square(config.get("image_size", SIZE), "image_size")


def _clip(config: Mapping[str, Any]) -> Clip:
    """One image."""
    size = _image_size(config)
    return 1, size, size, config.get("num_channels", 3)


def _pixels(config: Mapping[str, Any]) -> dict[str, Any]:
    """[-1, 1], Google's and timm's usual."""
    return {"mean": (0.5,) * 3, "std": (0.5,) * 3, "sampling": "uniform"}


def _entries(config: Mapping[str, Any] | None, arch: str) -> tuple[Entry, ...]:
    return {"hf/vit": _hf, "timm/vit": _timm, "google/vit": _google}[arch](
        None if config is None else _side(config)
    )


# --- keys -----------------------------------------------------------------------------------------


def _hf(side: int | None) -> tuple[Entry, ...]:
    key = "vit.encoder.layer.{i}"
    attention = f"{key}.attention.attention"
    patches = "vit.embeddings.patch_embeddings.projection"
    return (
        leaf(f"{patches}.weight", "patch_embed/kernel", _CONV),
        leaf(f"{patches}.bias", "patch_embed/bias"),
        leaf("vit.embeddings.cls_token", "encoder/class_token", "1 1 d -> d"),
        _positions("vit.embeddings.position_embeddings", side),
        *heads_in(f"{attention}.{{p:query|key|value}}", f"{_PATH}/attention/{{p}}"),
        *heads_out(f"{key}.attention.output.dense", f"{_PATH}/attention/out"),
        *linear(f"{key}.intermediate.dense", f"{_PATH}/mlp/fc1"),
        *linear(f"{key}.output.dense", f"{_PATH}/mlp/fc2"),
        *norm(f"{key}.layernorm_before", f"{_PATH}/norm1"),
        *norm(f"{key}.layernorm_after", f"{_PATH}/norm2"),
        *norm("vit.layernorm", "encoder/norm"),
        *linear("classifier", "head"),
    )


def _timm(side: int | None) -> tuple[Entry, ...]:
    key = "blocks.{i}"
    return (
        leaf("patch_embed.proj.weight", "patch_embed/kernel", _CONV),
        leaf("patch_embed.proj.bias", "patch_embed/bias"),
        leaf("cls_token", "encoder/class_token", "1 1 d -> d"),
        _positions("pos_embed", side),
        *fused_heads(f"{key}.attn.qkv", f"{_PATH}/attention"),
        *heads_out(f"{key}.attn.proj", f"{_PATH}/attention/out"),
        *linear(f"{key}.mlp.{{fc:fc1|fc2}}", f"{_PATH}/mlp/{{fc}}"),
        *norm(f"{key}.{{n:norm1|norm2}}", f"{_PATH}/{{n}}"),
        *norm("norm", "encoder/norm"),
        *linear("head", "head"),
    )


def _google(side: int | None) -> tuple[Entry, ...]:
    """In both spellings of a block's layers: numbered each kind by itself, or all in a row."""
    key = "Transformer/encoderblock_{i}"
    made: list[Entry] = []
    for norms, attention, mlp in (((0, 1), 0, 0), ((0, 2), 1, 3)):
        first = f"{key}/LayerNorm_{norms[0]}/{{l:scale|bias}}"
        made += [leaf(first, f"{_PATH}/norm1/{{l}}")] if not made else []
        made += [
            leaf(f"{key}/LayerNorm_{norms[1]}/{{l:scale|bias}}", f"{_PATH}/norm2/{{l}}"),
            leaf(
                f"{key}/MultiHeadDotProductAttention_{attention}/{{rest:.+}}",
                f"{_PATH}/attention/{{rest}}",
            ),
            leaf(f"{key}/MlpBlock_{mlp}/Dense_0/{{l:kernel|bias}}", f"{_PATH}/mlp/fc1/{{l}}"),
            leaf(f"{key}/MlpBlock_{mlp}/Dense_1/{{l:kernel|bias}}", f"{_PATH}/mlp/fc2/{{l}}"),
        ]
    return (
        leaf("embedding/kernel", "patch_embed/kernel", "h w i o -> 1 h w i o"),
        leaf("embedding/bias", "patch_embed/bias"),
        leaf("cls", "encoder/class_token", "1 1 d -> d"),
        _positions("Transformer/posembed_input/pos_embedding", side),
        *made,
        leaf("Transformer/encoder_norm/{l:scale|bias}", "encoder/norm/{l}"),
        leaf("head/{l:kernel|bias}", "head/{l}"),
        leaf("output_projection/{l:kernel|bias}", "head/{l}"),
    )


# --- config: Hugging Face's words for all -----------------------------------------------------------

_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_fast": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}


def _arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults are ViTConfig's."""
    activation = config.get("hidden_act", "gelu")
    if activation not in _ACTIVATIONS:
        raise ConversionError(
            f"hidden_act {activation!r}: the model has {', '.join(_ACTIVATIONS)} only"
        )
    width = config.get("hidden_size", 768)
    return {
        "num_classes": num_labels(dict(config)),
        "width": width,
        "depth": config.get("num_hidden_layers", 12),
        "num_heads": config.get("num_attention_heads", 12),
        "mlp_ratio": config.get("intermediate_size", 3072) / width,
        "patch_size": square(config.get("patch_size", 16), "patch_size"),
        "channels": config.get("num_channels", 3),
        "qkv_bias": "all" if config.get("qkv_bias", True) else "none",
        "pool": "token",
        "activation": _ACTIVATIONS[activation],
        "norm_eps": config.get("layer_norm_eps", 1e-12),
    }


def _config(arguments: Mapping[str, Any], clip: Clip) -> dict[str, Any]:
    exact = arguments["activation"] == "gelu"
    return {
        "image_size": clip[1],
        "num_channels": arguments["channels"],
        "patch_size": arguments["patch_size"],
        "hidden_size": arguments["width"],
        "num_hidden_layers": arguments["depth"],
        "num_attention_heads": arguments["num_heads"],
        "intermediate_size": round(arguments["width"] * arguments["mlp_ratio"]),
        "hidden_act": "gelu" if exact else "gelu_pytorch_tanh",
        "layer_norm_eps": arguments["norm_eps"],
        "qkv_bias": arguments["qkv_bias"] != "none",
        "num_labels": arguments["num_classes"],
    }


def _guess_timm(shapes: Mapping[str, tuple], told: Mapping[str, Any]) -> dict[str, Any]:
    width, channels, patch, _ = shapes["patch_embed.proj.weight"]
    heads = told.get("num_attention_heads") or HEADS_OF_WIDTH.get(width)
    if heads is None:
        raise ConfigError(
            f"a ViT of width {width} is none of the published ones, and weights do not tell the "
            "number of heads: give config={'num_attention_heads': …}"
        )
    return {
        "hidden_size": width,
        "num_channels": channels,
        "patch_size": patch,
        "image_size": math.isqrt(shapes["pos_embed"][1] - 1) * patch,
        "num_attention_heads": heads,
        "num_hidden_layers": count(shapes, r"blocks\.(\d+)\."),
        "intermediate_size": shapes["blocks.0.mlp.fc1.bias"][0],
        "qkv_bias": "blocks.0.attn.qkv.bias" in shapes,
        "layer_norm_eps": 1e-6,
        "num_labels": shapes["head.weight"][0],
    }


def _guess_google(shapes: Mapping[str, tuple], told: Mapping[str, Any]) -> dict[str, Any]:
    patch, _, channels, width = shapes["embedding/kernel"]
    head = "head/kernel" if "head/kernel" in shapes else "output_projection/kernel"
    first = [key for key in shapes if key.startswith("Transformer/encoderblock_0/")]
    return {
        "hidden_size": width,
        "num_channels": channels,
        "patch_size": patch,
        "image_size": math.isqrt(shapes["Transformer/posembed_input/pos_embedding"][1] - 1) * patch,
        "num_attention_heads": next(shapes[k][1] for k in first if k.endswith("/query/kernel")),
        "num_hidden_layers": count(shapes, r"Transformer/encoderblock_(\d+)/"),
        "intermediate_size": next(shapes[k][0] for k in first if k.endswith("/Dense_0/bias")),
        "layer_norm_eps": 1e-6,
        "hidden_act": "gelu_pytorch_tanh",
        "num_labels": shapes[head][1],
    }


def _source(arch: str, **options: Any) -> ShapedSource:
    return ShapedSource(
        entries=_entries(None, arch),
        arguments=_arguments,
        clip=_clip,
        config=_config,
        preprocessing=_pixels,
        rules=lambda config: _entries(config, arch),
        **options,
    )


_CLASSIFIER = _source(
    "hf/vit",
    model_type="vit",
    architectures=("ViTForImageClassification",),
    processor="ViTImageProcessor",
)
SOURCES = {
    "hf/vit": _CLASSIFIER,
    "hf/vit_encoder": bare(_CLASSIFIER, "ViTModel"),
    "timm/vit": _source("timm/vit", guess=_guess_timm),
    "google/vit": _source("google/vit", guess=_guess_google, prefixes=()),
}
