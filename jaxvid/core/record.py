"""What a dataset is made of: records without pixels, and the facts of one video file."""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class VideoRecord:
    """One labelled stretch of one video; half-open in time, seconds from the file's start.

    path: the file, or the folder of frames. id: unique within its index, stable over machines.
    labels: class indices, 0-based; empty when unlabelled; (verb, noun) for multi-head sets.
    """

    path: str
    id: str
    labels: tuple[int, ...] = ()
    start_seconds: float = 0.0
    end_seconds: float | None = None
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        if self.start_seconds < 0:
            raise ValueError(f"{self.path}: start_seconds is {self.start_seconds}, expected >= 0")
        if self.end_seconds is not None and self.end_seconds <= self.start_seconds:
            raise ValueError(
                f"{self.path}: the segment [{self.start_seconds}, {self.end_seconds}) is empty; "
                "end_seconds must be larger than start_seconds"
            )


@dataclasses.dataclass(frozen=True)
class DatasetIndex:
    """All records of one split, and the names of the classes their labels point to."""

    records: tuple[VideoRecord, ...]
    class_names: tuple[str, ...]
    multilabel: bool = False
    heads: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        if self.heads:
            return
        classes = len(self.class_names)
        wrong = [r for r in self.records if any(not 0 <= label < classes for label in r.labels)]
        if wrong:
            raise ValueError(
                f"{len(wrong)} records have labels outside 0..{classes - 1}; "
                f"the first is {wrong[0].path} with {wrong[0].labels}"
            )

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def __len__(self) -> int:
        return len(self.records)


@dataclasses.dataclass(frozen=True)
class VideoMeta:
    """Facts of one video as it is shown (after rotation). `num_frames` is what can be decoded, as
    well as the container tells; `height`, `width` in pixels; `frame_seconds`: when each frame is shown,
    from the first one's time on, of a file that says so and whose rate varies. Where it is empty frame
    k is shown at k / fps."""

    num_frames: int
    fps: float
    height: int
    width: int
    duration_seconds: float
    rotation_degrees: int = 0
    frame_seconds: tuple[float, ...] = ()

    def seconds_of(self, frame: int) -> float:
        """When a frame is shown; of num_frames: when the last one ends."""
        if not self.frame_seconds:
            return frame / self.fps
        return self.duration_seconds if frame == self.num_frames else self.frame_seconds[frame]
