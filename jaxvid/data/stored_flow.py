"""Optical flow as pictures: how it lies in a store, and how it follows the pixels through the
transforms.

Motion of -20 to 20 pixels becomes 256 grey levels, 128 standing still (TSN, Wang et al. 2016, keeps its
flow like this); both directions make one grey JPEG, the one to the right above the one down. A level is
0.16 pixels, and the codec adds about as much.
"""

import copy
from collections.abc import Sequence

import grain
import numpy as np

from jaxvid.core.batch import VIDEO
from jaxvid.core.errors import ConfigError
from jaxvid.data.transform_list import Transform
from jaxvid.decode import flow as optical_flow
from jaxvid.decode import jpeg

BOUND = 20.0  # pixels; what moves further is cut off there
QUALITY = 95  # of the JPEGs
_STILL, _LEVELS = 128, 127


def to_levels(flow: np.ndarray) -> np.ndarray:
    """float (…) pixels -> uint8 (…), 1 to 255."""
    shares = np.clip(flow, -BOUND, BOUND) / BOUND
    return np.round(_STILL + _LEVELS * shares).astype(np.uint8)


def to_pixels(levels: np.ndarray) -> np.ndarray:
    """uint8 (…) -> float32 (…), -20 to 20."""
    return (levels.astype(np.float32) - _STILL) * np.float32(BOUND / _LEVELS)


def encode(flow: np.ndarray) -> bytes:
    """float (H, W, 2) pixels as a JPEG."""
    return jpeg.encode(np.concatenate(list(np.moveaxis(to_levels(flow), -1, 0))), QUALITY)


def decode_into(data: bytes, out: np.ndarray) -> None:
    """Writes the levels into `out`, uint8 (H, W, 2). Raises ValueError as `jpeg.decode_into` does."""
    height, width, _ = out.shape
    picture = np.empty((2 * height, width), np.uint8)
    jpeg.decode_into(data, picture)
    out[..., 0], out[..., 1] = picture[:height], picture[height:]


class Encoder:
    """The records of frames that come in stretches: JPEG and flow, JPEG and flow, … The flow of a
    frame is to the one after it, so each stretch's last frame comes with the next; `end` gives the
    video's last, whose flow is that of the one before it."""

    def __init__(self, method: str, quality: int):
        self._method, self._quality = method, quality
        self._held: np.ndarray | None = None
        self._last_step: np.ndarray | None = None

    def add(self, frames: np.ndarray) -> list[bytes]:
        """uint8 (n, H, W, 3) -> the records that are complete."""
        queue = frames if self._held is None else np.concatenate([self._held[None], frames])
        self._held = queue[-1]
        if len(queue) < 2:
            return []
        steps = optical_flow.flow(queue, self._method)[:-1]
        self._last_step = steps[-1]
        pairs = zip(queue[:-1], steps, strict=True)
        return [record for pair in pairs for record in self._pair(*pair)]

    def end(self) -> list[bytes]:
        """The records of the last frame; of a single frame nothing moves."""
        still = np.zeros((*self._held.shape[:2], 2), np.float32)
        return self._pair(self._held, still if self._last_step is None else self._last_step)

    def _pair(self, frame: np.ndarray, step: np.ndarray) -> list[bytes]:
        return [jpeg.encode(frame, self._quality), encode(step)]


def check_transforms(transforms: Sequence[Transform]) -> None:
    """Raises ConfigError for one that changes more than place and size."""
    for transform in transforms:
        if getattr(transform, "changes_look", False):
            raise ConfigError(
                f"flow from a store can be cropped and resized, and {transform!r} does more: compute "
                f"it on the fly (data.flow {' or '.join(map(repr, optical_flow.METHODS))}), or leave "
                "that transform out"
            )


def transformed(
    levels: np.ndarray,
    clip: dict,
    transforms: Sequence[Transform],
    rng: np.random.Generator | None,
) -> np.ndarray:
    """Levels uint8 (V, T, H, W, 2) -> float32 (V', T, h, w, 2) pixels of the result.

    The transforms crop and resize them as they do the clip's video, if `rng` is as it was then. By
    how much each view was enlarged or mirrored is read off two more frames, which grow brighter
    from left to right and from top to bottom; the vectors change as much (to about a hundredth).
    """
    views, frames, height, width, _ = levels.shape
    # As grey pictures, because resizing mixes colours a little: right, down, and the two ramps.
    carrier = np.empty((views, 2 * frames + 2, height, width, 3), np.uint8)
    carrier[:, :frames] = levels[..., :1]
    carrier[:, frames:-2] = levels[..., 1:]
    carrier[:, -2] = _ramp(width)[:, None]
    carrier[:, -1] = _ramp(height)[:, None, None]
    clip = {**clip, VIDEO: carrier}
    for transform in transforms:
        if isinstance(transform, grain.transforms.Map):
            clip = transform.map(clip)
        else:
            clip = transform.random_map(clip, rng)
    done = clip[VIDEO][..., 0]
    flow = to_pixels(np.stack([done[:, :frames], done[:, frames:-2]], -1))
    for view, (right, down) in enumerate(done[:, -2:]):
        flow[view] *= _growth(right.mean(0), width), _growth(down.mean(1), height)
    return flow


def copied(rng: np.random.Generator | None) -> np.random.Generator | None:
    """One that will draw the same numbers."""
    return copy.deepcopy(rng)


def _ramp(length: int) -> np.ndarray:
    return np.round(np.linspace(0, 255, length)).astype(np.uint8)


def _growth(seen: np.ndarray, length: int) -> float:
    """Pixels of the result for one of the original, by what is seen of the ramp; below 0: mirrored."""
    slope = np.polyfit(np.arange(len(seen)), seen, 1)[0]
    original = 255 / (length - 1)
    return original / slope
