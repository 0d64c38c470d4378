"""From clips to batches: order, hosts, threads, prefetch. Grain does the threads, jaxvid the order.

Training is one endless sequence of positions. Position p belongs to epoch p // n and shows the row
at place p % n of that epoch's order, a permutation of the rows or, with weights, a draw of n of
them; its random numbers are made from (seed, p) alone. Global batch
k is the positions [k B, (k + 1) B), and host h of H loads the h-th of H equal, contiguous parts of
it. So a batch depends on the seed and k, and not on threads, workers or hosts, and k is all there
is to save.

A source is anything with `__len__()`, `load(row, rng) -> {name: array}`, `padding()` and
`check_deterministic()`, such as `jaxvid.data.source.ClipSource`.
"""

import dataclasses
import functools
import itertools
import math
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, Self

import grain
import numpy as np
from absl import flags

from jaxvid.core.batch import CONTENT, MASK, check_batch
from jaxvid.core.errors import ConfigError
from jaxvid.data.buffers import Buffers
from jaxvid.data.order import Order, clip_rng

_ENDLESS = 2**62  # clips; Grain wants a length


class Source(Protocol):
    """What the pipeline reads from; all methods are called from many threads at once."""

    def __len__(self) -> int: ...

    def load(self, row: int, rng: np.random.Generator | None) -> dict[str, np.ndarray]: ...

    def padding(self) -> dict[str, np.ndarray]: ...

    def check_deterministic(self) -> None: ...


def training_batches(
    source: Source,
    *,
    batch_size: int,
    seed: int,
    host_index: int = 0,
    host_count: int = 1,
    threads: int | None = None,
    prefetch_batches: int = 2,
    workers: int = 0,
    shuffle: bool = True,
    weights: np.ndarray | None = None,
) -> "BatchIterator":
    """The endless batches of a training run, as this host sees them.

    batch_size: the global batch B; each of `host_count` hosts gets B / host_count clips a batch.
    seed: an integer from 0. shuffle: a new order each epoch; False: the rows in their own order.
    weights: float (n,), how often each row is shown beside the others (data/balance.py); None: each
    once an epoch.
    threads: clips decoded at once (in each worker), None: one more than this process has cores, so that
    none idles while a thread waits (two cores: 8 % more clips/s from files, 18 % from a store).
    workers: processes that load clips, 0: threads of this process, which is the better choice as
    long as the work is decoding. prefetch_batches: whole batches kept ready ahead of the caller.

    A batch holds what `jaxvid.core.batch` says, with B / host_count clips. Raises ConfigError for
    settings that cannot be; errors of a clip reach the caller of `next` as they were raised.
    """
    part = _Part(batch_size, host_index, host_count)
    load = _Loading.checked(threads, prefetch_batches, workers)
    order = Order(len(source), seed, shuffle=shuffle, weights=weights)

    def clips(first_batch: int) -> _TrainingClips:
        return _TrainingClips(source, part, order, first_batch)

    return BatchIterator(lambda first_batch: load.start(clips(first_batch), part.size))


def evaluation_batches(
    source: Source,
    *,
    batch_size: int,
    host_index: int = 0,
    host_count: int = 1,
    threads: int | None = None,
    prefetch_batches: int = 2,
    workers: int = 0,
) -> "EvaluationBatches":
    """Every row once over all hosts, in order and without randomness; iterate as often as you like.

    Arguments as in `training_batches`. There are ceil(n / B) batches on every host. Beyond the last
    row the batches are filled with `source.padding()`: mask False and row 0. A row that never comes
    with mask True is one that could not be read.

    Raises ConfigError, also for a source whose transforms are random.
    """
    part = _Part(batch_size, host_index, host_count)
    load = _Loading.checked(threads, prefetch_batches, workers)
    source.check_deterministic()
    return EvaluationBatches(source, part, load)


