"""Reading a prepared store: any frames of any video, by random access, without the video files.

    store = Store("stores/rwf2000", root="data/rwf2000")
    store.check(index)                        # is every record there, and of these files?
    source = ClipSource(index, open_clip=store, …)

A store is made by `jaxvid data prepare` (data/store_writer.py). Its readers give the same `meta` as
those of the files, so the same sampling picks the same frames; pixels differ by the codec's error.
"""

import collections
import logging
import os
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader

from jaxvid.core.errors import ConfigError, DataError, DecodeError
from jaxvid.core.record import DatasetIndex, VideoRecord
from jaxvid.core.warn_once import warn_once
from jaxvid.data import stored_flow
from jaxvid.data.store_format import (
    AUDIO_SECONDS,
    RECORDS,
    SHARDS,
    Settings,
    StoredVideo,
    key_of,
    read_shard_lists,
    same_content,
)
from jaxvid.decode import jpeg, reader

BACKEND = "store"
# One record is one read of the file: no look-ahead, and no thread of its own for each.
OPTIONS = "readahead_buffer_size:0,max_parallelism:0"
_BUFFER_BYTES = 32768
_FILES_COMPARED = 1000  # of a large set, evenly spread

logger = logging.getLogger("jaxvid.data")


class Store:
    """A prepared store, open for reading; picklable, safe to use from many threads at once. Calling it
    with a record opens that record's video, as `open_clip` of a ClipSource wants it.

    folder: of the store. root: where the set's files lie, or would lie, on this machine: records are
    found by their path relative to it; None: the folder that it was made from.

    Attributes: settings (Settings), folder (Path), root (str), flow (str): how it was computed, or
    "none". len() is the number of videos.
    Raises DataError when there is no store, one of another version, or one with parts missing.
    """

    backend = BACKEND

    def __init__(self, folder: str | os.PathLike, *, root: str | os.PathLike | None = None):
        self.folder = Path(folder)
        self.settings = Settings.read(self.folder)
        self.root = os.path.abspath(self.settings.root if root is None else root)
        self._videos = read_shard_lists(self.folder)
        if not self._videos:
            raise DataError(
                f"{folder}: the store holds no videos yet; run jaxvid data prepare to its end"
            )
        self._shards = _Shards(self.folder / SHARDS)
        self.flow = self.settings.flow

    def __len__(self) -> int:
        return len(self._videos)

    def __call__(self, record: VideoRecord) -> "StoreReader":
        return self.open(record)

    def open(self, record: VideoRecord) -> "StoreReader":
        """Raises DecodeError for a video that is not there, or that could not be decoded when the
        store was made."""
        key = key_of(record.path, self.root)
        video, shard = self._videos.get(key, (None, None))
        if video is None:
            reason = f"{self.folder} holds no {key!r}: run jaxvid data prepare again"
            raise DecodeError(record.path, None, BACKEND, reason)
        if video.failed:
            reason = f"it could not be decoded when {self.folder} was made: {video.failed}"
            raise DecodeError(record.path, None, BACKEND, reason)
        return StoreReader(record.path, video, self._shards, shard, self.settings)

    def content(self, path: str) -> str | None:
        """Equal for videos whose files were equal in size, start and end; None for one that is not
        here."""
        video, _ = self._videos.get(key_of(path, self.root), (None, None))
        return video.digest or None if video else None

    def check(self, index: DatasetIndex, *, short_side: int | None = None) -> None:
        """Raises DataError unless every record's video is in the store and comes from the file that is
        at its path now; a file that is not here is not compared, and of a large set 1000 are.

        short_side: what the recipe would have the decoder resize to; another one than the store's is
        said in the log (logger "jaxvid.data"): the store's counts.
        """
        paths = {key_of(record.path, self.root): record.path for record in index.records}
        absent = [paths[key] for key in paths if key not in self._videos]
        if absent:
            raise DataError(
                f"{self.folder}: {len(absent)} of the {len(paths)} videos are not in this store of "
                f"{self.settings.dataset!r} made from {self.settings.root}; the first ten:\n  "
                + "\n  ".join(absent[:10])
                + "\nRun jaxvid data prepare again, which adds what is missing, or name another "
                "store in data.store."
            )
        self._check_files(paths)
        failed = sum(bool(self._videos[key][0].failed) for key in paths)
        if failed:
            warn_once(
                logger,
                f"{self.folder}: {failed} of {len(paths)} videos could not be decoded when it was made",
            )
        if short_side is not None and short_side != self.settings.short_side:
            has = self.settings.short_side or "as many as the files'"
            warn_once(
                logger,
                f"{self.folder}: its frames have a short side of {has} pixels, not the {short_side} asked for "
                "(data.decode_short_side)",
            )

    def _check_files(self, paths: dict[str, str]) -> None:
        step = -(-len(paths) // _FILES_COMPARED)
        for key, path in list(paths.items())[:: max(1, step)]:
            if os.path.exists(path) and not same_content(path, self._videos[key][0].digest):
                raise DataError(
                    f"{path}: the file is not the one that {self.folder} was made from, or has "
                    "changed since; run jaxvid data prepare again, which replaces it in the store"
                )


class StoreReader(reader.Reader):
    """One video of a store, with the face of the readers of files."""

    backend = BACKEND

    def __init__(
        self, path: str, video: StoredVideo, shards: "_Shards", shard: str, settings: Settings
    ):
        super().__init__(path)
        self.meta = video.meta
        self._video, self._shards, self._shard, self._settings = video, shards, shard, settings

    def encoded(self, needed: Sequence[int] | np.ndarray) -> list[bytes]:
        """The JPEGs of these frames as they lie in the store."""
        return self._read([self._record(index) for index in needed])

    def flow_at(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """The flow from each of these frames to the one after it, uint8 (n, H, W, 2): the levels of
        `jaxvid.data.stored_flow`. Of the last frame it is that of the one before it."""
        self._check_open("flow")
        needed, rows = np.unique(indices, return_inverse=True)
        levels = np.empty((len(needed), self.meta.height, self.meta.width, 2), np.uint8)
        records = self._read([self._record(index) + 1 for index in needed])
        for row, (index, data) in enumerate(zip(needed, records, strict=True)):
            self._decode_record(stored_flow.decode_into, data, levels[row], int(index))
        return levels[rows]

    def waveform(self, start_seconds: float, end_seconds: float, rate: int) -> np.ndarray:
        """As of a file. Raises ConfigError for another rate than the store's."""
        self._check_open("sound")
        kept = self._settings.audio_rate
        if rate != kept:
            what = f"sound at {kept} samples a second" if kept else "no sound"
            raise ConfigError(
                f"{self.path}: the store holds {what}, asked for was {rate} samples a second; "
                f"prepare another one with --audio-rate {rate}"
            )
        self.has_audio = self._video.audio_records > 0
        first, last = round(start_seconds * rate), round(end_seconds * rate)
        out = np.zeros(last - first, np.float32)
        size = AUDIO_SECONDS * rate
        begin, end = first // size, min(-(-last // size), self._video.audio_records)
        if begin < end:
            at = self._record(self._video.num_frames)
            pieces = self._read(range(at + begin, at + end))
            samples = np.frombuffer(b"".join(pieces), "<i2")[first - begin * size :][: len(out)]
            out[: len(samples)] = samples / np.float32(32767)
        return out

    def _decode(self, needed: np.ndarray) -> np.ndarray:
        self._note_missing(int(needed[-1]))
        out = np.empty((len(needed), self.meta.height, self.meta.width, 3), np.uint8)
        for row, (index, data) in enumerate(zip(needed, self.encoded(needed), strict=True)):
            self._decode_record(jpeg.decode_into, data, out[row], int(index))
        return out

    def _record(self, index: int) -> int:
        return self._video.first + int(index) * self._video.records_a_frame

    def _decode_record(self, decode_into, data: bytes, out: np.ndarray, index: int) -> None:
        try:
            decode_into(data, out)
        except ValueError as error:
            reason = f"the frame's record in shard {self._shard} is damaged: {error}"
            raise self._error(reason, index) from error

    def _note_missing(self, last: int) -> None:
        if last >= self.meta.num_frames - self._video.missing:
            self.missing_frames = self._video.missing

    def _read(self, records: Sequence[int]) -> list[bytes]:
        try:
            shard = self._shards.open(self._shard)
            return [shard.read([number])[0] for number in records]
        except (RuntimeError, OSError, IndexError) as error:
            reason = f"shard {self._shard} cannot be read: {error}"
            raise self._error(reason) from error


class _Shards:
    """The shards that were read last, kept open: as many as half of the files a process may open."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._start()

    def _start(self) -> None:
        self._lock, self._most = threading.Lock(), max(16, _open_files_limit() // 2)
        self._opened: collections.OrderedDict[str, ArrayRecordReader] = collections.OrderedDict()

    def __getstate__(self) -> dict:
        return {"_folder": self._folder}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._start()

    def open(self, name: str) -> ArrayRecordReader:
        with self._lock:
            if name in self._opened:
                self._opened.move_to_end(name)
                return self._opened[name]
        shard = open_shard(self._folder / f"{name}{RECORDS}")
        with self._lock:
            # Those who still read from the one that is dropped hold it; then it closes itself.
            self._opened[name] = shard
            if len(self._opened) > self._most:
                self._opened.popitem(last=False)
        return shard


def open_shard(path: Path) -> ArrayRecordReader:
    """Raises OSError for a shard that is missing or was cut off."""
    if not path.is_file():  # array_record would find no records in it and say nothing
        raise FileNotFoundError(f"{path} does not exist")
    shard = ArrayRecordReader(str(path), options=OPTIONS, file_reader_buffer_size=_BUFFER_BYTES)
    if not shard.ok() or not shard.num_records():
        raise OSError(f"{path} is no whole ArrayRecord file; was it cut off while copying?")
    return shard


def _open_files_limit() -> int:
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return 512
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 4096 if limit == resource.RLIM_INFINITY else min(limit, 4096)
