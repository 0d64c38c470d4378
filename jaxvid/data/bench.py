"""How fast clips come, and where their time goes.

`throughput` measures the pipeline as it trains, all threads at work. `stages` takes the same clips
one by one in one thread and times each part of the way; its sum is what one core spends on a clip.
"""

import copy
import dataclasses
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Self

import grain
import numpy as np

from jaxvid.core.batch import MASK
from jaxvid.core.errors import ConfigError
from jaxvid.core.record import VideoRecord
from jaxvid.data.buffers import Buffers
from jaxvid.data.memory import InMemory
from jaxvid.data.pipeline import clip_rng, stack_clips
from jaxvid.data.source import ClipSource
from jaxvid.data.store import StoreReader
from jaxvid.decode.reader import Reader

STAGES = {
    "read": "bytes from the file or store",
    "decode": "opening, decoding, making RGB",
    "resize": "crops and all else in the list of transforms",
    "other": "flow, sound, labels, hand-over between threads",
    "batch": "clips copied into one array",
    "transfer": "the array brought to the devices",
}

Batch = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Throughput:
    """Of the whole pipeline. bytes: of the arrays that came. skipped: clips that could not be read."""

    clips: int
    seconds: float
    bytes: int
    skipped: int

    @property
    def clips_per_second(self) -> float:
        return self.clips / self.seconds


@dataclasses.dataclass(frozen=True)
class Stages:
    """Seconds a clip of each of STAGES, bytes read a clip, and over how many clips."""

    seconds: dict[str, float]
    bytes_read: float
    clips: int


def throughput(batches: Iterator[Batch], seconds: float) -> Throughput:
    """Takes batches as fast as they come for at least so many seconds, after a first one that starts
    the threads. Raises ConfigError for seconds that are not above 0."""
    _check_seconds(seconds)
    next(batches)
    clips = size = skipped = 0
    began = time.perf_counter()
    while True:
        batch = next(batches)
        clips += len(batch[MASK])
        skipped += int((~batch[MASK]).sum())
        size += sum(array.nbytes for array in batch.values())
        spent = time.perf_counter() - began
        if spent >= seconds:
            return Throughput(clips, spent, size, skipped)


def stages(
    source: ClipSource,
    *,
    batch_size: int,
    seconds: float,
    transfer: Callable[[Batch], None] | None = None,
    seed: int = 0,
) -> Stages:
    """One whole batch at least, then until the seconds are over.

    transfer: brings a batch to the devices and waits until it is there; None: nothing is brought. Files
    are read once before they are decoded, so "decode" finds them in the memory of the system.
    """
    _check_seconds(seconds)
    clock, buffers = _Clock(), Buffers()
    timed = _timed(source, clock)
    rows = np.random.default_rng(seed).permutation(len(source))
    began, taken = time.perf_counter(), 0
    while not taken or time.perf_counter() - began < seconds:
        clips = []
        for _ in range(batch_size):
            clips.append(_one_clip(timed, int(rows[taken % len(rows)]), seed, taken, clock))
            taken += 1
        with clock.of("batch"):
            batch = stack_clips(clips, buffers.empty)
        if transfer is not None:
            with clock.of("transfer"):
                transfer(batch)
    spent = {name: clock.seconds[name] / taken for name in STAGES}
    return Stages(spent, clock.bytes / taken, taken)


def verdict(gives: float, needs: float) -> str:
    """In words, which of the two waits. Both in clips a second."""
    if gives >= needs:
        return (
            f"the data keep up: {gives:.1f} clips/s for a model that takes {needs:.1f} "
            f"({gives / needs:.2f} times); the model is what takes the time"
        )
    return (
        f"the model waits for data: it could take {needs:.1f} clips/s and gets {gives:.1f}, so it stands "
        f"still {1 - gives / needs:.0%} of the time"
    )


