"""What the tables of PyTorchVideo's 3D ResNets have in common: keys, config, preprocessing.

The config is what the reference's create_resnet, create_csn and create_r2plus1d take. What is not
said is what the hub's function of that name passes, or the default behind it.
"""

import dataclasses
import functools
import re
from collections.abc import Mapping
from typing import Any

from jaxvid.convert.one_form import plain, refuse_others
from jaxvid.convert.published import refuse_unpublished
from jaxvid.convert.rules import Entry, batch_norm, conv, linear
from jaxvid.convert.source import Clip, Source
from jaxvid.core.errors import ConversionError

DEPTHS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
_STRIDES = "stage_spatial_stride and head_pool_kernel_size"
SPAN = 64  # frames of the video that a clip covers: 4×16, 8×8, 16×4 or 32×2
# The reference's word -> the model's field, both with the same meaning.
FIELDS = {
    "input_channel": "channels",
    "model_num_class": "num_classes",
    "dropout_rate": "head_dropout",
    "stem_dim_out": "width",
    "stage_spatial_stride": "spatial_strides",
    "head_pool_kernel_size": "head_pool",
}
DEFAULTS = {
    "input_channel": 3,
    "model_num_class": 400,
    "dropout_rate": 0.5,
    "stem_dim_out": 64,
    "stage_spatial_stride": (1, 2, 2, 2),
    "model_depth": 50,
}
# What the models have in one form only.
FIXED = {
    "stem_conv_stride": (1, 2, 2),
    "stem_pool_kernel_size": (1, 3, 3),
    "stem_pool_stride": (1, 2, 2),
    "stage1_pool_kernel_size": (2, 1, 1),
    "stage_conv_b_dilation": ((1, 1, 1),) * 4,
    "head_output_size": (1, 1, 1),
    "head_output_with_global_average": True,
    "activation": "ReLU",
    "norm": "BatchNorm3d",
}
# And the models of create_resnet: time is never strided, space in 1×3×3 convolutions.
PLAIN_STAGES = {
    "stage_temporal_stride": (1,) * 4,
    "stage_conv_b_kernel_size": ((1, 3, 3),) * 4,
    "stage_conv_b_num_groups": (1,) * 4,
}


@dataclasses.dataclass(frozen=True)
class Hub:
    """A model of the hub.

    stem: its kernel. defaults: what the hub passes, and what its function has other than DEFAULTS.
    fields, fixed: beside FIELDS and FIXED. arguments: of our model, always these. stem_pool: whether
    the stem has a maximum. temporal_pool: whether there is one over time after stage 1, which counts
    as a block of its own. factored: whether conv_b is a (2+1)D convolution.
    """

    stem: tuple[int, int, int]
    defaults: Mapping[str, Any]
    fields: Mapping[str, str] = dataclasses.field(default_factory=dict)
    fixed: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    stem_pool: bool = True
    temporal_pool: bool = False
    factored: bool = False

    @property
    def all_fields(self) -> dict[str, str]:
        """The reference's words -> the model's fields."""
        return {**FIELDS, **self.fields}

    @property
    def all_fixed(self) -> dict[str, Any]:
        """The reference's words -> their only value."""
        pools = {"stem_pool": "MaxPool3d" if self.stem_pool else None}
        pools["stage1_pool"] = "MaxPool3d" if self.temporal_pool else None
        return {**FIXED, **pools, "stem_conv_kernel_size": self.stem, **self.fixed}

    @property
    def last(self) -> int:
        """The number of the head among the blocks."""
        return 5 + self.temporal_pool


def source(arch: str, hub: Hub) -> Source:
    """The source of a hub's model."""
    return Source(
        entries=entries(hub),
        arguments=functools.partial(_arguments, arch, hub),
        clip=functools.partial(_clip, arch, hub),
        config=functools.partial(_config, arch, hub),
        guess=functools.partial(_guess, arch, hub),
        preprocessing=functools.partial(_preprocessing, arch, hub),
    )


