"""Video Swin: torchvision's checkpoints, those of the paper and of MMAction2, and starts from 2D Swin.

torchvision: models.video.swin3d_t, _s, _b. MMAction2: SwinTransformer3D with I3DHead, in the keys of
the paper's repository (backbone.norm) and of MMAction2 1.x (backbone.norm3); its config here is the
backbone's arguments with num_classes, dropout rates aside. Microsoft's Swin of images starts the model
of clips as in section 3.3 of the paper: the patches' kernel repeated over the tubelet and divided by
its length, the tables of relative positions repeated over all offsets in time.
"""

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxvid.convert import inflate
from jaxvid.convert.layout import Layout, LayoutError, Shape
from jaxvid.convert.one_form import refuse_others
from jaxvid.convert.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from jaxvid.convert.rules import (
    Entry,
    Rule,
    Waive,
    conv,
    fused_heads,
    heads_out,
    leaf,
    linear,
    norm,
)
from jaxvid.convert.source import Clip, Source
from jaxvid.core.errors import ConversionError

HEAD = ("head/{leaf:.+}",)
STAGES = 4
BIAS, INDEX = "relative_position_bias", "relative_position_index"
COMPUTED = "the model computes it from the size of its windows"
CLIP = (32, 224, 224, 3)
TUBELET, FRAMES_OF_WINDOW = 2, 8  # of clips that begin as images

_T = {"embed_dim": 96, "depths": (2, 2, 6, 2), "num_heads": (3, 6, 12, 24)}
_PUBLISHED = {
    "torchvision/swin3d_t": _T,
    "torchvision/swin3d_s": {**_T, "depths": (2, 2, 18, 2)},
    "torchvision/swin3d_b": {
        "embed_dim": 128,
        "depths": (2, 2, 18, 2),
        "num_heads": (4, 8, 16, 32),
    },
}

# --- keys -----------------------------------------------------------------------------------------