def advice(told: Stages, *, prepared: bool) -> str:
    """What would make the data faster, by what takes longest."""
    slowest = max(told.seconds, key=told.seconds.get)
    if slowest == "decode" and not prepared:
        return (
            "decoding takes longest: jaxvid data prepare writes a store that is decoded far faster"
        )
    if slowest == "read":
        return "reading takes longest: bring the data to a local disk, or raise data.threads"
    if slowest == "resize":
        return "the transforms take longest: decode smaller frames (data.decode_short_side)"
    return (
        f"{slowest} takes longest ({STAGES[slowest]}); more cores help, or fewer or smaller frames"
    )


def _check_seconds(seconds: float) -> None:
    if not seconds > 0:
        raise ConfigError(f"the time to measure is {seconds} seconds, expected more than 0")


# --- the clock in the clip's way --------------------------------------------------------------------


class _Clock:
    """Seconds spent in each stage so far."""

    def __init__(self):
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self.bytes = 0

    def of(self, stage: str) -> "_Stretch":
        return _Stretch(self, stage)


class _Stretch:
    """A `with` block whose time counts for a stage."""

    def __init__(self, clock: _Clock, stage: str):
        self._clock, self._stage = clock, stage

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, *_) -> None:
        self._clock.seconds[self._stage] += time.perf_counter() - self._began


def _one_clip(source: ClipSource, row: int, seed: int, number: int, clock: _Clock) -> dict:
    if isinstance(source.open_clip.inner, InMemory):  # measured as from the second epoch on
        source.open_clip.inner(source.index.records[row]).close()
    before = sum(clock.seconds.values())
    began = time.perf_counter()
    clip = source.load(row, clip_rng(seed, number))
    known = sum(clock.seconds.values()) - before
    clock.seconds["other"] += time.perf_counter() - began - known
    return clip


def _timed(source: ClipSource, clock: _Clock) -> ClipSource:
    timed = copy.copy(source)
    timed.open_clip = _TimedOpener(source.open_clip, clock)
    timed.transforms = tuple(_timed_transform(t, clock) for t in source.transforms)
    return timed


class _TimedOpener:
    def __init__(self, inner, clock: _Clock):
        self.inner, self.backend, self._clock = inner, inner.backend, clock

    def __call__(self, record: VideoRecord) -> "_TimedReader":
        from_file = not isinstance(self.inner, InMemory)
        with self._clock.of("decode"):
            opened = self.inner(record)
        if from_file and not isinstance(opened, StoreReader):
            with self._clock.of("read"):
                self._clock.bytes += _read_all(record.path)
        return _TimedReader(opened, self._clock)


class _TimedReader:
    """A reader whose frames are timed; all else is the reader's own."""

    def __init__(self, inner: Reader, clock: _Clock):
        self._inner, self._clock = inner, clock
        if isinstance(inner, StoreReader):  # it reads within frames_at, by this method
            self._encoded, inner.encoded = inner.encoded, self._timed_encoded

    def __getattr__(self, name: str):
        return getattr(self._inner, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self._inner.close()

    def frames_at(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        before = self._clock.seconds["read"]
        with self._clock.of("decode"):
            frames = self._inner.frames_at(indices)
        self._clock.seconds["decode"] -= self._clock.seconds["read"] - before
        return frames

    def _timed_encoded(self, needed: np.ndarray) -> list[bytes]:
        with self._clock.of("read"):
            records = self._encoded(needed)
        self._clock.bytes += sum(map(len, records))
        return records


def _timed_transform(transform, clock: _Clock):
    if isinstance(transform, grain.transforms.Map):
        kind, method = grain.transforms.Map, "map"
    else:
        kind, method = grain.transforms.RandomMap, "random_map"

    def run(self, *arguments):
        with clock.of("resize"):
            return getattr(transform, method)(*arguments)

    return type("Timed", (kind,), {method: run})()


def _read_all(path: str) -> int:
    """Reads a file, or the files of a folder of frames; returns how many bytes."""
    if os.path.isdir(path):
        return sum(_read_all(entry.path) for entry in os.scandir(path) if entry.is_file())
    with open(path, "rb") as file:
        return len(file.read())
