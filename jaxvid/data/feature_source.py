"""One labelled row of features by its number, for sets that publish features in place of videos.

The same face as `jaxvid.data.source.ClipSource`, so the same pipeline reads from it. What cannot be had
here: pixels, and all that is done to them.
"""

import logging
from collections.abc import Callable

import numpy as np

from jaxvid.core import batch as names
from jaxvid.core.errors import ConfigError, DataError, DecodeError
from jaxvid.core.record import DatasetIndex, VideoRecord
from jaxvid.data.source import ON_ERROR, label_arrays, label_width
from jaxvid.decode.deadline import run_with_deadline

BACKEND = "features"

logger = logging.getLogger("jaxvid.data")


class FeatureSource:
    """Loads the features of an index; picklable, safe to use from many threads at once.

    index: what to read; at least one record. read: record -> float32 (n, D), one row a frame, or a
    single one of the whole video, such as `datasets/youtube8m.py: read_features`; D is the same for
    all. num_frames: T, how many rows are taken: one of each of T equal parts, and rows repeat
    evenly where there are fewer, so that a mean over them stays that of the video. clips: views V
    of a video. deadline_seconds, on_error, max_label_width: see `ClipSource`.

    feature_size: D, found by reading. Raises DataError for an empty index or when none of its first
    records can be read, ConfigError for the rest.
    """

    def __init__(
        self,
        index: DatasetIndex,
        *,
        read: Callable[[VideoRecord], np.ndarray],
        num_frames: int,
        clips: int = 1,
        deadline_seconds: float = 30.0,
        on_error: str = "raise",
        max_label_width: int | None = None,
    ):
        if not len(index):
            raise DataError("the dataset index has no records; check the root folder and the split")
        if on_error not in ON_ERROR:
            raise ConfigError(f"on_error is {on_error!r}, expected 'raise' or 'skip'")
        for name, value in (("num_frames", num_frames), ("clips", clips)):
            if not isinstance(value, int) or value < 1:
                raise ConfigError(
                    f"{name} of features is {value!r}, expected a whole number from 1"
                )
        self.index, self.num_frames, self.clips = index, num_frames, clips
        self.deadline_seconds, self.on_error = deadline_seconds, on_error
        self._read_features = read
        self.label_width = label_width(index, max_label_width)
        self.feature_size = self._find_size()

    def __len__(self) -> int:
        """The number of videos, one for each record."""
        return len(self.index)

    def load(self, row: int, rng: np.random.Generator | None) -> dict[str, np.ndarray]:
        """One example: features float32 (V, T, D), label int32 (L,), mask bool (), row int32 ().

        rng None is evaluation: the middle row of each part; several clips are spread within the parts.
        A record that cannot be read is raised or, with on_error "skip", logged and masked.
        """
        record = self.index.records[row]
        try:
            found, mask = self._read(record), True
            if found.shape[1] != self.feature_size:
                raise DataError(
                    f"{record.path}: {record.id} has features of {found.shape[1]} numbers, the first "
                    f"record {self.feature_size}"
                )
            found = found[frame_numbers(len(found), self.num_frames, self.clips, rng)]
        except (DecodeError, DataError) as error:
            if self.on_error == "raise":
                raise
            logger.warning("skipped: %s", error)
            found, mask = self._nothing(), False
        return self._example(found, record.labels, mask, row)

    def padding(self) -> dict[str, np.ndarray]:
        """An example that stands for none: zeros, no label (all -1), mask False, row 0."""
        return self._example(self._nothing(), (), False, 0)

    def check_deterministic(self) -> None:
        """Nothing is random without an rng."""

    def _read(self, record: VideoRecord) -> np.ndarray:
        def work():
            return self._read_features(record)

        found = run_with_deadline(work, self.deadline_seconds, record.path, BACKEND)
        if found.ndim != 2 or not found.size:
            raise DataError(
                f"{record.path}: the features of {record.id} have shape {found.shape}, expected "
                "(frames, numbers), at least one of each"
            )
        return found

    def _find_size(self, tries: int = 10) -> int:
        failed = None
        for record in self.index.records[:tries]:
            try:
                return self._read(record).shape[1]
            except (DecodeError, DataError) as error:
                failed = error
                if self.on_error == "raise":
                    raise
        raise DataError(
            f"none of the first {min(tries, len(self.index))} records can be read; the last: {failed}"
        ) from failed

    def _nothing(self) -> np.ndarray:
        return np.zeros((self.clips, self.num_frames, self.feature_size), np.float32)

    def _example(self, found: np.ndarray, labels: tuple[int, ...], mask: bool, row: int) -> dict:
        example = {
            names.FEATURES: found.astype(np.float32, copy=False),
            names.MASK: np.array(mask),
            names.ROW: np.int32(row),
        }
        return example | label_arrays(self.index, labels, self.label_width)


def frame_numbers(
    count: int, num_frames: int, clips: int, rng: np.random.Generator | None
) -> np.ndarray:
    """int64 (clips, num_frames) in 0..count-1, never decreasing: a row of each of num_frames equal
    parts.

    Parts are intervals of the time line, so with fewer rows than parts each row comes equally often, up
    to one. With an rng a random place in each part, else places (c + 1/2) / clips of clip c.
    """
    if rng is None:
        places = np.repeat((np.arange(clips)[:, None] + 0.5) / clips, num_frames, axis=1)
    else:
        places = rng.random((clips, num_frames))
    frames = ((np.arange(num_frames) + places) * count / num_frames).astype(np.int64)
    return np.minimum(frames, count - 1)  # rounding may reach the end
