"""Making a prepared store, or going on with one: every frame of every video as a JPEG, in shards.

Several shards are written at once, each by one thread (decoding and encoding let go of the GIL). A
shard counts once it is whole, so a run may be killed and started again; Ctrl-C ends the shards
early and loses nothing (SIGTERM too, under `jaxvid data prepare`). Several machines can share the work on one store, each with its part of the
videos.
"""

import contextlib
import dataclasses
import datetime
import functools
import hashlib
import json
import math
import os
import platform
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter

from jaxvid.core import progress, sizes
from jaxvid.core.errors import ConfigError, DataError, DecodeError, unknown
from jaxvid.core.record import VideoMeta
from jaxvid.data import stored_flow
from jaxvid.data.store import open_shard
from jaxvid.data.store_format import (
    AUDIO_SECONDS,
    NO_FLOW,
    RECORDS,
    SETTINGS_FILE,
    SHARDS,
    Settings,
    StoredVideo,
    digest_of,
    key_of,
    read_shard_lists,
    same_content,
    write_shard_list,
)
from jaxvid.decode import flow as optical_flow
from jaxvid.decode import jpeg, video
from jaxvid.decode.deadline import run_with_deadline
from jaxvid.decode.reader import Reader

_OPTIONS = "group_size:1,uncompressed"  # JPEGs do not shrink; one record is read at a time
_CHUNK_BYTES = 2**25  # of decoded frames in memory, for each thread
_MOST_SHARDS = 1000  # of a store made in one run: a process can hold so many open
_LEAST_VIDEOS = 16  # of a shard
_STALE_SECONDS = 3600  # nobody writes any more to a part so old
_SAMPLED_VIDEOS, _SAMPLED_FRAMES = 12, 4  # for the estimate


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What is still to be done. bytes: of the store, from a sample of the videos."""

    videos: int
    bytes: int


@dataclasses.dataclass
class Outcome:
    """What a run has done. videos: stored. failed: {path: reason} of those that cannot be decoded.
    stopped: whether it was interrupted before the end."""

    videos: int = 0
    bytes: int = 0
    failed: dict[str, str] = dataclasses.field(default_factory=dict)
    stopped: bool = False


def check(folder: str | os.PathLike, settings: Settings) -> None:
    """Whether a store with these settings can be made or gone on with in this folder.

    Raises ConfigError for settings that cannot be, DataError when the folder holds a store with other
    settings or anything that is no store.
    """
    folder = Path(folder)
    if not 1 <= settings.quality <= 100:
        raise ConfigError(f"quality is {settings.quality}, expected 1 to 100 (90 is near lossless)")
    if settings.audio_rate < 0:
        raise ConfigError(f"audio_rate is {settings.audio_rate}, expected 0 (no sound) or more")
    if settings.flow != NO_FLOW:
        if settings.flow not in optical_flow.METHODS:
            raise unknown("optical flow", settings.flow, optical_flow.METHODS)
        optical_flow.opencv()  # if it is missing: now, not at the first video
    if (folder / SETTINGS_FILE).exists():
        theirs = dataclasses.asdict(Settings.read(folder))
        other = [
            f"{name}={theirs[name]!r}, asked for was {value!r}"
            for name, value in dataclasses.asdict(settings).items()
            if name != "root" and theirs[name] != value
        ]
        if other:
            raise DataError(
                f"{folder}: this store was made with {'; '.join(other)}. All videos of a store are "
                "made in the same way: take another folder, or the same settings"
            )
    elif folder.is_dir() and any(folder.iterdir()):
        raise DataError(f"{folder}: the folder is not empty and holds no store; take a new one")


def start(folder: str | os.PathLike, settings: Settings, made_by: dict | None = None) -> None:
    """Makes the folder of a store unless it is there. Raises as `check` does."""
    check(folder, settings)
    folder = Path(folder)
    (folder / SHARDS).mkdir(parents=True, exist_ok=True)
    if not (folder / SETTINGS_FILE).exists():
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        settings.write(folder, {"time": now, "codec": jpeg.CODEC} | (made_by or {}))


def pending(
    folder: str | os.PathLike, paths: Sequence[str], root: str | os.PathLike, *, workers: int = 1
) -> list[str]:
    """The paths whose videos are not in the store yet, failed, or have changed; each once, sorted."""
    stored = read_shard_lists(Path(folder))

    def same(path: str) -> bool:
        entry = stored.get(key_of(path, root))
        if entry is None or entry[0].failed:
            return False
        try:
            return same_content(path, entry[0].digest)
        except OSError:
            return False  # decoding will say what is wrong with it

    paths = sorted(set(paths))
    with ThreadPoolExecutor(workers) as pool:
        return [p for p, done in zip(paths, pool.map(same, paths), strict=True) if not done]


def estimate(paths: Sequence[str], settings: Settings, *, deadline_seconds: float) -> Estimate:
    """How large these videos will be, from some frames of a dozen of them."""
    found = []
    step = max(1, len(paths) // _SAMPLED_VIDEOS)
    for path in paths[::step][:_SAMPLED_VIDEOS]:
        with contextlib.suppress(DecodeError):  # it will be counted when its turn comes
            measure = functools.partial(_sampled_bytes, path, settings)
            found.append(run_with_deadline(measure, deadline_seconds, path, settings.decoder))
    return Estimate(len(paths), round(float(np.mean(found)) * len(paths)) if found else 0)


def check_space(folder: str | os.PathLike, expected: Estimate) -> int:
    """The bytes that are free there. Raises DataError when the estimate does not fit."""
    there = Path(folder).absolute()
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    if expected.bytes > free:
        raise DataError(
            f"{folder}: about {expected.bytes / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB free; "
            "take another disk, a smaller --short-side or a lower --quality"
        )
    return free


def write(
    folder: str | os.PathLike,
    paths: Sequence[str],
    settings: Settings,
    *,
    root: str | os.PathLike,
    workers: int,
    deadline_seconds: float = 600.0,
    show: bool = True,
) -> Outcome:
    """Adds these videos to the store that `start` has made. A bar shows how far it is.

    root: what the names of the videos are relative to. workers: shards written at once.
    deadline_seconds: wall-clock limit for opening a video, and for each of its stretches of 32 MiB.
    A video that cannot be decoded is noted in the store, with the reason, and in the outcome.

    Raises OSError when the disk is full or cannot be written to; the whole shards stay.
    """
    shards = Path(folder) / SHARDS
    _remove_stale_parts(shards)
    run = _Run(settings, os.path.abspath(root), shards, deadline_seconds)
    size = max(1, min(_videos_a_shard(len(paths)), -(-len(paths) // workers)))
    batches = [paths[i : i + size] for i in range(0, len(paths), size)]
    show = show and bool(paths)
    with progress.bar(total=len(paths), what="preparing", unit="video", show=show) as bar:
        run.bar = bar
        with ThreadPoolExecutor(workers) as pool:
            jobs = [pool.submit(run.write_shard, batch) for batch in batches]
            try:
                for job in jobs:
                    job.result()
            except KeyboardInterrupt:
                run.outcome.stopped = True
                run.stop.set()
    return run.outcome


@dataclasses.dataclass
class _Run:
    """What the threads of one run share."""

    settings: Settings
    root: str
    shards: Path
    deadline_seconds: float
    bar: Any = None  # of progress
    outcome: Outcome = dataclasses.field(default_factory=Outcome)
    stop: threading.Event = dataclasses.field(default_factory=threading.Event)
    lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)

    def write_shard(self, paths: Sequence[str]) -> None:
        """One shard of these videos, or of the first of them when the run is stopped."""
        if self.stop.is_set():
            return
        name = _shard_name(paths)
        part = self.shards / f".{name}.part"
        try:
            with _Records(part) as records:
                records.add([json.dumps(dataclasses.asdict(self.settings)).encode()])
                videos = list(self._videos(paths, records))
            whole = part.rename(self.shards / f"{name}{RECORDS}")
        except BaseException:
            self.stop.set()  # here, before this thread takes the next shard
            raise
        finally:
            part.unlink(missing_ok=True)
        write_shard_list(whole, videos, records.count)

    def _videos(self, paths: Sequence[str], records: "_Records") -> Iterator[StoredVideo]:
        for path in paths:
            if self.stop.is_set():
                return
            bytes_before = records.bytes
            entry = _store_video(path, self, records)
            with self.lock:
                self.outcome.bytes += records.bytes - bytes_before
                if entry.failed:
                    self.outcome.failed[path] = entry.failed
                else:
                    self.outcome.videos += 1
                self.bar.set_postfix_str(sizes.in_words(self.outcome.bytes), refresh=False)
                self.bar.update()
            yield entry


class _Records:
    """A shard that is being written; whole at the end of the `with` block, or OSError."""

    def __init__(self, path: Path):
        self._path, self._writer = path, ArrayRecordWriter(str(path), _OPTIONS)
        self.count = self.bytes = 0

    def add(self, records: Sequence[bytes]) -> None:
        for record in records:
            self._writer.write(record)
            self.count += 1
            self.bytes += len(record)
        if not self._writer.ok():
            raise OSError(f"{self._path.parent}: cannot be written; is the disk full?")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind, *_) -> None:
        try:
            self._writer.close()
        except RuntimeError as error:
            if kind is None:
                raise OSError(f"{self._path.parent}: cannot be written: {error}") from error
        if kind is None and open_shard(self._path).num_records() != self.count:
            raise OSError(f"{self._path.parent}: a shard came out cut off; is the disk full?")


def _store_video(path: str, run: _Run, records: _Records) -> StoredVideo:
    """Adds all frames and the sound of a video; what it had added before an error stays, unused."""
    settings, key, digest = run.settings, key_of(path, run.root), ""

    def timed(work: Callable):
        return run_with_deadline(work, run.deadline_seconds, path, settings.decoder)

    try:
        with contextlib.suppress(OSError):  # opening it says better what is wrong
            digest = digest_of(path)
        with timed(lambda: _open(path, settings)) as reader:
            entry = StoredVideo(key, digest, records.count, **dataclasses.asdict(reader.meta))
            for encoded in _frames(reader, settings, timed):
                records.add(encoded)
            sound = timed(lambda: list(_sound(reader, settings.audio_rate)))
            records.add(sound)
            return dataclasses.replace(
                entry,
                missing=reader.missing_frames,
                audio_records=len(sound),
                records_a_frame=1 if settings.flow == NO_FLOW else 2,
            )
    except DecodeError as error:
        return StoredVideo(key, digest, failed=error.reason)


def _open(path: str, settings: Settings) -> Reader:
    return video.open(path, backend=settings.decoder, short_side=settings.short_side)


def _frames(reader: Reader, settings: Settings, timed: Callable) -> Iterator[list[bytes]]:
    """The records of a video's frames in turn, so many at a time as memory allows."""
    meta, encoder = reader.meta, _encoder(settings)
    step = max(1, _CHUNK_BYTES // (meta.height * meta.width * 3))
    for first in range(0, meta.num_frames, step):
        stretch = np.arange(first, min(first + step, meta.num_frames))
        yield timed(functools.partial(_encoded, reader, stretch, encoder))
    yield encoder.end()


class _Frames:
    """The records of frames alone; see `stored_flow.Encoder`."""

    def __init__(self, quality: int):
        self._quality = quality

    def add(self, frames: np.ndarray) -> list[bytes]:
        return [jpeg.encode(frame, self._quality) for frame in frames]

    def end(self) -> list[bytes]:
        return []


def _encoder(settings: Settings) -> _Frames | stored_flow.Encoder:
    if settings.flow == NO_FLOW:
        return _Frames(settings.quality)
    return stored_flow.Encoder(settings.flow, settings.quality)


def _encoded(reader: Reader, numbers: np.ndarray, encoder: _Frames) -> list[bytes]:
    return encoder.add(reader.frames_at(numbers))


def _sound(reader: Reader, rate: int) -> Iterator[bytes]:
    """16-bit PCM, AUDIO_SECONDS at a time; nothing for a video without sound."""
    seconds = _seconds(reader.meta)
    for start_seconds in range(0, math.ceil(seconds) if rate else 0, AUDIO_SECONDS):
        end = min(start_seconds + AUDIO_SECONDS, seconds)
        wave = reader.waveform(start_seconds, end, rate)
        if not reader.has_audio:
            return
        yield np.round(wave * 32767).astype("<i2").tobytes()


def _seconds(meta: VideoMeta) -> float:
    """Until the last frame has been shown."""
    return max(meta.duration_seconds, meta.num_frames / meta.fps)


def _sampled_bytes(path: str, settings: Settings) -> float:
    with _open(path, settings) as reader:
        meta, encoder = reader.meta, _encoder(settings)
        # At the start of the video: frames further back cost as much as preparing it.
        taken = np.arange(min(_SAMPLED_FRAMES, meta.num_frames))
        encoded = [*_encoded(reader, taken, encoder), *encoder.end()]
        return sum(map(len, encoded)) / len(taken) * meta.num_frames + (
            2 * settings.audio_rate * meta.duration_seconds
        )


def _videos_a_shard(videos: int) -> int:
    return max(_LEAST_VIDEOS, -(-videos // _MOST_SHARDS))


def _shard_name(paths: Sequence[str]) -> str:
    """Sorts by time; no two machines or threads come to the same."""
    now = datetime.datetime.now(datetime.UTC)
    told = f"{platform.node()} {time.time_ns()} {paths}".encode()
    return f"{now:%Y%m%dT%H%M%S.%f}-{hashlib.blake2b(told, digest_size=4).hexdigest()}"


def _remove_stale_parts(shards: Path) -> None:
    for part in shards.glob(".*.part"):
        if time.time() - part.stat().st_mtime > _STALE_SECONDS:
            part.unlink(missing_ok=True)
