"""X3D: PyTorchVideo's checkpoints of XS, S, M (pytorchvideo.models.hub.x3d) and L.

The config is what the reference's create_x3d takes; what is not said is what the hub's function of
that name passes, or create_x3d's default.
"""

import functools
import math
from collections.abc import Mapping
from typing import Any

from jaxvid.convert.one_form import plain, refuse_others
from jaxvid.convert.rules import Entry, batch_norm, conv, leaf, linear
from jaxvid.convert.source import Clip, Source
from jaxvid.core.errors import ConversionError

HEAD = ("head/{leaf:.+}",)

# name -> frames, size of the clip, depth_factor; frames between two of a clip, side before the crop
_PUBLISHED = {
    "pytorchvideo/x3d_m": (16, 224, 2.2, 5, 256),
    "pytorchvideo/x3d_s": (13, 160, 2.2, 6, 182),
    "pytorchvideo/x3d_xs": (4, 160, 2.2, 12, 182),
    "pytorchvideo/x3d_l": (16, 312, 5.0, 5, 356),
}
_ONE_DEPTH = (1, 2, 5, 3)

# --- keys -----------------------------------------------------------------------------------------


def _pointwise(key: str, path: str) -> tuple[Entry, ...]:
    """A 1×1×1 convolution that is a linear layer here."""
    weight = leaf(f"{key}.weight", f"{path}/kernel", "o i 1 1 1 -> i o")
    return weight, leaf(f"{key}.bias", f"{path}/bias")


_BLOCK, _PATH = "blocks.{s}.res_blocks.{i}", "backbone/stage_{s}/block_{i}"
_ENTRIES = (
    # The reference's stem has its names swapped: conv_t is the one over space and comes first.
    *conv("blocks.0.conv.conv_t", "backbone/stem/conv/spatial"),
    *conv("blocks.0.conv.conv_xy", "backbone/stem/conv/temporal"),
    *batch_norm("blocks.0.norm", "backbone/stem/norm"),
    *conv(f"{_BLOCK}.branch1_conv", f"{_PATH}/shortcut"),
    *batch_norm(f"{_BLOCK}.branch1_norm", f"{_PATH}/shortcut_norm"),
    *conv(f"{_BLOCK}.branch2.conv_a", f"{_PATH}/conv_1"),
    *batch_norm(f"{_BLOCK}.branch2.norm_a", f"{_PATH}/norm_1"),
    *conv(f"{_BLOCK}.branch2.conv_b", f"{_PATH}/conv_2"),
    *batch_norm(f"{_BLOCK}.branch2.norm_b.0", f"{_PATH}/norm_2"),
    *_pointwise(f"{_BLOCK}.branch2.norm_b.1.block.0", f"{_PATH}/squeeze/reduce"),
    *_pointwise(f"{_BLOCK}.branch2.norm_b.1.block.2", f"{_PATH}/squeeze/expand"),
    *conv(f"{_BLOCK}.branch2.conv_c", f"{_PATH}/conv_3"),
    *batch_norm(f"{_BLOCK}.branch2.norm_c", f"{_PATH}/norm_3"),
    *conv("blocks.5.pool.pre_conv", "backbone/conv_5"),
    *batch_norm("blocks.5.pool.pre_norm", "backbone/norm_5"),
    *_pointwise("blocks.5.pool.post_conv", "fc_1"),
    *batch_norm("blocks.5.pool.post_norm", "fc_1_norm"),
    *linear("blocks.5.proj", "head"),
)

# --- config ---------------------------------------------------------------------------------------

# The reference's word -> the model's field, both with the same meaning.
_FIELDS = {
    "input_channel": "channels",
    "model_num_class": "num_classes",
    "dropout_rate": "head_dropout",
    "width_factor": "width_factor",
    "depth_factor": "depth_factor",
    "stem_dim_in": "stem_width",
    "stage_spatial_stride": "spatial_strides",
    "stage_temporal_stride": "temporal_strides",
    "bottleneck_factor": "bottleneck_factor",
    "se_ratio": "se_ratio",
    "head_dim_out": "head_width",
    "head_bn_lin5_on": "head_norm",
}
_DEFAULTS = {
    "input_channel": 3,
    "model_num_class": 400,
    "dropout_rate": 0.5,
    "width_factor": 2.0,
    "stem_dim_in": 12,
    "stage_spatial_stride": (2, 2, 2, 2),
    "stage_temporal_stride": (1, 1, 1, 1),
    "bottleneck_factor": 2.25,
    "se_ratio": 0.0625,
    "head_dim_out": 2048,
    "head_bn_lin5_on": False,
    "norm_momentum": 0.1,
}
# What the model has in one form only. The reference's shortcuts keep 1e-5 whatever norm_eps says.
_FIXED = {
    "norm_eps": 1e-5,
    "stem_conv_kernel_size": (5, 3, 3),
    "stem_conv_stride": (1, 2, 2),
    "stage_conv_kernel_size": ((3, 3, 3),) * 4,
    "head_output_with_global_average": True,
    "activation": "ReLU",
    "inner_act": "Swish",
    "head_pool_act": "ReLU",
    "norm": "BatchNorm3d",
}


