"""SlowFast of MMAction2: ResNet3dSlowFast with a SlowFastHead.

Unlike the authors' its lateral connections are bare convolutions, its slow pathway sees every
speed_ratio-th frame, and its head has the fast pathway's features first.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxvid.convert import mmaction, mmaction_resnet3d
from jaxvid.convert.layout import LayoutError, Shape
from jaxvid.convert.mmaction import Config, Forms
from jaxvid.convert.one_form import refuse_others
from jaxvid.convert.rules import Entry, Rule, conv, leaf
from jaxvid.convert.shaped_source import ShapedSource
from jaxvid.convert.source import Clip
from jaxvid.core.errors import ConversionError

ARCH = "mmaction/slowfast"
FRAMES, SIZE = 32, 224  # of its clips, every second frame of the video
_SLOW, _FAST = "slow_pathway", "fast_pathway"
_SLOW_FORMS: Forms = {"lateral": (True,), "lateral_inv": (False,), "lateral_norm": (False,)}
_ACTIVE: Forms = {"lateral_activate": ((1, 1, 1, 1),)}


@dataclasses.dataclass(frozen=True)
class _FastFirst:
    """weight (classes, fast + slow) <-> kernel (slow + fast, classes). fast: so many features."""

    fast: int

    def load(self, arrays: Sequence[np.ndarray], shapes: Sequence[Shape]) -> list[np.ndarray]:
        (array,) = arrays
        if array.ndim != 2 or array.shape[1] <= self.fast:
            raise LayoutError(
                f"a head of shape {tuple(array.shape)}, expected (classes, more than {self.fast})"
            )
        return [np.concatenate([array[:, self.fast :], array[:, : self.fast]], axis=1).T]

    def save(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        weight = arrays[0].T
        slow = weight.shape[1] - self.fast
        return [np.concatenate([weight[:, slow:], weight[:, :slow]], axis=1)]


def _entries(fast: int) -> tuple[Entry, ...]:
    return (
        *mmaction_resnet3d.entries("backbone.slow_path.", "backbone/slow/"),
        *mmaction_resnet3d.entries("backbone.fast_path.", "backbone/fast/"),
        *conv("backbone.slow_path.conv1_lateral.conv", "backbone/fusion_0/conv"),
        *conv("backbone.slow_path.layer{s}_lateral.conv", "backbone/fusion_{s}/conv"),
        Rule(("cls_head.fc_cls.weight",), ("head/kernel",), _FastFirst(fast)),
        leaf("cls_head.fc_cls.bias", "head/bias"),
    )


def _pathways(config: Config) -> tuple[Config, Config]:
    """The slow one's and the fast one's. Raises ConversionError without them."""
    backbone = mmaction.part(config, "backbone")
    if absent := [name for name in (_SLOW, _FAST) if not isinstance(backbone.get(name), Mapping)]:
        raise ConversionError(
            f"the config has no {' and no '.join(absent)}: expected MMAction2's model dict, "
            "{'backbone': {'slow_pathway': {…}, 'fast_pathway': {…}}, 'cls_head': {…}}"
        )
    return backbone[_SLOW], backbone[_FAST]


def _arguments(config: Config) -> dict[str, Any]:
    backbone, head = mmaction.part(config, "backbone"), mmaction.part(config, "cls_head")
    slow, fast = _pathways(config)
    mmaction.refuse_other_forms(head, {"spatial_type": ("avg",)})
    mmaction.refuse_other_forms(slow, {**_SLOW_FORMS, **_ACTIVE})
    mmaction.refuse_other_forms(fast, {"lateral": (False,)})
    alpha, ratio = backbone.get("speed_ratio", 8), backbone.get("channel_ratio", 8)
    networks = [
        mmaction_resnet3d.network(pathway, stem=stem, inflate=1)
        for pathway, stem in ((slow, 1), (fast, 5))
    ]
    kernels = [network.pop("temporal_kernels") for network in networks]
    width = slow.get("base_channels", 64)
    told = {
        "resample_rate": backbone.get("resample_rate", 8),
        "base_channels of the fast pathway": fast.get("base_channels", 64),
        "in_channels of the fast pathway": fast.get("in_channels", 3),
        **{f"{name} of the fast pathway": x for name, x in networks[1].items()},
    }
    same = {
        "resample_rate": alpha,
        "base_channels of the fast pathway": width // ratio,
        "in_channels of the fast pathway": slow.get("in_channels", 3),
        **{f"{name} of the fast pathway": x for name, x in networks[0].items()},
    }
    refuse_others("MMAction2's SlowFast", told, same)
    return {
        **networks[0],
        "num_classes": head.get("num_classes", 400),
        "width": width,
        "alpha": alpha,
        "channel_reduction": ratio,
        "fusion_ratio": slow.get("lateral_infl", 2),
        "fusion_kernel": slow.get("fusion_kernel", 5),
        "fusion_norm": False,
        "slow_spread": False,
        "slow_temporal_kernels": kernels[0],
        "fast_temporal_kernels": kernels[1],
        "stem_pool": True,
        "head_pools": None,
        "channels": slow.get("in_channels", 3),
    }


def _clip(config: Config) -> Clip:
    return FRAMES, SIZE, SIZE, _pathways(config)[0].get("in_channels", 3)


def _rules(config: Config) -> tuple[Entry, ...]:
    backbone = mmaction.part(config, "backbone")
    width = _pathways(config)[0].get("base_channels", 64)
    return _entries(32 * (width // backbone.get("channel_ratio", 8)))


def _config(arguments: Mapping[str, Any], clip: Clip) -> dict[str, Any]:
    width, ratio = arguments["width"], arguments["channel_reduction"]

    def pathway(kernels: Any, width: int, stem: int, **more: Any) -> dict[str, Any]:
        return {
            "type": "resnet3d",
            **mmaction_resnet3d.network_config(ARCH, arguments, kernels),
            "base_channels": width,
            "in_channels": arguments["channels"],
            "conv1_kernel": (stem, 7, 7),
            **more,
        }

    lateral = {
        "lateral": True,
        "fusion_kernel": arguments["fusion_kernel"],
        "lateral_infl": arguments["fusion_ratio"],
    }
    backbone = {
        "type": "ResNet3dSlowFast",
        "resample_rate": arguments["alpha"],
        "speed_ratio": arguments["alpha"],
        "channel_ratio": ratio,
        _SLOW: pathway(arguments["slow_temporal_kernels"], width, 1, **lateral),
        _FAST: pathway(arguments["fast_temporal_kernels"], width // ratio, 5, lateral=False),
    }
    features = 32 * (width + width // ratio)
    classes = arguments["num_classes"]
    return mmaction.in_parts(backbone, classes, type="SlowFastHead", in_channels=features)


def _guess(shapes: Mapping[str, tuple], told: Mapping[str, Any]) -> dict[str, Any]:
    """What the shapes tell; the published ones with lateral kernels of 7 have alpha 4, those of 5 have
    8."""
    slow, channels = shapes["backbone.slow_path.conv1.conv.weight"][:2]
    fast = shapes["backbone.fast_path.conv1.conv.weight"][0]
    lateral = shapes["backbone.slow_path.conv1_lateral.conv.weight"]
    alpha = 8 if lateral[2] == 5 else 4

    def pathway(name: str, width: int, stem: int, **more: Any) -> dict[str, Any]:
        found = mmaction_resnet3d.guess(shapes, f"backbone.{name}.")
        common = {"base_channels": width, "in_channels": channels, "conv1_kernel": (stem, 7, 7)}
        return {**found, **common, **more}

    fusion = {"fusion_kernel": lateral[2], "lateral_infl": lateral[0] // fast}
    return {
        "backbone": {
            "resample_rate": alpha,
            "speed_ratio": alpha,
            "channel_ratio": slow // fast,
            _SLOW: pathway("slow_path", slow, 1, lateral=True, **fusion),
            _FAST: pathway("fast_path", fast, 5, lateral=False),
        },
        "cls_head": {"num_classes": shapes["cls_head.fc_cls.weight"][0]},
    }


def _preprocessing(config: Config) -> dict[str, Any]:
    dense = {"sampling": "dense", "stride_frames": 2, "short_side": 256}
    return {**mmaction.pixels(config), **dense}


SOURCE = ShapedSource(
    entries=_entries(256),
    arguments=_arguments,
    clip=_clip,
    config=_config,
    guess=_guess,
    preprocessing=_preprocessing,
    rules=_rules,
)
