"""S3D: torchvision's checkpoint and that of kylemin/S3D, one network under two sets of names.

They differ in what they average before the classifier (torchvision a window of 7×7, the other one all
of the area) and in their pixels. Neither has gates.
"""

from collections.abc import Callable, Mapping
from typing import Any

from jaxvid.convert.rules import Entry, batch_norm, conv, leaf
from jaxvid.convert.source import Clip, Source
from jaxvid.core.errors import ConversionError
from jaxvid.nn.inception import BLOCKS, STAGE_BLOCKS, STRIDES

HEAD = ("head/{leaf:.+}",)
TORCHVISION_CLIP = (128, 224, 224, 3)  # what its published accuracy was measured with
KYLEMIN_CLIP = (64, 224, 224, 3)  # the paper's training; the repository says no number
TORCHVISION_MEAN = (0.43216, 0.394666, 0.37645)
TORCHVISION_STD = (0.22803, 0.22145, 0.216989)

# --- keys -----------------------------------------------------------------------------------------

Naming = Callable[[str, str], tuple[Entry, ...]]  # (key, path) -> the entries of one convolution


def _entries(stack: str, plain: Naming, separable: Naming, inner: str) -> tuple[Entry, ...]:
    """`stack` is a Sequential whose pools take numbers too; `inner` what a branch of one layer is."""
    entries = [
        *separable(f"{stack}.0", "backbone/stem"),
        *plain(f"{stack}.2", "backbone/conv_2b"),
        *separable(f"{stack}.3", "backbone/conv_2c"),
    ]
    number = 4
    for stage, blocks in BLOCKS.items():
        number += 1  # the pool before the stage
        for letter in blocks:
            key, path = f"{stack}.{number}.branch", f"backbone/mixed_{stage}{letter}/branch_"
            entries += plain(f"{key}0{inner}", f"{path}0")
            entries += plain(f"{key}{{b:[12]}}.0", f"{path}{{b}}a")
            entries += separable(f"{key}{{b:[12]}}.1", f"{path}{{b}}b")
            entries += plain(f"{key}3.1", f"{path}3b")
            number += 1
    return tuple(entries)


def _head(key: str) -> tuple[Entry, ...]:
    weight = leaf(f"{key}.weight", "head/kernel", "o i 1 1 1 -> i o")
    return weight, leaf(f"{key}.bias", "head/bias")


def _torchvision_plain(key: str, path: str) -> tuple[Entry, ...]:
    return *conv(f"{key}.0", f"{path}/conv"), *batch_norm(f"{key}.1", f"{path}/norm")


def _torchvision_separable(key: str, path: str) -> tuple[Entry, ...]:
    return (
        *conv(f"{key}.0.0", f"{path}/conv/spatial"),
        *batch_norm(f"{key}.0.1", f"{path}/conv/norm"),
        *conv(f"{key}.1.0", f"{path}/conv/temporal"),
        *batch_norm(f"{key}.1.1", f"{path}/norm"),
    )


def _kylemin_plain(key: str, path: str) -> tuple[Entry, ...]:
    return *conv(f"{key}.conv", f"{path}/conv"), *batch_norm(f"{key}.bn", f"{path}/norm")


def _kylemin_separable(key: str, path: str) -> tuple[Entry, ...]:
    return (
        *conv(f"{key}.conv_s", f"{path}/conv/spatial"),
        *batch_norm(f"{key}.bn_s", f"{path}/conv/norm"),
        *conv(f"{key}.conv_t", f"{path}/conv/temporal"),
        *batch_norm(f"{key}.bn_t", f"{path}/norm"),
    )


# --- configs --------------------------------------------------------------------------------------

_NETWORK = {
    "channels": 3,
    "gating": False,
    "width_factor": 1.0,
    "stage_blocks": STAGE_BLOCKS,
    "strides": STRIDES,
    "bn_epsilon": 1e-3,
}


def _torchvision_arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    if config.get("norm_layer") is not None:
        raise ConversionError(
            f"norm_layer {config['norm_layer']!r}: the model has the reference's own, BatchNorm3d "
            "with eps 1e-3"
        )
    return {
        **_NETWORK,
        "num_classes": config.get("num_classes", 400),
        "head_dropout": config.get("dropout", 0.2),
        "head_pool": (2, 7, 7),
    }


def _torchvision_config(arguments: Mapping[str, Any], clip: Clip) -> dict[str, Any]:
    return {"num_classes": arguments["num_classes"], "dropout": arguments["head_dropout"]}


def _torchvision_preprocessing(config: Mapping[str, Any]) -> dict[str, Any]:
    """15 frames a second. The reference squeezes the whole frame to 256×256 before it crops."""
    pixels = {"mean": TORCHVISION_MEAN, "std": TORCHVISION_STD, "short_side": 256}
    return {**pixels, "sampling": "dense", "stride_frames": 2}


def _kylemin_arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    classes = {"num_classes": config.get("num_class", 400)}
    return {**_NETWORK, **classes, "head_pool": (2, None, None)}


def _kylemin_config(arguments: Mapping[str, Any], clip: Clip) -> dict[str, Any]:
    return {"num_class": arguments["num_classes"]}


def _kylemin_preprocessing(config: Mapping[str, Any]) -> dict[str, Any]:
    pixels = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "short_side": 256}
    return {**pixels, "sampling": "dense", "stride_frames": 1}


# --- the table ------------------------------------------------------------------------------------

SOURCES = {
    "torchvision/s3d": Source(
        entries=(
            *_entries("features", _torchvision_plain, _torchvision_separable, inner=""),
            *_head("classifier.1"),
        ),
        arguments=_torchvision_arguments,
        clip=lambda config: TORCHVISION_CLIP,
        config=_torchvision_config,
        guess=lambda shapes, told: {"num_classes": shapes["classifier.1.weight"][0]},
        preprocessing=_torchvision_preprocessing,
    ),
    "kylemin/s3d": Source(
        entries=(
            *_entries("base", _kylemin_plain, _kylemin_separable, inner=".0"),
            *_head("fc.0"),
        ),
        arguments=_kylemin_arguments,
        clip=lambda config: KYLEMIN_CLIP,
        config=_kylemin_config,
        guess=lambda shapes, told: {"num_class": shapes["fc.0.weight"][0]},
        preprocessing=_kylemin_preprocessing,
    ),
}
