"""SlowFast: PyTorchVideo's checkpoints of slowfast_r50 and slowfast_r101, 4×16, 8×8 and 16×8; MMAction2's.

The config is what the reference's create_slowfast takes; what is not said is what the hub's function
of that name passes, or create_slowfast's default.
"""

import functools
import math
import re
from collections.abc import Mapping
from typing import Any

from jaxvid.convert import slowfast_mmaction
from jaxvid.convert.one_form import plain, refuse_others
from jaxvid.convert.published import refuse_unpublished
from jaxvid.convert.pytorchvideo import DEPTHS, kernels_in, kernels_out
from jaxvid.convert.rules import Entry, batch_norm, conv, linear
from jaxvid.convert.source import Clip, Source
from jaxvid.core.errors import ConversionError

HEAD = ("head/{leaf:.+}",)
PATHWAYS = ("slow", "fast")
_DEPTHS = {18: (1, 1, 1, 1), **DEPTHS}  # the reference's, not He et al.'s
_HUB = {  # depth, kernel of the lateral connections
    "pytorchvideo/slowfast_r50": (50, 7),
    "pytorchvideo/slowfast_r101": (101, 5),
}
_REACH = "slowfast_fusion_conv_kernel_size"
_STRIDES = "slowfast_fusion_conv_stride, stage_spatial_strides and head_pool_kernel_sizes"
_PUBLISHED = tuple(
    {"model_depth": depth, "stem_dim_outs": (64, 8), _REACH: (kernel, 1, 1)}
    for depth, kernel in ((50, 7), (50, 5), (101, 5))
)

# --- keys -----------------------------------------------------------------------------------------


def _pathway(number: int, name: str) -> tuple[Entry, ...]:
    stem, path = f"blocks.0.multipathway_blocks.{number}", f"backbone/{name}"
    key = f"blocks.{{s}}.multipathway_blocks.{number}.res_blocks.{{i}}"
    block, branch = f"{path}/stage_{{s}}/block_{{i}}", f"{key}.branch2"
    return (
        *conv(f"{stem}.conv", f"{path}/stem/conv"),
        *batch_norm(f"{stem}.norm", f"{path}/stem/norm"),
        *conv(f"{key}.branch1_conv", f"{block}/shortcut"),
        *batch_norm(f"{key}.branch1_norm", f"{block}/shortcut_norm"),
        *conv(f"{branch}.conv_a", f"{block}/conv_1"),
        *batch_norm(f"{branch}.norm_a", f"{block}/norm_1"),
        *conv(f"{branch}.conv_b", f"{block}/conv_2"),
        *batch_norm(f"{branch}.norm_b", f"{block}/norm_2"),
        *conv(f"{branch}.conv_c", f"{block}/conv_3"),
        *batch_norm(f"{branch}.norm_c", f"{block}/norm_3"),
    )


_ENTRIES = (
    *(entry for number, name in enumerate(PATHWAYS) for entry in _pathway(number, name)),
    *conv("blocks.{s}.multipathway_fusion.conv_fast_to_slow", "backbone/fusion_{s}/conv"),
    *batch_norm("blocks.{s}.multipathway_fusion.norm", "backbone/fusion_{s}/norm"),
    *linear("blocks.6.proj", "head"),
)

# --- config ---------------------------------------------------------------------------------------

# The reference's word -> the model's field, both with the same meaning.
_FIELDS = {
    "model_num_class": "num_classes",
    "dropout_rate": "head_dropout",
    "slowfast_conv_channel_fusion_ratio": "fusion_ratio",
    "head_pool_kernel_sizes": "head_pools",
}
_SPATIAL_STRIDES = (1, 2, 2, 2)
_DEFAULTS = {
    "model_num_class": 400,
    "dropout_rate": 0.5,
    "slowfast_channel_reduction_ratio": (8,),
    "slowfast_conv_channel_fusion_ratio": 2,
    "slowfast_fusion_conv_stride": (4, 1, 1),
    "input_channels": (3, 3),
    "stem_dim_outs": (64, 8),
    "stage_conv_a_kernel_sizes": (
        ((1, 1, 1), (1, 1, 1), (3, 1, 1), (3, 1, 1)),
        ((3, 1, 1),) * 4,
    ),
    "stage_spatial_strides": (_SPATIAL_STRIDES,) * 2,
    "head_pool_kernel_sizes": ((8, 7, 7), (32, 7, 7)),
}
# What the model has in one form only.
_FIXED = {
    "stem_conv_kernel_sizes": ((1, 7, 7), (5, 7, 7)),
    "stem_conv_strides": ((1, 2, 2),) * 2,
    "stem_pool_kernel_sizes": ((1, 3, 3),) * 2,
    "stem_pool_strides": ((1, 2, 2),) * 2,
    "stage_conv_b_kernel_sizes": (((1, 3, 3),) * 4,) * 2,
    "stage_conv_b_num_groups": ((1,) * 4,) * 2,
    "stage_conv_b_dilations": (((1, 1, 1),) * 4,) * 2,
    "stage_temporal_strides": ((1,) * 4,) * 2,
    "head_output_size": (1, 1, 1),
    "head_output_with_global_average": True,
    "stem_pool": ("MaxPool3d",) * 2,
    "head_pool": "AvgPool3d",
    "activation": "ReLU",
    "norm": "BatchNorm3d",
    "fusion_builder": None,
}


