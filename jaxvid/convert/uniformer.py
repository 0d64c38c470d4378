"""UniFormer: the checkpoints of Sense-X/UniFormer's video classification, S and B.

The config has the words of the repository's UNIFORMER section and NUM_CLASSES of MODEL, NUM_FRAMES,
SAMPLING_RATE, TRAIN_CROP_SIZE and INPUT_CHANNEL_NUM of DATA; what is not said is as
in its UniFormer-S on Kinetics-400. Rates of dropout are choices of training and not minded.
"""

import re
from collections.abc import Mapping
from typing import Any

from jaxvid.convert.layout import Shape
from jaxvid.convert.one_form import refuse_others
from jaxvid.convert.rules import (
    Entry,
    batch_norm,
    conv,
    fused_heads,
    heads_out,
    leaf,
    linear,
    norm,
)
from jaxvid.convert.source import Clip, Source
from jaxvid.core.errors import ConfigError, ConversionError

HEAD = ("head/{leaf:.+}",)
STAGES = (1, 2, 3, 4)
SSV2_CLASSES = 174

# --- keys -----------------------------------------------------------------------------------------


def _pointwise(key: str, path: str) -> tuple[Entry, ...]:
    """A 1×1×1 convolution that is a linear layer here."""
    weight = leaf(f"{key}.weight", f"{path}/kernel", "o i 1 1 1 -> i o")
    return weight, leaf(f"{key}.bias", f"{path}/bias")


def _local_blocks(stage: int) -> tuple[Entry, ...]:
    key, path = f"blocks{stage}.{{i}}", f"encoder/stage_{stage}/block_{{i}}"
    return (
        *conv(f"{key}.pos_embed", f"{path}/position/conv"),
        *batch_norm(f"{key}.{{n:norm1|norm2}}", f"{path}/{{n}}"),
        *_pointwise(f"{key}.conv1", f"{path}/local/value"),
        *conv(f"{key}.attn", f"{path}/local/affinity"),
        *_pointwise(f"{key}.conv2", f"{path}/local/out"),
        *_pointwise(f"{key}.mlp.{{fc:fc1|fc2}}", f"{path}/mlp/{{fc}}"),
    )


def _global_blocks(stage: int) -> tuple[Entry, ...]:
    key, path = f"blocks{stage}.{{i}}", f"encoder/stage_{stage}/block_{{i}}"
    entries = [
        *conv(f"{key}.pos_embed", f"{path}/position/conv"),
        *norm(f"{key}.t_norm", f"{path}/time_norm"),
        *norm(f"{key}.{{n:norm1|norm2}}", f"{path}/{{n}}"),
        *linear(f"{key}.mlp.{{fc:fc1|fc2}}", f"{path}/mlp/{{fc}}"),
    ]
    for theirs, ours in (("t_attn", "time_attention"), ("attn", "attention")):
        entries += fused_heads(f"{key}.{theirs}.qkv", f"{path}/{ours}")
        entries += heads_out(f"{key}.{theirs}.proj", f"{path}/{ours}/out")
    return tuple(entries)


_ENTRIES = (
    *conv("patch_embed1.proj", "encoder/patch_embed"),
    *norm("patch_embed1.norm", "encoder/patch_norm"),
    *(
        entry
        for i in STAGES[1:]
        for entry in (
            *conv(f"patch_embed{i}.proj", f"encoder/merge_{i - 1}/reduction"),
            *norm(f"patch_embed{i}.norm", f"encoder/merge_{i - 1}/norm"),
        )
    ),
    *_local_blocks(1),
    *_local_blocks(2),
    *_global_blocks(3),
    *_global_blocks(4),
    *batch_norm("norm", "encoder/norm"),
    *linear("head", "head"),
)

# --- config ---------------------------------------------------------------------------------------

_DEFAULTS = {
    "DEPTH": (3, 4, 8, 3),
    "EMBED_DIM": (64, 128, 320, 512),
    "HEAD_DIM": 64,
    "MLP_RATIO": 4.0,
    "SPLIT": False,
    "NUM_CLASSES": 400,
    "NUM_FRAMES": 16,
    "TRAIN_CROP_SIZE": 224,
    "INPUT_CHANNEL_NUM": (3,),
}
# What the model has in one form only.
_FIXED = {"QKV_BIAS": True, "QKV_SCALE": None, "STD": False, "REPRESENTATION_SIZE": None}


