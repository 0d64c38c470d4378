"""Which frames of a video are decoded: the only place where a temporal convention is written down.

Three conventions are in use, and a checkpoint only shows its published accuracy with its own:

    uniform   T equal segments, one frame of each (TSN, Wang et al. 2016, section 3.1)
    dense     a window of T x stride frames (SlowFast, VideoMAE on Kinetics)
    linspace  numpy.linspace(0, n - 1, T), cut off to integers (many Hugging Face examples)

All functions return int64 indices of shape (clips, T), in 0..num_frames-1, never decreasing within
a clip. `rng=None` means evaluation: the same frames each time. With an rng, each clip is drawn on
its own. A video with too few frames is padded by repeating its last frame.
"""

import dataclasses
import math

import numpy as np

from jaxvid.core.errors import ConfigError, DataError, unknown
from jaxvid.core.record import VideoMeta, VideoRecord

KINDS = ("uniform", "linspace", "dense")


def uniform(
    num_frames: int, num_samples: int, *, clips: int = 1, rng: np.random.Generator | None = None
) -> np.ndarray:
    """One frame of each of T equal segments of the whole video.

    Training: segment i is [floor(i n / T), floor((i + 1) n / T)), one random frame of each, so that
    every frame of the video can be drawn. Evaluation: frame floor((i + s) n / T) with the clip's
    place in the segment s = (c + odd / 2) / clips, where odd is 1 for an odd number of clips. So
    one clip takes the centre frames (TSN), two take the starts and the centres (the 2-clip test of
    VideoMAE on Something-Something), and the centre clip is always among them.
    Videos of fewer than T frames: 0, 1, .., n-1, n-1, ..
    """
    _check_counts(num_frames, num_samples, clips)
    if num_frames < num_samples:
        return _repeat_last(np.arange(num_samples), num_frames, clips)
    if rng is None:
        # In units of half a clip's share of a segment everything is an integer, hence exact.
        places = 2 * np.arange(clips)[:, None] + clips % 2
        halves = 2 * clips * np.arange(num_samples) + places
        return halves * num_frames // (2 * clips * num_samples)
    bounds = np.arange(num_samples + 1) * num_frames // num_samples
    return rng.integers(bounds[:-1], bounds[1:], size=(clips, num_samples), dtype=np.int64)


def linspace(
    num_frames: int, num_samples: int, *, clips: int = 1, rng: np.random.Generator | None = None
) -> np.ndarray:
    """numpy.linspace(0, n - 1, T) cut off to integers: first and last frame are always taken.

    There is nothing to draw: `rng` is ignored and all clips are the same frames, in training too.
    Videos of fewer than T frames: 0, 1, .., n-1, n-1, ..
    """
    _check_counts(num_frames, num_samples, clips)
    if num_frames < num_samples:
        return _repeat_last(np.arange(num_samples), num_frames, clips)
    frames = np.linspace(0, num_frames - 1, num_samples).astype(np.int64)
    return np.tile(frames, (clips, 1))


