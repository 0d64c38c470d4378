"""What every reader of one video has in common: its face, and the checks before anything is decoded."""

import abc
from collections.abc import Sequence
from typing import Self

import numpy as np

from jaxvid.core.errors import DecodeError
from jaxvid.core.record import VideoMeta

MAX_MISSING_SHARE = 0.1


class Reader(abc.ABC):
    """One open video. Made by `jaxvid.decode.video.open`; use it in a `with` block.

    Attributes: path (str), backend (str), meta (VideoMeta), missing_frames (int): how many of the
    last `meta.num_frames` turned out not to exist, 0 as long as none was asked for.
    """

    backend: str
    meta: VideoMeta

    def __init__(self, path: str):
        self.path = path
        self.missing_frames = 0
        self._closed = False

    def frames_at(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """The frames of these numbers, counted from 0 in the order in which they are shown.

        indices: integers (n,), in any order, repeats allowed; each frame is decoded once. Returns
        uint8 (n, H, W, 3), upright RGB, in the order asked. Raises DecodeError for a number outside
        the video and for anything that is wrong with the file.
        """
        if self._closed:
            raise ValueError(f"{self.path}: the reader is closed; ask for frames before close()")
        wanted = np.asarray(indices)
        if wanted.ndim != 1 or (wanted.size and wanted.dtype.kind not in "iu"):
            raise ValueError(
                f"{self.path}: frame indices are {wanted.dtype} of shape {wanted.shape}, "
                "expected whole numbers with one axis"
            )
        if not wanted.size:
            return np.empty((0, self.meta.height, self.meta.width, 3), np.uint8)
        for index in (int(wanted.min()), int(wanted.max())):
            if not 0 <= index < self.meta.num_frames:
                raise self._error(
                    f"there is no such frame: the video has {self.meta.num_frames}, "
                    f"numbered 0 to {self.meta.num_frames - 1}",
                    index,
                )
        needed, rows = np.unique(wanted, return_inverse=True)
        frames = self._decode(needed)
        return frames if np.array_equal(needed, wanted) else frames[rows]

    def close(self) -> None:
        """Lets go of the file; further calls of frames_at are refused."""
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    @abc.abstractmethod
    def _decode(self, needed: np.ndarray) -> np.ndarray:
        """uint8 (n, H, W, 3) for frame numbers that are rising, without repeats, and in range."""

    def _error(self, reason: str, frame: int | None = None) -> DecodeError:
        return DecodeError(self.path, frame, self.backend, reason)


def allowed_missing(num_frames: int) -> int:
    """How many of so many frames may be absent at a video's end before it counts as truncated."""
    return max(1, int(MAX_MISSING_SHARE * num_frames))


def resized(height: int, width: int, short_side: int | None) -> tuple[int, int]:
    """(height, width) in pixels with the short side as asked and the aspect kept; None: as it is."""
    if short_side is None:
        return height, width
    scale = short_side / min(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))
