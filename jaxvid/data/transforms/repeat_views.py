"""Several views of the frames that were decoded once: repeated augmentation."""

import dataclasses

import grain
import numpy as np

from jaxvid.core.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class RepeatViews(grain.transforms.Map):
    """Each view so many times, one after another; the random transforms after it draw for each.

    video uint8 (V, T, H, W, 3) -> (times V, T, H, W, 3). So a video is decoded once and trained on
    `times` times a step (repeated augmentation, Hoffer et al. 2020, arXiv 1901.09335), with the same
    frames differently cropped and coloured; several clips of a video (train_views) have other
    frames besides. The batch of the device is `times` as large.
    """

    times: int = 2

    def __post_init__(self):
        if not isinstance(self.times, int) or isinstance(self.times, bool) or self.times < 1:
            raise ConfigError(
                f"{type(self).__name__}: times is {self.times!r}, expected a whole number from 1"
            )

    @property
    def view_factor(self) -> int:
        return self.times

    def map(self, clip: dict) -> dict:
        return {**clip, "video": np.repeat(clip["video"], self.times, axis=0)}


build = RepeatViews
