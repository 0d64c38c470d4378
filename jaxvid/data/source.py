"""One labelled clip by its row number: decode, transform, flow, sound, label. What the pipeline
reads from."""

import dataclasses
import logging
from collections.abc import Sequence
from typing import Protocol

import grain
import numpy as np

from jaxvid.core import batch as names
from jaxvid.core.errors import ConfigError, DataError, DecodeError, unknown
from jaxvid.core.record import DatasetIndex, VideoRecord
from jaxvid.data import stored_flow
from jaxvid.data.sampling import Sampling
from jaxvid.data.store_format import NO_FLOW
from jaxvid.data.transform_list import Transform
from jaxvid.decode import flow as optical_flow
from jaxvid.decode import video
from jaxvid.decode.deadline import run_with_deadline
from jaxvid.decode.reader import Reader

ON_ERROR = ("raise", "skip")
STORED = "stored"  # flow from the store that the frames come from
BOX = "box"  # of a person, in VideoRecord.extra: x1, y1, x2, y2 as shares of the frame

logger = logging.getLogger("jaxvid.data")


class OpenClip(Protocol):
    """Opens the video of a record, wherever its frames lie; picklable. `backend` is what errors
    name. Where one file holds many videos it also has `key(record)`, which tells them apart (any
    hashable value); without it a video is told by the record's path."""

    backend: str

    def __call__(self, record: VideoRecord) -> Reader: ...


@dataclasses.dataclass(frozen=True)
class FileOpener:
    """Opens the file, or the folder of images, at a record's path; see `jaxvid.decode.video.open`."""

    backend: str = "pyav"
    short_side: int | None = None

    def __post_init__(self):
        if self.backend not in video.BACKENDS:
            raise unknown("decoder", self.backend, video.BACKENDS)

    def __call__(self, record: VideoRecord) -> Reader:
        return video.open(record.path, backend=self.backend, short_side=self.short_side)


