"""A corner or the middle at one of a few scales, resized to a square: the crop of TSN."""

import dataclasses

import grain
import numpy as np

from jaxvid.core.errors import ConfigError
from jaxvid.data.transforms import _resize

# In quarters of what is left beside the crop, (down, right): four corners and the middle, then the
# middles of the sides and of the four quarters.
_PLACES = (
    *((0, 0), (0, 4), (4, 0), (4, 4), (2, 2)),
    *((2, 0), (2, 4), (4, 2), (0, 2), (1, 1), (1, 3), (3, 1), (3, 3)),
)
ANYWHERE = 0


@dataclasses.dataclass(frozen=True)
class MultiScaleCrop(grain.transforms.RandomMap):
    """A box of one of a few sizes, resized to size x size: one a view, for all its frames.

    scales: shares of the short side, from the largest down. Height and width are two of them at
    most `max_distort` places apart in that order, each such pair equally likely. places: 5 (corners
    and centre), 13 (between them too) or 0 (anywhere). (Wang et al. 2016, section 3.2; with 13
    places as its authors' code and VideoMAE's pretraining.) A side within 2 pixels of `size` is
    taken as `size`, so that nothing is resized for so little.
    Drawn for each view: the pair, then the place (0: the top, then the left).
    video uint8 (V, T, H, W, 3) -> (V, T, size, size, 3). Videos with a side shorter than `size` are
    enlarged by what is cut out of them.
    """

    size: int
    scales: tuple[float, ...] = (1.0, 0.875, 0.75, 0.66)
    max_distort: int = 1
    places: int = 13

    def __post_init__(self):
        _resize.check_size(self, self.size)
        name = type(self).__name__
        scales = self.scales if isinstance(self.scales, tuple | list) else ()
        if not scales or not all(isinstance(s, int | float) and 0 < s <= 1 for s in scales):
            raise ConfigError(
                f"{name}: scales are {self.scales!r}, expected shares of the short side above 0 "
                "and at most 1, such as (1, 0.875, 0.75)"
            )
        if self.places not in (ANYWHERE, 5, 13):
            raise ConfigError(f"{name}: places is {self.places!r}, expected 5, 13 or 0 (anywhere)")
        if not isinstance(self.max_distort, int) or self.max_distort < 0:
            raise ConfigError(
                f"{name}: max_distort is {self.max_distort!r}, expected a whole number from 0"
            )

    def random_map(self, clip: dict, rng: np.random.Generator) -> dict:
        video = np.ascontiguousarray(clip["video"])
        views, frames, height, width, _ = video.shape
        out = np.empty((views, frames, self.size, self.size, 3), np.uint8)
        for view in range(views):
            _resize.cut_and_resize(video[view], self.box(height, width, rng), out[view])
        return {**clip, "video": out}

    def box(self, height: int, width: int, rng: np.random.Generator) -> _resize.Box:
        """(top, left, height, width) in pixels, within a picture of height x width."""
        sizes = self.sizes(height, width)
        tall, wide = sizes[rng.integers(len(sizes))]
        if self.places == ANYWHERE:
            top = int(rng.integers(0, height - tall, endpoint=True))
            left = int(rng.integers(0, width - wide, endpoint=True))
            return top, left, tall, wide
        down, right = _PLACES[rng.integers(self.places)]
        return (height - tall) * down // 4, (width - wide) * right // 4, tall, wide

    def sizes(self, height: int, width: int) -> list[tuple[int, int]]:
        """All pairs (height, width) of a box that may be drawn from such a picture."""
        short = min(height, width)
        sides = [max(int(short * scale), 1) for scale in self.scales]
        sides = [self.size if abs(s - self.size) < 3 and self.size <= short else s for s in sides]
        return [
            (tall, wide)
            for i, tall in enumerate(sides)
            for j, wide in enumerate(sides)
            if abs(i - j) <= self.max_distort
        ]


build = MultiScaleCrop
