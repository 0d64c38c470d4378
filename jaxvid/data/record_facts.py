"""What the shards of a dataset really hold, where its clips are records of larger files and no
files of their own: features, or frames in files of records. Some records of each shard are read,
many shards at once.
"""

import collections
import concurrent.futures
import dataclasses
import os
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from jaxvid.core import progress
from jaxvid.core.errors import ConfigError, DataError, DecodeError
from jaxvid.core.record import VideoRecord
from jaxvid.data.source import OpenClip
from jaxvid.decode.deadline import run_with_deadline

BACKEND = "records"


@dataclasses.dataclass(frozen=True)
class RecordFacts:
    """num_frames: rows of features, or frames. size: of each of them, such as (1152,) or (240, 320, 3).
    finite: whether all numbers that were read are. error: why it could not be read, "" if it could."""

    num_frames: int = 0
    size: tuple[int, ...] = ()
    finite: bool = True
    error: str = ""


@dataclasses.dataclass(frozen=True)
class ShardFacts:
    """size_bytes of the file; facts of those of its records that were read, by their ids."""

    size_bytes: int
    records: dict[str, RecordFacts]


Look = Callable[[VideoRecord], RecordFacts]


def features(read: Callable[[VideoRecord], np.ndarray]) -> Look:
    """Looks at all rows of a record. read: see `FeatureSource`."""

    def look(record: VideoRecord) -> RecordFacts:
        found = read(record)
        return RecordFacts(len(found), found.shape[1:], bool(np.isfinite(found).all()))

    return look


def frames(open_clip: OpenClip, count: int | None) -> Look:
    """Decodes so many frames of a record's video, the first and the last among them; None: all."""

    def look(record: VideoRecord) -> RecordFacts:
        with open_clip(record) as reader:
            meta = reader.meta
            for number in evenly(meta.num_frames, count):
                reader.frames_at([number])
        return RecordFacts(meta.num_frames, (meta.height, meta.width, 3))

    return look


def read_shards(
    records: Iterable[VideoRecord],
    look: Look,
    *,
    count: int | None = 16,
    deadline_seconds: float = 60.0,
    threads: int = 1,
    show: bool = False,
) -> dict[str, ShardFacts]:
    """{shard: facts} of the paths of these records.

    count: how many records of a shard are read, the first and the last among them; None: all.
    deadline_seconds: for one record. show: a progress bar on stderr. Raises ConfigError for numbers
    that cannot be.
    """
    if (count is not None and count < 1) or threads < 1:
        raise ConfigError(f"count is {count} and threads {threads}, expected at least 1 of each")
    shards = collections.defaultdict(list)
    for record in records:
        shards[record.path].append(record)

    def facts(path: str) -> ShardFacts:
        of_shard = shards[path]
        chosen = [of_shard[i] for i in evenly(len(of_shard), count)]
        return ShardFacts(
            os.path.getsize(path), {r.id: _within(look, r, deadline_seconds) for r in chosen}
        )

    pool = concurrent.futures.ThreadPoolExecutor(threads)
    try:
        results = pool.map(facts, shards)
        show = show and bool(shards)
        bar = progress.bar(results, total=len(shards), what="reading", unit="shard", show=show)
        return dict(zip(shards, bar, strict=True))
    finally:
        pool.shutdown(cancel_futures=True)


def evenly(total: int, count: int | None) -> Sequence[int]:
    """`count` of 0..total - 1, evenly spread with both ends; all of them where there are no more."""
    if count is None or count >= total:
        return range(total)
    return np.linspace(0, total - 1, count).round().astype(int).tolist()


def _within(look: Look, record: VideoRecord, seconds: float) -> RecordFacts:
    try:
        return run_with_deadline(lambda: look(record), seconds, record.path, BACKEND)
    except (DataError, DecodeError, OSError) as error:
        return RecordFacts(error=str(error))
