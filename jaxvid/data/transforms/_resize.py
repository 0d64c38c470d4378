"""Resizing frames on the host, and the boxes and checks that the spatial transforms share.

The resizing is swscale's bilinear filter, widened when it shrinks an image (antialiased). Measured
on one core, 16 frames of 256x340 cut to 237x204 and resized to 224x224: swscale 3.6 ms, Pillow 7.0
ms (two threads at once: 5.0 and 10.7 to 16 ms), dense matrix products 36 ms; on real video all are
within 1 to 4 grey levels of the exact filter. Both libraries let go of the GIL.
"""

import threading

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from jaxvid.core.errors import ConfigError
from jaxvid.decode.reader import resized

_OF_THIS_THREAD = threading.local()

Box = tuple[int, int, int, int]  # top, left, height, width in pixels


def cut_and_resize(frames: np.ndarray, box: Box, out: np.ndarray) -> None:
    """Cuts the same box out of all frames and resizes it into `out`, the aspect as it may become.

    frames: uint8 (n, H, W, 3), C-contiguous. out: uint8 (n, height, width, 3), written to. A box
    that has the size of `out` already is only copied.
    """
    top, left, box_height, box_width = box
    height, width = out.shape[1:3]
    cut = frames[:, top : top + box_height, left : left + box_width]
    if (box_height, box_width) == (height, width):
        out[...] = cut
        return
    for number, frame in enumerate(cut):
        # swscale reads up to 32 bytes past the end of a row. Within the array that is the next
        # row or frame; after the last frame it may be nobody's memory, so that one is copied.
        last = number == len(cut) - 1
        source = _copied(frame) if last else av.VideoFrame.from_numpy_buffer(frame, format="rgb24")
        scaled = _reformatter().reformat(
            source, width=width, height=height, interpolation=Interpolation.BILINEAR, threads=1
        )
        plane = scaled.planes[0]  # its rows are padded to line_size bytes
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
        out[number] = rows[:height, : width * 3].reshape(height, width, 3)


def _copied(frame: np.ndarray) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")


def _reformatter() -> VideoReformatter:
    # It keeps its filter tables from one frame to the next, and must not be shared by threads.
    if not hasattr(_OF_THIS_THREAD, "reformatter"):
        _OF_THIS_THREAD.reformatter = VideoReformatter()
    return _OF_THIS_THREAD.reformatter


def at_least(video: np.ndarray, size: int) -> np.ndarray:
    """The video itself if a size x size crop fits, else enlarged until its short side is `size`."""
    height, width = video.shape[2:4]
    return video if min(height, width) >= size else to_short_side(video, size)


def to_short_side(video: np.ndarray, size: int) -> np.ndarray:
    """uint8 (V, T, H, W, 3) with the short side at `size` pixels, the aspect kept."""
    views, frames, old_height, old_width, _ = video.shape
    height, width = resized(old_height, old_width, size)
    if (height, width) == (old_height, old_width):
        return video
    out = np.empty((views, frames, height, width, 3), np.uint8)
    flat = np.ascontiguousarray(video).reshape(-1, old_height, old_width, 3)
    whole = (0, 0, old_height, old_width)
    cut_and_resize(flat, whole, out.reshape(-1, height, width, 3))
    return out


def check_size(transform: object, size: int) -> None:
    """Raises ConfigError unless `size` is a whole number of pixels."""
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise ConfigError(
            f"{type(transform).__name__}: size is {size!r}, expected a whole number of pixels from 1"
        )


def check_range(transform: object, name: str, limits: tuple, highest: float) -> None:
    """Raises ConfigError unless `limits` is a pair (low, high) with 0 < low <= high <= highest."""
    try:
        low, high = limits
        good = 0 < low <= high <= highest
    except (TypeError, ValueError):
        good = False
    if not good:
        bound = "" if highest == float("inf") else f" <= {highest:g}"
        raise ConfigError(
            f"{type(transform).__name__}: {name} is {limits!r}, "
            f"expected a pair (low, high) with 0 < low <= high{bound}"
        )
