"""TimeSformer: Hugging Face's checkpoints, those of the authors' repository and MMAction2's.

Hugging Face: TimesformerForVideoClassification, in the key names of transformers 4. Original: files
that hold {"model_state": {"model.<key>": …}}. Tables of other sizes than the model's are resized by
taking the nearest entry, as the authors' code does (nn/position_table.py), where rows or columns are
more or fewer; transformers compares only how many tokens there are, and differs for frames that are no
squares but have as many. Image ViTs start it through TRANSFERS.
"""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxvid.convert import timesformer_mmaction
from jaxvid.convert.bare import bare
from jaxvid.convert.hf_folder import num_labels
from jaxvid.convert.layout import LayoutError, Shape
from jaxvid.convert.rules import Entry, Rule, Waive, fused_heads, heads_out, leaf, linear, norm
from jaxvid.convert.sizes import count, heads, square
from jaxvid.convert.source import Clip, Source, Transfer
from jaxvid.convert.timesformer_tables import (
    HEADS_OF_WIDTH,
    PLACES,
    TIMES,
    image_conv,
    tables,
    tables_as_they_are,
)
from jaxvid.convert.videomae import EXACT_GELU, SSV2_CLASSES, layer_norm_eps
from jaxvid.convert.whole_patches import whole_patches
from jaxvid.core.errors import ConversionError
from jaxvid.nn.position_table import resize_nearest

HEAD = ("head/{leaf:.+}",)
EXPORT = "hf/timesformer"
MEAN, STD = (0.45,) * 3, (0.225,) * 3
STRIDES = {8: 32, 16: 16, 96: 4}  # of the published models of Kinetics, by their frames
ATTENTION_TYPES = ("divided_space_time", "joint_space_time", "space_only")

# --- configs ---------------------------------------------------------------------------------------


def _attention_type(config: Mapping[str, Any]) -> str:
    name = config.get("attention_type", ATTENTION_TYPES[0])
    if name not in ATTENTION_TYPES:
        raise ConversionError(
            f"attention_type {name!r}: the model knows {', '.join(ATTENTION_TYPES)}"
        )
    return name


def _frames_of_table(config: Mapping[str, Any]) -> int | None:
    """None where there is no table of times."""
    known = _attention_type(config) != "space_only"
    return int(config.get("num_frames", 8)) if known else None


# --- Hugging Face ---------------------------------------------------------------------------------


def _hf_attention(key: str, path: str) -> tuple[Entry, ...]:
    return (
        *fused_heads(f"{key}.attention.qkv", path),
        *heads_out(f"{key}.output.dense", f"{path}/out"),
    )


_LAYER, _BLOCK = "timesformer.encoder.layer.{i}", "encoder/block_{i}"
_HF = (
    *tables(
        "timesformer.embeddings.cls_token",
        "timesformer.embeddings.position_embeddings",
        "timesformer.embeddings.time_embeddings",
    ),
    *image_conv("timesformer.embeddings.patch_embeddings.projection", "encoder/patch_embed"),
    *_hf_attention(f"{_LAYER}.attention", f"{_BLOCK}/attention"),
    *_hf_attention(f"{_LAYER}.temporal_attention", f"{_BLOCK}/temporal_attention"),
    *linear(f"{_LAYER}.temporal_dense", f"{_BLOCK}/temporal_fc"),
    *linear(f"{_LAYER}.intermediate.dense", f"{_BLOCK}/mlp/fc1"),
    *linear(f"{_LAYER}.output.dense", f"{_BLOCK}/mlp/fc2"),
    *norm(f"{_LAYER}.layernorm_before", f"{_BLOCK}/norm1"),
    *norm(f"{_LAYER}.layernorm_after", f"{_BLOCK}/norm2"),
    *norm(f"{_LAYER}.temporal_layernorm", f"{_BLOCK}/temporal_norm"),
    *norm("timesformer.layernorm", "encoder/norm"),
    *linear("classifier", "head"),
)


def _hf_arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults are TimesformerConfig's."""
    if config.get("hidden_act", "gelu") not in EXACT_GELU:
        raise ConversionError(
            f"hidden_act {config['hidden_act']!r}: the model has 'gelu' (erf) only"
        )
    width, attention_type = config.get("hidden_size", 768), _attention_type(config)
    # transformers gives the logits of every frame of space_only and leaves their mean to the caller.
    mean = {"frame_mean": "logits"} if attention_type == "space_only" else {}
    return {
        "num_classes": num_labels(dict(config)),
        "width": width,
        "depth": config.get("num_hidden_layers", 12),
        "num_heads": config.get("num_attention_heads", 12),
        "mlp_ratio": config.get("intermediate_size", 3072) / width,
        "patch_size": square(config.get("patch_size", 16), "patch_size"),
        "channels": config.get("num_channels", 3),
        "attention_type": attention_type,
        **mean,
        "num_frames": _frames_of_table(config),
        "image_size": square(config.get("image_size", 224), "image_size"),
        "qkv_bias": "all" if config.get("qkv_bias", True) else "none",
        "norm_eps": config.get("layer_norm_eps", 1e-6),
    }


