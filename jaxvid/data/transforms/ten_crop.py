"""Four corners, the centre, and all of them mirrored: the ten spatial views of older protocols."""

import dataclasses
from typing import ClassVar

import grain
import numpy as np

from jaxvid.data.transforms import _resize


@dataclasses.dataclass(frozen=True)
class TenCrop(grain.transforms.Map):
    """size x size pixels at the corners and in the middle, then the same five mirrored left-right.

    video uint8 (V, T, H, W, 3) -> (10 V, T, size, size, 3): of view 0 top left, top right, bottom
    left, bottom right, centre and their mirror images in this order, then those of view 1, ..
    (Krizhevsky et al. 2012, section 4.1; the order is torchvision's.) Not for sets whose classes
    have sides. Videos with a side shorter than `size` are first enlarged until their short side is
    `size`.
    """

    size: int
    view_factor: ClassVar[int] = 10

    def __post_init__(self):
        _resize.check_size(self, self.size)

    def map(self, clip: dict) -> dict:
        video = _resize.at_least(clip["video"], self.size)
        views, frames, height, width, _ = video.shape
        bottom, right = height - self.size, width - self.size
        corners = ((0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2))
        out = np.empty((views, 10, frames, self.size, self.size, 3), np.uint8)
        for number, (top, left) in enumerate(corners):
            out[:, number] = video[:, :, top : top + self.size, left : left + self.size]
        out[:, 5:] = out[:, :5, :, :, ::-1]
        return {**clip, "video": out.reshape(10 * views, *out.shape[2:])}


build = TenCrop
