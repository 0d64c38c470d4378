"""Learned tables of positions, resized to the frames and size that a model is loaded for.

Linearly along a line, bilinearly on a map: as torch interpolates with align_corners=False.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from jaxvid.convert.layout import SAME, LayoutError, Operation
from jaxvid.nn.pooled_attention import linear_weights


def resize_line(table: np.ndarray, rows: int) -> np.ndarray:
    """(L, D) -> (rows, D)"""
    return table if rows == len(table) else linear_weights(len(table), rows) @ table


def resize_map(table: np.ndarray, height: int, width: int) -> np.ndarray:
    """(L, D), places of a map in raster order -> (height, width, D).

    A table of height · width places is taken to be of that map, any other to be of a square one.
    Raises LayoutError when it cannot be.
    """
    if len(table) == height * width:
        return table.reshape(height, width, -1)
    side = math.isqrt(len(table))
    if side * side != len(table):
        raise LayoutError(
            f"{len(table)} places are neither a map of {height}×{width} nor a square one, which could "
            "be resized"
        )
    over_height, over_width = linear_weights(side, height), linear_weights(side, width)
    return np.einsum("ha,wb,abd->hwd", over_height, over_width, table.reshape(side, side, -1))


@dataclasses.dataclass(frozen=True)
class Line:
    """A table (L, D), laid out by `each`, resized to the model's (L', D)."""

    each: Operation = SAME

    def load(self, arrays: Sequence[np.ndarray], shapes: Sequence[tuple]) -> list[np.ndarray]:
        (table,) = self.each.load(arrays, shapes)
        return [resize_line(table, shapes[0][0]) if table.ndim == 2 else table]

    def save(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        return self.each.save(arrays)


@dataclasses.dataclass(frozen=True)
class Map:
    """A table (L, D) of a map's places, or (1, L, D), resized to the model's (height, width, D)."""

    batched: bool = False

    def load(self, arrays: Sequence[np.ndarray], shapes: Sequence[tuple]) -> list[np.ndarray]:
        (table,), (height, width, _) = arrays, shapes[0]
        if table.ndim != 2 + self.batched:
            return [table]
        return [resize_map(table[0] if self.batched else table, height, width)]

    def save(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        flat = arrays[0].reshape(-1, arrays[0].shape[-1])
        return [flat[None] if self.batched else flat]
