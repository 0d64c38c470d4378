"""V-JEPA 2: Hugging Face's classifiers, and the pretrained encoders that start one.

hf/vjepa2: VJEPA2ForVideoClassification of transformers 4.57. hf/vjepa2_encoder: VJEPA2Model, as
facebook/vjepa2-vitl-fpc64-256: it brings no classes, and pooler and head are fresh. vjepa2/encoder:
the "target_encoder" (or "encoder") in the authors' own .pt files, as a state dict. The predictor of
the pretraining, which both folders hold, is left aside; transformers starts a random one beside an
export and says so, and does not use it to classify.

Positions are counted along the rows and columns that frames have; transformers counts along those of
config.crop_size whatever the frames are, and differs for frames of another size or that are no squares.
"""

import re
from collections.abc import Mapping
from typing import Any

from jaxvid.convert.hf_folder import num_labels
from jaxvid.convert.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from jaxvid.convert.rules import (
    Entry,
    Waive,
    conv,
    fused_heads,
    heads_in,
    heads_out,
    leaf,
    linear,
    norm,
)
from jaxvid.convert.sizes import count
from jaxvid.convert.source import WRAPPERS, Clip, Source
from jaxvid.convert.videomae import EXACT_GELU
from jaxvid.convert.whole_patches import whole_patches
from jaxvid.core.errors import ConfigError, ConversionError

HEAD = ("head/{leaf:.+}",)
EXPORT = "hf/vjepa2"
POOLER_MLP_RATIO = 4.0  # transformers has no other
HEADS_OF_WIDTH = {1024: 16, 1280: 16, 1408: 22}
PREDICTOR = "the predictor of the pretraining, which a classifier has not"
FRESH = {
    "pooler/{leaf:.+}": "pretraining has no pooler",
    "head/{leaf:.+}": "pretraining has no classes",
}
# (width, classes) of the published classifiers: frames, size, frames of the video between two.
CLASSIFIERS = {
    (1024, 174): (16, 256, 4),
    (1024, 48): (32, 256, 2),
    (1408, 174): (64, 384, 2),
    (1408, 48): (32, 384, 2),
}
PRETRAINED = (64, 256, 4)

# --- keys -------------------------------------------------------------------------------------------


def _encoder(prefix: str) -> tuple[Entry, ...]:
    key, path = f"{prefix}encoder.layer.{{i}}", "encoder/block_{i}"
    return (
        *conv(f"{prefix}encoder.embeddings.patch_embeddings.proj", "encoder/patch_embed"),
        *heads_in(f"{key}.attention.{{p:query|key|value}}", f"{path}/attention/{{p}}"),
        *heads_out(f"{key}.attention.proj", f"{path}/attention/out"),
        *linear(f"{key}.mlp.{{fc:fc1|fc2}}", f"{path}/mlp/{{fc}}"),
        *norm(f"{key}.{{n:norm1|norm2}}", f"{path}/{{n}}"),
        *norm(f"{prefix}encoder.layernorm", "encoder/norm"),
        Waive(f"{prefix}predictor.{{rest:.+}}", PREDICTOR),
    )


def _pooler_block(key: str, attention: str, path: str) -> tuple[Entry, ...]:
    split = [
        heads_in(f"{key}.{attention}.{p[0]}_proj", f"{path}/attention/{p}")
        for p in ("query", "key", "value")
    ]
    return (
        *(entry for entries in split for entry in entries),
        *linear(f"{key}.mlp.{{fc:fc1|fc2}}", f"{path}/mlp/{{fc}}"),
        *norm(f"{key}.layer_norm{{k:1|2}}", f"{path}/norm{{k}}"),
    )


_LAYER = "pooler.self_attention_layers.{i}"
_POOLER = (
    leaf("pooler.query_tokens", "pooler/query_token", "1 1 d -> d"),
    *_pooler_block(_LAYER, "self_attn", "pooler/layer_{i}"),
    *heads_out(f"{_LAYER}.self_attn.out_proj", "pooler/layer_{i}/attention/out"),
    *_pooler_block("pooler.cross_attention_layer", "cross_attn", "pooler/cross"),
)

_ORIGINAL = (
    *conv("patch_embed.proj", "encoder/patch_embed"),
    *fused_heads("blocks.{i}.attn.qkv", "encoder/block_{i}/attention"),
    *heads_out("blocks.{i}.attn.proj", "encoder/block_{i}/attention/out"),
    *linear("blocks.{i}.mlp.{fc:fc1|fc2}", "encoder/block_{i}/mlp/{fc}"),
    *norm("blocks.{i}.{n:norm1|norm2}", "encoder/block_{i}/{n}"),
    *norm("norm", "encoder/norm"),
    Waive("pos_embed", "a table of positions that rotary ones have taken the place of"),
)

# --- config: Hugging Face's words for all -----------------------------------------------------------


def _encoder_arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults are VJEPA2Config's."""
    activation = config.get("hidden_act", "gelu")
    if activation not in EXACT_GELU:
        raise ConversionError(f"hidden_act {activation!r}: the model has 'gelu' (erf) only")
    width = config.get("hidden_size", 1024)
    return {
        "width": width,
        "depth": config.get("num_hidden_layers", 24),
        "num_heads": config.get("num_attention_heads", 16),
        # The reference cuts the hidden width off to an integer.
        "mlp_ratio": int(width * config.get("mlp_ratio", 4.0)) / width,
        "patch_size": config.get("patch_size", 16),
        "tubelet_size": config.get("tubelet_size", 2),
        "channels": config.get("in_chans", 3),
        "qkv_bias": "all" if config.get("qkv_bias", True) else "none",
        "norm_eps": config.get("layer_norm_eps", 1e-6),
        "pooler_depth": config.get("num_pooler_layers", 3),
        "pooler_mlp_ratio": POOLER_MLP_RATIO,
    }