# --- keys -----------------------------------------------------------------------------------------


def entries(hub: Hub) -> tuple[Entry, ...]:
    """The rules of a hub's model."""
    if hub.temporal_pool:  # it is blocks.2, so that stage 2 is blocks.3
        stages = (*_blocks("1", "1", hub), *_blocks("{s+1:[2-9]}", "{s}", hub))
    else:
        stages = _blocks("{s}", "{s}", hub)
    return (
        *conv("blocks.0.conv", "backbone/stem/conv"),
        *batch_norm("blocks.0.norm", "backbone/stem/norm"),
        *stages,
        *linear(f"blocks.{hub.last}.proj", "head"),
    )


def _blocks(number: str, stage: str, hub: Hub) -> tuple[Entry, ...]:
    key = f"blocks.{number}.res_blocks.{{i}}"
    path = f"backbone/stage_{stage}/block_{{i}}"
    branch = f"{key}.branch2"
    if hub.factored:
        middle = (
            *conv(f"{branch}.conv_b.conv_t", f"{path}/conv_2/temporal"),
            *batch_norm(f"{branch}.conv_b.norm", f"{path}/conv_2/norm"),
            *conv(f"{branch}.conv_b.conv_xy", f"{path}/conv_2/spatial"),
        )
    else:
        middle = conv(f"{branch}.conv_b", f"{path}/conv_2")
    return (
        *conv(f"{key}.branch1_conv", f"{path}/shortcut"),
        *batch_norm(f"{key}.branch1_norm", f"{path}/shortcut_norm"),
        *conv(f"{branch}.conv_a", f"{path}/conv_1"),
        *batch_norm(f"{branch}.norm_a", f"{path}/norm_1"),
        *middle,
        *batch_norm(f"{branch}.norm_b", f"{path}/norm_2"),
        *conv(f"{branch}.conv_c", f"{path}/conv_3"),
        *batch_norm(f"{branch}.norm_c", f"{path}/norm_3"),
    )


# --- config ---------------------------------------------------------------------------------------


def kernels_in(config: Any) -> tuple[tuple[int, ...], ...]:
    """stage_conv_a_kernel_size -> temporal_kernels: (3, 1, 1) -> (3,), [(3, 1, 1), (1, 1, 1)] ->
    (3, 1). Raises ConversionError for kernels that are not of time alone."""
    stages = tuple((k,) if isinstance(k[0], int) else k for k in plain(config))
    if any(kernel[1:] != (1, 1) for kernels in stages for kernel in kernels):
        raise ConversionError(
            f"stage_conv_a_kernel_size={config!r}: the model has kernels (t, 1, 1) there only"
        )
    return tuple(tuple(kernel[0] for kernel in kernels) for kernels in stages)


def kernels_out(temporal_kernels: Any) -> tuple:
    """The way back from `kernels_in`."""
    return tuple(tuple((frames, 1, 1) for frames in stage) for stage in temporal_kernels)


def square_strides(config: Mapping[str, Any]) -> dict[str, Any]:
    """With stage_spatial_stride for create_resnet's words of height and of width, which must be equal:
    else ConversionError."""
    words = ("stage_spatial_h_stride", "stage_spatial_w_stride")
    rest = {name: value for name, value in config.items() if name not in words}
    if len(rest) == len(config):
        return rest
    height, width = (config.get(word, DEFAULTS["stage_spatial_stride"]) for word in words)
    if height != width or rest.get("stage_spatial_stride", height) != height:
        raise ConversionError(
            f"{words[0]}={height!r}, {words[1]}={width!r}: the model has equal strides only"
        )
    return {**rest, "stage_spatial_stride": height}


