"""Which frames of a video are decoded: the only place where a temporal convention is written down.

Three conventions are in use, and a checkpoint only shows its published accuracy with its own:

    uniform   T equal segments, one frame of each (TSN, Wang et al. 2016, section 3.1)
    dense     a window of T x stride frames (SlowFast, VideoMAE on Kinetics)
    linspace  numpy.linspace(0, n - 1, T), cut off to integers (many Hugging Face examples)

All functions return int64 indices of shape (clips, T), in 0..num_frames-1, never decreasing within
a clip. `rng=None` means evaluation: the same frames each time. With an rng, each clip is drawn on
its own. A video with too few frames is padded by repeating its last frame.

What is drawn, and in which order, from the rng that a clip is handed: the speeds (one number a
clip, only with speed_jitter), then for each clip where it lies (uniform and linspace at a speed
below 1; dense: its start), which frame of each segment (uniform), and last for all clips together
the shifts of single frames (only with jitter_frames). Without the two jitters all clips are drawn
in one call, so that the frames are those of versions that had none.
"""

import bisect
import dataclasses
import functools
import math

import numpy as np

from jaxvid.core.errors import ConfigError, DataError, unknown
from jaxvid.core.record import VideoMeta, VideoRecord

_ROUNDING = 1e-6  # seconds
_TICK = 1e-3  # Matroska and FLV round the times of their frames to milliseconds
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
    starts = _starts(slack, clips, rng)
    offsets = np.floor(np.arange(num_samples) * stride_frames).astype(np.int64)
    return np.minimum(starts[:, None] + offsets, num_frames - 1)