def _complete(config: Mapping[str, Any], arch: str) -> dict[str, Any]:
    """The config with what is not said, when the model can be it. Raises ConversionError."""
    depth, kernel = _HUB[arch]
    hub = {"model_depth": depth, "slowfast_fusion_conv_kernel_size": (kernel, 1, 1)}
    config = {**_DEFAULTS, **hub, **{name: plain(value) for name, value in config.items()}}
    ratio = config["slowfast_channel_reduction_ratio"]
    ratio = config["slowfast_channel_reduction_ratio"] = (
        (ratio,) if isinstance(ratio, int) else ratio
    )
    slow = config["stem_dim_outs"][0]
    required = {
        **_FIXED,
        "slowfast_channel_reduction_ratio": ratio[:1],
        "stem_dim_outs": (slow, slow // ratio[0]),
        "input_channels": config["input_channels"][:1] * 2,
        "stage_spatial_strides": config["stage_spatial_strides"][:1] * 2,
        "slowfast_fusion_conv_kernel_size": (config["slowfast_fusion_conv_kernel_size"][0], 1, 1),
        "slowfast_fusion_conv_stride": (config["slowfast_fusion_conv_stride"][0], 1, 1),
    }
    refuse_others(arch, config, required)
    if config["model_depth"] not in _DEPTHS:
        raise ConversionError(
            f"{arch}: model_depth={config['model_depth']!r}: the reference has only "
            f"{', '.join(map(str, _DEPTHS))}"
        )
    return config


def _arguments(config: Mapping[str, Any], arch: str) -> dict[str, Any]:
    config = _complete(config, arch)
    slow, fast = map(kernels_in, config["stage_conv_a_kernel_sizes"])
    return {
        **{field: config[name] for name, field in _FIELDS.items()},
        "stage_sizes": _DEPTHS[config["model_depth"]],
        "width": config["stem_dim_outs"][0],
        "channel_reduction": config["slowfast_channel_reduction_ratio"][0],
        "alpha": config["slowfast_fusion_conv_stride"][0],
        "fusion_kernel": config["slowfast_fusion_conv_kernel_size"][0],
        "fusion_norm": True,
        "slow_spread": True,
        "slow_temporal_kernels": slow,
        "fast_temporal_kernels": fast,
        "spatial_strides": config["stage_spatial_strides"][0],
        "channels": config["input_channels"][0],
        "stem_pool": True,
        "bn_epsilon": 1e-5,
    }


def _clip(config: Mapping[str, Any], arch: str) -> Clip:
    """What the window of the fast pathway covers."""
    config = _complete(config, arch)
    frames, side, _ = config["head_pool_kernel_sizes"][1]
    size = side * 4 * math.prod(config["stage_spatial_strides"][0])
    return frames, size, size, config["input_channels"][0]


def _config(arch: str, arguments: Mapping[str, Any], clip: Clip) -> dict[str, Any]:
    sizes = plain(arguments["stage_sizes"])
    if sizes not in _DEPTHS.values():
        raise ConversionError(
            f"{arch} cannot express this model: stage_sizes={sizes}; the reference has only "
            f"{', '.join(map(str, _DEPTHS.values()))}"
        )
    width, ratio, alpha = (arguments[n] for n in ("width", "channel_reduction", "alpha"))
    strides = plain(arguments["spatial_strides"])
    frames, side = clip[0], math.ceil(clip[1] / (4 * math.prod(strides)))
    windows = ((frames // alpha, side, side), (frames, side, side))
    kernels = (arguments["slow_temporal_kernels"], arguments["fast_temporal_kernels"])
    return {
        **{name: arguments[field] for name, field in _FIELDS.items() if field in arguments},
        "head_pool_kernel_sizes": arguments.get("head_pools") or windows,
        "model_depth": next(depth for depth, known in _DEPTHS.items() if known == sizes),
        "stem_dim_outs": (width, width // ratio),
        "slowfast_channel_reduction_ratio": (ratio,),
        "slowfast_fusion_conv_stride": (alpha, 1, 1),
        "slowfast_fusion_conv_kernel_size": (arguments["fusion_kernel"], 1, 1),
        "stage_conv_a_kernel_sizes": tuple(map(kernels_out, kernels)),
        "stage_spatial_strides": (strides,) * 2,
        "input_channels": (arguments["channels"],) * 2,
    }


def _with_windows(variables: dict, arguments: dict) -> tuple[dict, dict]:
    """The reference always has windows; for the mean of everything they are the clip's whole maps."""
    if arguments["head_pools"] is None:
        arguments = {name: x for name, x in arguments.items() if name != "head_pools"}
    return variables, arguments


def _guess(shapes: Mapping[str, tuple], told: Mapping[str, Any]) -> dict[str, Any]:
    """What the shapes tell, and the strides and frames of the published model that has them. Raises
    ConversionError for others."""
    kernels = tuple(tuple(_kernels(shapes, s, p) for s in (1, 2, 3, 4)) for p in (0, 1))
    sizes = tuple(map(len, kernels[0]))
    if sizes not in _DEPTHS.values():
        raise ConversionError(
            f"stages of {sizes} blocks; the reference has only "
            f"{', '.join(map(str, _DEPTHS.values()))}"
        )
    slow, channels = shapes["blocks.0.multipathway_blocks.0.conv.weight"][:2]
    fast = shapes["blocks.0.multipathway_blocks.1.conv.weight"][0]
    lateral, _, reach, _, _ = shapes["blocks.0.multipathway_fusion.conv_fast_to_slow.weight"]
    depth = next(depth for depth, known in _DEPTHS.items() if known == sizes)
    found = {"model_depth": depth, "stem_dim_outs": (slow, fast), _REACH: (reach, 1, 1)}
    refuse_unpublished("PyTorchVideo's SlowFast", found, _PUBLISHED, _STRIDES)
    # Of the published ones 4×16 alone has depth 50 with a kernel of 5, and 16×8 alone stops seeing
    # other frames within a stage.
    alpha = 8 if (depth, reach) == (50, 5) else 4
    frames = 64 if any(len(set(stage)) > 1 for stage in kernels[0]) else 32
    return {
        "model_num_class": shapes["blocks.6.proj.weight"][0],
        "model_depth": depth,
        "input_channels": (channels, channels),
        "stem_dim_outs": (slow, fast),
        "slowfast_channel_reduction_ratio": (slow // fast,),
        "slowfast_conv_channel_fusion_ratio": lateral // fast,
        _REACH: (reach, 1, 1),
        "slowfast_fusion_conv_stride": (alpha, 1, 1),
        "stage_conv_a_kernel_sizes": tuple(map(_shortened, kernels)),
        "head_pool_kernel_sizes": ((frames // alpha, 7, 7), (frames, 7, 7)),
    }


def _kernels(shapes: Mapping[str, tuple], stage: int, pathway: int) -> tuple[tuple, ...]:
    """The kernels of conv_a in the blocks of a stage."""
    blocks = rf"blocks\.{stage}\.multipathway_blocks\.{pathway}\.res_blocks\.(\d+)\.branch2\.conv_a"
    found = {int(m[1]): shapes[k][2:] for k in shapes if (m := re.match(blocks, k))}
    return tuple(found[i] for i in sorted(found))


def _shortened(stages: tuple) -> tuple:
    """One kernel for a stage whose blocks all have it."""
    return tuple(stage[0] if len(set(stage)) == 1 else stage for stage in stages)


def _preprocessing(config: Mapping[str, Any]) -> dict[str, Any]:
    pixels = {"mean": (0.45,) * 3, "std": (0.225,) * 3, "short_side": 256}
    return {**pixels, "sampling": "dense", "stride_frames": 2}


def _source(arch: str) -> Source:
    return Source(
        entries=_ENTRIES,
        arguments=functools.partial(_arguments, arch=arch),
        clip=functools.partial(_clip, arch=arch),
        config=functools.partial(_config, arch),
        guess=_guess,
        prepare_save=_with_windows,
        preprocessing=_preprocessing,
    )


SOURCES = {
    **{arch: _source(arch) for arch in _HUB},
    "mmaction/slowfast": slowfast_mmaction.SOURCE,
}