def _complete(arch: str, hub: Hub, config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with what is not said, when the model can be it. Raises ConversionError."""
    config = square_strides({name: plain(x) for name, x in config.items()})
    config = {**DEFAULTS, **hub.defaults, **config}
    refuse_others(arch, config, hub.all_fixed)
    if config["model_depth"] not in DEPTHS:
        raise ConversionError(
            f"{arch}: model_depth={config['model_depth']!r}: the reference has only "
            f"{', '.join(map(str, DEPTHS))}"
        )
    if config.get("head_pool", "") is None:
        config["head_pool_kernel_size"] = None
    return config


def _arguments(arch: str, hub: Hub, config: Mapping[str, Any]) -> dict[str, Any]:
    config = _complete(arch, hub, config)
    arguments = {field: config[name] for name, field in hub.all_fields.items()}
    if "temporal_kernels" in arguments:
        arguments["temporal_kernels"] = kernels_in(arguments["temporal_kernels"])
    sizes = {"stage_sizes": DEPTHS[config["model_depth"]], "bn_epsilon": 1e-5}
    return {**arguments, **sizes, **hub.arguments}


def _clip(arch: str, hub: Hub, config: Mapping[str, Any]) -> Clip:
    """What the head's window covers, or that of the hub's model where there is none."""
    config = _complete(arch, hub, config)
    frames, side, _ = config["head_pool_kernel_size"] or hub.defaults["head_pool_kernel_size"]
    frames *= 1 + hub.temporal_pool
    for stride in config.get("stage_temporal_stride", ()):
        frames *= stride
    for stride in (2, 1 + hub.stem_pool, *config["stage_spatial_stride"]):
        side *= stride
    return frames, side, side, config["input_channel"]


def _preprocessing(arch: str, hub: Hub, config: Mapping[str, Any]) -> dict[str, Any]:
    pixels = {"mean": (0.45,) * 3, "std": (0.225,) * 3, "short_side": 256}
    stride = max(SPAN // _clip(arch, hub, config)[0], 1)
    return {**pixels, "sampling": "dense", "stride_frames": stride}


def _config(arch: str, hub: Hub, arguments: Mapping[str, Any], clip: Clip) -> dict[str, Any]:
    sizes = plain(arguments["stage_sizes"])
    if sizes not in DEPTHS.values():
        raise ConversionError(
            f"{arch} cannot express this model: stage_sizes={sizes}; the reference has only "
            f"{', '.join(map(str, DEPTHS.values()))}"
        )
    config = {name: arguments[field] for name, field in hub.all_fields.items()}
    if "temporal_kernels" in hub.all_fields.values():
        config["stage_conv_a_kernel_size"] = kernels_out(config["stage_conv_a_kernel_size"])
    if config["head_pool_kernel_size"] is None:
        del config["head_pool_kernel_size"]
        config["head_pool"] = None
    depth = next(depth for depth, known in DEPTHS.items() if known == sizes)
    return {**config, "model_depth": depth}


def _guess(
    arch: str, hub: Hub, shapes: Mapping[str, tuple], told: Mapping[str, Any]
) -> dict[str, Any]:
    numbers = (1, *(stage + hub.temporal_pool for stage in (2, 3, 4)))
    sizes = tuple(_size(shapes, number) for number in numbers)
    if sizes not in DEPTHS.values():
        raise ConversionError(
            f"{arch}: stages of {sizes} blocks; the reference has only "
            f"{', '.join(map(str, DEPTHS.values()))}"
        )
    width, channels = shapes["blocks.0.conv.weight"][:2]
    depth = next(depth for depth, known in DEPTHS.items() if known == sizes)
    defaults = {**DEFAULTS, **hub.defaults}
    published = {name: defaults[name] for name in ("model_depth", "stem_dim_out")}
    found = {"model_depth": depth, "stem_dim_out": width}
    refuse_unpublished(arch, found, (published,), _STRIDES)
    return {
        "model_num_class": shapes[f"blocks.{hub.last}.proj.weight"][0],
        "input_channel": channels,
        **found,
    }


def _size(shapes: Mapping[str, tuple], number: int) -> int:
    """How many blocks a stage has."""
    pattern = re.compile(rf"blocks\.{number}\.res_blocks\.(\d+)\.")
    return len({found[1] for key in shapes if (found := pattern.match(key))})
