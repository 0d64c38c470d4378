"""Resize to a given short side, keeping the aspect."""

import dataclasses

import grain

from jaxvid.data.transforms import _resize


@dataclasses.dataclass(frozen=True)
class ShortSideResize(grain.transforms.Map):
    """The short side becomes `size` pixels (shrunk or enlarged), the long side follows, rounded.

    video uint8 (V, T, H, W, 3) -> (V, T, h, w, 3) with min(h, w) = size. Where the decoder can do
    it (`short_side` of the data settings) it is cheaper there.
    """

    size: int

    def __post_init__(self):
        _resize.check_size(self, self.size)

    def map(self, clip: dict) -> dict:
        return {**clip, "video": _resize.to_short_side(clip["video"], self.size)}


build = ShortSideResize
