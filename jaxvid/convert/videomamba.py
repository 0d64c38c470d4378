"""VideoMamba: the checkpoints of OpenGVLab/VideoMamba, of clips and of the images they start from.

videomamba/videomamba: video_sm's, as fine-tuned on Kinetics, Something-Something, Breakfast and
COIN. videomamba/image: image_sm's, as trained on ImageNet. They become a model of clips as video_sm
makes them one: the kernel of the patches in the middle frame of a tubelet, no positions in time.

The config has the words of the repository's VisionMamba; what is not said is as in its code. Tables
of positions for other frames and sizes are resized at load as its run_class_finetuning.py does:
bicubically over space, the class token's place as it is, and linearly over time. One's own weights
too.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxvid.convert.cnn_mamba import mamba_blocks
from jaxvid.convert.layout import Layout, LayoutError, Shape
from jaxvid.convert.one_form import refuse_others
from jaxvid.convert.positions import Line
from jaxvid.convert.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from jaxvid.convert.rules import Entry, Rule, conv, leaf, linear
from jaxvid.convert.sizes import count, square
from jaxvid.convert.source import WRAPPERS, Clip, Source, Transfer
from jaxvid.core.errors import ConversionError
from jaxvid.nn.pooled_attention import linear_weights
from jaxvid.nn.position_table import cubic_weights, resize_weighted

HEAD = ("head/{leaf:.+}",)
EXPORT = "videomamba/videomamba"  # whose tables are resized when they are loaded again
CLASS_PLACE, PLACES = "encoder/class_position_embedding", "encoder/spatial_position_embedding"
TIMES, KERNEL = "encoder/temporal_position_embedding", "encoder/patch_embed/kernel"

# --- the tables -----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class PlaceTable:
    """(1, 1 + s·s, D) of the checkpoint: the class token's place (D,) and those of a grid (h, w, D)."""

    def load(self, arrays: Sequence[np.ndarray], shapes: Sequence[Shape]) -> list[np.ndarray]:
        (array,), (_, wanted) = arrays, shapes
        side = math.isqrt(array.shape[1] - 1) if array.ndim == 3 else 0
        if array.shape[:2] != (1, 1 + side * side):
            raise LayoutError(f"a table of places has shape (1, 1 + s·s, D), not {array.shape}")
        grid = array[0, 1:].reshape(side, side, -1)
        return [array[0, 0], resize_weighted(grid, wanted[:-1], cubic_weights)]

    def save(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        first, grid = arrays
        return [np.concatenate([first[None], grid.reshape(-1, grid.shape[-1])])[None]]


@dataclasses.dataclass(frozen=True)
class ImagePlaces:
    """A table of places alone: `PlaceTable`, and times (t, D) that are zero."""

    def load(self, arrays: Sequence[np.ndarray], shapes: Sequence[Shape]) -> list[np.ndarray]:
        *places, times = shapes
        return [*PlaceTable().load(arrays, places), np.zeros(times, arrays[0].dtype)]

    def save(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        return PlaceTable().save(arrays[:2])


@dataclasses.dataclass(frozen=True)
class MiddleFrame:
    """A kernel of images (o, i, h, w): that of tubelets (t, h, w, i, o), zero but in frame t // 2."""

    def load(self, arrays: Sequence[np.ndarray], shapes: Sequence[Shape]) -> list[np.ndarray]:
        (frame,) = Layout("o i h w -> h w i o").load(arrays, [shapes[0][1:]])
        frames = shapes[0][0]
        others = [np.zeros_like(frame)] * frames
        return [np.stack([frame if i == frames // 2 else x for i, x in enumerate(others)])]

    def save(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        kernel = arrays[0][arrays[0].shape[0] // 2]
        return Layout("o i h w -> h w i o").save([kernel])


_COMMON = (
    leaf("cls_token", "encoder/class_token", "1 1 d -> d"),
    leaf("patch_embed.proj.bias", "encoder/patch_embed/bias"),
    *mamba_blocks("layers.{i}", "encoder/block_{i}"),
    leaf("norm_f.weight", "encoder/norm/scale"),
    *linear("head", "head"),
)
_OF_CLIPS = (
    *_COMMON,
    Rule(("pos_embed",), (CLASS_PLACE, PLACES), PlaceTable()),
    Rule(("temporal_pos_embedding",), (TIMES,), Line(Layout("1 t d -> t d"))),
    conv("patch_embed.proj", "encoder/patch_embed")[0],
)
_OF_IMAGES = (
    *_COMMON,
    Rule(("pos_embed",), (CLASS_PLACE, PLACES, TIMES), ImagePlaces()),
    Rule(("patch_embed.proj.weight",), (KERNEL,), MiddleFrame()),
)

# --- config ---------------------------------------------------------------------------------------

# What the model has in one form only. That sums over the blocks are float32 changes nothing else.
_FIXED = {"rms_norm": True, "bimamba": True}
_SCAN = {"d_state": 16, "d_conv": 4, "expand": 2, "dt_rank": "auto"}


def _scan(config: Mapping[str, Any]) -> dict[str, Any]:
    """ssm_cfg with the defaults of the repository's Mamba. Raises ConversionError."""
    given = dict(config.get("ssm_cfg") or {})
    if unknown := sorted(given.keys() - _SCAN.keys()):
        raise ConversionError(
            f"ssm_cfg has {', '.join(unknown)}: the model knows {', '.join(_SCAN)} only"
        )
    return {**_SCAN, **given}


def _arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    refuse_others("VideoMamba", config, _FIXED)
    scan = _scan(config)
    return {
        "num_classes": config.get("num_classes", 1000),
        "width": config.get("embed_dim", 192),
        "depth": config.get("depth", 24),
        "patch_size": square(config.get("patch_size", 16), "patch_size"),
        "tubelet_size": int(config.get("kernel_size", 1)),
        "channels": config.get("channels", 3),
        "num_frames": int(config.get("num_frames", 8)),
        "image_size": square(config.get("img_size", 224), "img_size"),
        **scan,
        "dt_rank": None if scan["dt_rank"] == "auto" else scan["dt_rank"],
        "norm_eps": config.get("norm_epsilon", 1e-5),
    }


def _clip(config: Mapping[str, Any]) -> Clip:
    size = square(config.get("img_size", 224), "img_size")
    return int(config.get("num_frames", 8)), size, size, config.get("channels", 3)


def _config(arguments: Mapping[str, Any], clip: Clip) -> dict[str, Any]:
    return {
        "img_size": arguments["image_size"] or clip[1],
        "num_frames": arguments["num_frames"] or clip[0],
        "channels": arguments["channels"],
        "patch_size": arguments["patch_size"],
        "kernel_size": arguments["tubelet_size"],
        "embed_dim": arguments["width"],
        "depth": arguments["depth"],
        "ssm_cfg": {
            **{name: arguments[name] for name in ("d_state", "d_conv", "expand")},
            "dt_rank": arguments["dt_rank"] or "auto",
        },
        "norm_epsilon": arguments["norm_eps"],
        "num_classes": arguments["num_classes"],
    }


def _tables_as_they_are(variables: dict, arguments: dict) -> tuple[dict, dict]:
    """The sizes of the tables, said in the arguments. Raises ConversionError where they are not of
    square frames, which the reference has not."""
    height, width, _ = variables[PLACES].shape
    if height != width:
        raise ConversionError(
            f"{PLACES} is of {height} × {width} patches: the reference has squares only; save as "
            "'jaxvid', or initialise the model with square frames"
        )
    frames = variables[TIMES].shape[0] * arguments["tubelet_size"]
    size = height * arguments["patch_size"]
    return variables, {**arguments, "num_frames": frames, "image_size": size}


def _as_image(variables: dict, arguments: dict) -> tuple[dict, dict]:
    """Raises ConversionError where there is something in time, which an image model has not."""
    if arguments["tubelet_size"] != 1 or np.any(variables[TIMES]):
        raise ConversionError(
            f"tubelet_size={arguments['tubelet_size']} and positions in time: a model of images has "
            f"neither tubelets nor these; save as {EXPORT!r}"
        )
    return _tables_as_they_are(variables, arguments)


def _guess(shapes: Mapping[str, Shape], told: Mapping[str, Any]) -> dict[str, Any]:
    width, channels, *tubelet, patch, _ = shapes["patch_embed.proj.weight"]
    tubelet = tubelet[0] if tubelet else 1
    expanded, states = shapes["layers.0.mixer.A_log"]
    times = shapes.get("temporal_pos_embedding", (1, told.get("num_frames", 8) // tubelet, width))
    return {
        "embed_dim": width,
        "channels": channels,
        "kernel_size": tubelet,
        "patch_size": patch,
        "depth": count(shapes, r"layers\.(\d+)\."),
        "num_frames": times[1] * tubelet,
        "img_size": math.isqrt(shapes["pos_embed"][1] - 1) * patch,
        "num_classes": shapes["head.weight"][0],
        "bimamba": "layers.0.mixer.A_b_log" in shapes,
        "rms_norm": "norm_f.bias" not in shapes,
        "ssm_cfg": {
            "d_state": states,
            "d_conv": shapes["layers.0.mixer.conv1d.weight"][2],
            "expand": expanded // width,
            "dt_rank": _rank(shapes["layers.0.mixer.dt_proj.weight"][1], width),
        },
    }


def _rank(found: int, width: int) -> int | str:
    return "auto" if found == math.ceil(width / 16) else found


# --- the table ------------------------------------------------------------------------------------


def _preprocessing(config: Mapping[str, Any]) -> dict[str, Any]:
    """ImageNet's statistics; frames at equal distances over the whole video, for every data set."""
    return {"mean": IMAGENET_MEAN, "std": IMAGENET_STD, "sampling": "uniform"}


_SOURCE = Source(
    entries=_OF_CLIPS,
    arguments=_arguments,
    clip=_clip,
    config=_config,
    guess=_guess,
    prepare_save=_tables_as_they_are,
    prefixes=(*WRAPPERS, "backbone.", "encoder."),
    preprocessing=_preprocessing,
)
SOURCES = {
    # First: clips' tables know every key of images', and of equals the first is taken.
    "videomamba/image": dataclasses.replace(_SOURCE, entries=_OF_IMAGES, prepare_save=_as_image),
    "videomamba/videomamba": _SOURCE,
}

# --- starts ---------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Resized:
    """A table on both sides, of whatever sizes; weights: see `resize_weighted`."""

    weights: Callable[[int, int], np.ndarray]

    def load(self, arrays: Sequence[np.ndarray], shapes: Sequence[Shape]) -> list[np.ndarray]:
        (table,), (wanted,) = arrays, shapes
        if table.ndim != len(wanted):
            raise LayoutError(f"tables of {table.ndim - 1} and {len(wanted) - 1} axes")
        return [resize_weighted(table, wanted[:-1], self.weights)]


@dataclasses.dataclass(frozen=True)
class _OtherClips(Transfer):
    """One's own weights, for clips of other frames and size."""

    @property
    def entries(self) -> tuple[Entry, ...]:
        return (
            Rule((PLACES,), (PLACES,), _Resized(cubic_weights)),
            Rule((TIMES,), (TIMES,), _Resized(linear_weights)),
            leaf("{path:(?!encoder/(?:spatial|temporal)_position_embedding$).+}", "{path}"),
        )


TRANSFERS = {"videomamba": _OtherClips(arguments=dict, fresh={})}
