"""What every reader of one video has in common: its face, and the checks before anything is decoded."""

import abc
import os
import stat
from collections.abc import Sequence
from typing import Self

import numpy as np

from jaxvid.core.errors import DecodeError
from jaxvid.core.record import VideoMeta
from jaxvid.decode import audio

MAX_MISSING_SHARE = 0.1


class Reader(abc.ABC):
    """One open video. Made by `jaxvid.decode.video.open`; use it in a `with` block.

    Attributes: path (str), backend (str), meta (VideoMeta), missing_frames (int): how many of the
    last `meta.num_frames` turned out not to exist, 0 as long as none was asked for; has_audio (bool
    or None): whether there is sound, None as long as none was asked for.
    """

    backend: str
    meta: VideoMeta

    def __init__(self, path: str):
        self.path = path
        self.missing_frames = 0
        self.has_audio: bool | None = None
        self._closed = False
        self._identity = _identity(path)

    def frames_at(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """The frames of these numbers, counted from 0 in the order in which they are shown.

        indices: integers (n,), in any order, repeats allowed; each frame is decoded once. Returns
        uint8 (n, H, W, 3), upright RGB, in the order asked. Raises DecodeError for a number outside
        the video and for anything that is wrong with the file.
        """
        self._check_open("frames")
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
        try:
            frames = self._decode(needed)
            return frames if np.array_equal(needed, wanted) else frames[rows]
        except MemoryError as error:  # a damaged header may state any size
            size = f"{self.meta.width}x{self.meta.height}"
            raise self._error(
                f"{wanted.size} frames of {size} pixels do not fit into memory"
            ) from error

    def waveform(self, start_seconds: float, end_seconds: float, rate: int) -> np.ndarray:
        """The sound of these seconds, counted from the first frame: see `jaxvid.decode.audio.read`.

        Returns float32 (n,), mono in [-1, 1], n = round(end · rate) - round(start · rate); zeros where
        there is no track, of which `has_audio` tells. Raises DecodeError for a track that is damaged.
        """
        self._check_open("sound")
        samples = self._sound(start_seconds, end_seconds, rate)
        self.has_audio = samples is not None
        if samples is None:
            size = round(end_seconds * rate) - round(start_seconds * rate)
            return np.zeros(size, np.float32)
        return samples

    def close(self) -> None:
        """Lets go of the file; further calls of frames_at and waveform are refused."""
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    @abc.abstractmethod
    def _decode(self, needed: np.ndarray) -> np.ndarray:
        """uint8 (n, H, W, 3) for frame numbers that are rising, without repeats, and in range."""

    def _sound(self, start_seconds: float, end_seconds: float, rate: int) -> np.ndarray | None:
        """What `waveform` returns, or None without a track; for videos that are no file of their
        own."""
        return audio.read(self.path, start_seconds, end_seconds, rate)

    def _check_open(self, what: str) -> None:
        if self._closed:
            raise ValueError(f"{self.path}: the reader is closed; ask for {what} before close()")

    def _check_unchanged(self) -> None:
        """Before the file is opened once more: another one in its place would give half a clip."""
        now = _identity(self.path)  # None: it is gone, of which opening it tells
        if now is not None and now != self._identity:
            raise self._error(
                "the file was changed while it was read; read it again when it is whole"
            )

    def _error(self, reason: str, frame: int | None = None) -> DecodeError:
        return DecodeError(self.path, frame, self.backend, reason)


def _identity(path: str) -> tuple[int, ...] | None:
    """What tells a file from one that has taken its place; None for pipes and what is not there."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def allowed_missing(num_frames: int) -> int:
    """How many of so many frames may be absent at a video's end before it counts as truncated."""
    return max(1, int(MAX_MISSING_SHARE * num_frames))


def resized(height: int, width: int, short_side: int | None) -> tuple[int, int]:
    """(height, width) in pixels with the short side as asked and the aspect kept; None: as it is."""
    if short_side is None:
        return height, width
    scale = short_side / min(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))