def _arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    return {**_encoder_arguments(config), "num_classes": num_labels(dict(config))}


def _clip(config: Mapping[str, Any]) -> Clip:
    """(T, H, W, C) of the configured input."""
    size = config.get("crop_size", 256)
    clip = config.get("frames_per_clip", 64), size, size, config.get("in_chans", 3)
    return whole_patches(clip, config.get("tubelet_size", 2), config.get("patch_size", 16))


def _config(arguments: Mapping[str, Any], clip: Clip) -> dict[str, Any]:
    return {
        "crop_size": clip[1],
        "frames_per_clip": clip[0],
        "in_chans": arguments["channels"],
        "patch_size": arguments["patch_size"],
        "tubelet_size": arguments["tubelet_size"],
        "hidden_size": arguments["width"],
        "num_hidden_layers": arguments["depth"],
        "num_attention_heads": arguments["num_heads"],
        "mlp_ratio": _ratio(arguments),
        "hidden_act": "gelu",
        "layer_norm_eps": arguments["norm_eps"],
        "qkv_bias": arguments["qkv_bias"] != "none",
        "num_pooler_layers": arguments["pooler_depth"],
        "num_labels": arguments["num_classes"],
    }


def _ratio(arguments: Mapping[str, Any]) -> float:
    """mlp_ratio, such that the reference's cutting off makes the model's hidden width of it."""
    width = arguments["width"]
    hidden = round(width * arguments["mlp_ratio"])
    ratio = hidden / width
    return ratio if int(width * ratio) == hidden else (hidden + 0.5) / width


def _preprocessing(config: Mapping[str, Any]) -> dict[str, Any]:
    """ImageNet's statistics, and the strides of the authors' evaluation."""
    known = (config.get("hidden_size", 1024), num_labels(dict(config)))
    return {
        "mean": IMAGENET_MEAN,
        "std": IMAGENET_STD,
        "sampling": "dense",
        "stride_frames": CLASSIFIERS.get(known, PRETRAINED)[2],
    }


# --- files without a config ---------------------------------------------------------------------------


def _guess_with(
    shapes: Mapping[str, tuple], told: Mapping[str, Any], patches: str, block: str, bias: str
) -> dict[str, Any]:
    """patches: the key of their kernel. block: what the keys of a block begin with, before its number.
    bias: the end of the key of a bias of its queries."""
    width, channels, tubelet, patch, _ = shapes[patches]
    heads = told.get("num_attention_heads") or HEADS_OF_WIDTH.get(width)
    if heads is None:
        raise ConfigError(
            f"an encoder of width {width} is none of the published ones "
            f"({', '.join(map(str, HEADS_OF_WIDTH))}), and weights do not tell the number of heads: "
            "give config={'num_attention_heads': …}"
        )
    hidden = shapes[f"{block}0.mlp.fc1.bias"][0]
    classes = shapes.get("classifier.bias", (None,))[0]
    frames, size, _ = CLASSIFIERS.get((width, classes), PRETRAINED)
    guessed = {
        "hidden_size": width,
        "in_chans": channels,
        "tubelet_size": tubelet,
        "patch_size": patch,
        "num_attention_heads": heads,
        "num_hidden_layers": count(shapes, rf"{re.escape(block)}(\d+)\."),
        "mlp_ratio": _ratio({"width": width, "mlp_ratio": hidden / width}),
        "qkv_bias": f"{block}0.{bias}" in shapes,
        "frames_per_clip": frames,
        "crop_size": size,
    }
    return guessed | {"num_labels": classes} if classes else guessed


def _guess(shapes: Mapping[str, tuple], told: Mapping[str, Any]) -> dict[str, Any]:
    guessed = _guess_hf(shapes, told, "vjepa2.")
    layers = count(shapes, r"pooler\.self_attention_layers\.(\d+)\.")
    return {**guessed, "num_pooler_layers": layers}


def _guess_encoder(shapes: Mapping[str, tuple], told: Mapping[str, Any]) -> dict[str, Any]:
    return _guess_hf(shapes, told, "")


def _guess_hf(shapes: Mapping[str, tuple], told: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    patches = f"{prefix}encoder.embeddings.patch_embeddings.proj.weight"
    return _guess_with(shapes, told, patches, f"{prefix}encoder.layer.", "attention.query.bias")


def _guess_original(shapes: Mapping[str, tuple], told: Mapping[str, Any]) -> dict[str, Any]:
    return _guess_with(shapes, told, "patch_embed.proj.weight", "blocks.", "attn.qkv.bias")


# --- the table ------------------------------------------------------------------------------------

SOURCES = {
    "hf/vjepa2": Source(
        entries=(*_encoder("vjepa2."), *_POOLER, *linear("classifier", "head")),
        arguments=_arguments,
        clip=_clip,
        config=_config,
        guess=_guess,
        preprocessing=_preprocessing,
        model_type="vjepa2",
        architectures=("VJEPA2ForVideoClassification",),
        processor="VJEPA2VideoProcessor",
    ),
    "hf/vjepa2_encoder": Source(
        entries=_encoder(""),
        arguments=_encoder_arguments,
        clip=_clip,
        guess=_guess_encoder,
        preprocessing=_preprocessing,
        fresh=FRESH,
        model_type="vjepa2",
        architectures=("VJEPA2Model",),
    ),
    "vjepa2/encoder": Source(
        entries=_ORIGINAL,
        arguments=_encoder_arguments,
        clip=_clip,
        guess=_guess_original,
        prefixes=(*WRAPPERS, "backbone."),
        preprocessing=_preprocessing,
        fresh=FRESH,
    ),
}