class ClipSource:
    """Loads the clips of an index; picklable, safe to use from many threads at once.

    index: what to read; at least one record. sampling: which frames. size: height and width of a
    clip in pixels once all transforms are done. transforms: applied in order; a transform that
    multiplies the views says by how many in its attribute `view_factor` (default 1). flow: "none",
    or the method of jaxvid/decode/flow.py by which each view gets its optical flow, from the frames
    as the transforms leave them, so that pixels and flow are of the same place and scale; or
    "stored": that of a store, from each frame of the file to the next, cropped and resized as the
    frames. log_mel: the sound of each view's own seconds by `jaxvid.decode.log_mel`; None: no
    sound. open_clip: where the frames come from: files by default, or a prepared store, or memory.
    deadline_seconds: wall-clock limit for opening and decoding one clip. on_error: "raise", or
    "skip": a clip that cannot be decoded is logged (logger "jaxvid.data") and comes as zeros with
    mask False. max_label_width: L of the labels of a multi-label index, where it must be the same
    for several splits; None: as many as the record with the most labels has.

    Raises DataError for an empty index or labels that do not fit its kind, ConfigError for the
    rest.
    """

    def __init__(
        self,
        index: DatasetIndex,
        *,
        sampling: Sampling,
        size: int,
        transforms: Sequence[Transform] = (),
        flow: str = NO_FLOW,
        log_mel=None,
        open_clip: OpenClip = FileOpener(),
        deadline_seconds: float = 30.0,
        on_error: str = "raise",
        max_label_width: int | None = None,
    ):
        if not len(index):
            raise DataError(
                "the dataset index has no records; check the root folder and the split "
                f"(classes: {', '.join(index.class_names[:5]) or 'none'})"
            )
        if on_error not in ON_ERROR:
            raise ConfigError(f"on_error is {on_error!r}, expected 'raise' or 'skip'")
        if not isinstance(size, int) or size < 1:
            raise ConfigError(f"size is {size!r}, expected a whole number of pixels from 1")
        if not deadline_seconds > 0:
            raise ConfigError(f"deadline_seconds is {deadline_seconds}, expected more than 0")
        _check_flow(flow, sampling.num_frames, size, open_clip, transforms)
        self.flow = flow
        self.index, self.sampling, self.transforms = index, sampling, tuple(transforms)
        self.log_mel, self.open_clip = log_mel, open_clip
        self.deadline_seconds, self.on_error = deadline_seconds, on_error
        self.label_width = label_width(index, max_label_width)
        views = sampling.clips
        for transform in self.transforms:
            views *= getattr(transform, "view_factor", 1)
        self.clip_shape = (views, sampling.num_frames, size, size, 3)

    def __len__(self) -> int:
        """The number of clips, one for each record."""
        return len(self.index)

    def load(self, row: int, rng: np.random.Generator | None) -> dict[str, np.ndarray]:
        """The clip of records[row]: one example of the batch of `jaxvid.core.batch`, unbatched.

        video uint8 (V, T, size, size, 3), label int32 (L,) or label_<head> int32 (1,), mask bool
        (), row int32 (); where it was asked for, flow float32 (V, T, size, size, 2) and audio float32
        (V, F, M). With rng None nothing is random (evaluation).
        """
        record = self.index.records[row]
        try:
            clip, mask = self._clip(record, rng), True
        except (DecodeError, DataError) as error:
            if self.on_error == "raise":
                raise
            logger.warning("skipped: %s", error)
            clip, mask = self._nothing(), False
        except Exception as error:
            error.add_note(f"while loading {record.path} (row {row})")
            raise
        return self._example(clip, record.labels, mask, row)

    def padding(self) -> dict[str, np.ndarray]:
        """A clip that stands for none: zeros, no label (all -1), mask False, row 0."""
        return self._example(self._nothing(), (), False, 0)

    def check_deterministic(self) -> None:
        """Raises ConfigError when a transform needs an rng, which evaluation does not have."""
        random = [t for t in self.transforms if isinstance(t, grain.transforms.RandomMap)]
        if random:
            raise ConfigError(
                f"evaluation uses no random transforms, but was given {random[0]!r}; "
                "use centre_crop or three_crop"
            )

    def _clip(self, record: VideoRecord, rng: np.random.Generator | None) -> dict:
        """The arrays of a clip, by their names in the batch."""

        def decode():
            with self.open_clip(record) as reader:
                self._check_moves(reader.meta.num_frames, record)
                wanted = self.sampling.indices(reader.meta, record, rng)
                frames = reader.frames_at(wanted.reshape(-1))
                sound = self._sound(reader, wanted) if self.log_mel else None
                frames = frames.reshape(*wanted.shape, *frames.shape[1:])
                if self.flow != STORED:
                    return frames, sound, None
                levels = reader.flow_at(wanted.reshape(-1))
                return frames, sound, levels.reshape(*wanted.shape, *levels.shape[1:])

        backend = self.open_clip.backend
        pixels, sound, levels = run_with_deadline(
            decode, self.deadline_seconds, record.path, backend
        )
        again = stored_flow.copied(rng) if self.flow == STORED else None
        pixels = self._transformed(pixels, record, rng)
        clip = {names.VIDEO: pixels}
        if self.flow == STORED:
            clip[names.FLOW] = stored_flow.transformed(
                levels, _boxes(record), self.transforms, again
            )
        elif self.flow != NO_FLOW:
            clip[names.FLOW] = np.stack([optical_flow.flow(view, self.flow) for view in pixels])
        if sound is not None:  # the crops of one stretch of time sound the same
            clip[names.AUDIO] = np.repeat(sound, len(pixels) // len(sound), axis=0)
        return clip

    def _transformed(self, pixels: np.ndarray, record: VideoRecord, rng) -> np.ndarray:
        """uint8 (V, T, H, W, 3) as decoded -> the same of clip_shape."""
        decoded = pixels.shape
        clip = {names.VIDEO: pixels, **_boxes(record)}
        for transform in self.transforms:
            clip = _apply(transform, clip, rng)
        pixels = clip[names.VIDEO]
        if pixels.shape != self.clip_shape or pixels.dtype != np.uint8:
            raise ConfigError(
                f"{record.path}: the clip is {pixels.dtype} of shape {pixels.shape} after the "
                f"transforms {list(self.transforms)} (decoded: {decoded}), expected uint8 of "
                f"shape {self.clip_shape} (views, frames, size, size, RGB); end the list with a "
                f"crop of size {self.clip_shape[2]}"
            )
        return pixels

    def _sound(self, reader: Reader, wanted: np.ndarray) -> np.ndarray:
        """float32 (clips, F, M): what is heard while the frames of each clip are shown."""
        at = reader.meta.seconds_of
        return np.stack([self.log_mel(reader, at(row[0]), at(row[-1] + 1)) for row in wanted])

    def _nothing(self) -> dict:
        """The arrays of a clip that does not count."""
        clip = {names.VIDEO: np.zeros(self.clip_shape, np.uint8)}
        if self.flow != NO_FLOW:
            clip[names.FLOW] = np.zeros((*self.clip_shape[:-1], 2), np.float32)
        if self.log_mel:
            shape = (self.clip_shape[0], self.log_mel.frames, self.log_mel.mels)
            clip[names.AUDIO] = np.zeros(shape, np.float32)
        return clip

    def _check_moves(self, num_frames: int, record: VideoRecord) -> None:
        """A file of one frame is a picture, or was cut short: padded to a clip it would teach that
        nothing moves."""
        wanted = self.sampling.num_frames
        if num_frames == 1 < wanted:
            reason = (
                f"the file holds a single frame and a clip has {wanted}; is it cut short? Remove it "
                "from the data set, or set data.on_error='skip'"
            )
            raise DecodeError(record.path, None, self.open_clip.backend, reason)

    def _example(self, clip: dict, labels: tuple[int, ...], mask: bool, row: int) -> dict:
        example = {**clip, names.MASK: np.array(mask), names.ROW: np.int32(row)}
        return example | label_arrays(self.index, labels, self.label_width)


def label_arrays(index: DatasetIndex, labels: tuple[int, ...], width: int) -> dict[str, np.ndarray]:
    """{"label": int32 (width,)} padded with -1, or {"label_<head>": int32 (1,)} of a multi-head
    index."""
    if index.heads:
        given = labels or (names.PAD_LABEL,) * len(index.heads)
        return {
            f"{names.LABEL}_{head}": np.array([label], np.int32)
            for head, label in zip(index.heads, given, strict=True)
        }
    padding = (names.PAD_LABEL,) * (width - len(labels))
    return {names.LABEL: np.array(labels + padding, np.int32)}


def _boxes(record: VideoRecord) -> dict[str, np.ndarray]:
    """What a transform is told beside the pixels."""
    return {BOX: np.asarray(record.extra[BOX], np.float32)} if BOX in record.extra else {}


def _check_flow(flow: str, num_frames: int, size: int, open_clip: OpenClip, transforms) -> None:
    if flow == STORED:
        if getattr(open_clip, "flow", NO_FLOW) == NO_FLOW:
            raise ConfigError(
                "flow is 'stored', and these clips do not come from a store that holds any: make one with "
                "jaxvid data prepare --flow METHOD and name it in data.store, or have flow computed: "
                + " or ".join(map(repr, optical_flow.METHODS))
            )
        stored_flow.check_transforms(transforms)
    elif flow != NO_FLOW:
        optical_flow.check(flow, num_frames=num_frames, size=size)
        optical_flow.opencv()  # if it is missing: now, not at the first clip


def _apply(transform: Transform, clip: dict, rng: np.random.Generator | None) -> dict:
    if isinstance(transform, grain.transforms.Map):
        return transform.map(clip)
    if rng is None:
        raise ConfigError(f"{transform!r} is random and evaluation has no rng")
    return transform.random_map(clip, rng)


def label_width(index: DatasetIndex, asked: int | None) -> int:
    """L of the label arrays, or 1 for a multi-head index; checks that every record's labels fit its
    kind of index."""
    counts = [len(record.labels) for record in index.records]
    if index.heads:
        allowed, kind = (0, len(index.heads)), f"one for each of {', '.join(index.heads)}"
    elif not index.multilabel:
        allowed, kind = (0, 1), "at most one (a single-label index)"
    else:
        widest = max(*counts, 1)
        width = widest if asked is None else asked
        allowed, kind = range(width + 1), f"at most max_label_width={width}"
    wrong = [r for r, n in zip(index.records, counts, strict=True) if n not in allowed]
    if wrong:
        raise DataError(
            f"{len(wrong)} records have a wrong number of labels, expected {kind}; "
            f"the first is {wrong[0].path} with {wrong[0].labels}"
        )
    return width if index.multilabel and not index.heads else 1
