"""What TimeSformer's conversion tables have in common: positions of places and times, image kernels."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from jaxvid.convert.layout import LayoutError, Shape
from jaxvid.convert.rules import Rule, leaf
from jaxvid.core.errors import ConversionError
from jaxvid.nn.position_table import resize_nearest

HEADS_OF_WIDTH = {768: 12, 1024: 16}  # of the published models
PLACES, TIMES = "encoder/position_embedding", "encoder/time_position_embedding"


@dataclasses.dataclass(frozen=True)
class PlaceTable:
    """(1, 1 + s·s, D) of the checkpoint: the class token's place (D,) and those of a grid (h, w, D)."""

    def load(self, arrays: Sequence[np.ndarray], shapes: Sequence[Shape]) -> list[np.ndarray]:
        (array,), (_, wanted) = arrays, shapes
        if array.ndim != 3 or len(array) != 1:
            raise LayoutError(f"a table of places has shape (1, 1 + s·s, D), not {array.shape}")
        side = math.isqrt(array.shape[1] - 1)
        if side * side != array.shape[1] - 1:
            raise LayoutError(f"{array.shape[1]} places are not one and a square of others")
        grid = array[0, 1:].reshape(side, side, array.shape[2])
        return [array[0, 0], resize_nearest(grid, wanted[:-1])]

    def save(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        first, grid = arrays
        return [np.concatenate([first[None], grid.reshape(-1, grid.shape[-1])])[None]]


@dataclasses.dataclass(frozen=True)
class TimeTable:
    """(1, t, D) of the checkpoint: (T, D)."""

    def load(self, arrays: Sequence[np.ndarray], shapes: Sequence[Shape]) -> list[np.ndarray]:
        (array,), (wanted,) = arrays, shapes
        if array.ndim != 3 or len(array) != 1:
            raise LayoutError(f"a table of times has shape (1, t, D), not {array.shape}")
        return [resize_nearest(array[0], wanted[:-1])]

    def save(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [arrays[0][None]]


def tables(class_token: str, places: str, times: str) -> tuple[Rule, ...]:
    """The class token and both tables, by their keys."""
    return (
        leaf(class_token, "encoder/class_token", "1 1 d -> d"),
        Rule((places,), ("encoder/class_position_embedding", PLACES), PlaceTable()),
        Rule((times,), (TIMES,), TimeTable()),
    )


def image_conv(key: str, path: str) -> tuple[Rule, ...]:
    """torch's Conv2d of one frame -> a kernel (1, h, w, i, o), and `bias`."""
    return leaf(f"{key}.weight", f"{path}/kernel", "o i h w -> 1 h w i o"), leaf(
        f"{key}.bias", f"{path}/bias"
    )


def tables_as_they_are(variables: dict, arguments: dict) -> tuple[dict, dict]:
    """The sizes of the tables, said in the arguments. Raises ConversionError where they are not of
    square frames, which the references have not."""
    height, width, _ = variables[PLACES].shape
    if height != width:
        raise ConversionError(
            f"{PLACES} is of {height} × {width} patches: the references have squares only; save as "
            "'jaxvid', or initialise the model with square frames"
        )
    frames = variables[TIMES].shape[0] if TIMES in variables else None
    size = height * arguments["patch_size"]
    return variables, {**arguments, "num_frames": frames, "image_size": size}
