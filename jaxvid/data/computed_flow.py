"""Flow as a store has it, computed from files: from each frame to the next one of the file, before any
transform. For videos that are in no store, and a model that was trained from one."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxvid.core.record import VideoRecord
from jaxvid.data import stored_flow
from jaxvid.data.source import OpenClip
from jaxvid.decode import flow as optical_flow
from jaxvid.decode.reader import Reader


@dataclasses.dataclass(frozen=True)
class FlowOpener:
    """Opens what `frames` opens, with flow beside it; what a ClipSource of flow "stored" takes as
    open_clip. flow: a method of jaxvid/decode/flow.py.

    Raises UnknownNameError for another method, ConfigError when OpenCV is missing.
    """

    frames: OpenClip
    flow: str

    def __post_init__(self):
        optical_flow.check(self.flow, num_frames=2, size=optical_flow.MIN_SIZE)
        optical_flow.opencv()

    @property
    def backend(self) -> str:
        return self.frames.backend

    def __call__(self, record: VideoRecord) -> "FlowReader":
        return FlowReader(self.frames(record), self.flow)


class FlowReader:
    """A reader, and the flow between its frames."""

    def __init__(self, frames: Reader, method: str):
        self._frames, self._method = frames, method
        self.meta = frames.meta
        self.frames_at, self.waveform = frames.frames_at, frames.waveform

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self._frames.close()

    def flow_at(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """The flow from each of these frames to the one after it, uint8 (n, H, W, 2): the levels of
        `jaxvid.data.stored_flow`. Of the last frame it is that of the one before it; of a single frame
        nothing moves."""
        last = self.meta.num_frames - 1
        begins, rows = np.unique(np.minimum(indices, max(last - 1, 0)), return_inverse=True)
        needed = np.unique(np.minimum(np.stack([begins, begins + 1]), last))
        of = dict(zip(needed.tolist(), self.frames_at(needed), strict=True))
        levels = [self._levels(of[begin], of.get(begin + 1)) for begin in begins.tolist()]
        return np.stack(levels)[rows]

    def _levels(self, frame: np.ndarray, following: np.ndarray | None) -> np.ndarray:
        if following is None:
            return stored_flow.to_levels(np.zeros((*frame.shape[:2], 2), np.float32))
        pair = np.stack([frame, following])
        return stored_flow.to_levels(optical_flow.flow(pair, self._method)[0])