def _hf_clip(config: Mapping[str, Any]) -> Clip:
    size = square(config.get("image_size", 224), "image_size")
    clip = int(config.get("num_frames", 8)), size, size, config.get("num_channels", 3)
    return whole_patches(clip, 1, square(config.get("patch_size", 16), "patch_size"))


def _hf_config(arguments: Mapping[str, Any], clip: Clip) -> dict[str, Any]:
    return {
        "image_size": arguments["image_size"] or clip[1],
        "num_frames": arguments["num_frames"] or clip[0],
        "num_channels": arguments["channels"],
        "patch_size": arguments["patch_size"],
        "hidden_size": arguments["width"],
        "num_hidden_layers": arguments["depth"],
        "num_attention_heads": arguments["num_heads"],
        "intermediate_size": round(arguments["width"] * arguments["mlp_ratio"]),
        "hidden_act": "gelu",
        "layer_norm_eps": arguments["norm_eps"],
        "qkv_bias": arguments["qkv_bias"] != "none",
        "attention_type": arguments["attention_type"],
        "num_labels": arguments["num_classes"],
    }


# --- the authors' repository ------------------------------------------------------------------------


def _original_attention(key: str, path: str) -> tuple[Entry, ...]:
    return *fused_heads(f"{key}.qkv", path), *heads_out(f"{key}.proj", f"{path}/out")


_KEY = "model.blocks.{i}"
_ORIGINAL = (
    *tables("model.cls_token", "model.pos_embed", "model.time_embed"),
    *image_conv("model.patch_embed.proj", "encoder/patch_embed"),
    *_original_attention(f"{_KEY}.attn", f"{_BLOCK}/attention"),
    *_original_attention(f"{_KEY}.temporal_attn", f"{_BLOCK}/temporal_attention"),
    *linear(f"{_KEY}.temporal_fc", f"{_BLOCK}/temporal_fc"),
    *linear(f"{_KEY}.mlp.{{fc:fc1|fc2}}", f"{_BLOCK}/mlp/{{fc}}"),
    *norm(f"{_KEY}.{{n:norm1|norm2}}", f"{_BLOCK}/{{n}}"),
    *norm(f"{_KEY}.temporal_norm1", f"{_BLOCK}/temporal_norm"),
    *norm("model.norm", "encoder/norm"),
    *linear("model.head", "head"),
)


def _original_arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults are those of the repository's one model, vit_base_patch16_224 for Kinetics-400."""
    if wrong := [name for name in ("qk_scale", "hybrid_backbone") if config.get(name)]:
        raise ConversionError(
            f"{', '.join(f'{name}={config[name]!r}' for name in wrong)}: the model has only the form "
            "of the published checkpoints"
        )
    width, attention_type = config.get("embed_dim", 768), _attention_type(config)
    mean = {"frame_mean": "tokens"} if attention_type == "space_only" else {}
    return {
        "num_classes": config.get("num_classes", 400),
        "width": width,
        "depth": config.get("depth", 12),
        "num_heads": config.get("num_heads", 12),
        # The reference cuts the hidden width off to an integer.
        "mlp_ratio": int(width * config.get("mlp_ratio", 4)) / width,
        "patch_size": square(config.get("patch_size", 16), "patch_size"),
        "channels": config.get("in_chans", 3),
        "attention_type": attention_type,
        **mean,
        "num_frames": _frames_of_table(config),
        "image_size": square(config.get("img_size", 224), "img_size"),
        "qkv_bias": "all" if config.get("qkv_bias", True) else "none",
        "norm_eps": layer_norm_eps(config),
    }


def _original_clip(config: Mapping[str, Any]) -> Clip:
    size = square(config.get("img_size", 224), "img_size")
    return int(config.get("num_frames", 8)), size, size, config.get("in_chans", 3)


def _original_config(arguments: Mapping[str, Any], clip: Clip) -> dict[str, Any]:
    return {
        "img_size": arguments["image_size"] or clip[1],
        "num_frames": arguments["num_frames"] or clip[0],
        "in_chans": arguments["channels"],
        "patch_size": arguments["patch_size"],
        "embed_dim": arguments["width"],
        "depth": arguments["depth"],
        "num_heads": arguments["num_heads"],
        "mlp_ratio": arguments["mlp_ratio"],
        "qkv_bias": arguments["qkv_bias"] != "none",
        "norm_layer": f"LayerNorm(eps={arguments['norm_eps']:g})",
        "attention_type": arguments["attention_type"],
        "num_classes": arguments["num_classes"],
    }


