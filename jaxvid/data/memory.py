"""Small sets held in memory, decoded: every video is read once and its frames are kept as uint8.

    source = ClipSource(index, open_clip=InMemory(FileOpener(short_side=128), limit_bytes=8 * 10**9), …)

The first epoch reads as ever, the later ones only copy. What does not fit within the limit is read
again each time, which the log says once.
"""

import collections
import logging
import os
import threading
from collections.abc import Hashable
from pathlib import Path

import numpy as np

from jaxvid.core.errors import ConfigError
from jaxvid.core.record import VideoRecord
from jaxvid.data.source import NO_FLOW, OpenClip
from jaxvid.decode import reader

_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")  # of a container, version 2
_SHARE = 0.5  # of the memory there is, when no limit is given

logger = logging.getLogger("jaxvid.data")


class InMemory:
    """Opens what `open_clip` opens and keeps its frames; safe to use from many threads at once.

    limit_bytes: of all frames together; None: half of this machine's (or container's) memory.
    Picklable, but each process of data.workers fills a memory of its own, with its own limit: use
    threads. Raises ConfigError for a limit below 1.
    """

    def __init__(self, open_clip: OpenClip, *, limit_bytes: int | None = None):
        self.limit_bytes = int(_SHARE * _memory_bytes()) if limit_bytes is None else limit_bytes
        if self.limit_bytes < 1:
            raise ConfigError(f"limit_bytes is {limit_bytes}, expected a number of bytes from 1")
        self.backend, self.flow = open_clip.backend, getattr(open_clip, "flow", NO_FLOW)
        self._open = open_clip
        self._start()

    def _start(self) -> None:
        self.bytes_held = 0
        self._told_full = False
        self._held: dict[Hashable, tuple[np.ndarray, reader.Reader]] = {}
        self._lock = threading.Lock()
        self._locks: dict[Hashable, threading.Lock] = collections.defaultdict(threading.Lock)

    def __getstate__(self) -> dict:
        return {name: getattr(self, name) for name in ("limit_bytes", "backend", "flow", "_open")}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._start()

    @property
    def videos_held(self) -> int:
        """How many videos are in memory now."""
        return len(self._held)

    def __call__(self, record: VideoRecord) -> reader.Reader:
        """A reader from memory, or the one of the file where that does not fit."""
        key = self._key(record)
        with self._lock:
            held, mine = self._held.get(key), self._locks[key]
        if held is None:
            with mine:  # threads that want the same video wait for the first
                held = self._held.get(key)
                if held is None:
                    opened = self._open(record)
                    held = self._keep(record, opened)
                    if held is None:
                        return opened
        return _MemoryReader(record, *held, self._open)

    def _key(self, record: VideoRecord) -> Hashable:
        """What tells its video from the others: the path, unless one file holds many videos."""
        key = getattr(self._open, "key", None)
        return key(record) if key else record.path

    def _keep(self, record: VideoRecord, opened: reader.Reader):
        """What is held of a video from now on, or None where it does not fit; then it stays open."""
        meta = opened.meta
        size = meta.num_frames * meta.height * meta.width * 3
        with self._lock:
            fits = self.bytes_held + size <= self.limit_bytes
            self.bytes_held += size if fits else 0
            told, self._told_full = self._told_full, self._told_full or not fits
        if not fits:
            if not told:
                logger.warning(
                    "memory: %d videos fill %.2f of the %.2f GB allowed; %s and others that do not "
                    "fit are read again each time (data.decode_short_side makes frames smaller)",
                    *(len(self._held), self.bytes_held / 1e9, self.limit_bytes / 1e9, record.path),
                )
            return None
        try:
            with opened:
                frames = opened.frames_at(np.arange(meta.num_frames))
        except BaseException:
            with self._lock:
                self.bytes_held -= size
            raise
        frames.flags.writeable = False  # readers hand out views of it
        with self._lock:
            self._held[self._key(record)] = frames, opened
            self._locks.pop(self._key(record), None)
        return frames, opened


class _MemoryReader(reader.Reader):
    """One video whose frames lie in memory."""

    def __init__(
        self, record: VideoRecord, frames: np.ndarray, was: reader.Reader, open_clip: OpenClip
    ):
        super().__init__(record.path)
        self.backend, self.meta = was.backend, was.meta
        self._record, self._frames, self._was, self._open = record, frames, was, open_clip

    def _decode(self, needed: np.ndarray) -> np.ndarray:
        missing = self._was.missing_frames
        if needed[-1] >= self.meta.num_frames - missing:
            self.missing_frames = missing
        return self._frames[needed]

    def waveform(self, start_seconds: float, end_seconds: float, rate: int) -> np.ndarray:
        """Read anew: sound is not held."""
        self._check_open("sound")
        with self._open(self._record) as file:
            samples = file.waveform(start_seconds, end_seconds, rate)
            self.has_audio = file.has_audio
        return samples

    def flow_at(self, indices: np.ndarray) -> np.ndarray:
        """Read anew from the store: flow is not held."""
        with self._open(self._record) as stored:
            return stored.flow_at(indices)


def _memory_bytes() -> int:
    """Of this machine, or of the container this process runs in."""
    try:
        there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError):  # Windows
        there = 8 * 2**30
    try:
        return min(there, int(_CGROUP_LIMIT.read_text()))
    except (OSError, ValueError):  # no container, or one without a limit ("max")
        return there