class BatchIterator:
    """Batches in order; loads ahead in the background from the first `next` on.

    seconds_waited: the time callers have spent in `next` so far; beside the time of the whole loop
    it is the share that the data costs. Close it, or use it in a `with` block.
    """

    def __init__(self, start: Callable[[int], "_Running"]):
        self._start = start
        self._next_batch = 0
        self._slot: list[_Running] = []
        self.seconds_waited = 0.0
        # At the interpreter's end Grain's own clean-up comes too late and complains.
        self._finalizer = weakref.finalize(self, _stop, self._slot)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        """The next batch. After an error the same batch is tried again by the next call."""
        if not self._finalizer.alive:
            raise ValueError("these batches are closed; make new ones to go on")
        began = time.perf_counter()
        try:
            if not self._slot:
                self._slot.append(self._start(self._next_batch))
            batch = next(self._slot[0].batches)
        except BaseException:  # Grain is out of step after an error, so it starts afresh
            _stop(self._slot)
            raise
        finally:
            self.seconds_waited += time.perf_counter() - began
        self._next_batch += 1
        return batch

    def get_state(self) -> dict[str, int]:
        """{"next_batch": k}, k being what the caller gets next; the same on any number of hosts."""
        return {"next_batch": self._next_batch}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes on as the iterator did that gave this state (same source, batch size and seed).

        Raises ConfigError for something that is not such a state.
        """
        number = state.get("next_batch") if isinstance(state, dict) else None
        if not isinstance(number, int) or number < 0:
            raise ConfigError(
                f'the state of the data is {state!r}, expected {{"next_batch": k}} with k from 0'
            )
        _stop(self._slot)
        self._next_batch = number

    def close(self) -> None:
        """Stops loading. It waits for the clip that is awaited just now, no longer."""
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self.close()


class EvaluationBatches:
    """A finite number of batches; each `iter` starts again from the first."""

    def __init__(self, source: Source, part: "_Part", load: "_Loading"):
        self._source, self._part, self._load = source, part, load

    def __len__(self) -> int:
        return math.ceil(len(self._source) / self._part.batch_size)

    def __iter__(self) -> BatchIterator:
        def start(first_batch: int) -> _Running:
            clips = _EvaluationClips(self._source, self._part, len(self), first_batch)
            return self._load.start(clips, self._part.size)

        return BatchIterator(start)


@dataclasses.dataclass(frozen=True)
class _Part:
    """This host's part of each global batch."""

    batch_size: int
    host_index: int
    host_count: int

    def __post_init__(self):
        if self.batch_size < 1 or self.host_count < 1:
            raise ConfigError(
                f"batch_size is {self.batch_size} and host_count {self.host_count}, "
                "expected at least 1 of each"
            )
        if not 0 <= self.host_index < self.host_count:
            raise ConfigError(
                f"host_index is {self.host_index}, expected 0 to {self.host_count - 1}"
            )
        if self.batch_size % self.host_count:
            raise ConfigError(
                f"batch_size {self.batch_size} cannot be divided among {self.host_count} hosts; "
                f"take a multiple of {self.host_count}"
            )

    @property
    def size(self) -> int:
        return self.batch_size // self.host_count

    def position(self, number: int) -> int:
        """Where this host's clip of that number lies in the global sequence."""
        batch, within = divmod(number, self.size)
        return batch * self.batch_size + self.host_index * self.size + within


@dataclasses.dataclass(frozen=True)
class _TrainingClips:
    """This host's clips from a batch on, by number: what Grain reads from."""

    source: Source
    part: _Part
    order: Order
    first_batch: int

    def __len__(self) -> int:
        return _ENDLESS

    def __getitem__(self, number: int) -> dict[str, np.ndarray]:
        position = self.part.position(self.first_batch * self.part.size + int(number))
        return self.source.load(self.order.row(position), clip_rng(self.order.seed, position))


@dataclasses.dataclass(frozen=True)
class _EvaluationClips:
    """As _TrainingClips, for each row once and padding up to whole batches."""

    source: Source
    part: _Part
    num_batches: int
    first_batch: int

    def __len__(self) -> int:
        return max(self.num_batches - self.first_batch, 0) * self.part.size

    def __getitem__(self, number: int) -> dict[str, np.ndarray]:
        row = self.part.position(self.first_batch * self.part.size + int(number))
        return self.source.load(row, None) if row < len(self.source) else self.source.padding()