def _row(config: Mapping[str, Any], arch: str) -> tuple:
    """Of _PUBLISHED. Weights of L are L's whatever name they came by: only L is that deep."""
    return _PUBLISHED["pytorchvideo/x3d_l" if config.get("depth_factor") == 5.0 else arch]


def _complete(config: Mapping[str, Any], arch: str) -> dict[str, Any]:
    """The config with what the hub's function passes and create_x3d's defaults. Raises."""
    config = {name: plain(value) for name, value in config.items()}
    refuse_others(arch, config, _FIXED)
    frames, size, depth, _, _ = _row(config, arch)
    hub = {"input_clip_length": frames, "input_crop_size": size, "depth_factor": depth}
    return {**_DEFAULTS, **hub, **config}


def _arguments(config: Mapping[str, Any], arch: str) -> dict[str, Any]:
    config = _complete(config, arch)
    space = 2 * math.prod(config["stage_spatial_stride"])
    side = math.ceil(config["input_crop_size"] / space)
    length = config["input_clip_length"] // math.prod(config["stage_temporal_stride"])
    return {
        **{field: config[name] for name, field in _FIELDS.items()},
        "head_pool": (length, side, side),
        "bn_momentum": 1 - config["norm_momentum"],
    }


def _clip(config: Mapping[str, Any], arch: str) -> Clip:
    config = _complete(config, arch)
    size = config["input_crop_size"]
    return config["input_clip_length"], size, size, config["input_channel"]


def _config(arguments: Mapping[str, Any], clip: Clip) -> dict[str, Any]:
    """The way back. What the reference calls its input is what its pooling window was made for."""
    fields = {name: arguments[field] for name, field in _FIELDS.items()}
    length, size = clip[:2]
    if window := arguments.get("head_pool"):
        length = window[0] * math.prod(arguments["temporal_strides"])
        space = 2 * math.prod(arguments["spatial_strides"])
        size = size if math.ceil(size / space) == window[1] else window[1] * space
    return {
        **fields,
        "input_clip_length": length,
        "input_crop_size": size,
        "norm_momentum": 1 - arguments["bn_momentum"],
    }


def _with_window(variables: dict, arguments: dict) -> tuple[dict, dict]:
    """The reference always has a window; for the mean of everything it is the clip's whole map."""
    if arguments["head_pool"] is None:
        arguments = {name: x for name, x in arguments.items() if name != "head_pool"}
    return variables, arguments


def _guess(shapes: Mapping[str, tuple], told: Mapping[str, Any]) -> dict[str, Any]:
    """What the shapes tell. Raises ConversionError for depths nobody published."""
    depths = [_depth(shapes, stage) for stage in (1, 2, 3, 4)]
    factors = [f for f in (2.2, 5.0) if depths == [math.ceil(one * f) for one in _ONE_DEPTH]]
    if not factors:
        raise ConversionError(
            f"stages of {depths} blocks are neither X3D-M's nor X3D-L's: give config={{...}} with "
            "the arguments of create_x3d"
        )
    return {
        "model_num_class": shapes["blocks.5.proj.weight"][0],
        "input_channel": shapes["blocks.0.conv.conv_t.weight"][1],
        "depth_factor": factors[0],
        "head_bn_lin5_on": "blocks.5.pool.post_norm.weight" in shapes,
    }


def _depth(shapes: Mapping[str, tuple], stage: int) -> int:
    marked = [k for k in shapes if k.startswith(f"blocks.{stage}.") and k.endswith("conv_a.weight")]
    return len(marked)


def _preprocessing(config: Mapping[str, Any], arch: str) -> dict[str, Any]:
    *_, stride, side = _row(config, arch)
    pixels = {"mean": (0.45,) * 3, "std": (0.225,) * 3}
    return {**pixels, "sampling": "dense", "stride_frames": stride, "short_side": side}


def _source(arch: str) -> Source:
    return Source(
        entries=_ENTRIES,
        arguments=functools.partial(_arguments, arch=arch),
        clip=functools.partial(_clip, arch=arch),
        config=_config,
        guess=_guess,
        prepare_save=_with_window,
        preprocessing=functools.partial(_preprocessing, arch=arch),
    )


SOURCES = {arch: _source(arch) for arch in _PUBLISHED}