def _guess(shapes: Mapping[str, tuple], told: Mapping[str, Any]) -> dict[str, Any]:
    width, channels, patch, _ = shapes["model.patch_embed.proj.weight"]
    divided = any(re.match(r"model\.blocks\.\d+\.temporal_attn\.", key) for key in shapes)
    joint = "model.time_embed" in shapes
    times = shapes.get("model.time_embed", (1, told.get("num_frames", 8)))
    return {
        "embed_dim": width,
        "in_chans": channels,
        "patch_size": patch,
        "num_heads": heads(width, HEADS_OF_WIDTH, told),
        "depth": count(shapes, r"model\.blocks\.(\d+)\."),
        "mlp_ratio": shapes["model.blocks.0.mlp.fc1.bias"][0] / width,
        "qkv_bias": "model.blocks.0.attn.qkv.bias" in shapes,
        "attention_type": ATTENTION_TYPES[0 if divided else 1 if joint else 2],
        "num_frames": times[1],
        "img_size": math.isqrt(shapes["model.pos_embed"][1] - 1) * patch,
        "num_classes": shapes["model.head.weight"][0],
    }


# --- the table ------------------------------------------------------------------------------------


def _preprocessing(config: Mapping[str, Any]) -> dict[str, Any]:
    """The authors' statistics; dense sampling as on Kinetics, except for the 174 classes of
    Something-Something V2, which are sampled uniformly over the video."""
    classes = config.get("num_classes") or num_labels(dict(config))
    if classes == SSV2_CLASSES:
        return {"mean": MEAN, "std": STD, "sampling": "uniform"}
    stride = STRIDES.get(int(config.get("num_frames", 8)), 32)
    return {"mean": MEAN, "std": STD, "sampling": "dense", "stride_frames": stride}


_CLASSIFIER = Source(
    entries=_HF,
    arguments=_hf_arguments,
    clip=_hf_clip,
    config=_hf_config,
    prepare_save=tables_as_they_are,
    preprocessing=_preprocessing,
    model_type="timesformer",
    architectures=("TimesformerForVideoClassification",),
    processor="VideoMAEImageProcessor",
)
SOURCES = {
    "hf/timesformer": _CLASSIFIER,
    "hf/timesformer_encoder": bare(_CLASSIFIER, "TimesformerModel"),
    "timesformer/timesformer": Source(
        entries=_ORIGINAL,
        arguments=_original_arguments,
        clip=_original_clip,
        config=_original_config,
        guess=_guess,
        prepare_save=tables_as_they_are,
        begin="model.",
        preprocessing=_preprocessing,
    ),
    "mmaction/timesformer": timesformer_mmaction.SOURCE,
}


# --- starts ---------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Start(Transfer):
    """A transfer by these rules."""

    rules: tuple[Rule, ...] = ()

    @property
    def entries(self) -> tuple[Entry, ...]:
        return (*self.rules, *(Waive(path, reason) for path, reason in self.dropped.items()))


@dataclasses.dataclass(frozen=True)
class _Nearest:
    """A table on both sides, of whatever sizes."""

    def load(self, arrays: Sequence[np.ndarray], shapes: Sequence[Shape]) -> list[np.ndarray]:
        (table,), (wanted,) = arrays, shapes
        if table.ndim != len(wanted):
            raise LayoutError(f"tables of {table.ndim - 1} and {len(wanted) - 1} axes")
        return [resize_nearest(table, wanted[:-1])]

    def save(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        return list(arrays)


_FRAMES = 8
_IMAGE_FIELDS = (
    *("width", "depth", "num_heads", "mlp_ratio", "patch_size", "channels", "qkv_bias"),
    "norm_eps",
)
_NEW = "of clips; image models have nothing to start it from"


def _from_image(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Also of a ViT with the tanh form of GELU: its weights are commonly run with the exact one."""
    if arguments.get("pool", "token") != "token":
        raise ConversionError(f"pool={arguments['pool']!r}: TimeSformer has a class token")
    kept = {name: arguments[name] for name in _IMAGE_FIELDS if name in arguments}
    return {**kept, "num_frames": _FRAMES}


TRANSFERS = {
    # As the authors start theirs: attention along time as that over space, and nothing of it added in
    # any block but the first.
    "vit": _Start(
        arguments=_from_image,
        fresh={
            TIMES: _NEW,
            "encoder/block_{i}/temporal_fc/{leaf:.+}": _NEW,
            "head/{leaf:.+}": "the classes of images are not those of clips",
        },
        dropped={"head/{leaf:.+}": "the image classifier's own head"},
        clip=lambda image: (_FRAMES, *image[1:]),
        rules=(
            Rule((PLACES,), (PLACES,), _Nearest()),
            leaf("patch_embed/{leaf:.+}", "encoder/patch_embed/{leaf}"),
            leaf(f"{_BLOCK}/attention/{{leaf:.+}}", f"{_BLOCK}/temporal_attention/{{leaf}}"),
            leaf(f"{_BLOCK}/norm1/{{leaf:.+}}", f"{_BLOCK}/temporal_norm/{{leaf}}"),
            leaf("encoder/{rest:(?!position_embedding$).+}", "encoder/{rest}"),
        ),
    ),
    # One's own weights, for clips of other frames and size.
    "timesformer": _Start(
        arguments=dict,
        fresh={},
        rules=(
            *(Rule((table,), (table,), _Nearest()) for table in (PLACES, TIMES)),
            leaf("{path:(?!encoder/(?:time_)?position_embedding$).+}", "{path}"),
        ),
    ),
}
