"""Optical flow between the frames of a clip: what the temporal streams of two-stream models see.

    flow.flow(frames, "dis")  # uint8 (16, 224, 224, 3) -> float32 (16, 224, 224, 2)

"tvl1"   TV-L1 (Zach et al. 2007) with OpenCV's parameters, as in the two-stream models' papers
"dis"    dense inverse search (Kroeger et al. 2016), preset medium: tens of times quicker

The package is OpenCV's with its contributed modules, an extra: pip install 'jaxvid[flow]'.
"""

import functools
import itertools
from types import ModuleType

import numpy as np

from jaxvid.core.errors import ConfigError, unknown

METHODS = ("tvl1", "dis")
MIN_SIZE = 12  # pixels a side: DIS takes patches from a pyramid of at least that


def flow(frames: np.ndarray, method: str = "tvl1") -> np.ndarray:
    """uint8 (T, H, W, 3) RGB -> float32 (T, H, W, 2), in pixels from each frame to the next.

    Channel 0 is how far a point moves to the right, channel 1 how far down. Entry t is the flow from
    frame t to frame t + 1, so of frames that were sampled with a stride it is the motion over the
    whole stride. The last frame has none after it: its entry repeats the one before, and T stays T.
    The same frames give the same flow, from any thread; a call uses one core.

    Raises UnknownNameError for another method, ConfigError for fewer than 2 frames, sides under
    MIN_SIZE pixels or when OpenCV is missing, ValueError for what is no clip.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        raise ValueError(
            f"optical flow was asked of {frames.dtype} of shape {frames.shape}, expected uint8 "
            "(T, H, W, 3), RGB"
        )
    check(method, num_frames=len(frames), size=min(frames.shape[1:3]))
    cv2 = opencv()
    grey = [cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY) for frame in frames]
    estimator = _ESTIMATORS[method](cv2)  # one a call: it keeps buffers and is not for two threads
    steps = [estimator.calc(*pair, None) for pair in itertools.pairwise(grey)]
    return np.stack([*steps, steps[-1]])


def check(method: str, *, num_frames: int, size: int) -> None:
    """Raises what `flow` would of such clips, before there are any and whatever is installed."""
    if method not in METHODS:
        raise unknown("optical flow", method, METHODS)
    if num_frames < 2:
        raise ConfigError(
            f"optical flow is between frames, and a clip has {num_frames}: set data.num_frames to "
            "2 or more, or data.flow to 'none'"
        )
    if size < MIN_SIZE:
        raise ConfigError(
            f"optical flow of frames with a side of {size} pixels: expected at least {MIN_SIZE} "
            "(data.size)"
        )


_ESTIMATORS = {
    "tvl1": lambda cv2: cv2.optflow.DualTVL1OpticalFlow_create(),
    "dis": lambda cv2: cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM),
}


@functools.cache
def opencv() -> ModuleType:
    """cv2, imported when flow is asked for: few recipes need it and many machines have none.

    Raises ConfigError that names what to install.
    """
    try:
        import cv2

        cv2.optflow.DualTVL1OpticalFlow_create  # noqa: B018 (plain opencv-python lacks it)
    except (ImportError, OSError, AttributeError) as error:
        raise ConfigError(
            f"optical flow (data.flow) needs OpenCV with its contributed modules, which cannot be "
            f"used here ({error}): pip install 'jaxvid[flow]', that is "
            "opencv-contrib-python-headless, and no other opencv-python beside it"
        ) from error
    # The pipeline runs one clip a core already; threads within a call would only contend.
    cv2.setNumThreads(1)
    return cv2