@dataclasses.dataclass(frozen=True)
class _Loading:
    """How clips are loaded: the numbers of threads, processes and batches ahead."""

    threads: int
    prefetch_batches: int
    workers: int

    @classmethod
    def checked(cls, threads: int | None, prefetch_batches: int, workers: int) -> Self:
        threads = _usable_cores() + 1 if threads is None else threads
        for name, value, least in (
            ("threads", threads, 1),
            ("prefetch_batches", prefetch_batches, 1),
            ("workers", workers, 0),
        ):
            if not isinstance(value, int) or value < least:
                raise ConfigError(f"{name} is {value!r}, expected a whole number from {least}")
        return cls(threads, prefetch_batches, workers)

    def start(self, clips: Sequence[dict[str, np.ndarray]], size: int) -> "_Running":
        """Grain's iterator over batches of `size` clips, not yet loading."""
        stopped = threading.Event()
        # Two clips for each thread: enough for none to idle when one clip takes long, and few
        # enough that a process that ends without close() is not held up by clips still queued.
        read = grain.ReadOptions(num_threads=self.threads, prefetch_buffer_size=2 * self.threads)
        dataset = grain.MapDataset.source(clips).to_iter_dataset(read)
        if self.workers:
            _let_grain_read_flags()
            dataset = dataset.mp_prefetch(
                grain.MultiprocessingOptions(
                    num_workers=self.workers, per_worker_buffer_size=2 * self.threads
                )
            )
        dataset = dataset.map(functools.partial(_unless_stopped, stopped))
        stack = functools.partial(stack_clips, empty=Buffers().empty)
        dataset = dataset.batch(size, batch_fn=stack)
        ahead = grain.experimental.ThreadPrefetchIterDataset(
            dataset, prefetch_buffer_size=self.prefetch_batches
        )
        return _Running(iter(ahead), stopped)


@dataclasses.dataclass(frozen=True)
class _Running:
    """Grain's iterator at work, and what makes it stop within a batch instead of after it."""

    batches: Iterator[dict[str, np.ndarray]]
    stopped: threading.Event

    def stop(self) -> None:
        self.stopped.set()
        self.batches.close()


class _Stopped(Exception):
    """Ends the thread that assembles batches; no caller sees it."""


def _unless_stopped(stopped: threading.Event, clip: dict) -> dict:
    if stopped.is_set():
        raise _Stopped
    return clip


def _stop(slot: list[_Running]) -> None:
    while slot:
        slot.pop().stop()


def stack_clips(
    clips: Sequence[dict[str, np.ndarray]], empty: Callable[..., np.ndarray] = np.empty
) -> dict[str, np.ndarray]:
    """One batch of clips, each array copied once; raises BatchError if it breaks the contract.

    What counts nowhere (mask False) shows a clip that does, of this batch: zeros would enter the
    statistics of batch normalisation. empty: gives the arrays to copy into, from a shape and a dtype.
    """
    shown = _shown(clips)
    batch = {}
    for name, first in clips[0].items():
        out = empty((len(clips), *first.shape), first.dtype)
        rows = shown if name in CONTENT else clips
        batch[name] = np.stack([clip[name] for clip in rows], out=out)
    return check_batch(batch)


def _shown(clips: Sequence[dict]) -> list[dict]:
    """For each clip itself or, in place of one that counts nowhere, those that do, in turn."""
    read = [clip for clip in clips if clip.get(MASK, True)] or clips
    others = itertools.cycle(read)
    return [clip if clip.get(MASK, True) else next(others) for clip in clips]


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _let_grain_read_flags() -> None:
    # Grain's worker processes read absl flags, which nobody has parsed in a notebook, in pytest, or
    # under a command line of another kind. They then keep their defaults.
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
