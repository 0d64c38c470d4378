"""Learned tables of positions, from one row of tokens to a grid, and from one grid to another."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from jaxvid.convert.layout import LayoutError, Shape


@dataclasses.dataclass(frozen=True)
class PositionRow:
    """A row of positions (1, L, D) of the checkpoint is a grid (*grid, D) of the model, resized by
    `resize_grid` where the model has another one; an operation of a rule.

    grid: (t, h, w), (h, w) or (t,), in the row's order, time first; None: the model's. class_token: the
    first of the L belongs to one, and is the first of two paths, (D,).
    """

    grid: tuple[int, ...] | None = None
    class_token: bool = False

    def load(self, arrays: Sequence[np.ndarray], shapes: Sequence[Shape]) -> list[np.ndarray]:
        (row,) = arrays
        wanted = shapes[-1]
        grid = self.grid or tuple(wanted[:-1])
        tokens = math.prod(grid) + self.class_token
        if row.ndim != 3 or row.shape[:2] != (1, tokens):
            raise LayoutError(
                f"a table of shape {row.shape} has not the positions of {grid} patches"
                f"{' and a class token' if self.class_token else ''}, (1, {tokens}, …)"
            )
        table = row[0, int(self.class_token) :].reshape(*grid, row.shape[-1])
        first = [row[0, 0]] if self.class_token else []
        return [*first, resize_grid(table, tuple(wanted[:-1]))]

    def save(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        *first, table = arrays
        row = table.reshape(-1, table.shape[-1])
        return [np.concatenate([*(x[None] for x in first), row])[None]]


@dataclasses.dataclass(frozen=True)
class ResizedGrid:
    """A grid (*grid, D) on both sides, resized by `resize_grid` where they differ; with one axis
    less, the grid of one frame, it is the same for every frame."""

    def load(self, arrays: Sequence[np.ndarray], shapes: Sequence[Shape]) -> list[np.ndarray]:
        (table,), (shape,) = arrays, shapes
        if table.ndim + 1 == len(shape):
            table = table[None]
        return [resize_grid(table, tuple(shape[:-1]))]

    def save(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        return list(arrays)


def resize_grid(table: np.ndarray, grid: tuple[int, ...]) -> np.ndarray:
    """(*old grid, D) -> (*grid, D): linear along every axis, the outermost positions kept.

    An axis of one position is repeated ("tiled"). As the original code of ViViT resizes its tables
    (scipy.ndimage.zoom, order 1). Raises LayoutError when the number of axes differs.
    """
    if table.ndim != len(grid) + 1:
        raise LayoutError(
            f"no way from positions over {table.shape[:-1]} to {grid}: they have not as many axes"
        )
    for axis, size in enumerate(grid):
        if table.shape[axis] != size:
            table = _along(table, axis, size)
    return table


def _along(table: np.ndarray, axis: int, size: int) -> np.ndarray:
    old = table.shape[axis]
    place = np.linspace(0.0, old - 1.0, size) if size > 1 else np.zeros(1)
    left = np.minimum(np.floor(place).astype(int), old - 1)
    right = np.minimum(left + 1, old - 1)
    shape = [1] * table.ndim
    shape[axis] = size
    share = (place - left).reshape(shape)
    mixed = table.take(left, axis) * (1.0 - share) + table.take(right, axis) * share
    return mixed.astype(table.dtype)
