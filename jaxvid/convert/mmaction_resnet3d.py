"""What MMAction2's tables of 3D ResNets have in common: keys, blocks, kernels over time."""

import re
from collections.abc import Mapping
from typing import Any

from jaxvid.convert.mmaction import Config, Forms, refuse_other_forms
from jaxvid.convert.one_form import plain
from jaxvid.convert.pytorchvideo import DEPTHS
from jaxvid.convert.rules import Entry, batch_norm, conv
from jaxvid.core.errors import ConversionError

_FORMS: Forms = {
    "depth": (50, 101, 152),
    "stage_blocks": (None,),
    "num_stages": (4,),
    "temporal_strides": ((1, 1, 1, 1),),
    "dilations": ((1, 1, 1, 1),),
    "conv1_stride_s": (2,),
    "conv1_stride_t": (1,),
    "pool1_stride_s": (2,),
    "pool1_stride_t": (1,),
    "style": ("pytorch",),
    "inflate_style": ("3x1x1",),
    "non_local": ((0, 0, 0, 0), 0),
}


def entries(key: str, path: str) -> tuple[Entry, ...]:
    """key, path: of a ResNet3d, with a full stop and a slash behind."""
    block, ours = f"{key}layer{{s}}.{{i}}", f"{path}stage_{{s}}/block_{{i}}"
    return (
        *conv(f"{key}conv1.conv", f"{path}stem/conv"),
        *batch_norm(f"{key}conv1.bn", f"{path}stem/norm"),
        *conv(f"{block}.conv{{n}}.conv", f"{ours}/conv_{{n}}"),
        *batch_norm(f"{block}.conv{{n}}.bn", f"{ours}/norm_{{n}}"),
        *conv(f"{block}.downsample.conv", f"{ours}/shortcut"),
        *batch_norm(f"{block}.downsample.bn", f"{ours}/shortcut_norm"),
    )


def network(config: Config, *, stem: int, inflate: Any) -> dict[str, Any]:
    """A ResNet3d's stage_sizes, temporal_kernels, spatial_strides, bn_epsilon. stem: frames that its
    stem covers; inflate: where none is said. Raises ConversionError for what the models have not."""
    refuse_other_forms(config, {**_FORMS, "conv1_kernel": ((stem, 7, 7),)})
    sizes = DEPTHS[config.get("depth", 50)]
    return {
        "stage_sizes": sizes,
        "temporal_kernels": _kernels(config.get("inflate", inflate), sizes),
        "spatial_strides": plain(config.get("spatial_strides", (1, 2, 2, 2))),
        "bn_epsilon": (config.get("norm_cfg") or {}).get("eps", 1e-5),
    }


def _kernels(inflate: Any, sizes: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """inflate, a flag for each stage or for each of its blocks -> temporal_kernels."""
    flags = plain(inflate)
    flags = flags if isinstance(flags, tuple) else (flags,) * len(sizes)
    stages = tuple(s if isinstance(s, tuple) else (s,) for s in flags)
    if any(len(s) not in (1, n) for s, n in zip(stages, sizes, strict=True)):
        raise ConversionError(f"inflate={inflate!r}: expected a flag for each stage or block")
    return tuple(tuple(3 if flag else 1 for flag in stage) for stage in stages)


def network_config(arch: str, fields: Mapping[str, Any], kernels: Any) -> dict[str, Any]:
    """The way back from `network`. kernels: temporal_kernels. Raises ConversionError for what the
    reference cannot be."""
    sizes = plain(fields["stage_sizes"])
    if sizes not in DEPTHS.values():
        raise ConversionError(
            f"{arch} cannot express this model: stage_sizes={sizes}; the reference has only "
            f"{', '.join(map(str, DEPTHS.values()))}"
        )
    if any(k not in (1, 3) for stage in kernels for k in stage):
        raise ConversionError(
            f"{arch} cannot express this model: kernels of {plain(kernels)} frames; the reference has "
            "kernels of 1 and 3 frames"
        )
    return {
        "depth": next(depth for depth, known in DEPTHS.items() if known == sizes),
        "inflate": _shortened(tuple(tuple(int(k == 3) for k in stage) for stage in kernels)),
        "spatial_strides": plain(fields["spatial_strides"]),
        "norm_cfg": {"type": "BN3d", "eps": fields["bn_epsilon"]},
    }


def guess(shapes: Mapping[str, tuple], key: str) -> dict[str, Any]:
    """depth and inflate of the ResNet3d whose keys begin so. Raises ConversionError for other depths."""
    stages = tuple(_stage(shapes, f"{re.escape(key)}layer{number}") for number in (1, 2, 3, 4))
    sizes = tuple(map(len, stages))
    if sizes not in DEPTHS.values():
        raise ConversionError(
            f"stages of {sizes} blocks; MMAction2's ResNet3d of bottlenecks has only "
            f"{', '.join(map(str, DEPTHS.values()))}"
        )
    depth = next(depth for depth, known in DEPTHS.items() if known == sizes)
    return {"depth": depth, "inflate": _shortened(stages)}


def _shortened(flags: tuple[tuple[int, ...], ...]) -> tuple:
    """One flag for a stage whose blocks all have it."""
    return tuple(stage[0] if len(set(stage)) == 1 else stage for stage in flags)


def _stage(shapes: Mapping[str, tuple], layer: str) -> tuple[int, ...]:
    """Whether the blocks of a stage see other frames."""
    pattern = rf"{layer}\.(\d+)\.conv1\.conv\.weight"
    found = {int(m[1]): shapes[key][2] for key in shapes if (m := re.fullmatch(pattern, key))}
    return tuple(int(found[i] == 3) for i in sorted(found))