def dense(
    num_frames: int,
    num_samples: int,
    *,
    stride_frames: float = 1,
    clips: int = 1,
    rng: np.random.Generator | None = None,
) -> np.ndarray:
    """Frames start + floor(i * stride) for i < T: a window of ceil(T * stride) frames.

    Training: start is uniform over all places where the window fits, 0..n - window inclusive.
    Evaluation: one clip starts at floor((n - window) / 2), several start evenly spread from 0 to
    n - window, both ends included. A window longer than the video starts at 0 and repeats the last
    frame. `stride_frames` may be fractional (frame rates brought to one value).
    """
    _check_counts(num_frames, num_samples, clips)
    if stride_frames <= 0:
        raise ConfigError(f"stride_frames is {stride_frames}, expected a number above 0")
    slack = max(num_frames - math.ceil(num_samples * stride_frames), 0)
    if rng is not None:
        starts = rng.integers(0, slack, size=clips, endpoint=True)
    elif clips == 1:
        starts = np.array([slack // 2])
    else:
        starts = np.arange(clips) * slack // (clips - 1)
    offsets = np.floor(np.arange(num_samples) * stride_frames).astype(np.int64)
    return np.minimum(starts[:, None] + offsets, num_frames - 1)


def _check_counts(num_frames: int, num_samples: int, clips: int) -> None:
    counts = {"num_frames": num_frames, "num_samples": num_samples, "clips": clips}
    wrong = [f"{name} is {value}" for name, value in counts.items() if value < 1]
    if wrong:
        raise ConfigError(f"{', '.join(wrong)}; expected at least 1")


def _repeat_last(frames: np.ndarray, num_frames: int, clips: int) -> np.ndarray:
    return np.tile(np.minimum(frames, num_frames - 1).astype(np.int64), (clips, 1))


@dataclasses.dataclass(frozen=True)
class Sampling:
    """A convention with its numbers, applied to the stretch of a video that a record labels.

    kind: "uniform", "linspace" or "dense". num_frames: T, the frames of one clip.
    stride_frames: frames from one sample to the next, only used by "dense".
    clips: clips taken from a video, the views V before any crops.
    target_fps: only used by "dense": the stride becomes stride * fps / target_fps, so that a clip
    spans the same time in videos of any frame rate. None: the stride counts the file's own frames.
    """

    kind: str
    num_frames: int
    stride_frames: float = 4
    clips: int = 1
    target_fps: float | None = None

    def __post_init__(self):
        if self.kind not in KINDS:
            raise unknown("sampling", self.kind, KINDS)
        for name in ("num_frames", "clips"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ConfigError(f"sampling: {name} is {value!r}, expected an integer from 1")
        for name in ("stride_frames", "target_fps"):
            value = getattr(self, name)
            if name == "target_fps" and value is None:
                continue
            if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
                raise ConfigError(f"sampling: {name} is {value!r}, expected a number above 0")

    def indices(
        self, meta: VideoMeta, record: VideoRecord, rng: np.random.Generator | None
    ) -> np.ndarray:
        """The frames of the file to decode, int64 (V, T); rng None is evaluation.

        Raises DataError when the video has no frames or the record's segment none of them.
        """
        first, stop = segment_frames(meta, record)
        length = stop - first
        if self.kind == "uniform":
            chosen = uniform(length, self.num_frames, clips=self.clips, rng=rng)
        elif self.kind == "linspace":
            chosen = linspace(length, self.num_frames, clips=self.clips, rng=rng)
        else:
            stride = self._stride(meta, record)
            chosen = dense(length, self.num_frames, stride_frames=stride, clips=self.clips, rng=rng)
        return first + chosen

    def _stride(self, meta: VideoMeta, record: VideoRecord) -> float:
        if self.target_fps is None:
            return self.stride_frames
        if not meta.fps > 0:
            raise DataError(
                f"{record.path}: its frame rate is unknown ({meta.fps}), so a stride at "
                f"target_fps={self.target_fps} has no meaning; set target_fps to None"
            )
        return self.stride_frames * meta.fps / self.target_fps


def segment_frames(meta: VideoMeta, record: VideoRecord) -> tuple[int, int]:
    """The frames [first, stop) that are shown from start_seconds (included) to end_seconds (not).

    Frame k is shown from k / fps on (variable frame rates: at their mean). A segment between two
    frames gives the one frame that is on the screen then. The segment is cut at the video's end.
    """
    if meta.num_frames < 1:
        raise DataError(f"{record.path}: the video has no frames")
    if record.start_seconds == 0 and record.end_seconds is None:
        return 0, meta.num_frames
    if not meta.fps > 0:
        raise DataError(
            f"{record.path}: its frame rate is unknown ({meta.fps}), so the segment from "
            f"{record.start_seconds} s cannot be found; label the whole video instead"
        )
    first = _ceil(record.start_seconds * meta.fps)
    end = record.end_seconds
    stop = meta.num_frames if end is None else min(_ceil(end * meta.fps), meta.num_frames)
    if first < stop:
        return first, stop
    on_screen = math.floor(round(record.start_seconds * meta.fps, 6))
    if on_screen >= meta.num_frames:
        raise DataError(
            f"{record.path}: the segment from {record.start_seconds} s to "
            f"{'its end' if end is None else f'{end} s'} lies beyond the video, which has "
            f"{meta.num_frames} frames at {meta.fps:g} frames a second"
        )
    return on_screen, on_screen + 1


def _ceil(frames: float) -> int:
    # Seconds times frames a second seldom is exact: 2.2 s at 25 fps would start at frame 56.
    return math.ceil(round(frames, 6))
