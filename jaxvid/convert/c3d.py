"""C3D: MMAction2's recognisers (mmaction/models/backbones/c3d.py with an I3DHead).

The config is MMAction2's `model` dict: {"backbone": {"dropout_ratio": 0.5, "norm_cfg": None,
"out_dim": 8192}, "cls_head": {"num_classes": 101, "dropout_ratio": 0.5}}, or the fields of both in
one. out_dim is what the first linear layer takes; older versions have 8192 only.
"""

import math
from collections.abc import Mapping
from typing import Any

from jaxvid.convert.mmaction import Forms, part, refuse_other_forms
from jaxvid.convert.rules import batch_norm, conv, linear
from jaxvid.convert.source import Clip, Source
from jaxvid.core.errors import ConversionError

HEAD = ("head/{leaf:.+}",)
FRAMES = 16
WIDTHS, FC_WIDTH = (64, 128, 256, 512, 512), 4096
DEPTHS = (1, 1, 2, 2, 2)
POOLS = ((1, 2, 2), *((2, 2, 2),) * 4)
PIXEL_MEAN = (104, 117, 128)  # of R, G, B in 0..255, as its recipes have it

_ENTRIES = (
    *conv("backbone.conv{l:\\d[a-z]}.conv", "backbone/conv_{l}"),
    *batch_norm("backbone.conv{l:\\d[a-z]}.bn", "backbone/norm_{l}"),
    *linear("backbone.fc{n:[67]}", "fc_{n}"),
    *linear("cls_head.fc_cls", "head"),
)
_BACKBONE: Forms = {
    "conv_cfg": (None, {"type": "Conv3d"}),
    "act_cfg": (None, {"type": "ReLU"}),
}
_HEAD: Forms = {
    "in_channels": (FC_WIDTH,),
    "spatial_type": (None,),
}


def _batch_norm(norm_cfg: Mapping[str, Any] | None) -> dict[str, Any]:
    """Raises ConversionError for norms other than BN3d."""
    if norm_cfg is None:
        return {"batch_norm": False}
    if norm_cfg.get("type") != "BN3d":
        raise ConversionError(
            f"norm_cfg {dict(norm_cfg)!r}: the model has None or type 'BN3d' only"
        )
    return {
        "batch_norm": True,
        "bn_epsilon": norm_cfg.get("eps", 1e-5),
        "bn_momentum": 1 - norm_cfg.get("momentum", 0.1),
    }


def _arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    refuse_other_forms(part(config, "backbone"), _BACKBONE)
    refuse_other_forms(part(config, "cls_head"), _HEAD)
    backbone, head = part(config, "backbone"), part(config, "cls_head")
    return {
        "num_classes": head.get("num_classes", 101),
        "channels": 3,
        "widths": WIDTHS,
        "depths": DEPTHS,
        "pools": POOLS,
        "fc_width": FC_WIDTH,
        "dropout": backbone.get("dropout_ratio", 0.5),
        "head_dropout": head.get("dropout_ratio", 0.5),
        **_batch_norm(backbone.get("norm_cfg")),
    }


def _clip(config: Mapping[str, Any]) -> Clip:
    """16 frames of a size that ends as out_dim values: 8192 is 1×4×4 places, 112 pixels."""
    values = part(config, "backbone").get("out_dim", 8192)
    side = math.isqrt(values // WIDTHS[-1])
    if side < 1 or side * side * WIDTHS[-1] != values:
        raise ConversionError(
            f"out_dim {values}: expected {WIDTHS[-1]} channels of a square map, as 8192 for 16 "
            "frames of 112×112"
        )
    size = 16 * (2 * side - 1)
    return FRAMES, size, size, 3


def _values(clip: Clip) -> int:
    """What the first linear layer takes for such clips."""
    frames, height, width, _ = clip
    return WIDTHS[-1] * (frames // 16) * ((height // 16 + 2) // 2) * ((width // 16 + 2) // 2)


def _config(arguments: Mapping[str, Any], clip: Clip) -> dict[str, Any]:
    norm = None
    if arguments["batch_norm"]:
        momentum = round(1 - arguments["bn_momentum"], 9)
        norm = {"type": "BN3d", "eps": arguments["bn_epsilon"], "momentum": momentum}
    backbone = {"type": "C3D", "norm_cfg": norm, "dropout_ratio": arguments["dropout"]}
    head = {"type": "I3DHead", "in_channels": FC_WIDTH, "spatial_type": None}
    return {
        "backbone": {**backbone, "out_dim": _values(clip)},
        "cls_head": {
            **head,
            "num_classes": arguments["num_classes"],
            "dropout_ratio": arguments["head_dropout"],
        },
    }


def _guess(shapes: Mapping[str, tuple], told: Mapping[str, Any]) -> dict[str, Any]:
    norm = {"type": "BN3d"} if "backbone.conv1a.bn.weight" in shapes else None
    return {
        "backbone": {"norm_cfg": norm, "out_dim": shapes["backbone.fc6.weight"][1]},
        "cls_head": {"num_classes": shapes["cls_head.fc_cls.weight"][0]},
    }


def _preprocessing(config: Mapping[str, Any]) -> dict[str, Any]:
    """Pixels of 0..255 minus their mean. The reference resizes the whole frame to 128×171."""
    pixels = {"mean": tuple(m / 255 for m in PIXEL_MEAN), "std": (1 / 255,) * 3, "short_side": 128}
    return {**pixels, "sampling": "dense", "stride_frames": 1}


SOURCES = {
    "mmaction/c3d": Source(
        entries=_ENTRIES,
        arguments=_arguments,
        clip=_clip,
        config=_config,
        guess=_guess,
        preprocessing=_preprocessing,
    )
}
