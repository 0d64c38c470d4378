"""How a stored picture is turned and mirrored before it is shown (the container's display matrix)."""

import dataclasses
from typing import Self

import numpy as np


@dataclasses.dataclass(frozen=True)
class Orientation:
    """First rows and columns are swapped if `transpose`, then columns and rows run backwards."""

    transpose: bool = False
    flip_columns: bool = False
    flip_rows: bool = False

    @classmethod
    def from_matrix(cls, matrix: np.ndarray) -> Self:
        """matrix: the nine int32 of libavutil/display.h, row by row. It maps a stored point (x, y)
        to (a x + c y, b x + d y) with a, b = matrix[0:2] and c, d = matrix[3:5]. An angle between
        quarter turns is taken for the nearest one."""
        a, b, c, d = (int(matrix[i]) for i in (0, 1, 3, 4))
        if abs(b) + abs(c) > abs(a) + abs(d):
            return cls(True, c < 0, b < 0)
        return cls(False, a < 0, d < 0)

    @property
    def mirrored(self) -> bool:
        """Whether it is more than a turn: left and right are exchanged."""
        return self.transpose ^ self.flip_columns ^ self.flip_rows

    @property
    def degrees_clockwise(self) -> int:
        """0, 90, 180 or 270: the turn, after a mirroring of left and right if it is mirrored."""
        if self.transpose:
            return 90 if self.flip_columns else 270
        return 180 if self.flip_rows else 0

    def upright(self, picture: np.ndarray) -> np.ndarray:
        """(h, w, c) as stored to (H, W, c) as shown, a view."""
        if self.transpose:
            picture = picture.transpose(1, 0, 2)
        return picture[:: -1 if self.flip_rows else 1, :: -1 if self.flip_columns else 1]
