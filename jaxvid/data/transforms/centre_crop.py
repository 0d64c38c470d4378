"""The square in the middle: the usual crop of a one-crop evaluation."""

import dataclasses

import grain

from jaxvid.data.transforms import _resize


@dataclasses.dataclass(frozen=True)
class CentreCrop(grain.transforms.Map):
    """The size x size pixels in the middle; an odd pixel too many stays on the right or below.

    video uint8 (V, T, H, W, 3) -> (V, T, size, size, 3), a view where nothing had to be enlarged.
    Videos with a side shorter than `size` are first enlarged until their short side is `size`.
    """

    size: int

    def __post_init__(self):
        _resize.check_size(self, self.size)

    def map(self, clip: dict) -> dict:
        video = _resize.at_least(clip["video"], self.size)
        top = (video.shape[2] - self.size) // 2
        left = (video.shape[3] - self.size) // 2
        return {
            **clip,
            "video": video[:, :, top : top + self.size, left : left + self.size],
        }


build = CentreCrop
