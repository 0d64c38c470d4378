"""A folder of images as a video: one file a frame, in natural order (frame2 before frame10).

Images are taken as stored: an EXIF orientation is not applied (frames cut from a video carry none).
"""

import os
import re

import numpy as np
from PIL import Image

from jaxvid.core.errors import DecodeError
from jaxvid.core.record import VideoMeta
from jaxvid.decode import reader

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
DEFAULT_FPS = 30.0  # a folder does not say; most sets that ship frames cut them at 25 to 30
# Beside img_00001.jpg mmaction2 and TSN keep flow_x_00001.jpg and flow_y_00001.jpg: no frames.
_OF_FLOW = re.compile(r"(flow[_-]?[xyuv]?|[xyuv])[_-]?[0-9]+\.[a-z]+", re.IGNORECASE)
_WIDE_MODES = ("I", "F")  # Pillow clips these at 255 instead of scaling them


class Reader(reader.Reader):
    """A folder of .jpg, .jpeg, .png, .webp or .bmp files of one size; all other files are ignored, and
    images of optical flow (flow_x_00001.jpg) where there are others.

    `meta.fps` is DEFAULT_FPS and the duration follows from it. Raises DecodeError for a folder
    without images, an unreadable image, or one whose size differs from the first one's.
    """

    backend = "frames"

    def __init__(self, path: str, short_side: int | None = None):
        super().__init__(path)
        self._files = self._list()
        self._short_side = short_side
        with self._opened(0) as first:
            self._stored = first.size  # (width, height)
        height, width = reader.resized(self._stored[1], self._stored[0], short_side)
        count = len(self._files)
        self.meta = VideoMeta(count, DEFAULT_FPS, height, width, count / DEFAULT_FPS)

    def _list(self) -> list[str]:
        try:
            entries = os.listdir(self.path)
        except OSError as error:
            raise self._error(f"the folder cannot be listed: {error.strerror}") from error
        images = [e for e in entries if e.lower().endswith(EXTENSIONS) and not e.startswith(".")]
        if not images:
            raise self._error(
                f"the folder holds no images ({', '.join(EXTENSIONS)}) among its {len(entries)} "
                "entries; give a video file or the folder that holds the frames themselves"
            )
        frames = [image for image in images if not _OF_FLOW.fullmatch(image)]
        return sorted(frames or images, key=natural_key)

    def _decode(self, needed: np.ndarray) -> np.ndarray:
        height, width = self.meta.height, self.meta.width
        out = np.empty((len(needed), height, width, 3), np.uint8)
        for row, index in enumerate(map(int, needed)):
            with self._opened(index) as image:
                if image.size != self._stored:
                    raise self._error(
                        f"{self._files[index]} is {image.size[0]}x{image.size[1]} pixels, "
                        f"{self._files[0]} is {self._stored[0]}x{self._stored[1]}; "
                        "all frames of a folder must have one size",
                        index,
                    )
                out[row] = self._pixels(image, index, (width, height))
        return out

    def _opened(self, index: int) -> Image.Image:
        try:
            return Image.open(os.path.join(self.path, self._files[index]))
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise self._unreadable(index, error) from error

    def _pixels(self, image: Image.Image, index: int, size: tuple[int, int]) -> Image.Image:
        if image.mode.startswith(_WIDE_MODES):
            raise self._error(
                f"{self._files[index]} has more than 8 bits a pixel (mode {image.mode}); "
                "convert the frames to 8 bits first",
                index,
            )
        try:
            if self._short_side is not None:
                image.draft("RGB", size)  # JPEG: decode at 1/2, 1/4, 1/8 where that is enough
            rgb = image.convert("RGB")
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise self._unreadable(index, error) from error
        return rgb if rgb.size == size else rgb.resize(size, Image.Resampling.BILINEAR)

    def _unreadable(self, index: int, error: Exception) -> DecodeError:
        return self._error(f"{self._files[index]} cannot be read as an image: {error}", index)


def natural_key(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Sorts runs of digits by their value, letters without case: frame2 before Frame10."""
    parts = re.split(r"([0-9]+)", name.lower())
    return [(1, int(p), "") if p.isdecimal() else (0, 0, p) for p in parts], name
