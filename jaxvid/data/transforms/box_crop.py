"""The surroundings of a labelled box, such as the person of an AVA record."""

import dataclasses

import grain
import numpy as np

from jaxvid.core.errors import ConfigError, DataError
from jaxvid.data.transforms import _resize

BOX = "box"


@dataclasses.dataclass(frozen=True)
class BoxCrop(grain.transforms.Map):
    """Cuts the clip's box with some of what is around it out of all frames of all views.

    clip["box"]: float (4,) x1, y1, x2, y2 as shares of the frame as it was decoded, so that this
    transform comes before all others that cut. margin: added on each side, as a share of the box's
    width and height. square: the shorter side is lengthened to the longer (as far as the frame
    goes), so that a square crop after it keeps the whole box. What would reach beyond the frame is
    moved back into it. Follow it by a resize or a crop, since every record has a size of its own.
    video uint8 (V, T, H, W, 3) -> (V, T, h, w, 3), a view of the same memory; the box is taken out
    of the clip, because it says nothing of what is left.

    Raises ConfigError for a clip without a box, DataError for a box that is none.
    """

    margin: float = 0.25
    square: bool = True

    def __post_init__(self):
        if not isinstance(self.margin, int | float) or not 0 <= self.margin < float("inf"):
            raise ConfigError(
                f"{type(self).__name__}: margin is {self.margin!r}, expected a number from 0"
            )

    def map(self, clip: dict) -> dict:
        if BOX not in clip:
            raise ConfigError(
                f"{type(self).__name__}: the clip has no box; records of this set name none (those "
                "of AVA do), so take box_crop out of the transforms"
            )
        video = clip["video"]
        top, left, height, width = self.box(clip[BOX], *video.shape[2:4])
        others = {name: value for name, value in clip.items() if name != BOX}
        return {**others, "video": video[:, :, top : top + height, left : left + width]}

    def box(self, shares: np.ndarray, height: int, width: int) -> _resize.Box:
        """(top, left, height, width) in pixels, within a picture of height x width."""
        x1, y1, x2, y2 = _checked(shares)
        wide = (x2 - x1) * width * (1 + 2 * self.margin)
        tall = (y2 - y1) * height * (1 + 2 * self.margin)
        if self.square:
            wide = tall = max(wide, tall)
        left, wide = _within((x1 + x2) / 2 * width, wide, width)
        top, tall = _within((y1 + y2) / 2 * height, tall, height)
        return top, left, tall, wide


def _within(centre: float, length: float, limit: int) -> tuple[int, int]:
    """(start, length) in whole pixels, moved into 0..limit."""
    pixels = min(max(round(length), 1), limit)
    start = round(centre - pixels / 2)
    return min(max(start, 0), limit - pixels), pixels


def _checked(shares: np.ndarray) -> tuple[float, float, float, float]:
    values = np.asarray(shares, np.float64)
    good = values.shape == (4,) and np.isfinite(values).all()
    if good:
        x1, y1, x2, y2 = values.tolist()
        good = 0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1
    if not good:
        raise DataError(
            f"the box of a clip is {np.asarray(shares).tolist()}, expected x1, y1, x2, y2 as shares "
            "of the frame with 0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1"
        )
    return x1, y1, x2, y2


build = BoxCrop
