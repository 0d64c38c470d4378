"""What the tables of torchvision's video ResNets have in common: keys, config, preprocessing.

The config is what torchvision's VideoResNet takes: num_classes, and layers, the blocks of each stage,
where they are not those of a ResNet-18.
"""

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any

from jaxvid.convert.rules import Entry, batch_norm, conv, linear
from jaxvid.convert.source import Clip, Source
from jaxvid.core.errors import ConversionError

LAYERS = (2, 2, 2, 2)
CLIP = (16, 112, 112, 3)
Pair = Callable[[str, str, str], tuple[Entry, ...]]


def source(arch: str, fixed: Mapping[str, Any], stem: tuple[Entry, ...], pair: Pair) -> Source:
    """The source of one of the three.

    fixed: fields that it has in one form only. stem: the rules of its stem. pair: (key, path, number)
    of a convolution in a block -> the rules of it and of its norm.
    """
    return Source(
        entries=(*stem, *_blocks(pair), *linear("fc", "head")),
        arguments=functools.partial(_arguments, fixed),
        clip=lambda config: CLIP,
        config=functools.partial(_config, arch),
        guess=_guess,
        # 15 frames a second, of videos that have 25 to 30; resized to 128×171.
        preprocessing=lambda config: {
            "mean": (0.43216, 0.394666, 0.37645),
            "std": (0.22803, 0.22145, 0.216989),
            "sampling": "dense",
            "stride_frames": 2,
            "short_side": 128,
        },
    )


def plain_pair(key: str, path: str, number: str) -> tuple[Entry, ...]:
    """A 3D convolution and its norm."""
    return (
        *conv(f"{key}.0", f"{path}/conv_{number}"),
        *batch_norm(f"{key}.1", f"{path}/norm_{number}"),
    )


PLAIN_STEM = (
    *conv("stem.0", "backbone/stem/conv"),
    *batch_norm("stem.1", "backbone/stem/norm"),
)


def _blocks(pair: Pair) -> tuple[Entry, ...]:
    key, path = "layer{s}.{i}", "backbone/stage_{s}/block_{i}"
    return (
        *pair(f"{key}.conv{{c:1|2}}", path, "{c}"),
        *conv(f"{key}.downsample.0", f"{path}/shortcut"),
        *batch_norm(f"{key}.downsample.1", f"{path}/shortcut_norm"),
    )


def _arguments(fixed: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    layers = tuple(config.get("layers", LAYERS))
    if len(layers) != len(LAYERS):
        raise ConversionError(f"layers={layers}: the reference has four stages")
    return {
        "num_classes": config.get("num_classes", 400),
        "stage_sizes": layers,
        "width": 64,
        "spatial_strides": (1, 2, 2, 2),
        "channels": 3,
        "bn_epsilon": 1e-5,
        **fixed,
    }


def _config(arch: str, arguments: Mapping[str, Any], clip: Clip) -> dict[str, Any]:
    sizes = tuple(arguments["stage_sizes"])
    if len(sizes) != len(LAYERS):
        raise ConversionError(
            f"{arch} cannot express this model: stage_sizes={sizes}; the reference has four stages"
        )
    return {"num_classes": arguments["num_classes"], "layers": sizes}


def _guess(shapes: Mapping[str, tuple], told: Mapping[str, Any]) -> dict[str, Any]:
    found = [re.match(r"layer([1-4])\.(\d+)\.", key) for key in shapes]
    blocks = {(match[1], match[2]) for match in found if match}
    layers = tuple(sum(stage == number for stage, _ in blocks) for number in "1234")
    return {"num_classes": shapes["fc.weight"][0], "layers": layers}