def _complete(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with the defaults. Raises ConversionError for what the model cannot be."""
    refuse_others("UniFormer", config, _FIXED)
    full = {**_DEFAULTS, **config}
    for name in ("DEPTH", "EMBED_DIM"):
        if len(full[name]) != len(STAGES):
            raise ConversionError(f"{name}={full[name]}: expected one number for each of 4 stages")
    return full


def _arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    full = _complete(config)
    return {
        "num_classes": full["NUM_CLASSES"],
        "widths": tuple(full["EMBED_DIM"]),
        "depths": tuple(full["DEPTH"]),
        "head_dim": full["HEAD_DIM"],
        "split": full["SPLIT"],
        "mlp_ratio": full["MLP_RATIO"],
        "channels": full["INPUT_CHANNEL_NUM"][0],
        "norm_eps": 1e-6,
        "bn_epsilon": 1e-5,
    }


def _clip(config: Mapping[str, Any]) -> Clip:
    full = _complete(config)
    size = full["TRAIN_CROP_SIZE"]
    return full["NUM_FRAMES"], size, size, full["INPUT_CHANNEL_NUM"][0]


def _config(arguments: Mapping[str, Any], clip: Clip) -> dict[str, Any]:
    return {
        "DEPTH": arguments["depths"],
        "EMBED_DIM": arguments["widths"],
        "HEAD_DIM": arguments["head_dim"],
        "MLP_RATIO": arguments["mlp_ratio"],
        "SPLIT": arguments["split"],
        "NUM_CLASSES": arguments["num_classes"],
        "NUM_FRAMES": clip[0],
        "TRAIN_CROP_SIZE": clip[1],
        "INPUT_CHANNEL_NUM": (arguments["channels"],),
    }


def _guess(shapes: Mapping[str, Shape], told: Mapping[str, Any]) -> dict[str, Any]:
    """What shapes tell. Raises ConfigError where heads are not 64 wide, as all published ones are."""
    widths = tuple(shapes[f"patch_embed{i}.proj.weight"][0] for i in STAGES)
    head_dim = _DEFAULTS["HEAD_DIM"]
    if any(width % head_dim for width in widths[2:]):
        raise ConfigError(
            f"stages of widths {widths} have no heads of {head_dim}, and weights do not tell how wide "
            "they are: give config={'HEAD_DIM': …, …} in the words of the repository"
        )
    return {
        "EMBED_DIM": widths,
        "DEPTH": tuple(_depth(shapes, i) for i in STAGES),
        "MLP_RATIO": shapes["blocks3.0.mlp.fc1.bias"][0] / widths[2],
        "QKV_BIAS": "blocks3.0.attn.qkv.bias" in shapes,
        "SPLIT": "blocks3.0.t_norm.weight" in shapes,
        "STD": shapes["patch_embed2.proj.weight"][2] == 3,
        "NUM_CLASSES": shapes["head.weight"][0],
        "INPUT_CHANNEL_NUM": (shapes["patch_embed1.proj.weight"][1],),
    }


def _depth(shapes: Mapping[str, Shape], stage: int) -> int:
    return sum(bool(re.fullmatch(rf"blocks{stage}\.\d+\.norm1\.weight", key)) for key in shapes)


def _preprocessing(config: Mapping[str, Any]) -> dict[str, Any]:
    """Dense with stride 4 on Kinetics, uniform over the video for Something-Something's classes."""
    full = _complete(config)
    pixels = {"mean": (0.45,) * 3, "std": (0.225,) * 3, "short_side": full["TRAIN_CROP_SIZE"]}
    if full["NUM_CLASSES"] == SSV2_CLASSES:
        return {**pixels, "sampling": "uniform"}
    return {**pixels, "sampling": "dense", "stride_frames": full.get("SAMPLING_RATE", 4)}


SOURCES = {
    "uniformer/uniformer": Source(
        entries=_ENTRIES,
        arguments=_arguments,
        clip=_clip,
        config=_config,
        guess=_guess,
        preprocessing=_preprocessing,
    )
}
