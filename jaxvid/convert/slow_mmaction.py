"""SlowOnly of MMAction2: ResNet3dSlowOnly with an I3DHead, of frames or of flow."""

from collections.abc import Mapping
from typing import Any

from jaxvid.convert import mmaction, mmaction_resnet3d
from jaxvid.convert.mmaction import Config
from jaxvid.convert.rules import linear
from jaxvid.convert.source import Clip, Source

FRAMES, SIZE, SPAN = 8, 224, 64  # of its usual clips; SPAN: frames of the video that they cover
_INFLATE = (0, 0, 1, 1)


def _arguments(config: Config) -> dict[str, Any]:
    backbone, head = mmaction.part(config, "backbone"), mmaction.part(config, "cls_head")
    mmaction.refuse_other_forms(backbone, {"with_pool2": (False,), "lateral": (False,)})
    mmaction.refuse_other_forms(head, {"spatial_type": ("avg",)})
    return {
        **mmaction_resnet3d.network(backbone, stem=1, inflate=_INFLATE),
        "num_classes": head.get("num_classes", 400),
        "width": backbone.get("base_channels", 64),
        "stem_pool": True,
        "head_pool": None,
        "channels": backbone.get("in_channels", 3),
    }


def _clip(config: Config) -> Clip:
    return FRAMES, SIZE, SIZE, mmaction.part(config, "backbone").get("in_channels", 3)


def _config(arguments: Mapping[str, Any], clip: Clip) -> dict[str, Any]:
    kernels, width = arguments["temporal_kernels"], arguments["width"]
    backbone = {
        "type": "ResNet3dSlowOnly",
        "lateral": False,
        **mmaction_resnet3d.network_config("mmaction/slowonly", arguments, kernels),
        "base_channels": width,
        "in_channels": arguments["channels"],
    }
    classes = arguments["num_classes"]
    return mmaction.in_parts(backbone, classes, type="I3DHead", in_channels=32 * width)


def _guess(shapes: Mapping[str, tuple], told: Mapping[str, Any]) -> dict[str, Any]:
    width, channels = shapes["backbone.conv1.conv.weight"][:2]
    return {
        **mmaction_resnet3d.guess(shapes, "backbone."),
        "base_channels": width,
        "in_channels": channels,
        "num_classes": shapes["cls_head.fc_cls.weight"][0],
    }


def _preprocessing(config: Config) -> dict[str, Any]:
    dense = {"sampling": "dense", "stride_frames": SPAN // FRAMES, "short_side": 256}
    return {**mmaction.pixels(config), **dense}


SOURCE = Source(
    entries=(
        *mmaction_resnet3d.entries("backbone.", "backbone/"),
        *linear("cls_head.fc_cls", "head"),
    ),
    arguments=_arguments,
    clip=_clip,
    config=_config,
    guess=_guess,
    preprocessing=_preprocessing,
)
