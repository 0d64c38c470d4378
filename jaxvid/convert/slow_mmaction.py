"""SlowOnly of MMAction2: ResNet3dSlowOnly with an I3DHead, of frames or of flow."""

import re
from collections.abc import Mapping
from typing import Any

from jaxvid.convert import mmaction
from jaxvid.convert.mmaction import Config, Forms
from jaxvid.convert.one_form import plain
from jaxvid.convert.pytorchvideo import DEPTHS
from jaxvid.convert.rules import batch_norm, conv, linear
from jaxvid.convert.source import Clip, Source
from jaxvid.core.errors import ConversionError

FRAMES, SIZE, SPAN = 8, 224, 64  # of its usual clips; SPAN: frames of the video that they cover
_KEY, _BLOCK = "backbone.layer{s}.{i}", "backbone/stage_{s}/block_{i}"
_ENTRIES = (
    *conv("backbone.conv1.conv", "backbone/stem/conv"),
    *batch_norm("backbone.conv1.bn", "backbone/stem/norm"),
    *conv(f"{_KEY}.conv{{n}}.conv", f"{_BLOCK}/conv_{{n}}"),
    *batch_norm(f"{_KEY}.conv{{n}}.bn", f"{_BLOCK}/norm_{{n}}"),
    *conv(f"{_KEY}.downsample.conv", f"{_BLOCK}/shortcut"),
    *batch_norm(f"{_KEY}.downsample.bn", f"{_BLOCK}/shortcut_norm"),
    *linear("cls_head.fc_cls", "head"),
)
_FORMS: Forms = {
    "depth": ("backbone", (50, 101, 152)),
    "stage_blocks": ("backbone", (None,)),
    "num_stages": ("backbone", (4,)),
    "temporal_strides": ("backbone", ((1, 1, 1, 1),)),
    "dilations": ("backbone", ((1, 1, 1, 1),)),
    "conv1_kernel": ("backbone", ((1, 7, 7),)),
    "conv1_stride_s": ("backbone", (2,)),
    "conv1_stride_t": ("backbone", (1,)),
    "pool1_stride_s": ("backbone", (2,)),
    "pool1_stride_t": ("backbone", (1,)),
    "with_pool2": ("backbone", (False,)),
    "style": ("backbone", ("pytorch",)),
    "inflate_style": ("backbone", ("3x1x1",)),
    "lateral": ("backbone", (False,)),
    "non_local": ("backbone", ((0, 0, 0, 0), 0)),
    "spatial_type": ("cls_head", ("avg",)),
}


def _kernels(inflate: Any, sizes: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """inflate, a flag for each stage or for each of its blocks -> temporal_kernels."""
    flags = plain(inflate)
    flags = flags if isinstance(flags, tuple) else (flags,) * len(sizes)
    stages = tuple(s if isinstance(s, tuple) else (s,) for s in flags)
    if any(len(s) not in (1, n) for s, n in zip(stages, sizes, strict=True)):
        raise ConversionError(f"inflate={inflate!r}: expected a flag for each stage or block")
    return tuple(tuple(3 if flag else 1 for flag in stage) for stage in stages)


def _shortened(flags: tuple[tuple[int, ...], ...]) -> tuple:
    """One flag for a stage whose blocks all have it."""
    return tuple(stage[0] if len(set(stage)) == 1 else stage for stage in flags)


def _arguments(config: Config) -> dict[str, Any]:
    mmaction.refuse_other_forms(config, _FORMS)
    backbone = mmaction.part(config, "backbone")
    sizes = DEPTHS[backbone.get("depth", 50)]
    norm = backbone.get("norm_cfg") or {}
    return {
        "num_classes": mmaction.part(config, "cls_head").get("num_classes", 400),
        "stage_sizes": sizes,
        "width": backbone.get("base_channels", 64),
        "temporal_kernels": _kernels(backbone.get("inflate", (0, 0, 1, 1)), sizes),
        "spatial_strides": plain(backbone.get("spatial_strides", (1, 2, 2, 2))),
        "stem_pool": True,
        "head_pool": None,
        "channels": backbone.get("in_channels", 3),
        "bn_epsilon": norm.get("eps", 1e-5),
    }


def _clip(config: Config) -> Clip:
    return FRAMES, SIZE, SIZE, mmaction.part(config, "backbone").get("in_channels", 3)


def _config(arguments: Mapping[str, Any], clip: Clip) -> dict[str, Any]:
    sizes = plain(arguments["stage_sizes"])
    if sizes not in DEPTHS.values():
        raise ConversionError(
            f"mmaction/slowonly cannot express this model: stage_sizes={sizes}; the reference has only "
            f"{', '.join(map(str, DEPTHS.values()))}"
        )
    kernels = arguments["temporal_kernels"]
    if any(k not in (1, 3) for stage in kernels for k in stage):
        raise ConversionError(
            f"mmaction/slowonly cannot express this model: temporal_kernels={plain(kernels)}; the "
            "reference has kernels of 1 and 3 frames"
        )
    flags = tuple(tuple(int(k == 3) for k in stage) for stage in kernels)
    backbone = {
        "type": "ResNet3dSlowOnly",
        "lateral": False,
        "depth": next(depth for depth, known in DEPTHS.items() if known == sizes),
        "base_channels": arguments["width"],
        "inflate": _shortened(flags),
        "spatial_strides": plain(arguments["spatial_strides"]),
        "in_channels": arguments["channels"],
        "norm_cfg": {"type": "BN3d", "eps": arguments["bn_epsilon"]},
    }
    features = 32 * arguments["width"]
    classes = arguments["num_classes"]
    return mmaction.in_parts(backbone, classes, type="I3DHead", in_channels=features)


def _guess(shapes: Mapping[str, tuple], told: Mapping[str, Any]) -> dict[str, Any]:
    stages = tuple(_stage(shapes, number) for number in (1, 2, 3, 4))
    sizes = tuple(map(len, stages))
    if sizes not in DEPTHS.values():
        raise ConversionError(
            f"stages of {sizes} blocks; MMAction2's SlowOnly has only "
            f"{', '.join(map(str, DEPTHS.values()))}"
        )
    width, channels = shapes["backbone.conv1.conv.weight"][:2]
    return {
        "depth": next(depth for depth, known in DEPTHS.items() if known == sizes),
        "base_channels": width,
        "in_channels": channels,
        "inflate": _shortened(stages),
        "num_classes": shapes["cls_head.fc_cls.weight"][0],
    }


def _stage(shapes: Mapping[str, tuple], number: int) -> tuple[int, ...]:
    """Whether the blocks of a stage see other frames."""
    pattern = rf"backbone\.layer{number}\.(\d+)\.conv1\.conv\.weight"
    found = {int(m[1]): shapes[key][2] for key in shapes if (m := re.fullmatch(pattern, key))}
    return tuple(int(found[i] == 3) for i in sorted(found))


def _preprocessing(config: Config) -> dict[str, Any]:
    return {
        **mmaction.pixels(config),
        "sampling": "dense",
        "stride_frames": SPAN // FRAMES,
        "short_side": 256,
    }


SOURCE = Source(
    entries=_ENTRIES,
    arguments=_arguments,
    clip=_clip,
    config=_config,
    guess=_guess,
    preprocessing=_preprocessing,
)
