"""One labelled clip by its row number: decode, transform, flow, label. What the pipeline reads from."""

import logging
from collections.abc import Sequence

import grain
import numpy as np

from jaxvid.core import batch as names
from jaxvid.core.errors import ConfigError, DataError, DecodeError, unknown
from jaxvid.core.record import DatasetIndex, VideoRecord
from jaxvid.data.sampling import Sampling
from jaxvid.data.transform_list import Transform
from jaxvid.decode import flow as optical_flow
from jaxvid.decode import video
from jaxvid.decode.deadline import run_with_deadline

ON_ERROR = ("raise", "skip")
NO_FLOW = "none"

logger = logging.getLogger("jaxvid.data")


class ClipSource:
    """Loads the clips of an index; picklable, safe to use from many threads at once.

    index: what to read; at least one record. sampling: which frames. size: height and width of a
    clip in pixels once all transforms are done. transforms: applied in order; a transform that
    multiplies the views says by how many in its attribute `view_factor` (default 1). flow: "none",
    or the method of jaxvid/decode/flow.py by which each view gets its optical flow, from the frames
    as the transforms leave them, so that pixels and flow are of the same place and scale.
    decoder, short_side: see `jaxvid.decode.video.open`. deadline_seconds: wall-clock limit for
    opening and decoding one clip. on_error: "raise", or "skip": a clip that cannot be decoded is
    logged (logger "jaxvid.data") and comes as zeros with mask False. max_label_width: L of the
    labels of a multi-label index, where it must be the same for several splits; None: as many as
    the record with the most labels has.

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
        decoder: str = "pyav",
        short_side: int | None = None,
        deadline_seconds: float = 30.0,
        on_error: str = "raise",
        max_label_width: int | None = None,
    ):
        if not len(index):
            raise DataError(
                "the dataset index has no records; check the root folder and the split "
                f"(classes: {', '.join(index.class_names[:5]) or 'none'})"
            )
        if decoder not in video.BACKENDS:
            raise unknown("decoder", decoder, video.BACKENDS)
        if on_error not in ON_ERROR:
            raise ConfigError(f"on_error is {on_error!r}, expected 'raise' or 'skip'")
        if not isinstance(size, int) or size < 1:
            raise ConfigError(f"size is {size!r}, expected a whole number of pixels from 1")
        if not deadline_seconds > 0:
            raise ConfigError(f"deadline_seconds is {deadline_seconds}, expected more than 0")
        if flow != NO_FLOW:
            optical_flow.check(flow, num_frames=sampling.num_frames, size=size)
            optical_flow.opencv()  # if it is missing: now, not at the first clip
        self.flow = flow
        self.index, self.sampling, self.transforms = index, sampling, tuple(transforms)
        self.decoder, self.short_side = decoder, short_side
        self.deadline_seconds, self.on_error = deadline_seconds, on_error
        self.label_width = _label_width(index, max_label_width)
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
        (), row int32 (); where it was asked for, flow float32 (V, T, size, size, 2). With rng None
        nothing is random (evaluation).
        """
        record = self.index.records[row]
        try:
            pixels, mask = self._video(record, rng), True
        except (DecodeError, DataError) as error:
            if self.on_error == "raise":
                raise
            logger.warning("skipped: %s", error)
            pixels, mask = np.zeros(self.clip_shape, np.uint8), False
        except Exception as error:
            error.add_note(f"while loading {record.path} (row {row})")
            raise
        return self._example(pixels, record.labels, mask, row)

    def padding(self) -> dict[str, np.ndarray]:
        """A clip that stands for none: zeros, no label (all -1), mask False, row 0."""
        return self._example(np.zeros(self.clip_shape, np.uint8), (), False, 0)

    def check_deterministic(self) -> None:
        """Raises ConfigError when a transform needs an rng, which evaluation does not have."""
        random = [t for t in self.transforms if isinstance(t, grain.transforms.RandomMap)]
        if random:
            raise ConfigError(
                f"evaluation uses no random transforms, but was given {random[0]!r}; "
                "use centre_crop or three_crop"
            )

    def _video(self, record: VideoRecord, rng: np.random.Generator | None) -> np.ndarray:
        def decode():
            with video.open(
                record.path, backend=self.decoder, short_side=self.short_side
            ) as reader:
                self._check_moves(reader.meta.num_frames, record)
                wanted = self.sampling.indices(reader.meta, record, rng)
                frames = reader.frames_at(wanted.reshape(-1))
                return frames.reshape(*wanted.shape, *frames.shape[1:])

        pixels = run_with_deadline(decode, self.deadline_seconds, record.path, self.decoder)
        decoded = pixels.shape
        clip = {names.VIDEO: pixels}
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

    def _flow(self, pixels: np.ndarray, mask: bool) -> np.ndarray:
        """float32 (V, T, size, size, 2), of a clip that does not count zeros."""
        if not mask:
            return np.zeros((*self.clip_shape[:-1], 2), np.float32)
        return np.stack([optical_flow.flow(view, self.flow) for view in pixels])

    def _check_moves(self, num_frames: int, record: VideoRecord) -> None:
        """A file of one frame is a picture, or was cut short: padded to a clip it would teach that
        nothing moves."""
        wanted = self.sampling.num_frames
        if num_frames == 1 < wanted:
            reason = (
                f"the file holds a single frame and a clip has {wanted}; is it cut short? Remove it "
                "from the data set, or set data.on_error='skip'"
            )
            raise DecodeError(record.path, None, self.decoder, reason)

    def _example(self, pixels: np.ndarray, labels: tuple[int, ...], mask: bool, row: int) -> dict:
        example = {names.VIDEO: pixels, names.MASK: np.array(mask), names.ROW: np.int32(row)}
        if self.flow != NO_FLOW:
            example[names.FLOW] = self._flow(pixels, mask)
        if self.index.heads:
            for number, head in enumerate(self.index.heads):
                label = labels[number] if labels else names.PAD_LABEL
                example[f"{names.LABEL}_{head}"] = np.array([label], np.int32)
        else:
            padding = (names.PAD_LABEL,) * (self.label_width - len(labels))
            example[names.LABEL] = np.array(labels + padding, np.int32)
        return example


def _apply(transform: Transform, clip: dict, rng: np.random.Generator | None) -> dict:
    if isinstance(transform, grain.transforms.Map):
        return transform.map(clip)
    if rng is None:
        raise ConfigError(f"{transform!r} is random and evaluation has no rng")
    return transform.random_map(clip, rng)


def _label_width(index: DatasetIndex, asked: int | None) -> int:
    """L, or 1 for a multi-head index; checks that every record's labels fit its kind of index."""
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