class _TubeletsOfPatches:
    """A kernel of patches (o, i, h, w) -> of tubelets (t, h, w, i, o), a t-th of it at each frame."""

    _layout = Layout("o i h w -> h w i o")

    def load(self, arrays: Sequence[np.ndarray], shapes: Sequence[Shape]) -> list[np.ndarray]:
        (shape,) = shapes
        (kernel,) = self._layout.load(arrays, [shape[1:]])
        try:
            return [inflate.inflate(kernel, shape)]
        except ConversionError as error:
            raise LayoutError(str(error)) from error

    def save(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        raise _of_clips()


class _OffsetsInTime:
    """A table ((2h-1)·(2w-1), H) -> (2t-1, 2h-1, 2w-1, H), the same at each offset in time."""

    _layout = Layout("(h w) n -> h w n")

    def load(self, arrays: Sequence[np.ndarray], shapes: Sequence[Shape]) -> list[np.ndarray]:
        (shape,) = shapes
        (table,) = self._layout.load(arrays, [shape[1:]])
        return [np.repeat(table[None], shape[0], axis=0)]

    def save(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        raise _of_clips()


def _of_clips() -> ConversionError:
    return ConversionError(
        "swin/swin is a Swin of images and cannot hold weights of clips; write them as "
        "mmaction/swin or torchvision/swin3d_t"
    )


_TABLE = Layout("(t h w) n -> t h w n")


def _block(key: str, path: str, fc: tuple[str, str], table=_TABLE) -> tuple[Entry, ...]:
    attention = f"{path}/attention"
    return (
        *norm(f"{key}.{{n:norm1|norm2}}", f"{path}/{{n}}"),
        *fused_heads(f"{key}.attn.qkv", attention),
        *heads_out(f"{key}.attn.proj", f"{path}/attention/out"),
        Rule((f"{key}.attn.{BIAS}_table",), (f"{attention}/{BIAS}",), table),
        leaf(f"{key}.attn.{INDEX}", f"{attention}/{INDEX}"),  # in saving only: see with_indices
        Waive(f"{key}.attn.{INDEX}", COMPUTED),
        *linear(f"{key}.mlp.{fc[0]}", f"{path}/mlp/fc1"),
        *linear(f"{key}.mlp.{fc[1]}", f"{path}/mlp/fc2"),
    )


def _merge(key: str, path: str) -> tuple[Entry, ...]:
    return *norm(f"{key}.norm", f"{path}/norm"), *linear(f"{key}.reduction", f"{path}/reduction")


def _torchvision() -> tuple[Entry, ...]:
    """Stages and the merging between them are numbered through: features.0 to features.6."""
    entries = [
        *conv("patch_embed.proj", "encoder/patch_embed"),
        *norm("patch_embed.norm", "encoder/patch_norm"),
        *norm("norm", "encoder/norm"),
        *linear("head", "head"),
    ]
    for i in range(STAGES):
        entries += _block(
            f"features.{2 * i}.{{b}}", f"encoder/stage_{i + 1}/block_{{b}}", ("0", "3")
        )
        entries += _merge(f"features.{2 * i + 1}", f"encoder/merge_{i + 1}")
    return tuple(entries)


def _repository(key: str, head: str, patches: Sequence[Rule], table) -> tuple[Entry, ...]:
    """Of Microsoft's Swin and what came from it; `key` stands before all but the head."""
    block = f"{key}layers.{{s}}.blocks.{{b}}", "encoder/stage_{s+1}/block_{b}"
    return (
        *patches,
        *norm(f"{key}patch_embed.norm", "encoder/patch_norm"),
        *_block(*block, ("fc1", "fc2"), table),
        *_merge(f"{key}layers.{{s}}.downsample", "encoder/merge_{s+1}"),
        *norm(f"{key}norm", "encoder/norm"),
        *linear(head, "head"),
    )


_MMACTION = (
    *_repository(
        "backbone.",
        "cls_head.fc_cls",
        conv("backbone.patch_embed.proj", "encoder/patch_embed"),
        _TABLE,
    ),
    *norm("backbone.norm3", "encoder/norm"),
)
_PATCHES = "patch_embed.proj", "encoder/patch_embed"
_IMAGES = (
    *_repository(
        "",
        "head",
        (
            Rule((f"{_PATCHES[0]}.weight",), (f"{_PATCHES[1]}/kernel",), _TubeletsOfPatches()),
            leaf(f"{_PATCHES[0]}.bias", f"{_PATCHES[1]}/bias"),
        ),
        _OffsetsInTime(),
    ),
    Waive("layers.{s}.blocks.{b}.attn_mask", COMPUTED),
)


def with_indices(variables: dict, arguments: dict) -> tuple[dict, dict]:
    """The references keep in each block what tells the tokens' offsets, int64 (t·h·w, t·h·w)."""
    indices = {
        path.removesuffix(BIAS) + INDEX: position_index(table.shape[:3])
        for path, table in variables.items()
        if path.endswith(f"/{BIAS}")
    }
    return {**variables, **indices}, arguments


def position_index(offsets: Sequence[int]) -> np.ndarray:
    """Rows of a flat table of so many offsets (2t-1, 2h-1, 2w-1): [i, j] from token j to token i."""
    window = [(n + 1) // 2 for n in offsets]
    places = np.indices(window).reshape(3, -1)
    apart = places[:, :, None] - places[:, None] + (np.asarray(window) - 1)[:, None, None]
    return np.ravel_multi_index(tuple(apart), tuple(offsets)).astype(np.int64)


# --- config ---------------------------------------------------------------------------------------

# What the model has in one form only; None is the default of the references.
_FIXED = {"qkv_bias": True, "qk_scale": None, "patch_norm": True, "ape": False}
_DEFAULTS = {"patch_size": (2, 4, 4), "window_size": (8, 7, 7), "mlp_ratio": 4.0, "in_chans": 3}


def _complete(config: Mapping[str, Any], named: Mapping[str, Any]) -> dict[str, Any]:
    """The config with what its name implies and the defaults. Raises ConversionError."""
    refuse_others("Video Swin", config, _FIXED)
    full = {**_DEFAULTS, **named, **config}
    if len(full["depths"]) != len(full["num_heads"]) or len(full["depths"]) > STAGES:
        raise ConversionError(
            f"depths {full['depths']} with num_heads {full['num_heads']}: expected one number of each "
            f"for every stage, and {STAGES} stages at most"
        )
    return full


def _model(full: Mapping[str, Any], classes: int) -> dict[str, Any]:
    """Of a complete config of clips."""
    tubelet, height, width = full["patch_size"]
    if height != width:
        raise ConversionError(f"patch_size {full['patch_size']}: the model has squares only")
    return {
        "num_classes": full.get("num_classes", classes),
        "width": full["embed_dim"],
        "depths": tuple(full["depths"]),
        "num_heads": tuple(full["num_heads"]),
        "window": tuple(full["window_size"]),
        "mlp_ratio": full["mlp_ratio"],
        "patch_size": height,
        "tubelet_size": tubelet,
        "channels": full["in_chans"],
        "norm_eps": 1e-5,
    }


def _arguments(config: Mapping[str, Any], named: Mapping[str, Any]) -> dict[str, Any]:
    return _model(_complete(config, named), 400)


def _torchvision_arguments(config: Mapping[str, Any], named: Mapping[str, Any]) -> dict[str, Any]:
    return _arguments({**config, "in_chans": 3}, named)  # it has no word for channels


def _config(arguments: Mapping[str, Any], clip: Clip) -> dict[str, Any]:
    patch = arguments["patch_size"]
    return {
        "patch_size": (arguments["tubelet_size"], patch, patch),
        "embed_dim": arguments["width"],
        "depths": arguments["depths"],
        "num_heads": arguments["num_heads"],
        "window_size": arguments["window"],
        "mlp_ratio": arguments["mlp_ratio"],
        "num_classes": arguments["num_classes"],
    }


def _mmaction_config(arguments: Mapping[str, Any], clip: Clip) -> dict[str, Any]:
    made = {**_config(arguments, clip), "in_chans": arguments["channels"]}
    return {**made, "clip_len": clip[0], "crop_size": clip[1]}  # words of its pipelines


def _mmaction_clip(config: Mapping[str, Any]) -> Clip:
    size = config.get("crop_size", CLIP[1])
    return config.get("clip_len", CLIP[0]), size, size, config.get("in_chans", CLIP[3])


def _image_arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    side, patch = config.get("window_size", 7), config.get("patch_size", 4)
    of_clips = {
        "window_size": (FRAMES_OF_WINDOW, side, side),
        "patch_size": (TUBELET, patch, patch),
    }
    return _model(_complete({**config, **of_clips}, _T), 1000)


def _image_clip(config: Mapping[str, Any]) -> Clip:
    size = config.get("img_size", CLIP[1])
    return CLIP[0], size, size, config.get("in_chans", CLIP[3])


# --- files without a config -----------------------------------------------------------------------


def _guess(
    shapes: Mapping[str, Shape], told: Mapping[str, Any], keys: Mapping[str, str]
) -> dict[str, Any]:
    """What shapes tell. keys: the prefix of all, the regular expression of (stage, block), that of the
    first block in words, the last words of fc1's and of the head."""
    width, channels, *patch = shapes[f"{keys['all']}patch_embed.proj.weight"]
    found = [m for key in shapes if (m := re.match(keys["block"], key))]
    stages = sorted({int(m[1]) for m in found})
    depths = tuple(len({m[2] for m in found if int(m[1]) == s}) for s in stages)
    tables = [shapes[f"{keys['first'].format(s)}.attn.{BIAS}_table"] for s in stages]
    index = shapes.get(f"{keys['first'].format(stages[0])}.attn.{INDEX}", (None,))
    hidden = shapes[f"{keys['first'].format(stages[0])}.mlp.{keys['fc1']}.bias"][0]
    return {
        "embed_dim": width,
        "in_chans": channels,
        "patch_size": patch[0] if len(patch) == 2 else tuple(patch),
        "depths": depths,
        "num_heads": tuple(table[1] for table in tables),
        "window_size": guess_window(tables[0][0], index[0], in_time=len(patch) == 3),
        "mlp_ratio": hidden / width,
        "num_classes": shapes[f"{keys['head']}.weight"][0],
    }


def guess_window(rows: int, tokens: int | None, *, in_time: bool) -> tuple[int, int, int] | int:
    """(t, h, h), or h alone without time, whose table of offsets has so many rows, and so many tokens
    where that is known; of several the largest h. Raises ConversionError when there is none."""
    for h in range(64, 0, -1):
        t, rest = divmod(rows // (2 * h - 1) ** 2 + 1, 2)
        fits = rows == (2 * t - 1) * (2 * h - 1) ** 2 and not rest and t > 0
        if fits and (in_time or t == 1) and tokens in (None, t * h * h):
            return (t, h, h) if in_time else h
    raise ConversionError(
        f"a table of relative positions with {rows} rows is of no window t×h×h: give config={{...}} "
        "with window_size"
    )


_TORCHVISION_KEYS = {
    "all": "",
    "block": r"features\.(\d+)\.(\d+)\.norm1\.weight",
    "first": "features.{}.0",
    "fc1": "0",
    "head": "head",
}
_IMAGE_KEYS = {
    "all": "",
    "block": r"layers\.(\d+)\.blocks\.(\d+)\.norm1\.weight",
    "first": "layers.{}.blocks.0",
    "fc1": "fc1",
    "head": "head",
}
_MMACTION_KEYS = {
    "all": "backbone.",
    "block": r"backbone\." + _IMAGE_KEYS["block"],
    "first": "backbone." + _IMAGE_KEYS["first"],
    "fc1": "fc1",
    "head": "cls_head.fc_cls",
}

# --- the table ------------------------------------------------------------------------------------


def _preprocessing(config: Mapping[str, Any]) -> dict[str, Any]:
    """As on Kinetics: ImageNet's statistics, every second frame."""
    pixels = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD, "short_side": 256}
    return {**pixels, "sampling": "dense", "stride_frames": 2}


def _torchvision_source(arch: str) -> Source:
    return Source(
        entries=_torchvision(),
        arguments=functools.partial(_torchvision_arguments, named=_PUBLISHED[arch]),
        clip=lambda config: CLIP,
        config=_config,
        guess=functools.partial(_guess, keys=_TORCHVISION_KEYS),
        prepare_save=with_indices,
        preprocessing=_preprocessing,
    )


SOURCES = {
    **{arch: _torchvision_source(arch) for arch in _PUBLISHED},
    "mmaction/swin": Source(
        entries=_MMACTION,
        arguments=functools.partial(_arguments, named=_T),
        clip=_mmaction_clip,
        config=_mmaction_config,
        guess=functools.partial(_guess, keys=_MMACTION_KEYS),
        prepare_save=with_indices,
        preprocessing=_preprocessing,
    ),
    "swin/swin": Source(
        entries=_IMAGES,
        arguments=_image_arguments,
        clip=_image_clip,
        guess=functools.partial(_guess, keys=_IMAGE_KEYS),
        preprocessing=_preprocessing,
    ),
}
