"""A square at a random place, the scale as it is."""

import dataclasses

import grain
import numpy as np

from jaxvid.data.transforms import _resize


@dataclasses.dataclass(frozen=True)
class RandomCrop(grain.transforms.RandomMap):
    """size x size pixels at a random place: one for all frames of a view, another for each view.

    video uint8 (V, T, H, W, 3) -> (V, T, size, size, 3). Videos with a side shorter than `size` are
    first enlarged until their short side is `size`.
    """

    size: int

    def __post_init__(self):
        _resize.check_size(self, self.size)

    def random_map(self, clip: dict, rng: np.random.Generator) -> dict:
        video = _resize.at_least(clip["video"], self.size)
        views, frames, height, width, _ = video.shape
        out = np.empty((views, frames, self.size, self.size, 3), np.uint8)
        for view in range(views):
            top = rng.integers(0, height - self.size, endpoint=True)
            left = rng.integers(0, width - self.size, endpoint=True)
            out[view] = video[view, :, top : top + self.size, left : left + self.size]
        return {**clip, "video": out}


build = RandomCrop
