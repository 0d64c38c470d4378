"""A video whose frames are images in memory, each encoded by itself: JPEG, PNG, …; mute."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from jaxvid.core.record import VideoMeta
from jaxvid.decode import reader


class Reader(reader.Reader):
    """frames: the bytes of each image, all of one size; at least one. path, backend: for errors.

    fps: frames a second, which images do not tell. Frames are decoded when they are asked for. Raises
    DecodeError for no frames, bytes that are no image, and images of another size than the first.
    """

    def __init__(
        self,
        path: str,
        frames: Sequence[bytes],
        *,
        fps: float,
        short_side: int | None = None,
        backend: str = "encoded",
    ):
        super().__init__(path)
        self.backend, self._frames, self._short_side = backend, frames, short_side
        if not frames:
            raise self._error("it has no frames")
        self._stored = self._image(0).size  # (width, height)
        height, width = reader.resized(self._stored[1], self._stored[0], short_side)
        self.meta = VideoMeta(len(frames), fps, height, width, len(frames) / fps)

    def _decode(self, needed: np.ndarray) -> np.ndarray:
        height, width = self.meta.height, self.meta.width
        out = np.empty((len(needed), height, width, 3), np.uint8)
        for row, index in enumerate(map(int, needed)):
            out[row] = self._pixels(index, (width, height))
        return out

    def _sound(self, start_seconds: float, end_seconds: float, rate: int) -> None:
        return None

    def _image(self, index: int) -> Image.Image:
        try:
            return Image.open(io.BytesIO(self._frames[index]))
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise self._error(f"a frame cannot be read as an image: {error}", index) from error

    def _pixels(self, index: int, size: tuple[int, int]) -> Image.Image:
        image = self._image(index)
        if image.size != self._stored:
            raise self._error(
                f"a frame is {image.size[0]}x{image.size[1]} pixels, the first one is "
                f"{self._stored[0]}x{self._stored[1]}",
                index,
            )
        try:
            if self._short_side is not None:
                image.draft("RGB", size)  # JPEG: decode at 1/2, 1/4, 1/8 where that is enough
            rgb = image.convert("RGB")
        except (OSError, ValueError, SyntaxError) as error:
            raise self._error(f"a frame cannot be read as an image: {error}", index) from error
        return rgb if rgb.size == size else rgb.resize(size, Image.Resampling.BILINEAR)
