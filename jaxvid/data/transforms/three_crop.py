"""Three squares along the long side: the spatial views of multi-crop evaluation."""

import dataclasses
from typing import ClassVar

import grain
import numpy as np

from jaxvid.data.transforms import _resize


@dataclasses.dataclass(frozen=True)
class ThreeCrop(grain.transforms.Map):
    """Left, centre and right squares of a wide video; top, centre and bottom ones of a tall one.

    video uint8 (V, T, H, W, 3) -> (3 V, T, size, size, 3), in the order view 0 crop 0, view 0 crop
    1, view 0 crop 2, view 1 crop 0, .. Along the short side all three are centred, so put
    ShortSideResize(size) before it to see the whole picture, as the published protocols do
    (SlowFast, Feichtenhofer et al. 2019, section 4). Videos with a side shorter than `size` are
    first enlarged until their short side is `size`. Of a square video the three are the same.
    """

    size: int
    view_factor: ClassVar[int] = 3

    def __post_init__(self):
        _resize.check_size(self, self.size)

    def map(self, clip: dict) -> dict:
        video = _resize.at_least(clip["video"], self.size)
        views, frames, height, width, _ = video.shape
        out = np.empty((views, 3, frames, self.size, self.size, 3), np.uint8)
        for number in range(3):
            top = (height - self.size) * (number if height > width else 1) // 2
            left = (width - self.size) * (number if width >= height else 1) // 2
            out[:, number] = video[:, :, top : top + self.size, left : left + self.size]
        return {**clip, "video": out.reshape(3 * views, *out.shape[2:])}


build = ThreeCrop
