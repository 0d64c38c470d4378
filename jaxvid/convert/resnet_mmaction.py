"""TSN of MMAction2: a ResNet on every segment's frame with a TSNHead, which averages logits."""

from collections.abc import Mapping
from typing import Any

from jaxvid.convert import mmaction
from jaxvid.convert.mmaction import Config, Forms
from jaxvid.convert.one_form import plain
from jaxvid.convert.rules import batch_norm, conv, linear
from jaxvid.convert.sizes import count
from jaxvid.convert.source import Clip, Source
from jaxvid.core.errors import ConversionError
from jaxvid.nn.resnet import DEPTHS

FRAMES = 8  # segments of its recipes
_KEY, _BLOCK = "backbone.layer{s}.{b}", "backbone/stage_{s}/block_{b}"
_ENTRIES = (
    *conv("backbone.conv1.conv", "backbone/stem/conv", "h w"),
    *batch_norm("backbone.conv1.bn", "backbone/stem/norm"),
    *conv(f"{_KEY}.conv{{n}}.conv", f"{_BLOCK}/conv_{{n}}", "h w"),
    *batch_norm(f"{_KEY}.conv{{n}}.bn", f"{_BLOCK}/norm_{{n}}"),
    *conv(f"{_KEY}.downsample.conv", f"{_BLOCK}/shortcut", "h w"),
    *batch_norm(f"{_KEY}.downsample.bn", f"{_BLOCK}/shortcut_norm"),
    *linear("cls_head.fc_cls", "head"),
)
_BACKBONE: Forms = {
    "depth": (50, *(depth for depth in DEPTHS if depth != 50)),
    "num_stages": (4,),
    "strides": ((1, 2, 2, 2),),
    "dilations": ((1, 1, 1, 1),),
    "style": ("pytorch",),
}
_HEAD: Forms = {
    "spatial_type": ("avg",),
    "consensus": ({"type": "AvgConsensus", "dim": 1}, {"type": "AvgConsensus"}),
}


def _arguments(config: Config) -> dict[str, Any]:
    mmaction.refuse_other_forms(mmaction.part(config, "backbone"), _BACKBONE)
    mmaction.refuse_other_forms(mmaction.part(config, "cls_head"), _HEAD)
    backbone = mmaction.part(config, "backbone")
    return {
        "num_classes": mmaction.part(config, "cls_head").get("num_classes", 400),
        **DEPTHS[backbone.get("depth", 50)],
        "width": 64,
        "stem_kernel": 7,
        "stem_stride": 2,
        "stem_pool": True,
        "channels": backbone.get("in_channels", 3),
        "bn_epsilon": (backbone.get("norm_cfg") or {}).get("eps", 1e-5),
    }


def _clip(config: Config) -> Clip:
    return FRAMES, 224, 224, mmaction.part(config, "backbone").get("in_channels", 3)


def _config(arguments: Mapping[str, Any], clip: Clip) -> dict[str, Any]:
    backbone = {
        "type": "ResNet",
        "depth": _depth(plain(arguments["stage_sizes"]), arguments["bottleneck"]),
        "in_channels": arguments["channels"],
        "norm_cfg": {"type": "BN2d", "eps": arguments["bn_epsilon"]},
    }
    features = 2048 if arguments["bottleneck"] else 512
    head = {"type": "TSNHead", "in_channels": features, "consensus": {"type": "AvgConsensus"}}
    return mmaction.in_parts(backbone, arguments["num_classes"], **head)


def _depth(sizes: tuple[int, ...], bottleneck: bool) -> int:
    """Raises ConversionError where the reference has no such network."""
    for depth, fields in DEPTHS.items():
        if (plain(fields["stage_sizes"]), fields["bottleneck"]) == (sizes, bottleneck):
            return depth
    raise ConversionError(
        f"mmaction/tsn: stages of {sizes} {'bottlenecks' if bottleneck else 'blocks'}: MMAction2's "
        f"ResNet has depth {', '.join(map(str, DEPTHS))}"
    )


def _guess(shapes: Mapping[str, tuple], told: Mapping[str, Any]) -> dict[str, Any]:
    sizes = tuple(count(shapes, rf"backbone\.layer{s}\.(\d+)\.") for s in (1, 2, 3, 4))
    bottleneck = "backbone.layer1.0.conv3.conv.weight" in shapes
    return {
        "depth": _depth(sizes, bottleneck),
        "in_channels": shapes["backbone.conv1.conv.weight"][1],
        "num_classes": shapes["cls_head.fc_cls.weight"][0],
    }


def _preprocessing(config: Config) -> dict[str, Any]:
    return {**mmaction.pixels(config), "sampling": "uniform", "short_side": 256}


SOURCE = Source(
    entries=_ENTRIES,
    arguments=_arguments,
    clip=_clip,
    config=_config,
    guess=_guess,
    preprocessing=_preprocessing,
)
