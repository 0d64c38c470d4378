"""A box of random area and aspect, resized to a square: the usual crop of training."""

import dataclasses
import math

import grain
import numpy as np

from jaxvid.data.transforms import _resize

ATTEMPTS = 10


@dataclasses.dataclass(frozen=True)
class RandomResizedCrop(grain.transforms.RandomMap):
    """A random box, resized to size x size: one for all frames of a view, another for each view.

    scale: least and greatest share of the picture's area. ratio: least and greatest width / height,
    drawn evenly on a log scale. (Inception, Szegedy et al. 2015, section 6.) A box that does not
    fit is drawn again, ten times; then it is the largest centred box whose ratio is allowed.
    video uint8 (V, T, H, W, 3) -> (V, T, size, size, 3); boxes smaller than `size` are enlarged.
    """

    size: int
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)

    def __post_init__(self):
        _resize.check_size(self, self.size)
        _resize.check_range(self, "scale", self.scale, highest=1.0)
        _resize.check_range(self, "ratio", self.ratio, highest=math.inf)

    def random_map(self, clip: dict, rng: np.random.Generator) -> dict:
        video = np.ascontiguousarray(clip["video"])
        views, frames, height, width, _ = video.shape
        out = np.empty((views, frames, self.size, self.size, 3), np.uint8)
        for view in range(views):
            box = self.box(height, width, rng)
            _resize.cut_and_resize(video[view], box, out[view])
        return {**clip, "video": out}

    def box(self, height: int, width: int, rng: np.random.Generator) -> _resize.Box:
        """(top, left, height, width) in pixels, within a picture of height x width."""
        low, high = (math.log(r) for r in self.ratio)
        for _ in range(ATTEMPTS):
            area = height * width * rng.uniform(*self.scale)
            ratio = math.exp(rng.uniform(low, high))
            box_width = round(math.sqrt(area * ratio))
            box_height = round(math.sqrt(area / ratio))
            if 0 < box_width <= width and 0 < box_height <= height:
                top = int(rng.integers(0, height - box_height, endpoint=True))
                left = int(rng.integers(0, width - box_width, endpoint=True))
                return top, left, box_height, box_width
        ratio = min(max(width / height, self.ratio[0]), self.ratio[1])
        box_width = max(1, min(width, round(height * ratio)))
        box_height = max(1, min(height, round(width / ratio)))
        return (height - box_height) // 2, (width - box_width) // 2, box_height, box_width


build = RandomResizedCrop