def _starts(slack: int, clips: int, rng: np.random.Generator | None) -> np.ndarray:
    """int64 (clips,) of 0..slack: drawn, or in evaluation the middle, or evenly from end to end."""
    if rng is not None:
        return rng.integers(0, slack, size=clips, endpoint=True)
    if clips == 1:
        return np.array([slack // 2])
    return np.arange(clips) * slack // (clips - 1)


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
    clips: clips taken from a video, the views V before any crops. All their frames are decoded
    together, each once.
    target_fps: frames are counted as if the video had been brought to this rate. "dense": the
    stride becomes stride * fps / target_fps, so that a clip spans the same time in videos of any
    rate. "uniform" and "linspace" span the whole stretch at any rate; they choose from the frames
    that it would have at this one (frames left out or shown twice), as if the set had been encoded
    so. In a file whose rate varies each sample is the frame on the screen at its time. None: the
    file's own frames.
    speed_jitter: (low, high), training only: each clip is played at a speed drawn evenly from this
    range. "dense": the stride is multiplied by it. "uniform" and "linspace": at a speed below 1 a
    clip is chosen from that share of the stretch, at a random place; the whole stretch is their
    normal speed, and nothing is faster.
    jitter_frames: training only: every frame is exchanged for one at most so many frames (of the
    file) before or after it, drawn evenly, within the stretch and in order.
    """

    kind: str
    num_frames: int
    stride_frames: float = 4
    clips: int = 1
    target_fps: float | None = None
    speed_jitter: tuple[float, float] = (1.0, 1.0)
    jitter_frames: int = 0

    def __post_init__(self):
        if self.kind not in KINDS:
            raise unknown("sampling", self.kind, KINDS)
        for name, least in (("num_frames", 1), ("clips", 1), ("jitter_frames", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ConfigError(
                    f"sampling: {name} is {value!r}, expected an integer from {least}"
                )
        for name in ("stride_frames", "target_fps"):
            value = getattr(self, name)
            if name == "target_fps" and value is None:
                continue
            if not _is_positive(value):
                raise ConfigError(f"sampling: {name} is {value!r}, expected a number above 0")
        _check_speeds(self.speed_jitter)

    def indices(
        self, meta: VideoMeta, record: VideoRecord, rng: np.random.Generator | None
    ) -> np.ndarray:
        """The frames of the file to decode, int64 (V, T); rng None is evaluation.

        Raises DataError when the video has no frames or the record's segment none of them.
        """
        first, stop = segment_frames(meta, record)
        length = stop - first
        if self.target_fps is not None and meta.frame_seconds:
            choose = functools.partial(self._choose_by_time, _edges(meta, record, first, stop))
        else:
            choose = functools.partial(self._choose, length, self._rate(meta, record))
        if rng is None or tuple(self.speed_jitter) == (1, 1):
            chosen = choose(self.clips, 1.0, rng)
        else:
            speeds = rng.uniform(*self.speed_jitter, size=self.clips)
            rows = [choose(1, float(speed), rng) for speed in speeds]
            chosen = np.concatenate(rows)
        if rng is not None and self.jitter_frames:
            reach = self.jitter_frames
            shifts = rng.integers(-reach, reach, size=chosen.shape, endpoint=True)
            chosen = np.sort(np.clip(chosen + shifts, 0, length - 1), axis=1)
        return first + chosen

    def _choose(
        self, length: int, rate: float, clips: int, speed: float, rng: np.random.Generator | None
    ) -> np.ndarray:
        """int64 (clips, T) of 0..length-1; rate: the file's frames for one of the target rate."""
        if self.kind == "dense":
            stride = self.stride_frames * rate * speed
            return dense(length, self.num_frames, stride_frames=stride, clips=clips, rng=rng)
        start, part = _part(length, speed, rng)
        shown = max(round(part / rate), 1)
        chosen = self._of_shown(shown, clips, rng)
        if rate != 1:  # the middle of the time for which a frame of the target rate is shown
            chosen = np.minimum(((chosen + 0.5) * part / shown).astype(np.int64), part - 1)
        return start + chosen

    def _choose_by_time(
        self, edges: np.ndarray, clips: int, speed: float, rng: np.random.Generator | None
    ) -> np.ndarray:
        """The same of a file whose rate varies. edges: float64 (length + 1,), seconds at which the
        frames are shown, and the last one's end."""
        length = len(edges) - 1
        if self.kind == "dense":
            step = self.stride_frames * speed / self.target_fps
            late = _TICK + np.arange(self.num_frames) * step
            last = int(_on_screen(edges[:-1], edges[-1] + _TICK - self.num_frames * step))
            starts = _starts(last, clips, rng)
            return _on_screen(edges[:-1], edges[starts][:, None] + late)
        start, part = _part(length, speed, rng)
        begin, seconds = edges[start], edges[start + part] - edges[start]
        shown = max(round(seconds * self.target_fps), 1)
        middles = (self._of_shown(shown, clips, rng) + 0.5) / shown
        return np.clip(_on_screen(edges[:-1], begin + middles * seconds), start, start + part - 1)

    def _of_shown(self, shown: int, clips: int, rng: np.random.Generator | None) -> np.ndarray:
        convention = uniform if self.kind == "uniform" else linspace
        return convention(shown, self.num_frames, clips=clips, rng=rng)

    def _rate(self, meta: VideoMeta, record: VideoRecord) -> float:
        if self.target_fps is None:
            return 1.0
        if not meta.fps > 0:
            raise DataError(
                f"{record.path}: its frame rate is unknown ({meta.fps}), so a sampling at "
                f"target_fps={self.target_fps} has no meaning; set target_fps to None"
            )
        return meta.fps / self.target_fps


def _part(length: int, speed: float, rng: np.random.Generator | None) -> tuple[int, int]:
    """(start, frames) of the share of a stretch that is seen at this speed."""
    if speed >= 1:
        return 0, length
    part = max(round(length * speed), 1)
    return int(rng.integers(0, length - part, endpoint=True)), part


def _edges(meta: VideoMeta, record: VideoRecord, first: int, stop: int) -> np.ndarray:
    """When frames first..stop-1 are shown, and until when the last one is, within the segment."""
    end = meta.seconds_of(stop)
    if record.end_seconds is not None:
        end = min(end, record.end_seconds)
    return np.array([*meta.frame_seconds[first:stop], end])


def _on_screen(times: np.ndarray, seconds: np.ndarray | float) -> np.ndarray:
    """The frame that is shown at these seconds: the last that began before, or the first."""
    return np.maximum(np.searchsorted(times, seconds + _ROUNDING, side="right") - 1, 0)


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _check_speeds(speeds: object) -> None:
    pair = tuple(speeds) if isinstance(speeds, tuple | list) else ()
    if len(pair) != 2 or not all(map(_is_positive, pair)) or not pair[0] <= pair[1] < math.inf:
        raise ConfigError(
            f"sampling: speed_jitter is {speeds!r}, expected a pair (low, high) with "
            "0 < low <= high, such as (0.9, 1.1)"
        )


def segment_frames(meta: VideoMeta, record: VideoRecord) -> tuple[int, int]:
    """The frames [first, stop) that are shown from start_seconds (included) to end_seconds (not).

    Frame k is shown from meta.seconds_of(k) on. A segment between two frames gives the one frame that
    is on the screen then. The segment is cut at the video's end.
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
    start, end = record.start_seconds, record.end_seconds
    first = _first_from(meta, start)
    stop = meta.num_frames if end is None else min(_first_from(meta, end), meta.num_frames)
    if first < stop:
        return first, stop
    on_screen = _shown_at(meta, start)
    if on_screen >= meta.num_frames:
        raise DataError(
            f"{record.path}: the segment from {record.start_seconds} s to "
            f"{'its end' if end is None else f'{end} s'} lies beyond the video, which has "
            f"{meta.num_frames} frames at {meta.fps:g} frames a second"
        )
    return on_screen, on_screen + 1


def _first_from(meta: VideoMeta, seconds: float) -> int:
    """The first frame that is shown at this time or later."""
    # Seconds times frames a second seldom is exact: 2.2 s at 25 fps would start at frame 56.
    if meta.frame_seconds:
        return bisect.bisect_left(meta.frame_seconds, seconds - _ROUNDING)
    return math.ceil(round(seconds * meta.fps, 6))


def _shown_at(meta: VideoMeta, seconds: float) -> int:
    """The frame that is on the screen at this time; num_frames or more when none is any longer."""
    if not meta.frame_seconds:
        return math.floor(round(seconds * meta.fps, 6))
    if seconds >= meta.duration_seconds:
        return meta.num_frames
    return bisect.bisect_right(meta.frame_seconds, seconds + _ROUNDING) - 1
